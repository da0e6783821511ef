// Operators whose time does not count: plain C++ for every path.
#include <algorithm>
#include <array>
#include <cstring>
#include <utility>
#include <vector>

#include "program.h"

namespace imagequeue {
namespace {

class Add final : public Step {
 public:
  Add(const Path& path, const AddRule& rule, int64_t count, size_t a, size_t b, size_t y)
      : path_(path), rule_(rule), count_(count), a_(a), b_(b), y_(y) {}
  void run(uint8_t* arena, uint8_t*) const override { path_.add(rule_, arena + a_, arena + b_, arena + y_, count_); }

 private:
  const Path& path_;
  const AddRule rule_;
  const int64_t count_;
  const size_t a_, b_, y_;
};

// Visits the pixels under each window that are inside the picture; where none is, the nearest one if `edge`.
template <class Start, class Visit, class End>
void slide(const PoolShape& s, bool edge, Start start, Visit visit, End end) {
  const auto range = [edge](int32_t first, int32_t kernel, int32_t size) {
    const int32_t low = std::max(first, 0), high = std::min(first + kernel, size);
    if (low < high || !edge) return std::make_pair(low, high);
    const int32_t nearest = first < 0 ? 0 : size - 1;
    return std::make_pair(nearest, nearest + 1);
  };
  for (int32_t oy = 0; oy < s.out_height; ++oy) {
    const auto rows = range(oy * s.stride_h - s.pad_top, s.kernel_h, s.height);
    for (int32_t ox = 0; ox < s.out_width; ++ox) {
      const auto columns = range(ox * s.stride_w - s.pad_left, s.kernel_w, s.width);
      start();
      for (int32_t y = rows.first; y < rows.second; ++y)
        for (int32_t x = columns.first; x < columns.second; ++x) visit(int64_t(y) * s.width + x);
      end(int64_t(oy) * s.out_width + ox);
    }
  }
}

class AveragePool final : public Step {
 public:
  AveragePool(const PoolShape& shape, const AverageRule& rule, size_t x, size_t y)
      : shape_(shape), rule_(rule), x_(x), y_(y) {}

  size_t scratch() const override { return size_t(shape_.channels) * sizeof(uint32_t); }

  void run(uint8_t* arena, uint8_t* scratch) const override {
    const int64_t channels = shape_.channels;
    auto* sums = reinterpret_cast<uint32_t*>(scratch);  // windows have less than 2^24 pixels
    int32_t pixels = 0;
    slide(
        shape_, false, [&] { pixels = 0, std::memset(sums, 0, size_t(channels) * sizeof *sums); },
        [&](int64_t pixel) {
          const uint8_t* from = arena + x_ + pixel * channels;
          for (int64_t c = 0; c < channels; ++c) sums[c] += from[c];
          ++pixels;
        },
        [&](int64_t pixel) {
          uint8_t* to = arena + y_ + pixel * channels;
          for (int64_t c = 0; c < channels; ++c) to[c] = mean(int64_t(sums[c]) - int64_t(pixels) * rule_.x_zero_point);
        });
  }

 private:
  uint8_t mean(int64_t total) const {
    const int64_t y = (total * rule_.multiplier - (total < 0) + (int64_t(1) << (rule_.shift - 1))) >> rule_.shift;
    return uint8_t(std::clamp<int64_t>(y + rule_.zero_point, rule_.minimum, 255));
  }

  const PoolShape shape_;
  const AverageRule rule_;
  const size_t x_, y_;
};

class MaxPool final : public Step {
 public:
  MaxPool(const PoolShape& shape, uint8_t minimum, size_t x, size_t y)
      : shape_(shape), minimum_(minimum), x_(x), y_(y) {}

  size_t scratch() const override { return size_t(shape_.channels); }

  void run(uint8_t* arena, uint8_t* largest) const override {
    const int64_t channels = shape_.channels;
    slide(
        shape_, true, [&] { std::memset(largest, minimum_, size_t(channels)); },
        [&](int64_t pixel) {
          const uint8_t* from = arena + x_ + pixel * channels;
          for (int64_t c = 0; c < channels; ++c) largest[c] = std::max(largest[c], from[c]);
        },
        [&](int64_t pixel) { std::memcpy(arena + y_ + pixel * channels, largest, size_t(channels)); });
  }

 private:
  const PoolShape shape_;
  const uint8_t minimum_;
  const size_t x_, y_;
};

template <class T>
class Table final : public Step {
 public:
  Table(const T* table, int64_t count, size_t x, size_t y) : count_(count), x_(x), y_(y) {
    std::copy_n(table, table_.size(), table_.begin());
  }
  void run(uint8_t* arena, uint8_t*) const override {
    const uint8_t* from = arena + x_;
    auto* to = reinterpret_cast<T*>(arena + y_);
    for (int64_t i = 0; i < count_; ++i) to[i] = table_[from[i]];
  }

 private:
  std::array<T, 256> table_;
  const int64_t count_;
  const size_t x_, y_;
};

// At most 256 different outputs: a histogram gives the sum, one division each value.
class Softmax final : public Step {
 public:
  Softmax(const int64_t* exponentials, int64_t count, size_t x, size_t y) : count_(count), x_(x), y_(y) {
    std::copy_n(exponentials, exponentials_.size(), exponentials_.begin());
  }

  void run(uint8_t* arena, uint8_t*) const override {
    const uint8_t* x = arena + x_;
    std::array<int64_t, 256> occurrences{};
    for (int64_t i = 0; i < count_; ++i) ++occurrences[x[i]];
    int32_t largest = 255;
    while (occurrences[size_t(largest)] == 0) --largest;
    int64_t sum = 0;
    for (int32_t v = 0; v <= largest; ++v) sum += occurrences[size_t(v)] * exponential(v, largest);
    std::array<uint8_t, 256> table{};
    for (int32_t v = 0; v <= largest; ++v)
      if (occurrences[size_t(v)])
        table[size_t(v)] = uint8_t(std::min<int64_t>((exponential(v, largest) * 256 + (sum >> 1)) / sum, 255));
    uint8_t* y = arena + y_;
    for (int64_t i = 0; i < count_; ++i) y[i] = table[x[i]];
  }

 private:
  int64_t exponential(int32_t value, int32_t largest) const { return exponentials_[size_t(255 - largest + value)]; }

  std::array<int64_t, 256> exponentials_;
  const int64_t count_;
  const size_t x_, y_;
};

}  // namespace

StepPointer make_add(const Path& path, const AddRule& rule, int64_t count, size_t a, size_t b, size_t y) {
  return std::make_unique<Add>(path, rule, count, a, b, y);
}
StepPointer make_average_pool(const PoolShape& shape, const AverageRule& rule, size_t x, size_t y) {
  return std::make_unique<AveragePool>(shape, rule, x, y);
}
StepPointer make_max_pool(const PoolShape& shape, uint8_t minimum, size_t x, size_t y) {
  return std::make_unique<MaxPool>(shape, minimum, x, y);
}
StepPointer make_bytes(const uint8_t* table, int64_t count, size_t x, size_t y) {
  return std::make_unique<Table<uint8_t>>(table, count, x, y);
}
StepPointer make_floats(const float* table, int64_t count, size_t x, size_t y) {
  return std::make_unique<Table<float>>(table, count, x, y);
}
StepPointer make_softmax(const int64_t* exponentials, int64_t count, size_t x, size_t y) {
  return std::make_unique<Softmax>(exponentials, count, x, y);
}

}  // namespace imagequeue
