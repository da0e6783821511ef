"""How often a net is right on pictures with known classes.

labelled.py  pictures and what is on them: out of a folder, a manifest or an LMDB (of references/datum.py's records)
scoring.py   top-1, top-5, and which classes are confused
"""

from __future__ import annotations

from imagequeue_worker.evaluation.labelled import LabelledPicture, Truth, count_pictures, labelled_pictures
from imagequeue_worker.evaluation.scoring import Evaluation, evaluate, is_right

__all__ = [
    "Evaluation",
    "LabelledPicture",
    "Truth",
    "count_pictures",
    "evaluate",
    "is_right",
    "labelled_pictures",
]
