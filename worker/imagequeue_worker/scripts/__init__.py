"""The worker's Lua scripts, in the order of a job's life: take, heartbeat, finish or put_back, reclaim.

`sweep` removes what has aged; `settle` serves jobs that a stock `rq worker` runs; `backlog` only reads. `lease` and
`prefixes` are parts of others.
"""
