// Which instruction sets this processor and its operating system have.
#include "path.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif
#if defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif

namespace imagequeue {
namespace {

#if defined(__x86_64__) && !defined(IQ_EMULATE)
struct Processor {
  bool avx2 = false, avxvnni = false, avx512vnni = false;

  Processor() {
    unsigned a = 0, b = 0, c = 0, d = 0;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE) || !(c & bit_FMA)) return;
    const uint64_t saved = xgetbv();
    const bool ymm = (saved & 0x6) == 0x6, zmm = (saved & 0xE6) == 0xE6;  // registers that the system keeps
    if (!ymm || !__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(b & bit_AVX2)) return;
    avx2 = true;
    constexpr unsigned kAvx512 = bit_AVX512F | bit_AVX512BW | bit_AVX512VL | bit_AVX512DQ;
    avx512vnni = zmm && (b & kAvx512) == kAvx512 && (c & (1u << 11));
    const unsigned leaves = a;
    avxvnni = leaves >= 1 && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & (1u << 4));
  }

  static uint64_t xgetbv() {
    uint32_t low = 0, high = 0;
    asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (uint64_t(high) << 32) | low;
  }
};
#endif

}  // namespace

int32_t find_paths(const Path** paths, int32_t capacity) {
  int32_t count = 0;
  const auto offer = [&](const Path* path) {
    if (path != nullptr && count < capacity) paths[count++] = path;
  };
#if defined(IQ_EMULATE)
  for (const Path* path : {avx512vnni_path(), avxvnni_path(), avx2_path()}) offer(path);
#elif defined(__x86_64__)
  const Processor processor;
  if (processor.avx512vnni) offer(avx512vnni_path());
  if (processor.avxvnni) offer(avxvnni_path());
  if (processor.avx2) offer(avx2_path());
#elif defined(__aarch64__) && defined(__linux__)
  constexpr unsigned long kDotProduct = 1 << 20;  // HWCAP_ASIMDDP
  if (getauxval(AT_HWCAP) & kDotProduct) offer(neon_path());
#endif
  offer(scalar_path());
  return count;
}

}  // namespace imagequeue
