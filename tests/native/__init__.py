"""The native engine against the portable one: bit for bit, on every instruction set that this machine can run.

`layers` draws single operators, `random_nets` whole nets. The portable engine is the reference everywhere: it is
compared with real Caffe2 in tests/caffe2. `make emulated` runs this folder on all x86-64 paths, `make asan` with
sanitizers; tests/fuzz/operators.py draws from the same strategies for as long as wanted.

That the tests can fail was checked with wrong kernels (a copy of worker/native, changed by hand, built and given by
IMAGEQUEUE_NATIVE_LIBRARY); above each test stands which changes it caught.
"""
