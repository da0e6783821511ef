"""The worker's Lua scripts, in the order of a job's life: take, heartbeat, publish, retry, finish or put_back, reclaim.

`reconcile` mends pending images that no job carries any more, `recount` the counts of what waits; `sweep` removes what
has aged; `stop` is RQ's stop-job; `settle` serves jobs that a stock `rq worker` runs; `backlog` only reads. `lease`,
`prefixes` and `rows` are parts of others.
"""
