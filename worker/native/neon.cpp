// NEON with the dot product extension (ARMv8.2-A): 128-bit dot products of signed bytes, 32 registers.
#include "path.h"

#if defined(__ARM_FEATURE_DOTPROD)
#include <arm_neon.h>

#include "body.h"

namespace imagequeue {
namespace {

struct Neon {
  using Vec = int32x4_t;
  static constexpr int kLanes = 4;
  static constexpr int kWidest = 4;
  static constexpr int kRows = 4;
  static constexpr bool kGrouped = false;

  // Both operands of a dot product are signed: activations lose 128, which flips their top bit.
  static constexpr int32_t kSubtracted = 128;
  static IQ_INLINE uint8x16_t to_signed(uint8x16_t bytes) { return veorq_u8(bytes, vdupq_n_u8(kSubtracted)); }

  // Narrowing keeps the order.
  static int32_t channel(int32_t, int32_t vector, int32_t lane) { return vector * kLanes + lane; }

  static IQ_INLINE Vec load(const void* from) {
    return vreinterpretq_s32_u8(vld1q_u8(static_cast<const uint8_t*>(from)));
  }
  static IQ_INLINE void save(Vec v, int32_t* to) { vst1q_s32(to, v); }

  // Four dwords of a row, and one of them in all lanes.
  static IQ_INLINE int8x16_t dwords(const uint8_t* from) { return vreinterpretq_s8_u8(to_signed(vld1q_u8(from))); }
  static IQ_INLINE int8x16_t broadcast(const uint8_t* from) {
    uint32_t dword;
    std::memcpy(&dword, from, sizeof dword);
    return vreinterpretq_s8_u8(to_signed(vreinterpretq_u8_u32(vdupq_n_u32(dword))));
  }

  // One dword of each row, `LANE` of x.
  template <int LANE, int MR, int NV>
  static IQ_INLINE void step(Vec (&acc)[MR][NV], const int8x16_t (&x)[MR], const int8_t*& weights) {
    IQ_UNROLL for (int n = 0; n < NV; ++n, weights += 16) {
      const int8x16_t taps = vld1q_s8(weights);
      IQ_UNROLL for (int m = 0; m < MR; ++m) acc[m][n] = vdotq_laneq_s32(acc[m][n], taps, x[m], LANE);
    }
  }

  template <int, int MR, int NV>
  static IQ_INLINE void products(Vec (&acc)[MR][NV], const uint8_t* const (&rows)[MR], const int32_t* counts,
                                 const int32_t* offsets, const int8_t* weights) {
    int8x16_t x[MR];
    int32_t k = 0;
    for (; k + 4 <= counts[0]; k += 4) {
      IQ_UNROLL for (int m = 0; m < MR; ++m) x[m] = dwords(rows[m] + 4 * k);
      step<0>(acc, x, weights), step<1>(acc, x, weights), step<2>(acc, x, weights), step<3>(acc, x, weights);
    }
    for (; k < counts[0]; ++k) {
      IQ_UNROLL for (int m = 0; m < MR; ++m) x[m] = broadcast(rows[m] + 4 * k);
      step<0>(acc, x, weights);
    }
    // What int8 cannot hold, vector by vector.
    IQ_UNROLL for (int n = 0; n < NV; ++n)
      for (int32_t left = counts[1 + n]; left > 0; --left, ++offsets, weights += 16)
        IQ_UNROLL for (int m = 0; m < MR; ++m)
          acc[m][n] = vdotq_s32(acc[m][n], vld1q_s8(weights), broadcast(rows[m] + *offsets));
  }

  // Accumulators to results y, right in the low 16 bits of each lane.
  template <class R, int MR, int NV>
  static IQ_INLINE void requantize(Vec (*acc)[NV], const Requantization& r) {
    const float32x4_t scale = vdupq_n_f32(r.scale), constant = vdupq_n_f32(r.constant);
    const float32x4_t negative = vdupq_n_f32(r.negative_constant);
    IQ_UNROLL for (int m = 0; m < MR; ++m) IQ_UNROLL for (int n = 0; n < NV; ++n) {
      if constexpr (R::kForm == Form::kOneFma) {
        acc[m][n] = vreinterpretq_s32_f32(vfmaq_f32(constant, vreinterpretq_f32_s32(acc[m][n]), scale));
      } else {
        const float32x4_t offset = vbslq_f32(vcltzq_s32(acc[m][n]), negative, constant);
        acc[m][n] = vcvtnq_s32_f32(vfmaq_f32(offset, vcvtq_f32_s32(acc[m][n]), scale));
      }
    }
  }

