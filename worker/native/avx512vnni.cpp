// AVX-512 VNNI: 512-bit dot products of bytes, 32 registers.
#include "path.h"

#if defined(__AVX512VNNI__) || defined(IQ_EMULATE)
#include "body.h"
#include "intrinsics.h"

namespace imagequeue {
namespace {

struct Zmm {
  using Vec = __m512i;
  static constexpr int kLanes = 16;
  static constexpr int kWidest = 4;
  static constexpr int kRows = 7;  // divides every pixel count of MobileNetV2
  static constexpr bool kGrouped = false;

  // Two accumulators a, b become words a0 b0 a1 b1 …, and two such vectors bytes, by eights in each 128-bit lane.
  static int32_t channel(int32_t vectors, int32_t vector, int32_t lane) {
    if (vectors == 4) return lane / 4 * 16 + (vector >> 1) * 8 + lane % 4 * 2 + (vector & 1);
    return vectors == 2 ? 2 * lane + vector : lane;
  }

  static IQ_INLINE Vec load(const void* from) { return _mm512_loadu_si512(from); }
  static IQ_INLINE void save(Vec v, int32_t* to) { _mm512_storeu_si512(to, v); }
  static IQ_INLINE Vec broadcast(const uint8_t* from) {
    int32_t dword;
    std::memcpy(&dword, from, sizeof dword);
    return _mm512_set1_epi32(dword);
  }

  template <int, int MR, int NV>
  static IQ_INLINE void products(Vec (&acc)[MR][NV], const uint8_t* const (&rows)[MR], const int32_t* counts,
                                 const int32_t* offsets, const int8_t* weights) {
    for (int32_t k = 0; k < counts[0]; ++k, weights += NV * 64) {
      Vec taps[NV];
      IQ_UNROLL for (int n = 0; n < NV; ++n) taps[n] = load(weights + n * 64);
      IQ_UNROLL for (int m = 0; m < MR; ++m) {
        const Vec x = broadcast(rows[m] + 4 * k);
        IQ_UNROLL for (int n = 0; n < NV; ++n) acc[m][n] = _mm512_dpbusd_epi32(acc[m][n], x, taps[n]);
      }
    }
    // What int8 cannot hold, vector by vector.
    IQ_UNROLL for (int n = 0; n < NV; ++n)
      for (int32_t left = counts[1 + n]; left > 0; --left, ++offsets, weights += 64)
        IQ_UNROLL for (int m = 0; m < MR; ++m)
          acc[m][n] = _mm512_dpbusd_epi32(acc[m][n], broadcast(rows[m] + *offsets), load(weights));
  }

  // Accumulators to results y, right in the low 16 bits of each lane.
  template <class R, int MR, int NV>
  static IQ_INLINE void requantize(Vec (*acc)[NV], const Requantization& r) {
    const __m512 scale = _mm512_set1_ps(r.scale), constant = _mm512_set1_ps(r.constant);
    const __m512 negative = _mm512_set1_ps(r.negative_constant);
    IQ_UNROLL for (int m = 0; m < MR; ++m) IQ_UNROLL for (int n = 0; n < NV; ++n) {
      if constexpr (R::kForm == Form::kOneFma) {
        acc[m][n] = _mm512_castps_si512(_mm512_fmadd_ps(_mm512_castsi512_ps(acc[m][n]), scale, constant));
      } else {
        const __mmask16 below = _mm512_cmpgt_epi32_mask(_mm512_setzero_si512(), acc[m][n]);
        const __m512 offset = _mm512_mask_blend_ps(below, constant, negative);
        acc[m][n] = _mm512_cvtps_epi32(_mm512_fmadd_ps(_mm512_cvtepi32_ps(acc[m][n]), scale, offset));
      }
    }
  }

  template <class R>
  static IQ_INLINE Vec words(Vec a, Vec b, const Requantization& r) {
    const Vec y = _mm512_mask_blend_epi16(0xAAAAAAAA, a, _mm512_slli_epi32(b, 16));
    return R::kPlain ? y : _mm512_adds_epi16(y, _mm512_set1_epi16(int16_t(r.zero_point)));
  }
  static IQ_INLINE __m256i bytes(Vec words, const Requantization& r) {
    return _mm512_cvtusepi16_epi8(_mm512_max_epi16(words, _mm512_set1_epi16(int16_t(r.minimum))));
  }

