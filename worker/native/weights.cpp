#include "weights.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <numeric>

#include "dwords.h"

namespace imagequeue {
namespace {

// Grows while a layer is packed; then moves into aligned memory.
class Builder {
 public:
  // Returns where the values lie.
  template <class T>
  size_t add(const std::vector<T>& values) {
    const size_t at = data_.size();
    data_.resize(at + Bytes::round_up(values.size() * sizeof(T)));
    if (!values.empty()) std::memcpy(data_.data() + at, values.data(), values.size() * sizeof(T));
    return at;
  }
  Bytes finish() const {
    Bytes bytes(data_.size());
    if (!data_.empty()) std::memcpy(bytes.at<uint8_t>(0), data_.data(), data_.size());
    return bytes;
  }

 private:
  std::vector<uint8_t> data_;
};

int8_t clip(int32_t value) { return int8_t(std::clamp(value, -128, 127)); }

// Where the accumulators of an output channel start: at its bias, and what the requantization asks for. What kernels
// subtract from every activation they lose once for each weight.
int32_t start_of(int32_t bias, const Requantization& r, const int16_t* weights, int64_t count, int32_t subtracted) {
  const int64_t lost = subtracted ? std::accumulate(weights, weights + count, int64_t(0)) * subtracted : 0;
  return int32_t(uint32_t(bias) + uint32_t(r.start) + uint32_t(lost));
}

// The panel's weights: dwords of inputs in order, and what int8 (or, bounded, 16-bit sums) cannot hold of them.
void split(const Matrix& matrix, const std::vector<const int16_t*>& rows, bool bounded, Dwords& all, Dwords& left) {
  std::vector<int32_t> rest(rows.size() * 4);
  for (int32_t k = 0; k < matrix.depth; k += 4) {
    for (size_t lane = 0; lane < rows.size(); ++lane)
      for (int32_t j = 0; j < 4; ++j)
        rest[lane * 4 + size_t(j)] = rows[lane] != nullptr && k + j < matrix.depth ? rows[lane][k + j] : 0;
    bool more = all.append(k, rest.data(), bounded);
    while (more) more = left.append(k, rest.data(), bounded);
  }
}

class PanelBuilder {
 public:
  explicit PanelBuilder(const Dwords& dwords) : bytes_(dwords.bytes()) {}

  void add(const Dwords& dwords, size_t i) { add(dwords, i, 0, bytes_); }
  void add(const Dwords& dwords, size_t i, size_t from, size_t to) {
    weights.insert(weights.end(), dwords.weights(i) + from, dwords.weights(i) + to);
    offsets.push_back(dwords.offset(i));
  }

  std::vector<int8_t> weights;
  std::vector<int32_t> offsets;

 private:
  size_t bytes_;
};

// Groups for 16-bit sums; what is left over joins them like any other dword.
void build_pairs(Dwords& all, const Dwords& left, Panel& panel, PanelBuilder& builder) {
  all.append(left);
  const Grouping grouping = group(all);
  panel.group = int32_t(grouping.size);
  panel.counts[0] = int32_t(grouping.full.size() / grouping.size);
  panel.counts[1] = int32_t(grouping.singles.size());
  for (const uint32_t i : grouping.full) builder.add(all, i);
  for (const uint32_t i : grouping.singles) builder.add(all, i);
}

// All dwords in order, their offsets known; then for each vector those that are left over for it.
void build_dots(const Dwords& all, const Dwords& left, size_t vector_bytes, Panel& panel, PanelBuilder& builder) {
  panel.counts[0] = int32_t(all.size());
  for (size_t i = 0; i < all.size(); ++i) builder.add(all, i);
  builder.offsets.clear();
  for (int32_t vector = 0; vector < panel.vectors; ++vector) {
    const size_t from = size_t(vector) * vector_bytes, to = from + vector_bytes;
    for (size_t i = 0; i < left.size(); ++i) {
      if (std::all_of(left.weights(i) + from, left.weights(i) + to, [](int8_t w) { return w == 0; })) continue;
      builder.add(left, i, from, to);
      ++panel.counts[1 + vector];
    }
  }
}

Panel pack_panel(const Matrix& matrix, const PanelFormat& format, int32_t first, int32_t vectors, Builder& memory) {
  const int32_t lanes = vectors * format.lanes;
  Panel panel{first, std::min(lanes, matrix.channels - first), vectors, 0, {}, 0, 0, 0};
  std::vector<int32_t> start(size_t(lanes), 0);
  std::vector<const int16_t*> rows(size_t(lanes), nullptr);
  for (int32_t lane = 0; lane < lanes; ++lane) {
    const int32_t channel = format.channel(vectors, lane / format.lanes, lane % format.lanes);
    if (channel >= panel.channels) continue;
    const int64_t m = first + channel;
    rows[size_t(lane)] = matrix.weights + m * matrix.depth;
    start[size_t(lane)] =
        start_of(matrix.bias[m], matrix.requantization, rows[size_t(lane)], matrix.depth, format.subtracted);
  }
  const bool bounded = format.products == PanelFormat::kPairs;
  Dwords all(lanes), left(lanes);
  split(matrix, rows, bounded, all, left);
  PanelBuilder builder(all);
  if (bounded)
    build_pairs(all, left, panel, builder);
  else
    build_dots(all, left, size_t(format.lanes) * 4, panel, builder);
  panel.start = memory.add(start), panel.offsets = memory.add(builder.offsets), panel.weights = memory.add(builder.weights);
  return panel;
}

// Rows of int16, one channel after the other: what compilers turn into multiply-adds of pairs.
Panel pack_words(const Matrix& matrix, const PanelFormat& format, int32_t first, Builder& memory) {
  Panel panel{first, std::min(format.lanes, matrix.channels - first), 1, 0, {}, 0, 0, 0};
  std::vector<int32_t> start(size_t(format.lanes), 0);
  std::vector<int16_t> weights(size_t(format.lanes) * matrix.depth, 0);
  for (int32_t m = 0; m < panel.channels; ++m) {
    const int16_t* row = matrix.weights + int64_t(first + m) * matrix.depth;
    start[size_t(m)] = start_of(matrix.bias[first + m], matrix.requantization, row, matrix.depth, format.subtracted);
    std::copy_n(row, matrix.depth, weights.begin() + m * matrix.depth);
  }
  panel.start = memory.add(start), panel.weights = memory.add(weights);
  return panel;
}

std::vector<int32_t> block_start(const Kernel& kernel, const UnitFormat& format, int32_t first) {
  const int64_t taps = int64_t(kernel.height) * kernel.width;
  std::vector<int32_t> start(size_t(format.block()), 0);
  for (int32_t lane = 0; lane < format.block(); ++lane) {
    const int32_t m = first + format.channel(lane / format.lanes, lane % format.lanes);
    if (m >= kernel.channels) continue;
    start[size_t(lane)] = start_of(kernel.bias[m], kernel.requantization, kernel.weights + m * taps, taps, format.subtracted);
  }
  return start;
}

// What the lanes of a vector multiply the rows of a unit with, one column of the kernel: [lanes][rows].
std::vector<int32_t> taps_of(const Kernel& kernel, const UnitFormat& format, int32_t first, int32_t odd, int32_t unit,
                             int32_t column, int32_t vector) {
  std::vector<int32_t> taps;
  for (int32_t lane = 0; lane < format.lanes; ++lane) {
    const int32_t m = first + format.channel(vector, lane);
    for (int32_t row = 0; row < format.rows; ++row) {
      const int32_t tap = unit * format.rows + row - odd;
      const bool inside = tap >= 0 && tap < kernel.height && m < kernel.channels;
      taps.push_back(inside ? kernel.weights[(int64_t(m) * kernel.height + tap) * kernel.width + column] : 0);
    }
  }
  return taps;
}

// The weights of a block, as words or as bytes; what bytes cannot hold is left over.
class BlockWeights {
 public:
  BlockWeights(const UnitFormat& format, std::vector<Leftover>& leftovers, Builder& memory)
      : as_words_(format.rows < 4), leftovers_(leftovers), memory_(memory) {}

