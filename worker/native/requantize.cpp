#include "requantize.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

namespace imagequeue {
namespace {

using Wide = __int128;

constexpr double kTooLarge = 32000;         // |acc * scale| beyond this would leave 16 bits
constexpr int64_t kFloatExact = 1 << 24;    // integers up to this are floats
constexpr int64_t kMagicReach = 1 << 22;    // integers this close to 12582912 are floats with unit 1
constexpr int64_t kMagicValue = 12582912;
constexpr int64_t kTries = 1 << 18;         // real layers need 124 to 88,000; then the signed form does

template <class To, class From>
To bits(From value) {
  static_assert(sizeof(To) == sizeof(From));
  To result;
  std::memcpy(&result, &value, sizeof result);
  return result;
}

int64_t ceil_divide(Wide a, int64_t b) { return int64_t(a >= 0 ? (a + b - 1) / b : -((-a) / b)); }

struct Threshold {
  int64_t acc;  // the smallest accumulator whose result is at least k
  int32_t k;
};

// The thresholds of the values that clipping leaves visible, and the interval of offsets that keep each in its
// place: acc * S + offset > (2k - 1) * 2^(t-1) exactly from acc = T_k on, with S the 24-bit mantissa.
struct Interval {
  int64_t mantissa;
  int32_t t;  // scale = mantissa * 2^-t
  std::vector<Threshold> thresholds;
  Wide low, high;

