// Depthwise convolutions over units of interleaved rows.
#pragma once

#include "rules.h"

namespace imagequeue {
namespace {

// Depthwise. For a block of channels and each two input rows on, units of interleaved rows are made once in a ring,
// and read by all output rows and taps that need them.
template <class V>
struct Depthwise {
  static constexpr int64_t kBlock = V::kUnitVectors * V::kLanes;
  static constexpr int64_t kUnit = kBlock * V::kUnitRows * (V::kUnitRows == 2 ? 2 : 1);  // bytes of a column
  static constexpr int kColumns = V::kUnitColumns;  // outputs of a tile
  static constexpr int32_t kMostUnits = 16;

  using Vec = typename V::Vec;

  // What an output row of a block reads.
  struct Row {
    const uint8_t* planes[kMostUnits];  // by unit
    const uint8_t* weights;
    const std::vector<Leftover>* leftovers;
    const int32_t* start;
    int64_t count;  // channels
  };

  const PackedDepthwise& weights;
  const Requantization requantization;  // copies: stores of bytes cannot change them
  const DepthwiseShape shape;
  const uint8_t* x;
  uint8_t* out;
  uint8_t* padding;  // a pixel of zero points
  uint8_t* ring;
  int64_t columns, plane, planes, together;

  static int64_t padded_columns(const PackedDepthwise& weights, const DepthwiseShape& shape) {
    const int64_t outputs = std::max(shape.out_width, kColumns);
    const int64_t read = (outputs - 1) * shape.stride_w + int64_t(weights.width - 1) * shape.dilation_w + 1;
    return std::max<int64_t>(read, shape.pad_left + shape.width);
  }
  static int32_t ring_planes(const PackedDepthwise& weights) { return weights.units * V::kUnitRows / 2; }
  static int64_t padding_size(const PackedDepthwise& weights) { return int64_t(weights.blocks.size()) * kBlock; }
  // Blocks whose rings fit into the cache: the more, the more of each cache line of the input is read at once.
  static int64_t blocks_together(const PackedDepthwise& weights, const DepthwiseShape& shape) {
    constexpr int64_t kRingBytes = 32 << 10;
    const int64_t ring = ring_planes(weights) * padded_columns(weights, shape) * kUnit;
    return std::clamp<int64_t>(kRingBytes / ring, 1, int64_t(weights.blocks.size()));
  }
  static size_t scratch(const PackedDepthwise& weights, const DepthwiseShape& shape) {
    return size_t(padding_size(weights) + blocks_together(weights, shape) * ring_planes(weights) * padded_columns(weights, shape) * kUnit);
  }

  Depthwise(const PackedDepthwise& w, const DepthwiseShape& s, const uint8_t* from, uint8_t* to, uint8_t* memory)
      : weights(w), requantization(w.requantization), shape(s), x(from), out(to), padding(memory), ring(memory + padding_size(w)),
        columns(padded_columns(w, s)), plane(columns * kUnit), planes(ring_planes(w)), together(blocks_together(w, s)) {
    std::memset(padding, shape.x_zero_point, size_t(padding_size(w)));
  }

  // Interleaves padded input rows 2 * number … of some neighbouring blocks. The last block may read beyond the
  // channels that exist: their weights are 0.
  void fill(int64_t number, int64_t first, int64_t blocks) const {
    const uint8_t* rows[V::kUnitRows];
    const uint8_t* edge[V::kUnitRows];
    int64_t steps[V::kUnitRows];
    IQ_UNROLL for (int row = 0; row < V::kUnitRows; ++row) {
      const int64_t y = 2 * number + row - shape.pad_top;
      const bool inside = y >= 0 && y < shape.height;
      rows[row] = inside ? x + y * shape.width * weights.channels + first * kBlock : padding;
      steps[row] = inside ? weights.channels : 0;
      edge[row] = padding;
    }
    uint8_t* to = ring + number % planes * plane;
    const int64_t ring_size = planes * plane, right = shape.pad_left + shape.width;
    for (int64_t column = 0; column < shape.pad_left; ++column)
      for (int64_t block = 0; block < blocks; ++block) V::interleave(edge, to + column * kUnit + block * ring_size);
    for (int64_t column = right; column < columns; ++column)
      for (int64_t block = 0; block < blocks; ++block) V::interleave(edge, to + column * kUnit + block * ring_size);
    to += shape.pad_left * kUnit;
    for (int64_t column = 0; column < shape.width; ++column, to += kUnit) {
      const uint8_t* from[V::kUnitRows];
      IQ_UNROLL for (int row = 0; row < V::kUnitRows; ++row) from[row] = rows[row];
      uint8_t* unit = to;
      for (int64_t block = 0; block < blocks; ++block, unit += ring_size) {
        V::interleave(from, unit);
        IQ_UNROLL for (int row = 0; row < V::kUnitRows; ++row) from[row] += kBlock;
      }
      IQ_UNROLL for (int row = 0; row < V::kUnitRows; ++row) rows[row] += steps[row];
    }
  }

