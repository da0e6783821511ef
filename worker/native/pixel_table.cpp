#include "pixel_table.h"

#include <algorithm>
#include <cstring>

namespace imagequeue {
namespace {

constexpr int32_t kTogether = 48;  // bytes: whole vectors, and whole pixels of one, two, three and four channels
constexpr int32_t kNear = 512;     // factors that are tried on each side of the slope

}  // namespace

void look_up(const uint8_t* table, int32_t channels, const uint8_t* from, uint8_t* to, int64_t count) {
  if (channels == 3) {
    for (int64_t i = 0; i + 3 <= count; i += 3) {
      to[i] = table[from[i]];
      to[i + 1] = table[256 + from[i + 1]];
      to[i + 2] = table[512 + from[i + 2]];
    }
    return;
  }
  for (int64_t i = 0; i < count; i += channels)
    for (int32_t c = 0; c < channels; ++c) to[i + c] = table[256 * c + from[i + c]];
}

PixelTable::PixelTable(const uint8_t* table, int32_t channels)
    : channels_(channels), table_(table, table + 256 * int64_t(channels)) {
  if (kTogether % channels != 0) return;
  std::vector<uint16_t> factors(kTogether), offsets(kTogether);
  for (int32_t c = 0; c < channels; ++c) {
    uint16_t factor = 0, offset = 0;
    if (!find(table + 256 * c, factor, offset)) return;
    for (int32_t i = c; i < kTogether; i += channels) factors[size_t(i)] = factor, offsets[size_t(i)] = offset;
  }
  factors_ = std::move(factors), offsets_ = std::move(offsets);
}

bool PixelTable::find(const uint8_t* row, uint16_t& factor, uint16_t& offset) const {
  const int32_t slope = (row[255] - row[0]) * 65536 / 255;
  for (int32_t step = 0; step <= 2 * kNear; ++step) {
    const int32_t tried = slope + (step & 1 ? (step + 1) / 2 : -(step / 2));
    if (tried < 0 || tried > 65535) continue;
    // The offset must reach each value, and not the next one.
    int32_t least = 0, most = 65535;
    for (int32_t x = 0; x < 256; ++x) {
      const int32_t product = x * tried >> 8;
      least = std::max(least, row[x] * 256 - product);
      if (row[x] < 255) most = std::min(most, row[x] * 256 + 255 - product);
    }
    if (least <= most) return factor = uint16_t(tried), offset = uint16_t(least), true;
  }
  return false;
}

bool PixelTable::is(const uint8_t* table, int32_t channels) const {
  return channels == channels_ && std::memcmp(table, table_.data(), table_.size()) == 0;
}

void PixelTable::map(const uint8_t* from, uint8_t* to, int64_t count) const {
  int64_t first = 0;
  if (!factors_.empty()) {
    uint16_t factors[kTogether], offsets[kTogether], limits[kTogether];
    for (int32_t i = 0; i < kTogether; ++i) limits[i] = uint16_t(65535 - offsets_[size_t(i)]);
    std::copy_n(factors_.begin(), kTogether, factors);
    std::copy_n(offsets_.begin(), kTogether, offsets);
    for (; first + kTogether <= count; first += kTogether) {
      uint8_t x[kTogether], y[kTogether];
      std::memcpy(x, from + first, kTogether);
      for (int32_t i = 0; i < kTogether; ++i) {
        const auto product = uint16_t(uint32_t(uint16_t(x[i] << 8)) * factors[i] >> 16);
        y[i] = uint8_t(uint16_t(std::min(product, limits[i]) + offsets[i]) >> 8);
      }
      std::memcpy(to + first, y, kTogether);
    }
  }
  look_up(table_.data(), channels_, from + first, to + first, count - first);
}

}  // namespace imagequeue