  // The low halves of both.
  template <class R>
  static IQ_INLINE int16x8_t words(Vec a, Vec b, const Requantization& r) {
    const int16x8_t y = vuzp1q_s16(vreinterpretq_s16_s32(a), vreinterpretq_s16_s32(b));
    return R::kPlain ? y : vqaddq_s16(y, vdupq_n_s16(int16_t(r.zero_point)));
  }
  template <class R>
  static IQ_INLINE uint8x8_t bytes(int16x8_t words, const Requantization& r) {
    const uint8x8_t y = vqmovun_s16(words);
    return R::kPlain ? y : vmax_u8(y, vdup_n_u8(uint8_t(r.minimum)));
  }

  template <class R, int MR, int NV>
  static IQ_INLINE void store(Vec (&y)[MR][NV], const Requantization& r, uint8_t* out, int64_t pitch) {
    IQ_UNROLL for (int m = 0; m < MR; ++m) {
      uint8_t* to = out + m * pitch;
      if constexpr (NV == 1) {
        const uint32_t four = vget_lane_u32(vreinterpret_u32_u8(bytes<R>(words<R>(y[m][0], y[m][0], r), r)), 0);
        std::memcpy(to, &four, sizeof four);
      } else {
        IQ_UNROLL for (int n = 0; n < NV; n += 2)
          vst1_u8(to + n * kLanes, bytes<R>(words<R>(y[m][n], y[m][n + 1], r), r));
      }
    }
  }

  // Depthwise: dwords of four rows for 16 channels.
  static constexpr int kUnitRows = 4;
  static constexpr int kUnitVectors = 4;
  static constexpr int kUnitColumns = 4;
  static int32_t unit_channel(int32_t vector, int32_t lane) { return vector * kLanes + lane; }
  static int32_t unit_channel_of(int32_t, int32_t vector, int32_t lane) { return unit_channel(vector, lane); }

  static IQ_INLINE void interleave(const uint8_t* const (&rows)[4], uint8_t* unit) {
    uint8x16x4_t all;
    IQ_UNROLL for (int row = 0; row < 4; ++row) all.val[row] = to_signed(vld1q_u8(rows[row]));
    vst4q_u8(unit, all);
  }
  static IQ_INLINE Vec mac(Vec acc, Vec unit, Vec taps) {
    return vdotq_s32(acc, vreinterpretq_s8_s32(unit), vreinterpretq_s8_s32(taps));
  }
  template <class R, int COLUMNS>
  static IQ_INLINE void store_units(Vec (&y)[COLUMNS][kUnitVectors], const Requantization& r, uint8_t* out,
                                    int64_t pitch) {
    store<R, COLUMNS, kUnitVectors>(y, r, out, pitch);
  }

  static constexpr int kSumBytes = 8;
  static IQ_INLINE Vec sum_lanes(const AddRule& rule, int16x4_t a, int16x4_t b) {
    const Vec t = vmlaq_n_s32(vmulq_n_s32(vmovl_s16(a), rule.a_multiplier), vmovl_s16(b), rule.b_multiplier);
    return vrshlq_s32(vsraq_n_s32(t, t, 31), vdupq_n_s32(-rule.shift));  // a rounding shift, to the right
  }
  static IQ_INLINE void sum(const AddRule& rule, const uint8_t* a, const uint8_t* b, uint8_t* out) {
    const auto centred = [](const uint8_t* from, int32_t zero_point) {
      return vsubq_s16(vreinterpretq_s16_u16(vmovl_u8(vld1_u8(from))), vdupq_n_s16(int16_t(zero_point)));
    };
    const int16x8_t from_a = centred(a, rule.a_zero_point), from_b = centred(b, rule.b_zero_point);
    const Vec low = sum_lanes(rule, vget_low_s16(from_a), vget_low_s16(from_b));
    const Vec high = sum_lanes(rule, vget_high_s16(from_a), vget_high_s16(from_b));
    const int16x8_t y = vcombine_s16(vqmovn_s32(low), vqmovn_s32(high));
    const uint8x8_t bytes = vqmovun_s16(vqaddq_s16(y, vdupq_n_s16(int16_t(rule.zero_point))));
    vst1_u8(out, vmax_u8(bytes, vdup_n_u8(uint8_t(rule.minimum))));
  }
};

}  // namespace

const Path* neon_path() {
  static const Path path = [] {
    Path neon = make_path<Neon>("neon", PanelFormat::kDots, {4, 2, 1});
    neon.panels.subtracted = neon.units.subtracted = Neon::kSubtracted;
    return neon;
  }();
  return &path;
}

}  // namespace imagequeue
#else
const imagequeue::Path* imagequeue::neon_path() { return nullptr; }
#endif
