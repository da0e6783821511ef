// AVX-VNNI: 256-bit dot products of bytes, 16 registers.
#if (defined(__AVXVNNI__) || defined(IQ_EMULATE)) && defined(__FMA__)
#include "avx2.h"

namespace imagequeue {
namespace {

struct AvxVnni : Ymm {
  static constexpr int kRows = 6;
  static constexpr bool kGrouped = false;

  template <int, int MR, int NV>
  static IQ_INLINE void products(Vec (&acc)[MR][NV], const uint8_t* const (&rows)[MR], const int32_t* counts,
                                 const int32_t* offsets, const int8_t* weights) {
    for (int32_t k = 0; k < counts[0]; ++k, weights += NV * 32) {
      Vec taps[NV];
      IQ_UNROLL for (int n = 0; n < NV; ++n) taps[n] = load(weights + n * 32);
      IQ_UNROLL for (int m = 0; m < MR; ++m) {
        const Vec x = broadcast(rows[m] + 4 * k);
        IQ_UNROLL for (int n = 0; n < NV; ++n) acc[m][n] = _mm256_dpbusd_avx_epi32(acc[m][n], x, taps[n]);
      }
    }
    // What int8 cannot hold, vector by vector.
    IQ_UNROLL for (int n = 0; n < NV; ++n)
      for (int32_t left = counts[1 + n]; left > 0; --left, ++offsets, weights += 32)
        IQ_UNROLL for (int m = 0; m < MR; ++m)
          acc[m][n] = _mm256_dpbusd_avx_epi32(acc[m][n], broadcast(rows[m] + *offsets), load(weights));
  }
};

}  // namespace

const Path* avxvnni_path() {
  static const Path path = make_path<AvxVnni>("avxvnni", PanelFormat::kDots, {2, 1});
  return &path;
}

}  // namespace imagequeue
#else
#include "path.h"
const imagequeue::Path* imagequeue::avxvnni_path() { return nullptr; }
#endif
