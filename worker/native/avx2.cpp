// AVX2 with FMA: products of bytes summed in 16 bits over groups of dwords, bounded when the weights were packed.
#if defined(__AVX2__) && defined(__FMA__)
#include "avx2.h"

namespace imagequeue {
namespace {

struct Avx2 : Ymm {
  static constexpr int kRows = 4;
  static constexpr bool kGrouped = true;

  // `DWORDS` dwords of each row, whose 16-bit sums fit together.
  template <int DWORDS, int MR, int NV>
  static IQ_INLINE void group(Vec (&acc)[MR][NV], const uint8_t* const (&rows)[MR], const int32_t* offsets,
                              const int8_t* weights) {
    const Vec ones = _mm256_set1_epi16(1);
    Vec taps[DWORDS][NV];
    IQ_UNROLL for (int d = 0; d < DWORDS; ++d) IQ_UNROLL for (int n = 0; n < NV; ++n)
      taps[d][n] = load(weights + (d * NV + n) * 32);
    IQ_UNROLL for (int m = 0; m < MR; ++m) {
      Vec sums[NV];
      IQ_UNROLL for (int d = 0; d < DWORDS; ++d) {
        const Vec x = broadcast(rows[m] + offsets[d]);
        IQ_UNROLL for (int n = 0; n < NV; ++n) {
          const Vec products = _mm256_maddubs_epi16(x, taps[d][n]);
          sums[n] = d == 0 ? products : _mm256_add_epi16(sums[n], products);
        }
      }
      IQ_UNROLL for (int n = 0; n < NV; ++n) acc[m][n] = _mm256_add_epi32(acc[m][n], _mm256_madd_epi16(sums[n], ones));
    }
  }

  template <int GROUP, int MR, int NV>
  static IQ_INLINE void products(Vec (&acc)[MR][NV], const uint8_t* const (&rows)[MR], const int32_t* counts,
                                 const int32_t* offsets, const int8_t* weights) {
    for (int32_t count = counts[0]; count > 0; --count, offsets += GROUP, weights += GROUP * NV * 32)
      group<GROUP>(acc, rows, offsets, weights);
    for (int32_t count = counts[1]; count > 0; --count, ++offsets, weights += NV * 32)
      group<1>(acc, rows, offsets, weights);
  }
};

}  // namespace

const Path* avx2_path() {
  static const Path path = make_path<Avx2>("avx2", PanelFormat::kPairs, {2, 1});
  return &path;
}

}  // namespace imagequeue
#else
#include "path.h"
const imagequeue::Path* imagequeue::avx2_path() { return nullptr; }
#endif
