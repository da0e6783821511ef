#include "jpeg.h"

#ifdef IQ_JPEG
#include <csetjmp>
#include <cstddef>
#include <cstdio>
#include <cstring>

#include <jpeglib.h>

namespace imagequeue {
namespace {

constexpr JDIMENSION kRowsAtOnce = 16;
constexpr int kScansMost = 100;  // each visits every block; usual progressive files have 10. Also in images/jpeg.py
constexpr JDIMENSION kNeighbours = 2;  // columns beside a pixel that fancy upsampling looks at

constexpr int kEndOfImage = 0xD9;

bool is_restart(int marker) { return marker >= 0xD0 && marker <= 0xD7; }

// How libjpeg tells of trouble, and where it goes then: `error_exit` must not return.
struct Trouble {
  jpeg_error_mgr manager;
  jpeg_progress_mgr progress;
  jmp_buf leave;
};

void leave(j_common_ptr jpeg) { std::longjmp(reinterpret_cast<Trouble*>(jpeg->err)->leave, 1); }
void say_nothing(j_common_ptr) {}

void count_scans(j_common_ptr jpeg) {
  if (reinterpret_cast<j_decompress_ptr>(jpeg)->input_scan_number > kScansMost) leave(jpeg);
}

bool is_usual(const jpeg_decompress_struct& jpeg, const Region& region) {
  const bool colours = jpeg.jpeg_color_space == JCS_GRAYSCALE || jpeg.jpeg_color_space == JCS_YCbCr ||
                       jpeg.jpeg_color_space == JCS_RGB;
  return colours && jpeg.image_height == JDIMENSION(region.height) && jpeg.image_width == JDIMENSION(region.width);
}

// Whether nothing but codes and restart markers stands between here and the end of the image.
bool ends_well(const jpeg_decompress_struct& jpeg) {
  const int met = jpeg.unread_marker;  // already passed, and not yet heeded
  if (met != 0 && !is_restart(met)) return met == kEndOfImage;
  const JOCTET* at = jpeg.src->next_input_byte;
  const JOCTET* end = at + jpeg.src->bytes_in_buffer;
  while ((at = static_cast<const JOCTET*>(std::memchr(at, 0xFF, end - at))) != nullptr && ++at < end) {
    const bool in_scan = *at == 0 || *at == 0xFF || is_restart(*at);
    if (!in_scan) return *at == kEndOfImage;
  }
  return false;
}

// False where the image has no end.
bool decode(jpeg_decompress_struct& jpeg, const Region& region, uint8_t* pixels, int64_t pitch) {
  jpeg.out_color_space = JCS_EXT_BGR;
  jpeg_start_decompress(&jpeg);  // reads a file of several scans to its end
  const JDIMENSION bottom = region.bottom, left = region.left;
  JDIMENSION column = left > kNeighbours ? left - kNeighbours : 0, columns = region.right + kNeighbours - column;
  if (columns > jpeg.output_width - column) columns = jpeg.output_width - column;
  jpeg_crop_scanline(&jpeg, &column, &columns);  // widens both to whole blocks
  if (region.top > 0) jpeg_skip_scanlines(&jpeg, region.top);
  while (jpeg.output_scanline < bottom) {
    JSAMPROW rows[kRowsAtOnce];
    const JDIMENSION missing = bottom - jpeg.output_scanline, count = missing < kRowsAtOnce ? missing : kRowsAtOnce;
    for (JDIMENSION i = 0; i < count; ++i) rows[i] = pixels + (jpeg.output_scanline + i) * pitch + 3 * int64_t(column);
    jpeg_read_scanlines(&jpeg, rows, count);
  }
  return jpeg_has_multiple_scans(&jpeg) || ends_well(jpeg);
}

}  // namespace

bool decode_region(const uint8_t* data, int64_t bytes, const Region& region, uint8_t* pixels, int64_t pitch) {
  jpeg_decompress_struct jpeg{};
  Trouble trouble{};
  jpeg.err = jpeg_std_error(&trouble.manager);
  trouble.manager.error_exit = leave;
  trouble.manager.output_message = say_nothing;
  trouble.progress.progress_monitor = count_scans;
  // Nothing with a destructor lives where libjpeg may leave.
  if (setjmp(trouble.leave) != 0) {
    jpeg_destroy_decompress(&jpeg);
    return false;
  }
  jpeg_create_decompress(&jpeg);
  jpeg.progress = &trouble.progress;
  jpeg_mem_src(&jpeg, data, static_cast<unsigned long>(bytes));
  jpeg_read_header(&jpeg, TRUE);
  const bool decoded = is_usual(jpeg, region) && decode(jpeg, region, pixels, pitch) && trouble.manager.num_warnings == 0;
  jpeg_destroy_decompress(&jpeg);
  return decoded;
}

#define IQ_TEXT(value) #value
#define IQ_TEXT_OF(value) IQ_TEXT(value)
const char* jpeg_version() { return IQ_TEXT_OF(LIBJPEG_TURBO_VERSION); }

}  // namespace imagequeue

#else

namespace imagequeue {

bool decode_region(const uint8_t*, int64_t, const Region&, uint8_t*, int64_t) { return false; }
const char* jpeg_version() { return nullptr; }

}  // namespace imagequeue
#endif
