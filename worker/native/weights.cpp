#include "weights.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <new>

namespace imagequeue {
namespace {

// Grows while a layer is packed; then moves into aligned memory.
class Builder {
 public:
  size_t reserve(size_t size) {
    const size_t at = data_.size();
    data_.resize(at + (size + Bytes::kAlignment - 1) / Bytes::kAlignment * Bytes::kAlignment);
    return at;
  }
  template <class T>
  size_t add(const std::vector<T>& values) {
    const size_t at = reserve(values.size() * sizeof(T));
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

// Four neighbouring inputs times one weight each for every lane of some vectors.
struct Dword {
  int32_t offset;               // of the first input
  std::vector<int8_t> weights;  // [lanes][4]
};

int8_t clip(int32_t value) { return int8_t(std::clamp(value, -128, 127)); }

// Splits the weights of four inputs into as many dwords of int8 as they need: nearly always one.
// Bounded: the parts of a pair that have one sign sum to at most 128, as 255 * 128 < 2^15.
template <class Weight>
std::vector<Dword> split(int32_t offset, int32_t lanes, bool bounded, Weight weight) {
  std::vector<int32_t> rest(size_t(lanes) * 4);
  for (int32_t lane = 0; lane < lanes; ++lane)
    for (int32_t j = 0; j < 4; ++j) rest[size_t(lane) * 4 + j] = weight(lane, j);
  std::vector<Dword> dwords;
  do {
    Dword dword{offset, std::vector<int8_t>(rest.size())};
    for (size_t i = 0; i < rest.size(); i += 2) {
      const int32_t a = clip(rest[i]);
      int32_t b = clip(rest[i + 1]);
      if (bounded) {
        const int32_t positive = std::max(a, 0), negative = std::min(a, 0);
        b = std::clamp(b, -128 - negative, 128 - positive);
      }
      dword.weights[i] = int8_t(a), dword.weights[i + 1] = int8_t(b);
      rest[i] -= a, rest[i + 1] -= b;
    }
    dwords.push_back(std::move(dword));
  } while (std::any_of(rest.begin(), rest.end(), [](int32_t value) { return value != 0; }));
  return dwords;
}

// Sums of the positive and of the negative weights of each pair, up to 128.
struct Parts {
  std::vector<uint8_t> sums;

  explicit Parts(const Dword& dword) : sums(dword.weights.size()) {
    const size_t pairs = sums.size() / 2;
    for (size_t i = 0; i < pairs; ++i) {
      const int32_t a = dword.weights[2 * i], b = dword.weights[2 * i + 1];
      sums[i] = uint8_t(std::max(a, 0) + std::max(b, 0));
      sums[pairs + i] = uint8_t(-std::min(a, 0) - std::min(b, 0));
    }
  }
  int32_t largest() const { return *std::max_element(sums.begin(), sums.end()); }
  bool fits(const Parts& other) const {
    uint8_t over = 0;
    for (size_t i = 0; i < sums.size(); ++i) over |= uint8_t(sums[i] > 128 - other.sums[i]);
    return over == 0;
  }
  void add(const Parts& other) {
    for (size_t i = 0; i < sums.size(); ++i) sums[i] = uint8_t(sums[i] + other.sums[i]);
  }
};

using Groups = std::vector<std::vector<const Dword*>>;

// Groups dwords whose 16-bit sums cannot overflow together, up to `size` of them: first fit, largest first.
Groups group(const std::vector<Dword>& dwords, size_t size) {
  struct Entry {
    const Dword* dword;
    Parts parts;
    int32_t largest;
  };
  std::vector<Entry> entries;
  for (const Dword& dword : dwords) {
    Parts parts(dword);
    const int32_t largest = parts.largest();
    entries.push_back({&dword, std::move(parts), largest});
  }
  std::stable_sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) { return a.largest > b.largest; });
  Groups groups;
  std::vector<std::pair<size_t, Parts>> open;  // groups that may grow
  for (const Entry& entry : entries) {
    const auto found = std::find_if(open.begin(), open.end(), [&](const auto& o) { return o.second.fits(entry.parts); });
    if (found == open.end()) {
      open.emplace_back(groups.size(), entry.parts);
      groups.push_back({entry.dword});
      continue;
    }
    groups[found->first].push_back(entry.dword);
    found->second.add(entry.parts);
    if (groups[found->first].size() == size) open.erase(found);
  }
  return groups;
}

// The groups that are full, then what is left one by one.
struct Grouping {
  size_t size;
  Groups full;
  std::vector<const Dword*> singles;

