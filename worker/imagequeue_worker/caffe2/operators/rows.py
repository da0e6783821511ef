"""Copies rows of a picture into a padded float buffer, columns sorted by their place in the stride."""

from imagequeue_worker.caffe2.tensor import Array


def fill_rows(buffer: Array, image: Array, first: int, left: int, zero_point: int) -> None:
    """Fill the buffer with padded rows of an image.

    Args:
        buffer: [phases, rows, columns, C], written; padded column j lies in phase j % phases at j // phases.
            With phases = stride the columns under one tap of a kernel lie side by side.
        image: uint8 [H, W, C].
        first: The buffer's first row as a row of the image; may lie in the padding.
        left: Columns of padding.
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
        start = max(0, -((phase - left) // phases))
        stop = max(start, min(columns, -(-(width + left - phase) // phases)))
        part = buffer[phase, top:bottom]
        part[:, :start] = zero_point
        part[:, stop:] = zero_point
        if start < stop:
            source = start * phases + phase - left
            part[:, start:stop] = image[first + top : first + bottom, source:width:phases][:, : stop - start]
