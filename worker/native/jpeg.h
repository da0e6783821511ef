// A region of a JPEG out of libjpeg-turbo, equal byte for byte to its whole picture with the defaults (islow, fancy
// upsampling).
#pragma once

#include <cstdint>

namespace imagequeue {

// Rows top … bottom - 1 and columns left … right - 1 of a picture; the same struct in images/native_jpeg.py.
struct Region {
  int32_t height, width, top, bottom, left, right;
};

// Fills the region of `pixels`, the whole picture's memory (BGR, rows of `pitch` bytes), and some columns beside it.
//
// False for all that is not quite usual: four colours, another size than `region` says, whatever libjpeg fails at or only
// warns of, no end of image. A decoder of whole pictures is asked then, and says why. Below the region, the codes of a
// picture in one scan are not read: damage there goes unnoticed.
bool decode_region(const uint8_t* data, int64_t bytes, const Region& region, uint8_t* pixels, int64_t pitch);

// "3.1.0", of libjpeg-turbo; null where the library is built without it, and decode_region always says false.
const char* jpeg_version();

}  // namespace imagequeue
