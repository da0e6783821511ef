// Resize and crop, equal byte for byte to OpenCV's INTER_AREA: images/resize.py and taps.py in C++, rule by rule.
#pragma once

#include <cstdint>

namespace imagequeue {

// The outputs first … first + size - 1 of an axis of `dst`, made from `src`; the same struct in images/native_resize.py.
struct Axis {
  int32_t src, dst, first, size;

  double inverse() const { return double(dst) / src; }
  double scale() const { return 1.0 / inverse(); }  // both roundings matter: never src / dst
};

// pixels: rows of `pitch` bytes, three channels to a pixel; out: [rows.size][columns.size][3]. Without `vectors` in
// plain C++, as on processors that lack AVX2. Needs memory of its own; std::bad_alloc when there is none.
void resize(const uint8_t* pixels, int64_t pitch, const Axis& rows, const Axis& columns, bool vectors, uint8_t* out);

}  // namespace imagequeue
