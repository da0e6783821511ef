// 256-bit vector operations shared by the AVX2 and AVX-VNNI paths.
#pragma once

#include "intrinsics.h"

#include "body.h"

namespace imagequeue {
namespace {

struct Ymm {
  using Vec = __m256i;
  static constexpr int kLanes = 8;
  static constexpr int kWidest = 2;

  // Two accumulators a, b become words a0 b0 a1 b1 …: channels 2i and 2i + 1. A single one stays in order.
  static int32_t channel(int32_t vectors, int32_t vector, int32_t lane) {
    return vectors == 2 ? 2 * lane + vector : lane;
  }

  static IQ_INLINE Vec load(const void* from) { return _mm256_loadu_si256(static_cast<const __m256i*>(from)); }
  static IQ_INLINE void save(Vec v, int32_t* to) { _mm256_store_si256(reinterpret_cast<__m256i*>(to), v); }
  static IQ_INLINE Vec broadcast(const uint8_t* from) {
    int32_t dword;
    std::memcpy(&dword, from, sizeof dword);
    return _mm256_set1_epi32(dword);
  }

  // Accumulators to results y, right in the low 16 bits of each lane.
  template <class R, int MR, int NV>
  static IQ_INLINE void requantize(Vec (*acc)[NV], const Requantization& r) {
    const __m256 scale = _mm256_set1_ps(r.scale), constant = _mm256_set1_ps(r.constant);
    if constexpr (R::kForm == Form::kOneFma) {
      IQ_UNROLL for (int m = 0; m < MR; ++m) IQ_UNROLL for (int n = 0; n < NV; ++n)
        acc[m][n] = _mm256_castps_si256(_mm256_fmadd_ps(_mm256_castsi256_ps(acc[m][n]), scale, constant));
      return;
    }
    const __m256 negative = _mm256_set1_ps(r.negative_constant);
    IQ_UNROLL for (int m = 0; m < MR; ++m) IQ_UNROLL for (int n = 0; n < NV; ++n) {
      const __m256 value = _mm256_cvtepi32_ps(acc[m][n]);
      acc[m][n] = _mm256_cvtps_epi32(_mm256_fmadd_ps(value, scale, _mm256_blendv_ps(constant, negative, value)));
    }
  }

  template <class R>
  static IQ_INLINE Vec words(Vec a, Vec b, const Requantization& r) {
    const Vec y = _mm256_blend_epi16(a, _mm256_slli_epi32(b, 16), 0xAA);
    return R::kPlain ? y : _mm256_adds_epi16(y, _mm256_set1_epi16(int16_t(r.zero_point)));
  }
  template <class R>
  static IQ_INLINE Vec clip(Vec bytes, const Requantization& r) {
    return R::kPlain ? bytes : _mm256_max_epu8(bytes, _mm256_set1_epi8(char(r.minimum)));
  }

  template <class R, int MR, int NV>
  static IQ_INLINE void store(Vec (&y)[MR][NV], const Requantization& r, uint8_t* out, int64_t pitch) {
    IQ_UNROLL for (int m = 0; m < MR; m += 2) {
      constexpr auto next = [](int row) { return row + 1 < MR ? row + 1 : row; };
      uint8_t* to = out + m * pitch;
      if constexpr (NV == 2)
        store_wide<R>(words<R>(y[m][0], y[m][1], r), words<R>(y[next(m)][0], y[next(m)][1], r), r, m + 1 < MR, to, pitch);
      else
        store_narrow<R>(words<R>(y[m][0], y[next(m)][0], r), r, m + 1 < MR, to, pitch);
    }
  }

  // Two pixels of 16 channels. Lanes of 128 bits hold eight channels of both.
  template <class R>
  static IQ_INLINE void store_wide(Vec first, Vec second, const Requantization& r, bool both, uint8_t* to, int64_t pitch) {
    const Vec bytes = clip<R>(_mm256_permute4x64_epi64(_mm256_packus_epi16(first, second), 0xD8), r);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm256_castsi256_si128(bytes));
    if (both) _mm_storeu_si128(reinterpret_cast<__m128i*>(to + pitch), _mm256_extracti128_si256(bytes, 1));
  }

