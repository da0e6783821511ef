#!/bin/sh
# Builds the library with all x86-64 paths, those that the processor lacks through SIMDe, and runs the tests of the
# native engine, the golden operators and the golden net's blobs with it. With 15 to 30 lanes done one by one it is slow.
#
#   EMULATED=required emulated.sh build-folder python [pytest's arguments]
#
# Where a tool is missing it says "skipped: …" and succeeds, unless EMULATED=required.
set -eu

tests=$(dirname "$0")/..
build=$(realpath -m "$1")
python=$2
shift 2

skip() {
  echo "skipped: $1"
  test "${EMULATED:-}" != required
  exit
}

[ "$(uname -m)" = x86_64 ] || skip "this is no x86-64 processor"
command -v cmake >/dev/null || skip "no cmake (Debian: apt-get install cmake; or pip install cmake)"
echo '#include <simde/x86/avx512.h>' | ${CXX:-c++} -E -x c++ - >/dev/null 2>&1 ||
  skip "no compiler with SIMDe's headers (Debian: apt-get install g++ libsimde-dev)"

cmake -S "$tests/../worker/native" -B "$build" -DIQ_EMULATE=ON >/dev/null
cmake --build "$build" --parallel 2 >&2
export IMAGEQUEUE_NATIVE_LIBRARY="$build/_native.so"
"$python" -c 'from imagequeue_worker.caffe2 import available_engines as e; print("engines:", *e()); assert len(e()) == 5'
exec "$python" -m pytest --quiet --numprocesses 2 --timeout 600 -k "not check_paths and not probability" "$@" \
  "$tests/native" "$tests/caffe2/test_golden_operators.py" "$tests/caffe2/test_golden_net.py"
