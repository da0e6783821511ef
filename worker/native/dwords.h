// Weights of four neighbouring inputs for every lane of a panel, as int8; and which of them can be summed in 16 bits.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace imagequeue {

class Dwords {
 public:
  explicit Dwords(int32_t lanes) : lanes_(lanes) {}

  // Appends the int8 part of `rest` [lanes][4], from which it is subtracted. Bounded: the parts of a pair that have
  // one sign sum to at most 127, as 255 * 127 < 2^15. Returns whether anything is left.
  bool append(int32_t offset, int32_t* rest, bool bounded);

  void append(const Dwords& others);

  size_t size() const { return offsets_.size(); }
  size_t bytes() const { return size_t(lanes_) * 4; }
  int32_t offset(size_t i) const { return offsets_[i]; }  // of the first input
  const int8_t* weights(size_t i) const { return weights_.data() + i * bytes(); }

 private:
  int32_t lanes_;
  std::vector<int32_t> offsets_;
  std::vector<int8_t> weights_;  // [size][lanes][4]
};

// Groups of `size` dwords whose 16-bit sums cannot overflow together, then what is left, one by one.
struct Grouping {
  size_t size;
  std::vector<uint32_t> full;     // [groups][size]
  std::vector<uint32_t> singles;

  double cost() const;
};

// The cheaper of groups of two and of three.
Grouping group(const Dwords& dwords);

}  // namespace imagequeue
