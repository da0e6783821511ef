"""Windows that slide over pictures: kernel, stride, padding and dilation, and the sizes that follow."""

from dataclasses import dataclass

from .arguments import Arguments
from .tensor import TensorSpec

# Far beyond any real net; keeps the arithmetic, the memory and the time of a hostile one small.
MAX_EXTENT = 4096
MAX_ELEMENTS = 1 << 26


@dataclass(frozen=True, slots=True)
class Window:
    """Kernel, stride, dilation as (height, width); padding as (top, left, bottom, right), Caffe2's order."""

    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)

    @property
    def taps(self) -> int:
        """Number of kernel positions."""
        return self.kernel[0] * self.kernel[1]

    def span(self, axis: int, outputs: int) -> int:
        """Return how many padded input rows (axis 0) or columns (1) so many neighbouring outputs read."""
        return (outputs - 1) * self.stride[axis] + (self.kernel[axis] - 1) * self.dilation[axis] + 1

    def output(self, args: Arguments, height: int, width: int) -> tuple[int, int]:
        """Return the output's height and width, rounded down; refuse a kernel beyond the padded input."""
        sizes = []
        for axis, size in enumerate((height, width)):
            padded = size + self.pads[axis] + self.pads[axis + 2]
            extent = self.span(axis, 1)
            args.require(
                padded >= extent,
                f"the kernel reaches over {extent} pixels, the padded input has {padded}; shrink it",
            )
            sizes.append((padded - extent) // self.stride[axis] + 1)
        return sizes[0], sizes[1]


def read_window(args: Arguments) -> Window:
    """Read kernel, stride, pads and dilation in any of the spellings that Caffe2 has.

    Raises:
        InvalidOperator: Missing kernel, values outside 1…4096 (pads 0…4096), `legacy_pad`.
    """
    args.require(
        args.integer("legacy_pad", 0) == 0,
        "legacy_pad is set; write the padding as pad_t, pad_l, pad_b, pad_r",
    )
    args.require(
        any(name in args for name in ("kernel", "kernel_h", "kernels")),
        "has no kernel; give kernel, kernel_h and kernel_w, or kernels",
    )
    kernel = _pair(args, "kernel", 1)
    pads = args.integers("pads") or _four(args)
    args.require(len(pads) == 4, f"pads has {len(pads)} numbers; must have four: top, left, bottom, right")
    window = Window(kernel, _pair(args, "stride", 1), (pads[0], pads[1], pads[2], pads[3]), _pair(args, "dilation", 1))
    for name, values, least in (
        ("kernel", window.kernel, 1),
        ("stride", window.stride, 1),
        ("dilation", window.dilation, 1),
        ("pads", window.pads, 0),
    ):
        args.require(
            all(least <= value <= MAX_EXTENT for value in values),
            f"{name} is {list(values)}; must be {least} to {MAX_EXTENT}",
        )
    return window


def _pair(args: Arguments, name: str, default: int) -> tuple[int, int]:
    values = args.integers(name + "s")
    if values:
        args.require(len(values) == 2, f"{name}s has {len(values)} numbers; must have two: height, width")
        return values[0], values[1]
    both = args.integer(name, default)
    return args.integer(name + "_h", both), args.integer(name + "_w", both)


def _four(args: Arguments) -> tuple[int, ...]:
    both = args.integer("pad", 0)
    return tuple(args.integer("pad_" + side, both) for side in "tlbr")


def picture(args: Arguments, x: TensorSpec) -> tuple[int, int, int, int]:
    """Return N, H, W, C of a tensor that must have these four dimensions, none of them 0."""
    args.require(
        len(x.shape) == 4 and x.size > 0,
        f"input has shape {list(x.shape)}; must be [N, H, W, C], none of them 0",
    )
    return x.shape[0], x.shape[1], x.shape[2], x.shape[3]


def check_size(args: Arguments, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Refuse outputs that no real net has, before anything is allocated for them."""
    size = 1
    for extent in shape:
        args.require(
            0 <= extent <= MAX_ELEMENTS,
            f"output would have shape {list(shape)}; dimensions must be 0 to {MAX_ELEMENTS:,}",
        )
        size *= extent
    args.require(
        size <= MAX_ELEMENTS,
        f"output would have {size:,} elements, shape {list(shape)}; the limit is {MAX_ELEMENTS:,}",
    )
    return shape