  // Two pixels of eight channels, as words p0c0 p1c0 p0c1 p1c1 ….
  template <class R>
  static IQ_INLINE void store_narrow(Vec pixels, const Requantization& r, bool both, uint8_t* to, int64_t pitch) {
    const Vec bytes = clip<R>(_mm256_packus_epi16(pixels, pixels), r);
    const Vec apart = _mm256_shuffle_epi8(bytes, _mm256_broadcastsi128_si256(_mm_set_epi64x(0, 0x0705030106040200)));
    const __m128i low = _mm256_castsi256_si128(apart), high = _mm256_extracti128_si256(apart, 1);
    const __m128i ordered = _mm_unpacklo_epi32(low, high);  // p0c0-3 p0c4-7 p1c0-3 p1c4-7
    _mm_storel_epi64(reinterpret_cast<__m128i*>(to), ordered);
    if (both) _mm_storel_epi64(reinterpret_cast<__m128i*>(to + pitch), _mm_srli_si128(ordered, 8));
  }

  // Depthwise: words (row 0, row 1) of even channels, and of odd ones; 16-bit weights cannot overflow.
  static constexpr int kUnitRows = 2;
  static constexpr int kUnitVectors = 2;
  static constexpr int kUnitColumns = 8;
  static int32_t unit_channel(int32_t vector, int32_t lane) { return 2 * lane + vector; }
  static int32_t unit_channel_of(int32_t, int32_t vector, int32_t lane) { return 2 * lane + vector; }

  static IQ_INLINE void interleave(const uint8_t* const (&rows)[2], uint8_t* unit) {
    const __m128i a = _mm_loadu_si128(reinterpret_cast<const __m128i*>(rows[0]));
    const __m128i b = _mm_loadu_si128(reinterpret_cast<const __m128i*>(rows[1]));
    const Vec both = _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_unpacklo_epi16(a, b)), _mm_unpackhi_epi16(a, b), 1);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(unit), _mm256_and_si256(both, _mm256_set1_epi16(0xFF)));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(unit + 32), _mm256_srli_epi16(both, 8));
  }
  static IQ_INLINE Vec mac(Vec acc, Vec unit, Vec taps) {
    acc = _mm256_add_epi32(acc, _mm256_madd_epi16(unit, taps));
    asm("" : "+x"(acc));  // GCC would sum all products first, and spill them
    return acc;
  }
  template <class R, int COLUMNS>
  static IQ_INLINE void store_units(Vec (&y)[COLUMNS][2], const Requantization& r, uint8_t* out, int64_t pitch) {
    store<R, COLUMNS, 2>(y, r, out, pitch);
  }

  static constexpr int kSumBytes = 16;
  static IQ_INLINE Vec sum_lanes(const AddRule& rule, Vec a, Vec b) {
    const Vec t = _mm256_add_epi32(
        _mm256_mullo_epi32(_mm256_sub_epi32(a, _mm256_set1_epi32(rule.a_zero_point)), _mm256_set1_epi32(rule.a_multiplier)),
        _mm256_mullo_epi32(_mm256_sub_epi32(b, _mm256_set1_epi32(rule.b_zero_point)), _mm256_set1_epi32(rule.b_multiplier)));
    const Vec rounding = _mm256_add_epi32(_mm256_set1_epi32(1 << (rule.shift - 1)), _mm256_srai_epi32(t, 31));
    return _mm256_sra_epi32(_mm256_add_epi32(t, rounding), _mm_cvtsi32_si128(rule.shift));
  }
  static IQ_INLINE void sum(const AddRule& rule, const uint8_t* a, const uint8_t* b, uint8_t* out) {
    const auto widen = [](const uint8_t* from) {
      return _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from)));
    };
    const Vec low = sum_lanes(rule, widen(a), widen(b)), high = sum_lanes(rule, widen(a + 8), widen(b + 8));
    const Vec y = _mm256_adds_epi16(_mm256_permute4x64_epi64(_mm256_packs_epi32(low, high), 0xD8),
                                    _mm256_set1_epi16(int16_t(rule.zero_point)));
    const __m128i bytes = _mm_packus_epi16(_mm256_castsi256_si128(y), _mm256_extracti128_si256(y, 1));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out), _mm_max_epu8(bytes, _mm_set1_epi8(char(rule.minimum))));
  }
};

}  // namespace
}  // namespace imagequeue
