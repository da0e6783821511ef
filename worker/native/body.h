// The kernels, once for all instruction sets. A file for one of these defines a struct V of vector operations and
// instantiates them; see avx2.h for what V has.
#pragma once

#include "depthwise.h"
#include "tiles.h"

namespace imagequeue {
namespace {

template <class V>
void add(const AddRule& rule, const uint8_t* a, const uint8_t* b, uint8_t* out, int64_t count) {
  const int64_t whole = count / V::kSumBytes * V::kSumBytes;
  for (int64_t i = 0; i < whole; i += V::kSumBytes) V::sum(rule, a + i, b + i, out + i);
  uint8_t rest[3][V::kSumBytes] = {};
  const size_t left = size_t(count - whole);
  if (left == 0) return;
  std::memcpy(rest[0], a + whole, left);
  std::memcpy(rest[1], b + whole, left);
  V::sum(rule, rest[0], rest[1], rest[2]);
  std::memcpy(out + whole, rest[2], left);
}

template <class V>
Path make_path(const char* name, PanelFormat::Products products, std::vector<int32_t> widths) {
  return {name,
          {products, V::kLanes, std::move(widths), V::channel},
          {V::kUnitRows, V::kUnitVectors, V::kLanes, V::unit_channel},
          multiply<V>,
          depthwise_scratch<V>,
          depthwise<V>,
          add<V>};
}

}  // namespace
}  // namespace imagequeue
