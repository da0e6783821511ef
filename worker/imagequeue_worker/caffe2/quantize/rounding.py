"""Step 7: rounding with error feedback (layer-wise second order, arXiv:2210.17323).

Each rounding error is made good by the weights still to come, as far as inputs are correlated: what counts is the
layer's output on real inputs, not the weights themselves.
"""

import numpy as np

from imagequeue_worker.caffe2.tensor import Array

from .ranges import Quantization

# Partial sums of (x - zero point)^2 stay below 2^24 for so many rows: float32 products are exact.
EXACT_ROWS = 256
# Inputs that were never seen get this share of the mean square, so that H can be inverted.
DAMPING = 0.01
BLOCK = 64


def second_moments(patches: Array, zero_point: int) -> Array:
    """Sum x x^T over patches, uint8 [n, groups, K], in units of the input's scale; float64 [groups, K, K], exact."""
    count, groups, depth = patches.shape
    total = np.zeros((groups, depth, depth))
    for first in range(0, count, EXACT_ROWS):
        part = patches[first : first + EXACT_ROWS].transpose(1, 0, 2).astype(np.float32) - np.float32(zero_point)
        total += part.transpose(0, 2, 1) @ part
    return total


def round_with_feedback(weights: Array, moments: Array, quantization: Quantization) -> Array:
    """Round float weights [groups, M, K] to bytes of that shape, given the inputs' second moments [groups, K, K]."""
    groups, _, depth = weights.shape
    order = np.argsort(-np.diagonal(moments, axis1=1, axis2=2), axis=1, kind="stable")
    rest = np.take_along_axis(weights.astype(np.float64), order[:, np.newaxis, :], axis=2)
    factor = _inverse_factor(moments, order)
    result = np.empty(rest.shape, np.uint8)
    for first in range(0, depth, BLOCK):
        last = min(first + BLOCK, depth)
        errors = np.empty((groups, rest.shape[1], last - first))
        for column in range(first, last):
            steps = quantization.steps(rest[:, :, column])
            result[:, :, column] = steps
            error = rest[:, :, column] - (steps - quantization.zero_point) * quantization.scale
            error /= factor[:, column, column, np.newaxis]
            rest[:, :, column:last] -= error[:, :, np.newaxis] * factor[:, np.newaxis, column, column:last]
            errors[:, :, column - first] = error
        rest[:, :, last:] -= errors @ factor[:, first:last, last:]
    unsorted = np.empty_like(result)
    np.put_along_axis(unsorted, order[:, np.newaxis, :], result, axis=2)
    return unsorted


def _inverse_factor(moments: Array, order: Array) -> Array:
    """Return U, the upper Cholesky factor of H^-1 = U^T U, columns in the given order."""
    depth = moments.shape[1]
    damped = np.take_along_axis(np.take_along_axis(moments, order[:, :, np.newaxis], 1), order[:, np.newaxis, :], 2)
    mean = np.trace(damped, axis1=1, axis2=2) / depth
    damped += (DAMPING * mean + (mean == 0))[:, np.newaxis, np.newaxis] * np.eye(depth)
    return np.linalg.cholesky(np.linalg.inv(damped)).transpose(0, 2, 1)