  // Adds one unit's products to COLUMNS neighbouring outputs of one vector. `from` is the first one's first tap, `w`
  // its weights. With WIDTH and STRIDE known, each column is loaded once for all outputs that read it.
  template <int COLUMNS, int WIDTH, int STRIDE>
  IQ_INLINE void add_unit(Vec (&acc)[COLUMNS], const uint8_t* from, const uint8_t* w) const {
    constexpr int64_t kTaps = V::kUnitVectors * sizeof(Vec);
    if constexpr (WIDTH > 0) {
      Vec taps[WIDTH];
      IQ_UNROLL for (int tap = 0; tap < WIDTH; ++tap) taps[tap] = V::load(w + tap * kTaps);
      IQ_UNROLL for (int column = 0; column < (COLUMNS - 1) * STRIDE + WIDTH; ++column) {
        const Vec unit = V::load(from + column * kUnit);
        IQ_UNROLL for (int t = 0; t < COLUMNS; ++t) {
          const int tap = column - t * STRIDE;
          if (tap >= 0 && tap < WIDTH) acc[t] = V::mac(acc[t], unit, taps[tap < 0 || tap >= WIDTH ? 0 : tap]);
        }
      }
    } else {
      for (int32_t tap = 0; tap < weights.width; ++tap, from += shape.dilation_w * kUnit, w += kTaps) {
        const Vec taps = V::load(w);
        IQ_UNROLL for (int t = 0; t < COLUMNS; ++t)
          acc[t] = V::mac(acc[t], V::load(from + t * shape.stride_w * kUnit), taps);
      }
    }
  }

  template <int COLUMNS>
  IQ_INLINE void add_leftover(Vec (&acc)[COLUMNS], const Leftover& left, const Row& row, int64_t base) const {
    const uint8_t* from = row.planes[left.unit] + (base + left.column * shape.dilation_w) * kUnit;
    const Vec taps = V::load(weights.memory.at<uint8_t>(left.weights));
    IQ_UNROLL for (int t = 0; t < COLUMNS; ++t)
      acc[t] = V::mac(acc[t], V::load(from + t * shape.stride_w * kUnit + left.vector * int64_t(sizeof(Vec))), taps);
  }

  // COLUMNS outputs of a row from `base` on, the ring's column of the first one's first tap.
  template <class R, int COLUMNS, int UNITS, int WIDTH, int STRIDE>
  IQ_INLINE void outputs(const Row& row, int64_t base, int64_t kept, uint8_t* to) const {
    Vec acc[V::kUnitVectors][COLUMNS];
    IQ_UNROLL for (int n = 0; n < V::kUnitVectors; ++n) {
      constexpr int64_t kVector = sizeof(Vec);
      const Vec bias = V::load(row.start + n * V::kLanes);
      IQ_UNROLL for (int t = 0; t < COLUMNS; ++t) acc[n][t] = bias;
      const uint8_t* w = row.weights + n * kVector;
      const int32_t units = UNITS > 0 ? UNITS : weights.units, width = UNITS > 0 ? WIDTH : weights.width;
      IQ_ROLLED for (int32_t unit = 0; unit < units; ++unit, w += width * V::kUnitVectors * kVector)
        add_unit<COLUMNS, WIDTH, STRIDE>(acc[n], row.planes[unit] + base * kUnit + n * kVector, w);
      if constexpr (V::kUnitRows == 4) {
        for (const Leftover& left : *row.leftovers)
          if (left.vector == n) add_leftover<COLUMNS>(acc[n], left, row, base);
      }
      if constexpr (R::kForm != Form::kQ31) V::template requantize<R, 1, COLUMNS>(acc + n, requantization);
    }
    store<R, COLUMNS>(acc, row.count, kept, to);
  }

