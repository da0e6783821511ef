// What compilers vectorise by themselves, for each instruction set anew; in no namespace that files share.
#pragma once

#include "resize_area.h"

namespace imagequeue {
namespace {

inline void pixel_sums(const Across& across, const uint8_t* row, int32_t output, float* sums) {
  const uint8_t* x = row + 3 * int64_t(across.start[output]);
  const float* weight = across.weight + int64_t(output) * across.taps;
  float blue = 0, green = 0, red = 0;
  for (int32_t tap = 0; tap < across.count[output]; ++tap, x += 3) {
    blue += x[0] * weight[tap];
    green += x[1] * weight[tap];
    red += x[2] * weight[tap];
  }
  float* to = sums + 3 * output;
  to[0] = blue, to[1] = green, to[2] = red;
}

void start_total(const float* __restrict sums, float weight, int32_t count, float* __restrict total) {
  for (int32_t i = 0; i < count; ++i) total[i] = sums[i] * weight;
}

void add_to_total(const float* __restrict sums, float weight, int32_t count, float* __restrict total) {
  for (int32_t i = 0; i < count; ++i) total[i] += sums[i] * weight;
}

void total_to_bytes(const float* __restrict total, int32_t count, uint8_t* __restrict out) {
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: beside it a float32 holds no fraction
  for (int32_t i = 0; i < count; ++i) {
    const auto value = int32_t(total[i] + kRound - kRound);
    out[i] = uint8_t(value < 255 ? value : 255);  // weights may add up to a little more than 1
  }
}

}  // namespace
}  // namespace imagequeue
