"""What a contact sheet of 10,000 results costs to write, and how it does in Chromium."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "producer"))

from skimage import data

from chromium import browser, running_page
from imagequeue.reports.contact_sheet import write_contact_sheet
from imagequeue.reports.judging import Judged
from result_samples import BOX, CAT, CUP, DOG, FOX, failed, ok

IMAGES = 10_000
CLASSES = (CAT, DOG, CUP, FOX, BOX)
SUFFIXES = {".png", ".jpg", ".jpeg", ".tif", ".gif"}


def results() -> Iterator[Judged]:
    """Photographs that scikit-image ships, over and over; a seventh of what is not there, and some errors."""
    photographs = sorted(path for path in Path(data.__file__).parent.iterdir() if path.suffix in SUFFIXES)
    for number in range(IMAGES):
        ref = str(photographs[number % len(photographs)]) if number % 7 else f"https://example.org/{number}.jpg"
        first = number % len(CLASSES)
        classes = CLASSES[first:] + CLASSES[:first]
        found = ok(f"picture-{number}", *classes, best=number % 100 / 100, ref=ref)
        yield Judged(failed(f"picture-{number}", ref=ref) if number % 11 == 0 else found)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder, "sheet.html")
        started, used = time.perf_counter(), time.process_time()
        with page.open("wb") as file:
            write_contact_sheet(results(), file, title="benchmark", labelled=False)
        wall, processor = time.perf_counter() - started, time.process_time() - used
        print(f"written     {page.stat().st_size / 1e6:.1f} MB, {wall:.1f} s, {processor:.1f} s of processor time")
        if (program := browser()) is None:
            print("no Chromium on this machine: apt-get install chromium")
            return
        with running_page(program, Path(folder, "profile")) as tab:
            started = time.perf_counter()
            tab.open(page)
            print(f"opened      {time.perf_counter() - started:.2f} s")
            for select, value in (("#class", "red fox"), ("#class", ""), ("#sort", "class"), ("#sort", "ref")):
                started = time.perf_counter()
                tab.choose(select, value)
                print(f"{select} {value!r:10} {1000 * (time.perf_counter() - started):.0f} ms")


if __name__ == "__main__":
    main()
