"""Int8Conv and Int8ConvRelu: three ways to sum the products, one requantization."""

from collections.abc import Sequence

import numpy as np
from numpy.lib.stride_tricks import as_strided

from imagequeue_worker.caffe2.arguments import Arguments
from imagequeue_worker.caffe2.geometry import Window, check_size, picture, read_window
from imagequeue_worker.caffe2.tensor import Array, TensorSpec

from .base import Operator, Scratch
from .linear import BLOCK, Linear, block_rows, check_parameters, tile_width
from .rows import fill_rows


class Convolution(Operator):
    """Checks and sizes; a subclass sums.

    Inputs: X uint8 [N, H, W, C]; W uint8 [M, kernel_h, kernel_w, C / group]; B int32 [M].

    Output: uint8 [N, H', W', M].
    """

    def __init__(self, inputs: Sequence[TensorSpec], args: Arguments) -> None:
        x, w, _ = inputs
        weights, bias = check_parameters(args, inputs, 4)
        batch, height, width, channels = picture(args, x)
        self.window = read_window(args)
        top, left, bottom, right = self.window.pads
        check_size(args, (1, height + top + bottom, width + left + right, channels))
        self.group = args.integer("group", 1)
        self.out_height, self.out_width = self.window.output(args, height, width)
        shape = check_size(args, (batch, self.out_height, self.out_width, w.shape[0]))
        self.zero_point = x.zero_point
        self.linear = Linear(args, x, w, self.arrange(weights), bias, relu=args.op_type.endswith("Relu"))
        self.outputs = (self.linear.output(shape),)

    def pack(self) -> None:
        """Weights in floating point, and a row of the requantizer's addends."""
        self.linear.pack()
        self.addend = self.linear.requantizer.tiled(tile_width(self.out_width, self.linear.channels))

    def arrange(self, weights: Array) -> Array:
        """Bring uint8 weights [M, kernel_h, kernel_w, C / group] into the kernel's order [..., K, M]."""
        raise NotImplementedError

    def run(self, inputs: Sequence[Array], scratch: Scratch) -> tuple[Array, ...]:
        """Sum and requantize, in blocks of rows that fit into the cache."""
        x = inputs[0]
        out = np.empty((x.shape[0], *self.outputs[0].shape[1:]), np.uint8)
        self.blocks(x, out, scratch)
        return (out,)

    def blocks(self, x: Array, out: Array, scratch: Scratch) -> None:
        """Compute all blocks of all images."""
        step = block_rows(self.out_width * max(self.linear.channels, self.row_cost(x)))
        for image, result in zip(x, out, strict=True):
            for row in range(0, self.out_height, step):
                rows = min(step, self.out_height - row)
                acc = self.linear.accumulator(scratch, rows, self.out_width)
                self.accumulate(image, row, acc, scratch)
                self.linear.requantize(acc, result[row : row + rows], self.addend, scratch)

    def row_cost(self, x: Array) -> int:
        """Return how many working values an output pixel needs."""
        return int(x.shape[3])

    def accumulate(self, image: Array, row: int, acc: Array, scratch: Scratch) -> None:
        """Sum the products for the output rows from `row` on; acc [rows, width, M] is overwritten."""
        raise NotImplementedError

    def padded(self, image: Array, row: int, rows: int, phases: int, scratch: Scratch) -> Array:
        """Return the padded input rows that output rows from `row` on read: [phases, rows, columns, C]."""
        columns = (self.window.span(1, self.out_width) - 1) // phases + 1
        shape = (phases, self.window.span(0, rows), columns, image.shape[2])
        buffer = scratch.array("padded", shape, self.linear.dtype)
        top, left = self.window.pads[:2]
        fill_rows(buffer, image, row * self.window.stride[0] - top, left, self.zero_point)
        return buffer


class Pointwise(Convolution):
    """1x1, stride 1, no padding, one group: a matrix product over the pixels of all images at once."""

    def arrange(self, weights: Array) -> Array:
        """[M, 1, 1, C] to [C, M]."""
        return weights.reshape(weights.shape[0], -1).T

    def blocks(self, x: Array, out: Array, scratch: Scratch) -> None:
        """Multiply blocks of rows."""
        channels = x.shape[3]
        x, out = x.reshape(-1, *x.shape[2:]), out.reshape(-1, *out.shape[2:])
        step = block_rows(self.out_width * max(channels, self.linear.channels))
        for row in range(0, len(x), step):
            block = x[row : row + step]
            values = scratch.array("input", block.shape, self.linear.dtype)
            np.copyto(values, block)
            acc = self.linear.accumulator(scratch, len(block), self.out_width)
            np.matmul(values.reshape(-1, channels), self.linear.weights, out=acc.reshape(-1, self.linear.channels))
            self.linear.requantize(acc, out[row : row + step], self.addend, scratch)


