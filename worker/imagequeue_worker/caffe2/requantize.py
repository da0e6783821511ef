"""The rounding rules of QNNPACK and gemmlowp, once each, word for word; and the exact form for the hot path.

All functions take and return int64 arrays, except where they say otherwise. What they mean in one line each:

- `q31`: convolutions and fully connected layers; rounds twice, half away from zero.
- `rescaled_sum`: Add and Sum. `average`: average pooling.
- `gemmlowp_multiply`: RoIAlign, the one operator that Caffe2 left on gemmlowp.
- `Requantizer`: `q31` with zero point and clipping, from accumulators in floating point to bytes, in float64.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .tensor import Array


def float_bits(value: float) -> int:
    """Return the 32 bits of a float32."""
    return int(np.float32(value).view(np.uint32))


@dataclass(frozen=True, slots=True)
class Q31:
    """A float32 scale in [2^-32, 1) as S, 24 bits of mantissa, and a shift: scale = S * 2^-(24 + shift)."""

    scale: float

    @property
    def mantissa(self) -> int:
        """The 24-bit S, in [2^23, 2^24)."""
        return (float_bits(self.scale) & 0x7FFFFF) | 0x800000

    @property
    def multiplier(self) -> int:
        """QNNPACK's 31-bit fixed-point multiplier."""
        return self.mantissa << 7

    @property
    def shift(self) -> int:
        """QNNPACK's right shift after the high multiplication, 0…31."""
        return 127 + 31 - 32 - (float_bits(self.scale) >> 23)

    @property
    def nudge(self) -> float:
        """What the second rounding adds: y = floor(acc * scale + 1/2 ± nudge), the sign being that of acc."""
        return 2.0 ** -(self.shift + 1) if self.shift else 0.0


def rounding_shift(value: Array, shift: int) -> Array:
    """Divide by 2^shift, rounding to nearest, ties away from zero (gemmlowp's RoundingDivideByPOT)."""
    mask = (1 << shift) - 1
    remainder = (value & mask) - (value < 0)
    return (value >> shift) + (remainder > (mask >> 1))


def q31(acc: Array, scale: float) -> Array:
    """Multiply int32 accumulators by a scale in [2^-32, 1): QNNPACK's definition. int64 to int64."""
    rule = Q31(scale)
    high = (acc.astype(np.int64) * rule.multiplier + (1 << 30)) >> 31
    return rounding_shift(high, rule.shift)


@dataclass(frozen=True, slots=True)
class SumRule:
    """Add's two 22-bit multipliers and shift, from the inputs' scales over the output's, in [2^-14, 2^8)."""

    a_multiplier: int
    b_multiplier: int
    shift: int

    @classmethod
    def of(cls, a_ratio: float, b_ratio: float) -> "SumRule":
        """Make the rule: the larger multiplier gets 22 bits, both are rounded half to even."""
        shift = 21 - (math.frexp(max(a_ratio, b_ratio))[1] - 1)
        return cls(round(math.ldexp(a_ratio, shift)), round(math.ldexp(b_ratio, shift)), shift)


def rescaled_sum(a: Array, b: Array, rule: SumRule) -> Array:
    """Add two tensors, whose zero points are already subtracted, in the output's scale. int64 to int64."""
    return rounding_shift(rule.a_multiplier * a + rule.b_multiplier * b, rule.shift)


def average_rule(scale: float) -> tuple[int, int]:
    """Return average pooling's multiplier and right shift for a scale in [2^-32, 2^8)."""
    bits = float_bits(scale)
    return (bits & 0x7FFFFF) | 0x800000, 127 + 23 - (bits >> 23)


def average(total: Array, scale: float) -> Array:
    """Multiply sums by a scale in [2^-32, 2^8): average pooling's single rounding. int64 to int64."""
    multiplier, shift = average_rule(scale)
    return (total * multiplier - (total < 0) + (1 << (shift - 1))) >> shift


