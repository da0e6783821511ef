#!/bin/sh
# Builds the whole library for aarch64 with a cross compiler, and checks its NEON path under qemu.
#
#   neon.sh build-folder
#
# Where a tool is missing it says "skipped: …" and succeeds.
set -eu

build=$1
native=$(dirname "$0")/../../worker/native
target=aarch64-linux-gnu

for tool in cmake $target-g++ qemu-aarch64; do
  command -v $tool >/dev/null || {
    echo "skipped: no $tool (Debian: apt-get install cmake g++-$target qemu-user)"
    exit 0
  }
done

cmake -S "$native" -B "$build" -DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64 \
  -DCMAKE_CXX_COMPILER=$target-g++ >/dev/null
cmake --build "$build" --parallel 2 --target _native check_paths >&2
qemu-aarch64 -cpu max -L /usr/$target "$build/check_paths" neon