  void add(int32_t unit, int32_t column, int32_t vector, std::vector<int32_t> taps) {
    if (as_words_) {
      words_.insert(words_.end(), taps.begin(), taps.end());
      return;
    }
    std::transform(taps.begin(), taps.end(), std::back_inserter(bytes_), clip);
    while (std::any_of(taps.begin(), taps.end(), [](int32_t w) { return w != clip(w); })) {
      std::vector<int8_t> left;
      for (int32_t& w : taps) w -= clip(w), left.push_back(clip(w));
      leftovers_.push_back({unit, column, vector, memory_.add(left)});
    }
  }
  size_t finish() const { return as_words_ ? memory_.add(words_) : memory_.add(bytes_); }

 private:
  bool as_words_;
  std::vector<Leftover>& leftovers_;
  Builder& memory_;
  std::vector<int16_t> words_;
  std::vector<int8_t> bytes_;
};

}  // namespace

Bytes::Bytes(size_t size) : size_(round_up(size)) {
  if (size_ == 0) return;
  auto* data = static_cast<uint8_t*>(std::aligned_alloc(kAlignment, size_));
  if (data == nullptr) throw std::bad_alloc();
  std::memset(data, 0, size_);
  data_.reset(data);
}

Packed pack(const Matrix& matrix, const PanelFormat& format) {
  Packed packed{matrix.channels, matrix.depth, matrix.requantization, {}, {}};
  Builder memory;
  for (int32_t first = 0; first < matrix.channels;) {
    const int32_t rest = matrix.channels - first;
    // The widest panel that is full; at the end the narrowest that holds what is left.
    int32_t vectors = format.vectors.back();
    for (const int32_t width : format.vectors) {
      if (width * format.lanes <= rest || (width * format.lanes - rest) < format.lanes) {
        vectors = width;
        break;
      }
    }
    packed.panels.push_back(format.products == PanelFormat::kWords ? pack_words(matrix, format, first, memory)
                                                                   : pack_panel(matrix, format, first, vectors, memory));
    first += vectors * format.lanes;
  }
  packed.memory = memory.finish();
  return packed;
}

PackedDepthwise pack(const Kernel& kernel, const UnitFormat& format) {
  PackedDepthwise packed{kernel.channels, kernel.height, kernel.width, 0, kernel.requantization, {}, {}};
  packed.units = (1 + kernel.height + format.rows - 1) / format.rows;
  Builder memory;
  for (int32_t first = 0; first < kernel.channels; first += format.block()) {
    PackedDepthwise::Block block{};
    block.start = memory.add(block_start(kernel, format, first));
    for (const int32_t odd : {0, 1}) {
      BlockWeights weights{format, block.leftovers[odd], memory};
      for (int32_t unit = 0; unit < packed.units; ++unit)
        for (int32_t column = 0; column < kernel.width; ++column)
          for (int32_t vector = 0; vector < format.vectors; ++vector)
            weights.add(unit, column, vector, taps_of(kernel, format, first, odd, unit, column, vector));
      block.weights[odd] = weights.finish();
    }
    packed.blocks.push_back(std::move(block));
  }
  packed.memory = memory.finish();
  return packed;
}

}  // namespace imagequeue
