"""Classify queued images with Int8 Caffe2 nets.

One image's way: batch_loop takes its job, pipeline fetches, decodes and classifies it, finish publishes it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from imagequeue_worker.batch_worker import BatchWorker

__all__ = ["BatchWorker"]


def __getattr__(name: str) -> object:
    """`imagequeue_worker.BatchWorker` for `rq worker --worker-class`, imported only when asked for."""
    if name == "BatchWorker":
        from imagequeue_worker.blas import limit_blas_threads

        limit_blas_threads()
        from imagequeue_worker.batch_worker import BatchWorker

        return BatchWorker
    raise AttributeError(name)
