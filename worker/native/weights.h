// Weights as kernels want them: made once, when a net is loaded, never written again (forked workers share them).
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <vector>

#include "requantize.h"

namespace imagequeue {

// Cache lines of memory, zeroed.
class Bytes {
 public:
  static constexpr size_t kAlignment = 64;

  static constexpr size_t round_up(size_t size) { return (size + kAlignment - 1) / kAlignment * kAlignment; }

  Bytes() = default;
  explicit Bytes(size_t size);

  template <class T>
  T* at(size_t offset) {
    return reinterpret_cast<T*>(data_.get() + offset);
  }
  template <class T>
  const T* at(size_t offset) const {
    return reinterpret_cast<const T*>(data_.get() + offset);
  }
  size_t size() const { return size_; }

 private:
  struct Free {
    void operator()(uint8_t* data) const { std::free(data); }
  };
  std::unique_ptr<uint8_t[], Free> data_;
  size_t size_ = 0;
};

// A matrix product as the net has it: [channels][depth] weights w - w_zero_point (-255 … 255), and for each
// channel the bias with -x_zero_point * sum(weights) folded in.
struct Matrix {
  int32_t channels;
  int32_t depth;
  const int16_t* weights;
  const int32_t* bias;
  Requantization requantization;
};

// How an instruction set lays out a panel: some vectors of output channels, `lanes` channels each.
struct PanelFormat {
  enum Products {
    kDots,   // u8 x s8 dot products of four, summed in 32 bits: nothing overflows
    kPairs,  // u8 x s8 products summed in 16 bits, by pairs and over a group of dwords: bounded when packed
    kWords,  // a row of int16 weights for each channel
  };
  Products products;
  int32_t lanes;
  std::vector<int32_t> vectors;  // widths of panels that there are kernels for, widest first
  int32_t (*channel)(int32_t vectors, int32_t vector, int32_t lane);  // of a panel
  int32_t subtracted = 0;  // from activations, before they are multiplied; what accumulators start from makes up for it
};

// Weights of neighbouring output channels, in the order in which a tile reads them.
struct Panel {
  int32_t channel;   // the first
  int32_t channels;  // that exist; the other lanes have weight 0
  int32_t vectors;
  int32_t group;  // kPairs: dwords whose products are summed in 16 bits
  // kDots: dwords in order, then dwords left over for each vector. kPairs: groups, then single dwords.
  int32_t counts[5];
  size_t start, offsets, weights;  // in Packed::memory
};

struct Packed {
  int32_t channels;
  int32_t depth;
  Requantization requantization;
  std::vector<Panel> panels;
  Bytes memory;
};

Packed pack(const Matrix& matrix, const PanelFormat& format);

// Depthwise weights: [channels][kernel_h][kernel_w].
struct Kernel {
  int32_t channels;
  int32_t height;
  int32_t width;
  const int16_t* weights;
  const int32_t* bias;
  Requantization requantization;
};

// How an instruction set lays out depthwise weights. A unit is `rows` input rows of one column, interleaved, for
// `block` channels; the first of them is an even row of the padded input.
struct UnitFormat {
  int32_t rows;     // 1 or 2: int16 weights, singly or by pairs; 4: int8 weights by fours
  int32_t vectors;  // of accumulators for a block
  int32_t lanes;
  int32_t (*channel)(int32_t vector, int32_t lane);  // of a block
  int32_t subtracted = 0;                            // as in PanelFormat

  int32_t block() const { return vectors * lanes; }
};

// What int8 cannot hold of some weights of one vector.
struct Leftover {
  int32_t unit, column, vector;
  size_t weights;
};

struct PackedDepthwise {
  int32_t channels, height, width;
  int32_t units;  // that an output row reads
  Requantization requantization;
  // For each block of channels: where accumulators start, and for output rows that begin at an even [0] and at an
  // odd [1] row of the padded input, vectors of weights by unit and column.
  struct Block {
    size_t start;
    size_t weights[2];
    std::vector<Leftover> leftovers[2];
  };
  std::vector<Block> blocks;
  Bytes memory;
};

PackedDepthwise pack(const Kernel& kernel, const UnitFormat& format);

}  // namespace imagequeue
