// From int32 accumulators to bytes: three vector forms, each proved for a layer when it is loaded.
//
// NUMERICS.md's Q31 rule rounds twice. It is monotone in the accumulator, so a layer's requantization is its
// thresholds T_k, the smallest accumulator whose result is at least k. A form that is monotone too is exact
// for every accumulator if and only if it is right at T_k and T_k - 1 for each k that clipping leaves visible.
#pragma once

#include <cstdint>

namespace imagequeue {

enum class Form : int32_t {
  kOneFma = 0,  // the accumulator's bits, started at kMagic, are a float; one FMA; y in the low 16 bits
  kSigned = 1,  // convert, FMA with a constant for each sign, convert (nearest even)
  kQ31 = 2,     // the rule itself, in 64 bits
};

// A float32 scale in [2^-32, 1): scale = multiplier * 2^-(31 + shift), as QNNPACK has it.
struct Q31 {
  int32_t multiplier;
  int32_t shift;

  static Q31 of(float scale);
  int32_t apply(int32_t acc) const;
};

// What a layer needs to turn accumulators into bytes: clip(y + zero_point, minimum, 255).
struct Requantization {
  Form form;
  Q31 rule;
  float scale;
  float constant;           // kOneFma: C. kSigned: added where acc >= 0
  float negative_constant;  // kSigned: added where acc < 0
  int32_t start;            // added to the bias: what accumulators start from
  int32_t zero_point;
  int32_t minimum;
  bool exact_in_double;  // acc * scale + 1/2 ± nudge + zero_point needs no more than 53 bits

  // What the second rounding adds: y = floor(acc * scale + 1/2 ± nudge), the sign being that of acc.
  double nudge() const;
  uint8_t byte(int32_t acc) const;  // by the rule; acc without `start`
};

// Bits of 12582912.0f = 1.5 * 2^23: integers around it are floats whose unit is 1.
constexpr int32_t kMagic = 0x4B400000;

// Chooses the cheapest form that is exact for all accumulators in [lowest, highest].
// `lowest` and `highest` may leave int32, where QNNPACK's accumulators wrap: then only kQ31 is exact.
Requantization prove(float scale, int32_t zero_point, int32_t minimum, int64_t lowest, int64_t highest);

// What a vector form gives for one accumulator (without `start`), before zero point and clipping.
int32_t evaluate(const Requantization& r, int32_t acc);

}  // namespace imagequeue
