"""A slice of every storm: nothing is lost, wrong or doubled, and Redis is as it was.

`make chaos` runs more of them. IMAGEQUEUE_CHAOS_SEED chooses other work and other choices.
"""

from __future__ import annotations

import pytest

from chaos.full_disk import NoSmallDisk
from chaos.ledger import Options
from chaos.preload import compiler
from chaos.script_faults import without_scenario
from chaos.storms import STORMS, storm

NEEDS_COMPILER = {"aof_cuts"}


@pytest.mark.timeout(600)  # for a machine that does much else; an idle one needs a twentieth
@pytest.mark.parametrize("name", list(STORMS))
def test_nothing_is_lost_wrong_or_doubled(name: str, options: Options) -> None:
    if name in NEEDS_COMPILER and compiler() is None:
        pytest.skip("no C compiler")
    try:
        ledger = storm(name)(options)
    except NoSmallDisk as error:
        pytest.skip(str(error))
    found = ledger.findings
    assert (found.lost, found.wrong, found.doubled) == (0, 0, 0), str(ledger)
    assert ledger.sound, str(ledger)


def test_every_script_has_its_fault_points() -> None:
    assert without_scenario() == []
