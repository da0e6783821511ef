-- prefixes: P, our key prefix, and R, RQ's, for scripts that settle no image and so go without the gate.

local P, R = ARGV[1], ARGV[2]
