"""Faults on purpose: storms over real processes, each of which ends in a ledger of what became of every image.

Read `ledger.py` (what is counted) and `audit.py` (how it is checked), then `arena.py` (server, workers, producer) and
one storm, say `kill_storm.py`. `tcp_proxy.py` breaks the network, `faults.py` holds the pictures that kill, hang and
spin. Every storm is a module with `run(options) -> Ledger`; `python -m chaos --help` runs them, and `test_storms.py`
runs a slice of each.
"""
