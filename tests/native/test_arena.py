"""Where tensors lie: those alive at the same time never overlap, and memory is not wasted.

Caught: neighbours that end in the step in which the other begins taken for apart; SLACK left out of `_room`.
"""

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagequeue_worker.caffe2 import load_net, program
from imagequeue_worker.caffe2.arena import ALIGNMENT, SLACK, Life, place
from native.layers import NATIVE_ENGINES, needs_native

SIZES = st.integers(0, 5000)
LIVES = st.lists(
    st.builds(lambda size, first, length: Life(size, first, first + length), SIZES, *[st.integers(0, 9)] * 2)
)


def room(life: Life) -> int:
    """What a tensor takes at least: itself and what kernels may touch behind it, in whole cache lines."""
    return -(-(life.size + SLACK) // ALIGNMENT) * ALIGNMENT


def peak(lives: Sequence[Life]) -> int:
    """The most that is alive in one step: no arena can be smaller."""
    steps = {life.first for life in lives}
    return max((sum(room(life) for life in lives if life.first <= step <= life.last) for step in steps), default=0)


@given(LIVES)
def test_tensors_alive_at_once_never_overlap(lives: list[Life]):
    offsets, size = place(lives)
    assert all(offset % ALIGNMENT == 0 and offset >= 0 for offset in offsets)
    assert all(offset + life.size + SLACK <= size for offset, life in zip(offsets, lives, strict=True))
    for (a, life_a), (b, life_b) in combinations(zip(offsets, lives, strict=True), 2):
        if life_a.first <= life_b.last and life_b.first <= life_a.last:
            assert a + life_a.size + SLACK <= b or b + life_b.size + SLACK <= a


@given(LIVES)
def test_no_more_is_taken_than_all_tensors_need(lives: list[Life]):
    assert peak(lives) <= place(lives)[1] <= sum(map(room, lives))


@given(st.lists(SIZES, min_size=1, max_size=30))
def test_a_chain_takes_at_most_half_more_than_two_neighbours(sizes: list[int]):
    # Each tensor meets only the one before and the one behind it. Two larger neighbours can lie on each other: then the
    # smallest of three comes on top of them.
    lives = [Life(size, step, step + 1) for step, size in enumerate(sizes)]
    assert place(lives)[1] <= 1.5 * peak(lives)


@needs_native
def test_a_real_nets_arena_is_close_to_the_smallest(net_folder: Path, monkeypatch: pytest.MonkeyPatch):
    planned = []

    def recorded(lives):
        planned.append((list(lives), *place(lives)))
        return planned[-1][1:]

    monkeypatch.setattr(program, "place", recorded)
    load_net(net_folder, engine=NATIVE_ENGINES[0])
    ((lives, _, size),) = planned
    assert len(lives) > 50
    assert size <= 1.05 * peak(lives)
