// What the kernels of all instruction sets share: unrolling, and how a layer's rule reaches compiled code.
#pragma once

#include <algorithm>
#include <cstring>

#include "path.h"

#define IQ_INLINE __attribute__((always_inline)) inline
#if defined(__clang__)
#define IQ_UNROLL _Pragma("unroll")
#define IQ_ROLLED _Pragma("nounroll")
#else
#define IQ_UNROLL _Pragma("GCC unroll 16")
#define IQ_ROLLED _Pragma("GCC unroll 1")
#endif

namespace imagequeue {
namespace {

// The rule itself, for a tile's accumulators in memory: [rows][vectors][lanes].
template <class V, int MR, int NV>
__attribute__((noinline)) void store_by_rule(const typename V::Vec (&acc)[MR][NV], const Requantization& r,
                                             int32_t channels, uint8_t* out, int64_t pitch,
                                             int32_t (*channel)(int32_t, int32_t, int32_t)) {
  alignas(64) int32_t lanes[MR][NV][V::kLanes];
  IQ_UNROLL for (int m = 0; m < MR; ++m) IQ_UNROLL for (int n = 0; n < NV; ++n) V::save(acc[m][n], lanes[m][n]);
  for (int m = 0; m < MR; ++m)
    for (int n = 0; n < NV; ++n)
      for (int lane = 0; lane < V::kLanes; ++lane)
        if (const int32_t c = channel(NV, n, lane); c < channels) out[m * pitch + c] = r.byte(lanes[m][n][lane]);
}

// How a layer's bytes are made, known when a kernel is compiled. Plain: zero point and minimum are 0, as behind most
// Relus, so that saturation clips.
template <Form FORM, bool PLAIN>
struct Rule {
  static constexpr Form kForm = FORM;
  static constexpr bool kPlain = PLAIN;
};

// Calls action(Rule) with the rule that a layer has.
template <class Action>
IQ_INLINE void with_rule(const Requantization& r, Action action) {
  if (r.form == Form::kOneFma && r.zero_point == 0 && r.minimum == 0) return action(Rule<Form::kOneFma, true>());
  if (r.form == Form::kOneFma) return action(Rule<Form::kOneFma, false>());
  if (r.form == Form::kSigned) return action(Rule<Form::kSigned, false>());
  action(Rule<Form::kQ31, false>());
}

}  // namespace
}  // namespace imagequeue
