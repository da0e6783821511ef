#!/bin/sh
# Builds the library with AddressSanitizer and UndefinedBehaviorSanitizer (GCC), and runs the tests of the native engine,
# and the golden operators with it. Leaks are not looked for: Python itself leaves memory behind at its end.
#
#   asan.sh build-folder python [pytest's arguments]
set -eu

tests=$(dirname "$0")/..
build=$(realpath -m "$1")
python=$2
shift 2

cmake -S "$tests/../worker/native" -B "$build" -DIQ_SANITIZE=ON -DCMAKE_CXX_COMPILER="${CXX:-g++}" >/dev/null
cmake --build "$build" --parallel 2 >&2
export IMAGEQUEUE_NATIVE_LIBRARY="$build/_native.so"
LD_PRELOAD=$("${CXX:-g++}" -print-file-name=libasan.so)
export LD_PRELOAD
export ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1
"$python" -c 'from imagequeue_worker.caffe2 import available_engines as e; print("engines:", *e()); assert len(e()) > 1'
exec "$python" -m pytest --quiet --timeout 600 -k "not check_paths" "$@" \
  "$tests/native" "$tests/caffe2/test_golden_operators.py" "$tests/worker/images/test_jpeg_region.py"