  template <class R, int COLUMNS>
  IQ_INLINE void store(const Vec (&y)[V::kUnitVectors][COLUMNS], int64_t count, int64_t kept, uint8_t* to) const {
    Vec pixels[COLUMNS][V::kUnitVectors];
    IQ_UNROLL for (int t = 0; t < COLUMNS; ++t) IQ_UNROLL for (int n = 0; n < V::kUnitVectors; ++n) pixels[t][n] = y[n][t];
    const bool whole = count == kBlock && kept == COLUMNS;
    alignas(64) uint8_t part[COLUMNS][kBlock];
    uint8_t* target = whole ? to : part[0];
    const int64_t pitch = whole ? weights.channels : kBlock;
    if constexpr (R::kForm == Form::kQ31)
      store_by_rule<V>(pixels, requantization, int32_t(count), target, pitch, V::unit_channel_of);
    else
      V::template store_units<R, COLUMNS>(pixels, requantization, target, pitch);
    if (!whole)
      for (int64_t t = 0; t < kept; ++t) std::memcpy(to + t * weights.channels, part[t], size_t(count));
  }

  // All outputs of a row, kColumns at a time; the last ones are computed again with those before them, or, in a row
  // that is shorter, together with what nobody keeps.
  template <class R, int UNITS, int WIDTH, int STRIDE>
  void run_row(const Row& row, uint8_t* to) const {
    const int64_t pitch = weights.channels;
    if (shape.out_width < kColumns) return outputs<R, kColumns, UNITS, WIDTH, STRIDE>(row, 0, shape.out_width, to);
    for (int64_t column = 0; column < shape.out_width; column += kColumns) {
      const int64_t first = std::min<int64_t>(column, shape.out_width - kColumns);
      outputs<R, kColumns, UNITS, WIDTH, STRIDE>(row, first * shape.stride_w, kColumns, to + first * pitch);
    }
  }

  template <class R, int UNITS, int WIDTH, int STRIDE>
  void run_all() const {
    const int64_t all = int64_t(weights.blocks.size());
    for (int64_t first = 0; first < all; first += together) {
      const int64_t blocks = std::min(together, all - first);
      int64_t filled = 0;
      for (int64_t y = 0; y < shape.out_height; ++y) {
        const int64_t top = y * shape.stride_h;
        for (filled = std::max(filled, top / 2); filled < top / 2 + planes; ++filled) fill(filled, first, blocks);
        for (int64_t number = first; number < first + blocks; ++number)
          run_row<R, UNITS, WIDTH, STRIDE>(row_of(number, number - first, top),
                                       out + y * shape.out_width * weights.channels + number * kBlock);
      }
    }
  }

  Row row_of(int64_t number, int64_t place, int64_t top) const {
    const PackedDepthwise::Block& block = weights.blocks[size_t(number)];
    Row row;
    for (int32_t unit = 0; unit < weights.units; ++unit)
      row.planes[unit] = ring + (place * planes + (top / 2 + unit * (V::kUnitRows / 2)) % planes) * plane;
    row.weights = weights.memory.at<uint8_t>(block.weights[top & 1]);
    row.leftovers = &block.leftovers[top & 1];
    row.start = weights.memory.at<int32_t>(block.start);
    row.count = std::min<int64_t>(kBlock, weights.channels - number * kBlock);
    return row;
  }

  template <class R>
  void run_rule() const {
    const auto is = [&](int32_t size, int32_t stride) {
      return shape.dilation_w == 1 && weights.height == size && weights.width == size && shape.stride_w == stride;
    };
    constexpr auto units = [](int size) { return (1 + size + V::kUnitRows - 1) / V::kUnitRows; };
    if (is(3, 1)) return run_all<R, units(3), 3, 1>();
    if (is(3, 2)) return run_all<R, units(3), 3, 2>();
    if (is(5, 1)) return run_all<R, units(5), 5, 1>();
    if (is(5, 2)) return run_all<R, units(5), 5, 2>();
    run_all<R, 0, 0, 0>();
  }

  void run() const {
    with_rule(requantization, [&](auto rule) { run_rule<decltype(rule)>(); });
  }
};

template <class V>
size_t depthwise_scratch(const PackedDepthwise& weights, const DepthwiseShape& shape) {
  return Depthwise<V>::scratch(weights, shape);
}

template <class V>
void depthwise(const PackedDepthwise& weights, const DepthwiseShape& shape, const uint8_t* x, uint8_t* out,
               uint8_t* scratch) {
  Depthwise<V>(weights, shape, x, out, scratch).run();
}

}  // namespace
}  // namespace imagequeue
