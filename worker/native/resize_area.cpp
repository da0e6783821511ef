#include "resize_area.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "resize_body.h"

namespace imagequeue {
namespace {

constexpr double kWeightLeast = 1e-3;  // a tap at the edge of the window that covers less than this is left out
constexpr int32_t kWindow = 16;        // bytes

// Output i is the sum over k of source[start[i] + k] * weight[i][k], added in the order of k.
struct Taps {
  int32_t most;
  std::vector<int32_t> start, count;
  std::vector<float> weight;  // [size][most]

  explicit Taps(const Axis& axis) : most(0), start(size_t(axis.size)), count(size_t(axis.size)) {
    most = int32_t(std::ceil(axis.scale())) + 2;
    weight.resize(size_t(axis.size) * size_t(most));
    int32_t used = 1;
    for (int32_t i = 0; i < axis.size; ++i) used = std::max(used, fill(axis, i));
    narrow(axis.size, used);
  }

 private:
  int32_t fill(const Axis& axis, int32_t i) {
    const double scale = axis.scale(), begin = (axis.first + i) * scale, end = begin + scale;
    const double cell = std::min(scale, axis.src - begin);
    const auto last = std::min(int32_t(end), axis.src - 1);
    const auto whole = std::min(int32_t(begin) + (int32_t(begin) < begin), last);  // the first that is covered entirely
    const bool head = whole - begin > kWeightLeast, tail = end - last > kWeightLeast;
    float* to = &weight[size_t(i) * size_t(most)];
    int32_t taps = 0;
    if (head) to[taps++] = float((whole - begin) / cell);
    for (int32_t source = whole; source < last; ++source) to[taps++] = float(1.0 / cell);
    if (tail) to[taps++] = float(std::min(std::min(end - last, 1.0), cell) / cell);
    start[size_t(i)] = whole - head;
    return count[size_t(i)] = taps;
  }

  void narrow(int32_t size, int32_t used) {
    for (int32_t i = 0; i < size; ++i) std::copy_n(&weight[size_t(i) * size_t(most)], used, &weight[size_t(i) * size_t(used)]);
    most = used;
  }
};

// The taps across, and the tables for kernels that shuffle.
class Tables {
 public:
  explicit Tables(const Axis& axis) : axis_(axis), taps_(axis), vectors_((3 * axis.size + 7) / 8) {}

  Line choose(const AreaKernels& kernels) {
    if (kernels.windows == nullptr || 3 * int64_t(axis_.src) < kWindow) return kernels.pixels;
    const Line one = taps_.most == 2 ? kernels.two : taps_.most == 3 ? kernels.three : nullptr;
    if (one != nullptr && place(1)) return one;
    return place(taps_.most) ? kernels.windows : kernels.pixels;
  }

  Across across() const {
    return {axis_.src, axis_.size, taps_.most, taps_.start.data(), taps_.count.data(), taps_.weight.data(),
            vectors_,  windows_,   base_.data(), lanes_.data()};
  }

 private:
  // Offset of the byte that a tap of a sum takes. Those beyond the last sum, and padding taps beyond the row, take any.
  int32_t offset(int32_t sum, int32_t tap) const {
    const int32_t output = std::min(sum / 3, axis_.size - 1);
    return 3 * std::min(taps_.start[size_t(output)] + tap, axis_.src - 1) + sum % 3;
  }

  // Makes the tables, or returns false when bytes lie too far apart.
  bool place(int32_t windows) {
    windows_ = windows;
    base_.resize(size_t(vectors_) * size_t(windows) * 2);
    lanes_.resize(size_t(vectors_) * size_t(taps_.most));
    const int32_t together = taps_.most / windows;  // taps that share a window
    for (int32_t half = 0; half < 2 * vectors_; ++half)
      for (int32_t window = 0; window < windows; ++window)
        if (!place_window(half, window, window * together, (window + 1) * together)) return false;
    return true;
  }

  bool place_window(int32_t half, int32_t window, int32_t first, int32_t end) {
    int32_t least = 3 * axis_.src - kWindow, most = 0;
    for (int32_t sum = 4 * half; sum < 4 * half + 4; ++sum) {
      least = std::min(least, offset(sum, first));
      most = std::max(most, offset(sum, end - 1));
    }
    if (most - least >= kWindow) return false;
    base_[(size_t(half / 2) * size_t(windows_) + size_t(window)) * 2 + size_t(half % 2)] = least;
    for (int32_t tap = first; tap < end; ++tap) {
      TapLanes& lanes = lanes_[size_t(half / 2) * size_t(taps_.most) + size_t(tap)];
      for (int32_t lane = 4 * (half % 2), sum = 4 * half; sum < 4 * half + 4; ++lane, ++sum) {
        const int32_t output = std::min(sum / 3, axis_.size - 1);
        uint8_t* dword = lanes.shuffle + 4 * lane;
        dword[0] = uint8_t(offset(sum, tap) - least);
        dword[1] = dword[2] = dword[3] = 0x80;  // zero
        lanes.weight[lane] = tap < taps_.count[size_t(output)] ? taps_.weight[size_t(output) * size_t(taps_.most) + size_t(tap)] : 0;
      }
    }
    return true;
  }

  Axis axis_;
  Taps taps_;
  int32_t vectors_, windows_ = 0;
  std::vector<int32_t> base_;
  std::vector<TapLanes> lanes_;
};

void plain_line(const Across& across, const uint8_t* row, float* sums) {
  for (int32_t output = 0; output < across.size; ++output) pixel_sums(across, row, output, sums);
}

}  // namespace

const AreaKernels* plain_area() {
  static const AreaKernels kernels{plain_line, nullptr, nullptr, nullptr, start_total, add_to_total, total_to_bytes};
  return &kernels;
}

void resize_area(const AreaKernels& kernels, const uint8_t* pixels, int64_t pitch, const Axis& rows,
                 const Axis& columns, uint8_t* out) {
  const Taps down(rows);
  Tables tables(columns);
  const Line line = tables.choose(kernels);
  const Across across = tables.across();
  const int32_t count = 3 * columns.size;
  std::vector<float> sums(kSumSlack + size_t(count)), total(sums.size());
  int32_t held = -1;  // the row that `sums` is of: the last one of an output may be the first one of the next
  for (int32_t i = 0; i < rows.size; ++i, out += count) {
    const float* weight = &down.weight[size_t(i) * size_t(down.most)];
    for (int32_t tap = 0; tap < down.count[size_t(i)]; ++tap) {
      const int32_t row = down.start[size_t(i)] + tap;
      if (row != held) line(across, pixels + row * pitch, sums.data());
      held = row;
      (tap == 0 ? kernels.start : kernels.add)(sums.data(), weight[tap], count, total.data());
    }
    kernels.bytes(total.data(), count, out);
  }
}

}  // namespace imagequeue