  Interval(Q31 rule, int32_t first, int32_t last) : mantissa(rule.multiplier >> 7), t(24 + rule.shift) {
    // The second rounding moves every border by e = 2^-(shift+1), away from zero; without a shift there is none.
    const Wide e = rule.shift ? Wide(1) << 23 : 0;
    low = -(Wide(1) << 100), high = Wide(1) << 100;
    for (int32_t k = first; k <= last; ++k) {
      const Wide border = Wide(2 * k - 1) * (Wide(1) << (t - 1));
      const int64_t acc = ceil_divide(border + (k >= 1 ? -e : e), mantissa);
      thresholds.push_back({acc, k});
      low = std::max(low, border - Wide(acc) * mantissa);
      high = std::min(high, border - Wide(acc - 1) * mantissa);
    }
  }
};

bool right_at(const Requantization& r, int64_t acc, int64_t lowest, int64_t highest, int32_t k, bool reached) {
  if (acc < lowest || acc > highest) return true;
  return (evaluate(r, int32_t(acc)) >= k) == reached;
}

bool holds(const Requantization& r, const std::vector<Threshold>& thresholds, int64_t lowest, int64_t highest) {
  for (const Threshold& each : thresholds) {
    if (!right_at(r, each.acc, lowest, highest, each.k, true)) return false;
    if (!right_at(r, each.acc - 1, lowest, highest, each.k, false)) return false;
  }
  return true;
}

// Form A. C must be an integer, so the fraction that the thresholds want comes from a free integer added to
// the accumulator.
bool find_one_fma(Requantization& r, int64_t lowest, int64_t highest) {
  const Interval want(r.rule, 1, 255 - r.zero_point);
  const int64_t reach = kMagicReach - 1 - std::max(std::abs(lowest), std::abs(highest));
  const int64_t unit = int64_t(1) << want.t;
  for (int64_t step = 0; step <= std::min(2 * reach, kTries); ++step) {
    const int64_t extra = step & 1 ? (step + 1) / 2 : -(step / 2);
    const int64_t product = (kMagicValue + extra) * want.mantissa;
    const int64_t rest = product & (unit - 1);
    for (const int64_t fraction : {rest, rest - unit}) {
      if (fraction <= want.low || fraction >= want.high) continue;
      r.form = Form::kOneFma;
      r.start = int32_t(kMagic + extra);
      r.constant = float(kMagicValue - ((product - fraction) >> want.t));
      if (holds(r, want.thresholds, lowest, highest)) return true;
    }
  }
  return false;
}

// Form B. The middle of the interval first: rounding to float moves the constant, and the FMA rounds once more.
bool find_constant(Requantization& r, float Requantization::*constant, const Interval& want, int64_t lowest,
                   int64_t highest) {
  if (want.thresholds.empty() || lowest > highest) {
    r.*constant = 0;
    return true;
  }
  const double low = std::ldexp(double(want.low), -want.t), high = std::ldexp(double(want.high), -want.t);
  for (const int parts : {2, 4, 8, 16, 32, 64}) {
    for (int part = 1; part < parts; part += 2) {
      r.*constant = float(low + (high - low) * part / parts);
      if (holds(r, want.thresholds, lowest, highest)) return true;
    }
  }
  return false;
}

bool find_signed(Requantization& r, int64_t lowest, int64_t highest) {
  r.form = Form::kSigned;
  r.start = 0;
  const Interval positive(r.rule, 1, 255 - r.zero_point);
  const Interval negative(r.rule, r.minimum - r.zero_point + 1, 0);
  return find_constant(r, &Requantization::constant, positive, std::max<int64_t>(lowest, 0), highest) &&
         find_constant(r, &Requantization::negative_constant, negative, lowest, std::min<int64_t>(highest, -1)) &&
         // Each half is monotone; together they are if the step over 0 is right.
         holds(r, negative.thresholds, lowest, highest) && holds(r, positive.thresholds, lowest, highest);
}

}  // namespace

Q31 Q31::of(float scale) {
  const auto pattern = bits<uint32_t>(scale);
  return {int32_t(((pattern & 0x7FFFFF) | 0x800000) << 7), int32_t(127 + 31 - 32 - (pattern >> 23))};
}

int32_t Q31::apply(int32_t acc) const {
  const int64_t high = (int64_t(acc) * multiplier + (int64_t(1) << 30)) >> 31;
  const int64_t mask = (int64_t(1) << shift) - 1;
  const int64_t remainder = (high & mask) - (high < 0);
  return int32_t((high >> shift) + (remainder > (mask >> 1)));
}

double Requantization::nudge() const { return rule.shift ? std::ldexp(1.0, -(rule.shift + 1)) : 0.0; }

uint8_t Requantization::byte(int32_t acc) const {
  return uint8_t(std::clamp(rule.apply(acc) + zero_point, minimum, 255));
}

int32_t evaluate(const Requantization& r, int32_t acc) {
  if (r.form == Form::kOneFma) {
    const float value = bits<float>(int32_t(uint32_t(r.start) + uint32_t(acc)));
    return int16_t(bits<uint32_t>(std::fma(value, r.scale, r.constant)));
  }
  if (r.form == Form::kSigned) {
    const float value = float(acc);
    return int32_t(std::nearbyint(std::fma(value, r.scale, acc < 0 ? r.negative_constant : r.constant)));
  }
  return r.rule.apply(acc);
}

Requantization prove(float scale, int32_t zero_point, int32_t minimum, int64_t lowest, int64_t highest) {
  const Q31 rule = Q31::of(scale);
  const int64_t largest = std::max(std::abs(lowest), std::abs(highest));
  // 2^10: zero point, both halves and the result's own range, in whole units of 2^-(24 + shift).
  const Wide steps = Wide(largest) * (rule.multiplier >> 7) + (Wide(1) << (24 + rule.shift + 10));
  const Requantization plain{Form::kQ31, rule, scale, 0, 0, 0, zero_point, minimum, steps < (Wide(1) << 53)};
  Requantization r = plain;
  const bool small = double(largest) * scale < kTooLarge;
  if (small && largest < kMagicReach && minimum >= zero_point && find_one_fma(r, lowest, highest)) return r;
  if (small && largest <= kFloatExact && find_signed(r, lowest, highest)) return r;
  return plain;
}

}  // namespace imagequeue
