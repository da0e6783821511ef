"""Input patches of convolutions: what a kernel sees at each place, as rows of a matrix."""

import numpy as np

from imagequeue_worker.caffe2.geometry import Window
from imagequeue_worker.caffe2.tensor import Array


def output_size(window: Window, height: int, width: int) -> tuple[int, int]:
    """Return the output's height and width, rounded down."""
    top, left, bottom, right = window.pads
    return (
        (height + top + bottom - window.span(0, 1)) // window.stride[0] + 1,
        (width + left + right - window.span(1, 1)) // window.stride[1] + 1,
    )


def padded(picture: Array, window: Window, value: float) -> Array:
    """Pad one picture [H, W, C] as the window says."""
    top, left, bottom, right = window.pads
    if not any(window.pads):
        return picture
    return np.pad(picture, ((top, bottom), (left, right), (0, 0)), constant_values=value)


def windows(picture: Array, window: Window) -> Array:
    """View a padded picture [H, W, C] as [H', W', kernel_h, kernel_w, C]."""
    extent = (window.span(0, 1), window.span(1, 1))
    view = np.lib.stride_tricks.sliding_window_view(picture, extent, axis=(0, 1))
    down, across = window.stride
    view = view[::down, ::across, :, :: window.dilation[0], :: window.dilation[1]]
    return np.asarray(view).transpose(0, 1, 3, 4, 2)


def grouped(patches: Array, group: int) -> Array:
    """Bring [n, kernel_h, kernel_w, C] into [n, group, K], K = kernel_h * kernel_w * C / group."""
    count, height, width, channels = patches.shape
    if group == 1:
        return patches.reshape(count, 1, -1)
    split = patches.reshape(count, height * width, group, channels // group)
    return np.ascontiguousarray(split.transpose(0, 2, 1, 3)).reshape(count, group, -1)


def grouped_weights(weights: Array, group: int) -> Array:
    """Bring [M, kernel_h, kernel_w, C / group] into [group, M / group, K]."""
    return weights.reshape(group, len(weights) // group, -1)
