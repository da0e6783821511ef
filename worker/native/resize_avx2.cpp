// AVX2: eight sums at a time, their bytes out of two windows of 16.
#include "resize_body.h"

#if defined(__AVX2__)
#include "intrinsics.h"

namespace imagequeue {
namespace {

inline __m256i load_windows(const uint8_t* row, const int32_t* base) {
  const __m128i low = _mm_loadu_si128(reinterpret_cast<const __m128i*>(row + base[0]));
  const __m128i high = _mm_loadu_si128(reinterpret_cast<const __m128i*>(row + base[1]));
  return _mm256_inserti128_si256(_mm256_castsi128_si256(low), high, 1);
}

inline __m256 products(__m256i window, const TapLanes& lanes) {
  const __m256i shuffle = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(lanes.shuffle));
  return _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_shuffle_epi8(window, shuffle)), _mm256_loadu_ps(lanes.weight));
}

template <int TAPS>
void one_window_line(const Across& across, const uint8_t* row, float* sums) {
  const TapLanes* lanes = across.lanes;
  const int32_t* base = across.base;
  for (int32_t v = 0; v < across.vectors; ++v, lanes += TAPS, base += 2) {
    const __m256i window = load_windows(row, base);
    __m256 sum = products(window, lanes[0]);
    for (int tap = 1; tap < TAPS; ++tap) sum = _mm256_add_ps(sum, products(window, lanes[tap]));
    _mm256_storeu_ps(sums + 8 * v, sum);
  }
}

void windows_line(const Across& across, const uint8_t* row, float* sums) {
  const TapLanes* lanes = across.lanes;
  const int32_t* base = across.base;
  for (int32_t v = 0; v < across.vectors; ++v, lanes += across.taps, base += 2 * across.taps) {
    __m256 sum = products(load_windows(row, base), lanes[0]);
    for (int32_t tap = 1; tap < across.taps; ++tap)
      sum = _mm256_add_ps(sum, products(load_windows(row, base + 2 * tap), lanes[tap]));
    _mm256_storeu_ps(sums + 8 * v, sum);
  }
}

// A pixel and the byte behind it at a time; the fourth sum is overwritten by the next output's.
void pixels_line(const Across& across, const uint8_t* row, float* sums) {
  int32_t output = 0;
  for (; output < across.size && across.start[output] + across.count[output] < across.src; ++output) {
    const uint8_t* x = row + 3 * int64_t(across.start[output]);
    const float* weight = across.weight + int64_t(output) * across.taps;
    __m128 sum = _mm_setzero_ps();
    for (int32_t tap = 0; tap < across.count[output]; ++tap, x += 3) {
      const __m128i bytes = _mm_loadu_si32(x);
      sum = _mm_add_ps(sum, _mm_mul_ps(_mm_cvtepi32_ps(_mm_cvtepu8_epi32(bytes)), _mm_set1_ps(weight[tap])));
    }
    _mm_storeu_ps(sums + 3 * output, sum);
  }
  for (; output < across.size; ++output) pixel_sums(across, row, output, sums);
}

}  // namespace

const AreaKernels* avx2_area() {
  static const AreaKernels kernels{pixels_line, windows_line, one_window_line<2>, one_window_line<3>,
                                   start_total, add_to_total, total_to_bytes};
  return &kernels;
}

}  // namespace imagequeue
#else
namespace imagequeue {
const AreaKernels* avx2_area() { return nullptr; }
}  // namespace imagequeue
#endif
