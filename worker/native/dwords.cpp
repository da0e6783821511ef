#include "dwords.h"

#include <algorithm>
#include <cstring>
#include <numeric>

namespace imagequeue {
namespace {

constexpr int32_t kBound = 127;  // of the weights of one sign in a 16-bit sum: 255 * 127 < 2^15, and seven bits suffice
constexpr int kMostOpen = 256;   // groups that are tried: more than layers of 1,280 inputs have

// For each 16-bit lane the sums of the positive and of the negative weights: [dwords][2][pairs].
class Parts {
 public:
  explicit Parts(const Dwords& dwords)
      : pairs_(dwords.bytes() / 2), sums_(dwords.size() * 2 * pairs_), largest_(dwords.size()) {
    for (size_t i = 0; i < dwords.size(); ++i) {
      const int8_t* w = dwords.weights(i);
      uint8_t* sums = sums_.data() + i * bytes();
      for (size_t pair = 0; pair < pairs_; ++pair) {
        const int32_t a = w[2 * pair], b = w[2 * pair + 1];
        sums[pair] = uint8_t(std::max(a, 0) + std::max(b, 0));
        sums[pairs_ + pair] = uint8_t(-std::min(a, 0) - std::min(b, 0));
      }
      largest_[i] = uint32_t(std::max_element(sums, sums + bytes()) - sums);
    }
  }

  size_t bytes() const { return 2 * pairs_; }
  const uint8_t* at(size_t i) const { return sums_.data() + i * bytes(); }
  uint32_t largest(size_t i) const { return largest_[i]; }  // where its largest sum is

  // Dwords by their largest sum, the largest first.
  std::vector<uint32_t> largest_first() const {
    std::vector<uint32_t> order(largest_.size());
    std::iota(order.begin(), order.end(), 0);
    const auto most = [this](uint32_t i) { return at(i)[largest_[i]]; };
    std::stable_sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) { return most(a) > most(b); });
    return order;
  }

 private:
  size_t pairs_;
  std::vector<uint8_t> sums_;
  std::vector<uint32_t> largest_;
};

// Whether sums fit into the room that a group has left. Bytes of seven bits, a multiple of eight of them: a borrow from
// the eighth bit tells that one does not.
bool fits(const uint8_t* sums, const uint8_t* room, size_t count) {
  constexpr uint64_t kEighths = 0x8080808080808080;
  for (size_t i = 0; i < count; i += sizeof(uint64_t)) {
    uint64_t a, b;
    std::memcpy(&a, room + i, sizeof a);
    std::memcpy(&b, sums + i, sizeof b);
    if ((((a | kEighths) - b) & kEighths) != kEighths) return false;
  }
  return true;
}

// First fit: each dword into the first group that takes it, of the newest, which have the most room: else layers of
// 25,000 inputs take their square in time.
Grouping first_fit(const Parts& parts, const std::vector<uint32_t>& order, size_t size) {
  struct Open {
    std::vector<uint32_t> members;
    std::vector<uint8_t> room;
  };
  Grouping grouping{size, {}, {}};
  std::vector<Open> open;
  for (const uint32_t dword : order) {
    const uint8_t* sums = parts.at(dword);
    const size_t largest = parts.largest(dword);
    const auto oldest = open.size() > kMostOpen ? open.end() - kMostOpen : open.begin();
    auto found = std::find_if(oldest, open.end(), [&](const Open& o) {
      // Most groups have no room where the dword needs most.
      return sums[largest] <= o.room[largest] && fits(sums, o.room.data(), parts.bytes());
    });
    if (found == open.end()) {
      open.push_back({{}, std::vector<uint8_t>(parts.bytes(), uint8_t(kBound))});
      found = open.end() - 1;
    }
    found->members.push_back(dword);
    if (found->members.size() == size) {
      grouping.full.insert(grouping.full.end(), found->members.begin(), found->members.end());
      open.erase(found);
      continue;
    }
    for (size_t i = 0; i < parts.bytes(); ++i) found->room[i] = uint8_t(found->room[i] - sums[i]);
  }
  for (const Open& each : open) grouping.singles.insert(grouping.singles.end(), each.members.begin(), each.members.end());
  return grouping;
}

}  // namespace

bool Dwords::append(int32_t offset, int32_t* rest, bool bounded) {
  offsets_.push_back(offset);
  weights_.resize(weights_.size() + bytes());
  int8_t* weights = weights_.data() + weights_.size() - bytes();
  int32_t left = 0;
  for (size_t i = 0; i < bytes(); i += 2) {
    const int32_t lowest = bounded ? -kBound : -128;
    const int32_t a = std::clamp(rest[i], lowest, 127);
    int32_t b = std::clamp(rest[i + 1], lowest, 127);
    if (bounded) b = std::clamp(b, -kBound - std::min(a, 0), kBound - std::max(a, 0));
    weights[i] = int8_t(a), weights[i + 1] = int8_t(b);
    rest[i] -= a, rest[i + 1] -= b;
    left |= rest[i] | rest[i + 1];
  }
  return left != 0;
}

void Dwords::append(const Dwords& others) {
  offsets_.insert(offsets_.end(), others.offsets_.begin(), others.offsets_.end());
  weights_.insert(weights_.end(), others.weights_.begin(), others.weights_.end());
}

// Cycles for each row and vector, measured on Zen 3 (tests/benchmarks/net.py).
double Grouping::cost() const { return double(full.size()) * (size == 3 ? 0.80 : 0.84) + double(singles.size()) * 1.05; }

Grouping group(const Dwords& dwords) {
  const Parts parts(dwords);
  const auto order = parts.largest_first();
  Grouping triples = first_fit(parts, order, 3);
  if (triples.cost() <= 0.84 * double(dwords.size())) return triples;  // pairs cannot cost less
  Grouping pairs = first_fit(parts, order, 2);
  return triples.cost() < pairs.cost() ? triples : pairs;
}

}  // namespace imagequeue
