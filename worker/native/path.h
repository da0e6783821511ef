// What an instruction set provides: one table of kernels, chosen when a net is loaded.
#pragma once

#include <cstddef>
#include <cstdint>

#include "weights.h"

namespace imagequeue {

// Kernels read up to this many bytes beyond the last element of a tensor; the arena has them.
constexpr size_t kSlack = 64;

// A depthwise convolution over one image, NHWC; its geometry but for the weights.
struct DepthwiseShape {
  int32_t height, width;  // of the input
  int32_t out_height, out_width;
  int32_t stride_h, stride_w;
  int32_t pad_top, pad_left;
  int32_t dilation_w;
  uint8_t x_zero_point;  // what padding holds
};

// Int8Add in int32: (t + 2^(shift-1) + (t >> 31)) >> shift with t = a_multiplier * (a - a_zero_point) + … of b;
// whoever makes one has checked that t + 2^(shift-1) stays in int32.
struct AddRule {
  int32_t a_multiplier, b_multiplier;
  int32_t a_zero_point, b_zero_point;
  int32_t shift;
  int32_t zero_point, minimum;
};

struct Path {
  const char* name;
  PanelFormat panels;
  UnitFormat units;

  // out[pixel][channel] = requantized x[pixel][0 … depth) * weights; pitches in bytes.
  void (*multiply)(const Packed& weights, const uint8_t* x, int64_t x_pitch, int64_t pixels, uint8_t* out,
                   int64_t out_pitch);
  // Bytes of working memory that `depthwise` needs.
  size_t (*depthwise_scratch)(const PackedDepthwise& weights, const DepthwiseShape& shape);
  void (*depthwise)(const PackedDepthwise& weights, const DepthwiseShape& shape, const uint8_t* x, uint8_t* out,
                    uint8_t* scratch);
  void (*add)(const AddRule& rule, const uint8_t* a, const uint8_t* b, uint8_t* out, int64_t count);
};

// Defined where the compiler targets the instruction set; null on other machines.
const Path* avx512vnni_path();
const Path* avxvnni_path();
const Path* avx2_path();
const Path* neon_path();
const Path* scalar_path();

// The paths that this processor can run, best first, up to `capacity`; returns how many there are.
int32_t find_paths(const Path** paths, int32_t capacity);

}  // namespace imagequeue
