"""Results as readers see them, for what prints, writes and scores them."""

from __future__ import annotations

from imagequeue.contract import ClassScore, Failure, Model, Result, Status

CAT = (281, "n02123045", "tabby, tabby cat")
DOG = (207, "n02099601", "golden retriever")
CUP = (967, "n07920052", "espresso")
FOX = (277, "n02119022", "red fox")
BOX = (478, "n02971356", "carton")
SKY = (0, None, "sky")


def ok(
    id_: str, *classes: tuple[int, str | None, str], best: float = 0.6, ref: str = "", seconds: float = 1.5
) -> Result:
    """A picture with these classes, best first; each half as probable as the one before."""
    scores = tuple(ClassScore(*one, best * 0.5**place) for place, one in enumerate(classes))
    return Result(
        id=id_,
        ref=ref or f"/pictures/{id_}.jpg",
        status=Status.OK,
        classes=scores,
        model=Model("mobilenet", "ab" * 32),
        worker="host.1",
        attempt=1,
        entry="1700000000000-0",
        job="iq-" + "0" * 32,
        submitted_at=1_700_000_000.0,
        finished_at=1_700_000_000.0 + seconds,
    )


def failed(id_: str, code: str = "not_found", message: str = "nothing is there", ref: str = "") -> Result:
    """A picture that ended in an error."""
    return Result(
        id=id_,
        ref=ref or f"/pictures/{id_}.jpg",
        status=Status.ERROR,
        error=Failure(code, message),
        entry="1700000000000-1",
        job="iq-" + "0" * 32,
        submitted_at=1_700_000_000.0,
        finished_at=1_700_000_001.0,
    )
