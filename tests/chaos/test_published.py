"""The README's reliability table is the published ledger, and that one is sound."""

from __future__ import annotations

from pathlib import Path

from chaos.ledger import read_ledgers
from chaos.storms import STORMS
from chaos.table import markdown_table

PUBLISHED = Path(__file__).with_name("published.json")
README = (Path(__file__).parents[2] / "README.md").read_text()


def test_the_readme_shows_the_published_ledger() -> None:
    assert markdown_table(read_ledgers(PUBLISHED)) in README


def test_every_storm_is_published() -> None:
    assert {ledger.storm for ledger in read_ledgers(PUBLISHED)} == set(STORMS)


def test_nothing_published_was_lost_wrong_or_doubled() -> None:
    unsound = {ledger.storm for ledger in read_ledgers(PUBLISHED) if not ledger.sound}
    assert unsound == set()
