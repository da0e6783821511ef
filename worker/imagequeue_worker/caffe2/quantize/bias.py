"""Step 8: bias correction, the mean error of each output channel taken out, where clipping lets it through."""

import numpy as np

from imagequeue_worker.caffe2.tensor import Array

from .layers import CAPS, Clip

ROUNDS = 3
# Channels with fewer values inside the clip than this share have nothing to correct by.
LEAST_LIVE = 0.02


def corrected_bias(teacher: Array, student: Array, bias: Array, clip: Clip) -> Array:
    """Find the bias with which the student's mean output is the teacher's.

    Args:
        teacher: Outputs, clipped already, [n, M].
        student: Outputs without bias and clip, for the same places, [n, M].
        bias: To begin with, float64 [M].
        clip: The layer's.
    """
    bias = bias.astype(np.float64).copy()
    wanted = teacher.mean(axis=0, dtype=np.float64)
    if clip == "none":
        return np.asarray(wanted - student.mean(axis=0, dtype=np.float64))
    for _ in range(ROUNDS):
        y = student + bias
        live = ((y > 0) & (y < CAPS[clip])).mean(axis=0)
        missing = wanted - np.clip(y, 0, CAPS[clip]).mean(axis=0, dtype=np.float64)
        bias += np.where(live > LEAST_LIVE, missing / np.maximum(live, LEAST_LIVE), 0)
    return bias