  Grouping(const std::vector<Dword>& dwords, size_t group_size) : size(group_size) {
    for (auto& each : group(dwords, size)) {
      if (each.size() == size)
        full.push_back(std::move(each));
      else
        singles.insert(singles.end(), each.begin(), each.end());
    }
  }
  // Cycles for each row and vector, measured on Zen 3 (tests/benchmarks/net.py).
  double cost() const {
    return double(full.size()) * (size == 3 ? 3 * 0.80 : 2 * 0.84) + double(singles.size()) * 1.05;
  }
};

Grouping choose_grouping(const std::vector<Dword>& dwords) {
  Grouping pairs(dwords, 2), triples(dwords, 3);
  return triples.cost() < pairs.cost() ? triples : pairs;
}

void append(std::vector<int8_t>& weights, std::vector<int32_t>& offsets, const Dword& dword) {
  weights.insert(weights.end(), dword.weights.begin(), dword.weights.end());
  offsets.push_back(dword.offset);
}

Panel pack_panel(const Matrix& matrix, const PanelFormat& format, int32_t first, int32_t vectors, Builder& memory) {
  const int32_t lanes = vectors * format.lanes;
  Panel panel{first, std::min(lanes, matrix.channels - first), vectors, 0, {}, 0, 0, 0};
  const auto channel = [&](int32_t lane) {
    return format.channel(vectors, lane / format.lanes, lane % format.lanes);
  };
  const auto weight = [&](int32_t lane, int32_t k) -> int32_t {
    const int32_t m = channel(lane);
    return m < panel.channels && k < matrix.depth ? matrix.weights[int64_t(first + m) * matrix.depth + k] : 0;
  };
  std::vector<int32_t> start(size_t(lanes), 0), offsets;
  for (int32_t lane = 0; lane < lanes; ++lane) {
    const uint32_t bias = channel(lane) < panel.channels ? uint32_t(matrix.bias[first + channel(lane)]) : 0;
    start[size_t(lane)] = int32_t(bias + uint32_t(matrix.requantization.start));
  }
  std::vector<int8_t> weights;
  const bool bounded = format.products == PanelFormat::kPairs;
  std::vector<Dword> all, left;
  for (int32_t k = 0; k < matrix.depth; k += 4) {
    auto dwords = split(k, lanes, bounded, [&](int32_t lane, int32_t j) { return weight(lane, k + j); });
    all.push_back(std::move(dwords.front()));
    std::move(dwords.begin() + 1, dwords.end(), std::back_inserter(left));
  }
  if (bounded) {
    std::move(left.begin(), left.end(), std::back_inserter(all));
    const Grouping grouping = choose_grouping(all);
    panel.group = int32_t(grouping.size);
    panel.counts[0] = int32_t(grouping.full.size());
    panel.counts[1] = int32_t(grouping.singles.size());
    for (const auto& each : grouping.full)
      for (const Dword* dword : each) append(weights, offsets, *dword);
    for (const Dword* dword : grouping.singles) append(weights, offsets, *dword);
  } else {
    panel.counts[0] = int32_t(all.size());
    for (const Dword& dword : all) weights.insert(weights.end(), dword.weights.begin(), dword.weights.end());
    for (int32_t vector = 0; vector < vectors; ++vector) {
      for (const Dword& dword : left) {
        const auto from = dword.weights.begin() + vector * format.lanes * 4, to = from + format.lanes * 4;
        if (std::all_of(from, to, [](int8_t w) { return w == 0; })) continue;
        weights.insert(weights.end(), from, to);
        offsets.push_back(dword.offset);
        ++panel.counts[1 + vector];
      }
    }
  }
  panel.start = memory.add(start), panel.offsets = memory.add(offsets), panel.weights = memory.add(weights);
  return panel;
}

// Rows of int16, four channels side by side for each two inputs: what compilers turn into multiply-adds of pairs.
Panel pack_words(const Matrix& matrix, int32_t first, Builder& memory) {
  Panel panel{first, std::min(4, matrix.channels - first), 1, 0, {}, 0, 0, 0};
  std::vector<int32_t> start(4, 0);
  std::vector<int16_t> weights(size_t(4) * matrix.depth, 0);
  for (int32_t m = 0; m < panel.channels; ++m) {
    start[size_t(m)] = int32_t(uint32_t(matrix.bias[first + m]) + uint32_t(matrix.requantization.start));
    std::copy_n(matrix.weights + int64_t(first + m) * matrix.depth, matrix.depth, weights.begin() + m * matrix.depth);
  }
  panel.start = memory.add(start), panel.weights = memory.add(weights);
  return panel;
}

}  // namespace

Bytes::Bytes(size_t size) : size_((size + kAlignment - 1) / kAlignment * kAlignment) {
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
    packed.panels.push_back(format.products == PanelFormat::kWords ? pack_words(matrix, first, memory)
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
    std::vector<int32_t> start(size_t(format.block()), 0);
    for (int32_t lane = 0; lane < format.block(); ++lane) {
      const int32_t m = first + format.channel(lane / format.lanes, lane % format.lanes);
      const uint32_t bias = m < kernel.channels ? uint32_t(kernel.bias[m]) : 0;
      start[size_t(lane)] = int32_t(bias + uint32_t(kernel.requantization.start));
    }
    block.start = memory.add(start);
    for (int32_t odd = 0; odd < 2; ++odd) {
      std::vector<int16_t> words;
      std::vector<int8_t> bytes;
      for (int32_t unit = 0; unit < packed.units; ++unit) {
        for (int32_t column = 0; column < kernel.width; ++column) {
          for (int32_t vector = 0; vector < format.vectors; ++vector) {
            std::vector<int32_t> taps;
            for (int32_t lane = 0; lane < format.lanes; ++lane) {
              const int32_t m = first + format.channel(vector, lane);
              for (int32_t row = 0; row < format.rows; ++row) {
                const int32_t tap = unit * format.rows + row - odd;
                const bool inside = tap >= 0 && tap < kernel.height && m < kernel.channels;
                taps.push_back(inside ? kernel.weights[(int64_t(m) * kernel.height + tap) * kernel.width + column] : 0);
              }
            }
            if (format.rows < 4) {
              words.insert(words.end(), taps.begin(), taps.end());
              continue;
            }
            std::transform(taps.begin(), taps.end(), std::back_inserter(bytes), clip);
            while (std::any_of(taps.begin(), taps.end(), [](int32_t w) { return w != clip(w); })) {
              std::vector<int8_t> left;
              for (int32_t& w : taps) w -= clip(w), left.push_back(clip(w));
              block.leftovers[odd].push_back({unit, column, vector, memory.add(left)});
            }
          }
        }
      }
      block.weights[odd] = format.rows < 4 ? memory.add(words) : memory.add(bytes);
    }
    packed.blocks.push_back(std::move(block));
  }
  packed.memory = memory.finish();
  return packed;
}

}  // namespace imagequeue
