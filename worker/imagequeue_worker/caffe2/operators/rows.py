"""Copies rows of a picture into a padded floating point buffer, its columns sorted by their place in the stride."""

from ..geometry import Window
from ..tensor import Array


def buffer_columns(window: Window, output_width: int) -> int:
    """Return the columns of each phase that the output's windows reach."""
    last = (output_width - 1) * window.stride[1] + (window.kernel[1] - 1) * window.dilation[1]
    return last // window.stride[1] + 1


def fill_rows(buffer: Array, image: Array, first: int, window: Window, zero_point: int) -> None:
    """Fill the buffer with padded rows of an image.

    Args:
        buffer: [stride, rows, columns, C], written; padded column j lies in phase j % stride at j // stride.
        image: uint8 [H, W, C].
        first: The buffer's first row as a row of the image; may lie in the padding.
        window: For padding and stride.
        zero_point: Value of the padding.
    """
    phases, rows, columns, _ = buffer.shape
    height, width, _ = image.shape
    top, bottom = min(rows, max(0, -first)), max(0, min(rows, height - first))
    buffer[:, :top] = zero_point
    buffer[:, bottom:] = zero_point
    if top >= bottom:
        return
    for phase in range(phases):
        # Padded column j = column * phases + phase shows the image's column j - left.
        start = max(0, -((phase - window.pads[1]) // phases))
        stop = max(start, min(columns, -(-(width + window.pads[1] - phase) // phases)))
        part = buffer[phase, top:bottom]
        part[:, :start] = zero_point
        part[:, stop:] = zero_point
        if start < stop:
            source = start * phases + phase - window.pads[1]
            part[:, start:stop] = image[first + top : first + bottom, source:width:phases][:, : stop - start]
