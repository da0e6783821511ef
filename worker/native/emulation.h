// AVX-512 and AVX-VNNI intrinsics by SIMDe, so that these paths can be run, slowly, where the processor has only AVX2.
// For tests: -DIQ_EMULATE builds a library of its own (Debian's libsimde-dev). What SIMDe lacks stands here.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx512.h>
#include <simde/x86/fma.h>

namespace imagequeue {
namespace {

template <class To, class From, int LANES, class Result, class Source, class Convert>
Result convert_lanes(Source source, Convert convert) {
  From from[LANES];
  To to[LANES];
  Result result;
  static_assert(sizeof to == sizeof result && sizeof from <= sizeof source);
  std::memcpy(from, &source, sizeof from);
  for (int i = 0; i < LANES; ++i) to[i] = convert(from[i]);
  std::memcpy(&result, to, sizeof result);
  return result;
}

inline __m512 emulated_cvtepi32_ps(__m512i a) {
  return convert_lanes<float, int32_t, 16, __m512>(a, [](int32_t v) { return float(v); });
}
inline __m512i emulated_cvtps_epi32(__m512 a) {
  return convert_lanes<int32_t, float, 16, __m512i>(a, [](float v) { return int32_t(std::nearbyint(v)); });
}
inline __m512i emulated_cvtepu8_epi32(__m128i a) {
  return convert_lanes<int32_t, uint8_t, 16, __m512i>(a, [](uint8_t v) { return int32_t(v); });
}
inline __m256i emulated_cvtusepi16_epi8(__m512i a) {
  return convert_lanes<uint8_t, uint16_t, 32, __m256i>(a, [](uint16_t v) { return uint8_t(v > 255 ? 255 : v); });
}
inline __m128i emulated_cvtusepi32_epi8(__m512i a) {
  return convert_lanes<uint8_t, uint32_t, 16, __m128i>(a, [](uint32_t v) { return uint8_t(v > 255 ? 255 : v); });
}
inline __m512i emulated_srai_epi32(__m512i a, int count) {
  return convert_lanes<int32_t, int32_t, 16, __m512i>(a, [count](int32_t v) { return v >> count; });
}

}  // namespace
}  // namespace imagequeue

#define _mm512_cvtepi32_ps(a) emulated_cvtepi32_ps(a)
#define _mm512_cvtps_epi32(a) emulated_cvtps_epi32(a)
#define _mm512_cvtepu8_epi32(a) emulated_cvtepu8_epi32(a)
#define _mm512_cvtusepi16_epi8(a) emulated_cvtusepi16_epi8(a)
#define _mm512_cvtusepi32_epi8(a) emulated_cvtusepi32_epi8(a)
#define _mm512_srai_epi32(a, count) emulated_srai_epi32(a, count)
#define _mm512_sra_epi32(a, count) emulated_srai_epi32(a, _mm_cvtsi128_si32(count))
#define _mm256_dpbusd_avx_epi32(a, b, c) simde_mm256_dpbusd_epi32(a, b, c)
