"""How many images to take at once: no more than there is work for.

While the queue is short, a worker takes one image and leaves the next to its neighbours: nobody waits for a batch whose
images another worker had time for. A take that finds as much as it wanted doubles what the next one wants, so that a
backlog is worked off in full batches after a few takes; one that finds less wants as much the next time.
"""

from __future__ import annotations

LEAST_IMAGES = 1


class BatchSize:
    """State: what the next take wants."""

    def __init__(self, most_images: int) -> None:
        self._most_images = most_images
        self.images = LEAST_IMAGES

    def follow(self, taken_images: int) -> None:
        """Learn from a take that wanted `images` and found so many."""
        found_all = taken_images < self.images
        self.images = max(LEAST_IMAGES, min(taken_images if found_all else 2 * taken_images, self._most_images))