class Depthwise(Convolution):
    """One filter for each channel: shifted multiply-adds over whole rows of pixels and channels."""

    def pack(self) -> None:
        """Repeat the taps for a row of pixels where that is short."""
        super().pack()
        taps = self.linear.weights[:, np.newaxis, :]
        repeat = self.out_width if taps.size * self.out_width <= 32 * BLOCK else 1
        self.taps = np.ascontiguousarray(np.broadcast_to(taps, (taps.shape[0], repeat, taps.shape[2])))

    def arrange(self, weights: Array) -> Array:
        """[C, kernel_h, kernel_w, 1] to [taps, C]."""
        return weights.reshape(weights.shape[0], -1).T

    def accumulate(self, image: Array, row: int, acc: Array, scratch: Scratch) -> None:
        """Add one product for each tap."""
        window, rows = self.window, len(acc)
        buffer = self.padded(image, row, rows, window.stride[1], scratch)
        product = scratch.array("product", acc.shape, self.linear.dtype)
        for tap, weights in enumerate(self.taps):
            down, across = tap // window.kernel[1], tap % window.kernel[1]
            top = down * window.dilation[0]
            left, phase = divmod(across * window.dilation[1], window.stride[1])
            stop = top + (rows - 1) * window.stride[0] + 1
            shifted = buffer[phase, top : stop : window.stride[0], left : left + self.out_width]
            if tap == 0:
                np.multiply(shifted, weights, out=acc)
            else:
                np.multiply(shifted, weights, out=product)
                np.add(acc, product, out=acc)


class Patches(Convolution):
    """Everything else: the pixels under each window side by side, then a matrix product for each group."""

    def arrange(self, weights: Array) -> Array:
        """[M, kernel_h, kernel_w, C / group] to [group, kernel_h * kernel_w * C / group, M / group]."""
        return weights.reshape(self.group, weights.shape[0] // self.group, -1).transpose(0, 2, 1)

    def row_cost(self, x: Array) -> int:
        """Return the products of an output pixel."""
        return self.window.taps * int(x.shape[3])

    def accumulate(self, image: Array, row: int, acc: Array, scratch: Scratch) -> None:
        """Gather the windows, multiply."""
        window, rows, width = self.window, len(acc), self.out_width
        buffer = self.padded(image, row, rows, 1, scratch)[0]
        down, across, channel = buffer.strides
        depth = image.shape[2] // self.group
        windows = as_strided(
            buffer,
            (self.group, rows, width, *window.kernel, depth),
            (
                depth * channel,
                down * window.stride[0],
                across * window.stride[1],
                down * window.dilation[0],
                across * window.dilation[1],
                channel,
            ),
            writeable=False,
        )
        patches = scratch.array("patches", windows.shape, self.linear.dtype)
        np.copyto(patches, windows)
        patches = patches.reshape(self.group, rows * width, -1)
        if self.group == 1:
            np.matmul(patches[0], self.linear.weights[0], out=acc.reshape(rows * width, -1))
            return
        sums = np.matmul(patches, self.linear.weights)
        acc.reshape(rows * width, self.group, -1)[...] = sums.transpose(1, 0, 2)


def int8_conv(inputs: Sequence[TensorSpec], args: Arguments) -> Operator:
    """Choose the way for a convolution after checking that the weights fit the input."""
    args.order()
    args.inputs(inputs, "int8", "int8", "int32")
    x, w, _ = inputs
    window, group = read_window(args), args.integer("group", 1)
    channels = picture(args, x)[3]
    args.require(group >= 1 and channels % group == 0, f"group is {group}; must divide the input's {channels} channels")
    args.require(
        len(w.shape) == 4 and w.shape[0] % group == 0 and w.shape[1:] == (*window.kernel, channels // group),
        f"weights have shape {list(w.shape)}; must be {['M', *window.kernel, channels // group]}, "
        f"M a multiple of {group}, for kernel {list(window.kernel)}, {channels} channels, group {group}",
    )
    if group == 1 and window == Window((1, 1)):
        return Pointwise(inputs, args)
    if group == channels == w.shape[0] and group > 1:
        return Depthwise(inputs, args)
    return Patches(inputs, args)


OPERATORS = {"Int8Conv": int8_conv, "Int8ConvRelu": int8_conv}
