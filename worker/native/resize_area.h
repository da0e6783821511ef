// Shrinking by other than whole numbers: weighted float32 sums, along rows first, then down, in the order of the taps.
// Every product and every sum is rounded once, so these files are compiled without contraction to FMA.
#pragma once

#include <cstddef>
#include <cstdint>

#include "resize.h"

namespace imagequeue {

// One vector of eight sums, one tap: where its bytes lie in their windows of 16, widened to dwords, and their weights.
struct alignas(64) TapLanes {
  uint8_t shuffle[32];
  float weight[8];
};

// How a row's bytes become sums; three channels to an output.
struct Across {
  int32_t src, size;    // pixels of the row; outputs
  int32_t taps;         // the most that an output has
  const int32_t* start;  // [size]
  const int32_t* count;  // [size]
  const float* weight;   // [size][taps]

  // For kernels that shuffle: `windows` windows per half vector, of which each starts at its base; no byte beyond the
  // row is in one.
  int32_t vectors, windows;
  const int32_t* base;    // [vectors][windows][2]
  const TapLanes* lanes;  // [vectors][taps]
};

// Kernels may write this many sums beyond the last one.
constexpr size_t kSumSlack = 8;

using Line = void (*)(const Across& across, const uint8_t* row, float* sums);

struct AreaKernels {
  Line pixels;  // any taps
  // Null where there is no shuffle:
  Line windows;     // a window for each tap
  Line two, three;  // one window for all two or three taps

  void (*start)(const float* sums, float weight, int32_t count, float* total);
  void (*add)(const float* sums, float weight, int32_t count, float* total);
  void (*bytes)(const float* total, int32_t count, uint8_t* out);  // rounded half to even
};

const AreaKernels* avx2_area();  // null where the compiler does not target it
const AreaKernels* plain_area();

void resize_area(const AreaKernels& kernels, const uint8_t* pixels, int64_t pitch, const Axis& rows,
                 const Axis& columns, uint8_t* out);

}  // namespace imagequeue
