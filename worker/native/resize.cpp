#include "resize.h"

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <cstring>
#include <vector>

#include "path.h"
#include "resize_area.h"

namespace imagequeue {
namespace {

constexpr float kFixedOne = 2048;  // OpenCV's INTER_RESIZE_COEF_SCALE

bool has_avx2() {
  const Path* paths[8];
  const int32_t count = find_paths(paths, 8);
  for (int32_t i = 0; i < count; ++i)
    if (std::strcmp(paths[i]->name, "avx2") == 0) return avx2_area() != nullptr;
  return false;
}

const AreaKernels& best_area() {
  static const AreaKernels* const kernels = has_avx2() ? avx2_area() : plain_area();  // CPUID is slow on virtual machines
  return *kernels;
}

void copy(const uint8_t* pixels, int64_t pitch, const Axis& rows, const Axis& columns, uint8_t* out) {
  const size_t size = 3 * size_t(columns.size);
  for (int32_t i = 0; i < rows.size; ++i, out += size)
    std::memcpy(out, pixels + (rows.first + i) * pitch + 3 * int64_t(columns.first), size);
}

// Half up; every other case rounds half to even.
void resize_halves(const uint8_t* pixels, int64_t pitch, const Axis& rows, const Axis& columns, uint8_t* out) {
  for (int32_t i = 0; i < rows.size; ++i) {
    const uint8_t* a = pixels + 2 * (rows.first + i) * pitch + 6 * int64_t(columns.first);
    const uint8_t* b = a + pitch;
    for (int32_t j = 0; j < columns.size; ++j, a += 6, b += 6, out += 3)
      for (int32_t c = 0; c < 3; ++c) out[c] = uint8_t((a[c] + a[c + 3] + b[c] + b[c + 3] + 2) >> 2);
  }
}

// Shrink by whole numbers: integer sums of boxes, rounded once.
void resize_boxes(const uint8_t* pixels, int64_t pitch, const Axis& rows, const Axis& columns, int32_t down,
                  int32_t across, uint8_t* out) {
  const float weight = 1.0f / float(down * across);
  const int64_t width = 3 * int64_t(columns.size) * across;
  std::vector<uint32_t> bands(static_cast<size_t>(width));
  for (int32_t i = 0; i < rows.size; ++i) {
    std::fill(bands.begin(), bands.end(), 0);
    const uint8_t* row = pixels + int64_t(rows.first + i) * down * pitch + 3 * int64_t(columns.first) * across;
    for (int32_t k = 0; k < down; ++k, row += pitch)
      for (int64_t j = 0; j < width; ++j) bands[size_t(j)] += row[j];
    const uint32_t* band = bands.data();
    for (int32_t j = 0; j < columns.size; ++j, band += 3 * int64_t(across), out += 3)
      for (int32_t c = 0; c < 3; ++c) {
        uint32_t box = 0;
        for (int64_t k = 0; k < across; ++k) box += band[3 * k + c];
        out[c] = uint8_t(std::nearbyint(float(box) * weight));
      }
  }
}

// Output i mixes the sources low[i] and high[i]; INTER_LINEAR's arithmetic with a coordinate rule of its own.
struct Pairs {
  std::vector<int32_t> low, high, low_weight, high_weight;

  Pairs(const Axis& axis, bool vertical) {
    const double scale = axis.scale(), inverse = axis.inverse();
    for (int32_t index = axis.first; index < axis.first + axis.size; ++index) {
      const double source = std::floor(index * scale);
      auto fraction = float((index + 1.0) - (source + 1.0) * inverse);
      fraction = fraction <= 0 ? 0 : fraction - std::floor(fraction);
      // Rows keep their fraction beyond the last row, columns do not.
      if (!vertical && source >= axis.src - 1) fraction = 0;
      low.push_back(std::min(int32_t(source), axis.src - 1));
      high.push_back(std::min(low.back() + 1, axis.src - 1));
      low_weight.push_back(int32_t(std::nearbyint((1.0f - fraction) * kFixedOne)));
      high_weight.push_back(int32_t(std::nearbyint(fraction * kFixedOne)));
    }
  }
};

void widen(const uint8_t* row, const Pairs& across, int32_t* wide) {
  for (size_t j = 0; j < across.low.size(); ++j)
    for (size_t c = 0; c < 3; ++c)
      *wide++ = (row[3 * size_t(across.low[j]) + c] * across.low_weight[j] +
                 row[3 * size_t(across.high[j]) + c] * across.high_weight[j]) >> 4;
}

// Enlarge: bilinear in fixed point, each product truncated on its own.
void resize_linear(const uint8_t* pixels, int64_t pitch, const Axis& rows, const Axis& columns, uint8_t* out) {
  const Pairs down(rows, true), across(columns, false);
  const size_t count = 3 * size_t(columns.size);
  std::vector<int32_t> lines[2];  // of an even and of an odd row
  int32_t held[2] = {-1, -1};
  const auto line = [&](int32_t row) {
    const int32_t place = row & 1;
    lines[place].resize(count);
    if (held[place] != row) widen(pixels + row * pitch, across, lines[place].data());
    held[place] = row;
    return static_cast<const int32_t*>(lines[place].data());
  };
  for (size_t i = 0; i < down.low.size(); ++i, out += count) {
    const int32_t *low = line(down.low[i]), *high = line(down.high[i]);
    const int32_t low_weight = down.low_weight[i], high_weight = down.high_weight[i];
    for (size_t j = 0; j < count; ++j)
      out[j] = uint8_t(((low[j] * low_weight >> 16) + (high[j] * high_weight >> 16) + 2) >> 2);
  }
}

}  // namespace

void resize(const uint8_t* pixels, int64_t pitch, const Axis& rows, const Axis& columns, bool vectors, uint8_t* out) {
  const double down = rows.scale(), across = columns.scale();
  if (rows.src == rows.dst && columns.src == columns.dst) return copy(pixels, pitch, rows, columns, out);
  if (down < 1 || across < 1) return resize_linear(pixels, pitch, rows, columns, out);
  const double n = std::nearbyint(down), m = std::nearbyint(across);
  if (std::abs(down - n) < DBL_EPSILON && std::abs(across - m) < DBL_EPSILON) {
    if (n == 2 && m == 2) return resize_halves(pixels, pitch, rows, columns, out);
    return resize_boxes(pixels, pitch, rows, columns, int32_t(n), int32_t(m), out);
  }
  resize_area(vectors ? best_area() : *plain_area(), pixels, pitch, rows, columns, out);
}

}  // namespace imagequeue