def gemmlowp_multiply(value: Array, multiplier: float) -> Array:
    """Multiply by a double in [0, 1) as gemmlowp does: 31-bit multiplier, two roundings. int64 to int64."""
    fraction, exponent = math.frexp(multiplier)
    fixed, shift = round(fraction * (1 << 31)), -exponent
    if fixed == 1 << 31:
        fixed, shift = fixed // 2, shift - 1
    product = value * fixed
    # C divides towards zero, so the nudge follows the sign.
    nudged = product + np.where(product >= 0, 1 << 30, 1 - (1 << 30))
    high = np.where(nudged >= 0, nudged >> 31, -((-nudged) >> 31))
    return rounding_shift(high, min(shift, 62))


class Requantizer:
    """Turns accumulators into bytes: clip(q31(acc + offset) + zero point), exactly as QNNPACK.

    In float64 `acc * scale` is exact (24 bits of scale, at most 29 of acc), and so is its sum with 1/2 ±
    nudge plus the zero point, all being multiples of 2^-(24 + shift) below 2^53. Then one truncation is the
    floor. Where these bounds do not hold (`exact` is false) the definition itself runs, in int64, several
    times slower.

    Args:
        scale: Input scale * weight scale / output scale, in [2^-32, 1).
        zero_point: The output's, 0…255.
        minimum: Lower clip of the output: 0, or the zero point for a Relu.
        offset: int64 [M], added to the accumulators of each channel: bias and zero point corrections.
        bound: Largest |acc + offset| that can occur.
    """

    def __init__(self, scale: float, zero_point: int, minimum: int, offset: Array, bound: int) -> None:
        self.scale = scale
        self.zero_point = zero_point
        self.minimum = minimum
        self.offset = offset
        self.rule = Q31(scale)
        # An output that is clipped at or above its zero point shows no accumulator below 0: one sign is
        # enough.
        self.one_sided = minimum >= zero_point
        steps = (bound + int(np.abs(offset).max(initial=0))) * self.rule.mantissa
        # 2^10: zero point, both halves and the result's own range, in whole units.
        self.exact = steps + (1 << (24 + self.rule.shift + 10)) < 1 << 53
        # QNNPACK's accumulators are int32 and wrap.
        self.wraps = bound >= 1 << 31

    @cached_property
    def _addend(self) -> Array:
        constant = 0.5 + self.zero_point + self.rule.nudge if self.one_sided else 0.0
        return self.offset.astype(np.float64) * self.scale + constant

    def tiled(self, width: int) -> Array:
        """Repeat the addend for `width` pixels, so that whole rows are added at once; float64 [width, M]."""
        return np.tile(self._addend, (width, 1))

    def run(self, acc: Array, out: Array, addend: Array, scratch: Array, signs: Array) -> None:
        """Requantize one block.

        Args:
            acc: float32 or float64 [rows, width, M], without offset.
            out: uint8 [rows, width, M], written.
            addend: What `tiled(width)` gave.
            scratch: float64 of acc's shape, overwritten.
            signs: As scratch.
        """
        if not self.exact:
            out[...] = self.by_definition(acc)
            return
        np.multiply(acc, np.float64(self.scale), out=scratch, dtype=np.float64)
        np.add(scratch, addend, out=scratch)
        if not self.one_sided:
            np.copysign(self.rule.nudge, scratch, out=signs)
            np.add(scratch, signs, out=scratch)
            np.add(scratch, 0.5 + self.zero_point, out=scratch)
        np.clip(scratch, self.minimum, 255.0, out=scratch)
        np.copyto(out, scratch, casting="unsafe")

    def by_definition(self, acc: Array) -> Array:
        """Requantize by the definition alone; float [..., M] to uint8 [..., M]."""
        exact = acc.astype(np.int64) + self.offset
        if self.wraps:
            exact = exact.astype(np.int32).astype(np.int64)
        steps = q31(exact, self.scale) + self.zero_point
        result: Array = np.clip(steps, self.minimum, 255).astype(np.uint8)
        return result