  template <class R, int MR, int NV>
  static IQ_INLINE void store(Vec (&y)[MR][NV], const Requantization& r, uint8_t* out, int64_t pitch) {
    IQ_UNROLL for (int m = 0; m < MR; ++m) {
      uint8_t* to = out + m * pitch;
      if constexpr (NV == 4) {
        const Vec all = _mm512_packus_epi16(words<R>(y[m][0], y[m][1], r), words<R>(y[m][2], y[m][3], r));
        _mm512_storeu_si512(to, R::kPlain ? all : _mm512_max_epu8(all, _mm512_set1_epi8(char(r.minimum))));
      } else if constexpr (NV == 2) {
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), bytes(words<R>(y[m][0], y[m][1], r), r));
      } else {
        const Vec signed_y = _mm512_srai_epi32(_mm512_slli_epi32(y[m][0], 16), 16);
        const Vec value = _mm512_add_epi32(signed_y, _mm512_set1_epi32(r.zero_point));
        const Vec clipped = _mm512_max_epi32(value, _mm512_set1_epi32(r.minimum));
        _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm512_cvtusepi32_epi8(clipped));
      }
    }
  }

  // Depthwise: dwords of four rows for 32 channels, unpacked in 256 bits.
  static constexpr int kUnitRows = 4;
  static constexpr int kUnitVectors = 2;
  static constexpr int kUnitColumns = 8;
  static int32_t unit_channel(int32_t vector, int32_t lane) {
    return lane % 8 / 4 * 16 + vector * 8 + lane / 8 * 4 + lane % 4;
  }
  static int32_t unit_channel_of(int32_t, int32_t vector, int32_t lane) { return unit_channel(vector, lane); }

  static IQ_INLINE void interleave(const uint8_t* const (&rows)[4], uint8_t* unit) {
    const auto row = [&](int number) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(rows[number])); };
    const __m256i a = row(0), b = row(1), c = row(2), d = row(3);
    const __m256i ab_low = _mm256_unpacklo_epi8(a, b), ab_high = _mm256_unpackhi_epi8(a, b);
    const __m256i cd_low = _mm256_unpacklo_epi8(c, d), cd_high = _mm256_unpackhi_epi8(c, d);
    const auto put = [&](int place, __m256i value) {
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(unit + 32 * place), value);
    };
    put(0, _mm256_unpacklo_epi16(ab_low, cd_low));
    put(1, _mm256_unpackhi_epi16(ab_low, cd_low));
    put(2, _mm256_unpacklo_epi16(ab_high, cd_high));
    put(3, _mm256_unpackhi_epi16(ab_high, cd_high));
  }
  static IQ_INLINE Vec mac(Vec acc, Vec unit, Vec taps) {
    acc = _mm512_dpbusd_epi32(acc, unit, taps);
    return acc;
  }
  template <class R, int COLUMNS>
  static IQ_INLINE void store_units(Vec (&y)[COLUMNS][2], const Requantization& r, uint8_t* out, int64_t pitch) {
    const Vec magic = _mm512_set1_epi32(R::kForm == Form::kOneFma ? kMagic : 0);
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    IQ_UNROLL for (int t = 0; t < COLUMNS; ++t) {
      const Vec y16 = _mm512_packs_epi32(_mm512_sub_epi32(y[t][0], magic), _mm512_sub_epi32(y[t][1], magic));
      const Vec value = _mm512_adds_epi16(y16, _mm512_set1_epi16(int16_t(r.zero_point)));
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + t * pitch),
                          _mm256_permutevar8x32_epi32(bytes(value, r), order));
    }
  }

  static constexpr int kSumBytes = 16;
  static IQ_INLINE void sum(const AddRule& rule, const uint8_t* a, const uint8_t* b, uint8_t* out) {
    const auto term = [](const uint8_t* from, int32_t zero_point, int32_t multiplier) {
      const Vec wide = _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
      return _mm512_mullo_epi32(_mm512_sub_epi32(wide, _mm512_set1_epi32(zero_point)), _mm512_set1_epi32(multiplier));
    };
    const Vec t = _mm512_add_epi32(term(a, rule.a_zero_point, rule.a_multiplier), term(b, rule.b_zero_point, rule.b_multiplier));
    const Vec rounding = _mm512_add_epi32(_mm512_set1_epi32(1 << (rule.shift - 1)), _mm512_srai_epi32(t, 31));
    const Vec y = _mm512_sra_epi32(_mm512_add_epi32(t, rounding), _mm_cvtsi32_si128(rule.shift));
    const Vec value = _mm512_add_epi32(y, _mm512_set1_epi32(rule.zero_point));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out),
                     _mm512_cvtusepi32_epi8(_mm512_max_epi32(value, _mm512_set1_epi32(rule.minimum))));
  }
};

}  // namespace

const Path* avx512vnni_path() {
  static const Path path = make_path<Zmm>("avx512vnni", PanelFormat::kDots, {4, 2, 1});
  return &path;
}

}  // namespace imagequeue
#else
const imagequeue::Path* imagequeue::avx512vnni_path() { return nullptr; }
#endif
