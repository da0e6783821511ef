// Matrix products: a few pixels times a panel of output channels, requantized while still in registers.
//
// Accumulators are local arrays, all loops over them unrolled, or compilers keep them in memory.
#pragma once

#include "rules.h"

namespace imagequeue {
namespace {

// One panel times all of some pixels, as many at once as fit. GROUP: dwords whose products are summed together.
template <class V, class R, int NV, int GROUP>
struct PanelProduct {
  Requantization requantization;
  int32_t counts[5], channels;
  const int32_t* start;
  const int32_t* offsets;
  const int8_t* weights;
  int64_t x_pitch, out_pitch;

  template <int MR>
  IQ_INLINE void tile(const uint8_t* x, uint8_t* out) const {
    typename V::Vec acc[MR][NV];
    IQ_UNROLL for (int n = 0; n < NV; ++n) {
      const auto bias = V::load(start + n * V::kLanes);
      IQ_UNROLL for (int m = 0; m < MR; ++m) acc[m][n] = bias;
    }
    const uint8_t* rows[MR];
    IQ_UNROLL for (int m = 0; m < MR; ++m) {
      rows[m] = x + m * x_pitch;
      asm("" : "+r"(rows[m]));  // keeps the optimiser from computing it anew at every use
    }
    V::template products<GROUP, MR, NV>(acc, rows, counts, offsets, weights);
    store<MR>(acc, out);
  }

  template <int MR>
  IQ_INLINE void store(typename V::Vec (&acc)[MR][NV], uint8_t* out) const {
    if constexpr (R::kForm == Form::kQ31) {
      store_by_rule<V, MR, NV>(acc, requantization, channels, out, out_pitch, V::channel);
    } else {
      V::template requantize<R, MR, NV>(acc, requantization);
      if (channels == NV * V::kLanes) return V::template store<R, MR, NV>(acc, requantization, out, out_pitch);
      alignas(64) uint8_t whole[MR][NV * V::kLanes];
      V::template store<R, MR, NV>(acc, requantization, whole[0], NV * V::kLanes);
      for (int m = 0; m < MR; ++m) std::memcpy(out + m * out_pitch, whole[m], size_t(channels));
    }
  }

  template <int MR>
  IQ_INLINE void tiles(const uint8_t*& x, int64_t& pixels, uint8_t*& out) const {
    for (; pixels >= MR; pixels -= MR, x += MR * x_pitch, out += MR * out_pitch) tile<MR>(x, out);
  }

  // By value: stores of bytes could change anything that is not local.
  static __attribute__((noinline)) void run(PanelProduct product, const uint8_t* x, int64_t pixels, uint8_t* out) {
    const PanelProduct local = product;
    local.template tiles<V::kRows>(x, pixels, out);
    local.template tiles<2>(x, pixels, out);
    local.template tiles<1>(x, pixels, out);
  }
};

template <class V, class R, int NV, int GROUP>
void multiply_panel(const Packed& weights, const Panel& panel, const uint8_t* x, int64_t x_pitch, int64_t pixels,
                    uint8_t* out, int64_t out_pitch) {
  PanelProduct<V, R, NV, GROUP> product{weights.requantization,
                                        {},
                                        panel.channels,
                                        weights.memory.at<int32_t>(panel.start),
                                        weights.memory.at<int32_t>(panel.offsets),
                                        weights.memory.at<int8_t>(panel.weights),
                                        x_pitch,
                                        out_pitch};
  std::copy_n(panel.counts, 5, product.counts);
  PanelProduct<V, R, NV, GROUP>::run(product, x, pixels, out + panel.channel);
}

// Pixels that go through all panels before the next ones: their inputs stay in the first-level cache if the
// weights do not drive them out; large weights are read once instead.
inline int64_t pixel_block(const Packed& weights, int64_t x_pitch, int64_t pixels) {
  constexpr int64_t kBlockBytes = 12 << 10, kWeightBytes = 96 << 10;
  if (int64_t(weights.memory.size()) > kWeightBytes) return pixels;
  return std::max<int64_t>(kBlockBytes / std::max<int64_t>(x_pitch, weights.channels) / 28, 1) * 28;
}

template <class V>
void multiply(const Packed& weights, const uint8_t* x, int64_t x_pitch, int64_t pixels, uint8_t* out,
              int64_t out_pitch) {
  const int64_t block = pixel_block(weights, x_pitch, pixels);
  for (int64_t first = 0; first < pixels; first += block) {
    const int64_t count = std::min(block, pixels - first);
    const uint8_t* from = x + first * x_pitch;
    uint8_t* to = out + first * out_pitch;
    with_rule(weights.requantization, [&](auto rule) {
      using R = decltype(rule);
      for (const Panel& panel : weights.panels) {
        const auto multiply_by = [&](auto kernel) { kernel(weights, panel, from, x_pitch, count, to, out_pitch); };
        if constexpr (V::kGrouped) {
          if (panel.vectors == 1 && panel.group == 2) multiply_by(multiply_panel<V, R, 1, 2>);
          if (panel.vectors == 1 && panel.group == 3) multiply_by(multiply_panel<V, R, 1, 3>);
          if (panel.vectors == 2 && panel.group == 2) multiply_by(multiply_panel<V, R, 2, 2>);
          if (panel.vectors == 2 && panel.group == 3) multiply_by(multiply_panel<V, R, 2, 3>);
        } else {
          if (panel.vectors == 1) multiply_by(multiply_panel<V, R, 1, 1>);
          if (panel.vectors == 2) multiply_by(multiply_panel<V, R, 2, 1>);
          if constexpr (V::kWidest >= 4)
            if (panel.vectors == 4) multiply_by(multiply_panel<V, R, 4, 1>);
        }
      }
    });
  }
}

}  // namespace
}  // namespace imagequeue
