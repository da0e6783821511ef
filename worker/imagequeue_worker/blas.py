"""One BLAS thread per process: a worker runs one process per core, and a second layer of threads gets in its way.

Measured: tests of the portable engine in two processes took 65 s with numpy's default and 9 s so (a busy two-core
machine, 200 pictures).
"""

from __future__ import annotations

import os

VARIABLES = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


def limit_blas_threads() -> None:
    """Set it, unless the environment says otherwise; numpy's BLAS reads it when it is first imported."""
    for variable in VARIABLES:
        os.environ.setdefault(variable, "1")
