// Pixels to quantized inputs: a table for each channel, in arithmetic where that gives the same.
#pragma once

#include <cstdint>
#include <vector>

namespace imagequeue {

// Maps bytes through uint8 [channels][256], channels innermost.
void look_up(const uint8_t* table, int32_t channels, const uint8_t* from, uint8_t* to, int64_t count);

// A table as y = (min(x * factor >> 8, 65535 - offset) + offset) >> 8 in 16 bits for each channel: what mean, deviation
// and Int8Quantize amount to, clipped from above. Whole vectors at once instead of a look-up for each byte.
class PixelTable {
 public:
  // Searches factors and offsets that are right for all 256 bytes of each channel.
  PixelTable(const uint8_t* table, int32_t channels);

  bool is(const uint8_t* table, int32_t channels) const;
  void map(const uint8_t* from, uint8_t* to, int64_t count) const;

 private:
  bool find(const uint8_t* row, uint16_t& factor, uint16_t& offset) const;

  int32_t channels_;
  std::vector<uint8_t> table_;
  std::vector<uint16_t> factors_, offsets_;  // for kTogether bytes, whatever channel each is of; empty: look up
};

}  // namespace imagequeue
