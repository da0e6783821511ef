// Convolutions as matrix products: 1x1 ones straight from the tensor, others from patches.
#include <algorithm>
#include <cstring>

#include "program.h"

namespace imagequeue {
namespace {

// Copies in pieces of 16 bytes, up to 15 too many: both sides have slack.
inline void copy_over(uint8_t* to, const uint8_t* from, int64_t count) {
  for (int64_t i = 0; i < count; i += 16) {
    uint64_t piece[2];
    std::memcpy(piece, from + i, sizeof piece);
    std::memcpy(to + i, piece, sizeof piece);
  }
}

class Pointwise final : public Step {
 public:
  Pointwise(const Path& path, const ConvShape& shape, Packed weights, size_t x, size_t y)
      : path_(path), shape_(shape), weights_(std::move(weights)), x_(x), y_(y) {}

  void run(uint8_t* arena, uint8_t*) const override {
    path_.multiply(weights_, arena + x_, shape_.channels, int64_t(shape_.height) * shape_.width, arena + y_,
                   shape_.out_channels);
  }

 private:
  const Path& path_;
  const ConvShape shape_;
  const Packed weights_;
  const size_t x_, y_;
};

// The input with its padding, then the pixels under each window side by side, a few output pixels at a time, so that
// they are multiplied out of the first-level cache.
class Patches final : public Step {
 public:
  Patches(const Path& path, const ConvShape& shape, std::vector<Packed> groups, size_t x, size_t y)
      : path_(path), shape_(shape), groups_(std::move(groups)), x_(x), y_(y),
        depth_(shape.channels / shape.group), run_(int64_t(shape.kernel_w) * depth_),
        patch_((int64_t(shape.kernel_h) * run_ + 3) / 4 * 4),
        pitch_(int64_t(shape.width + shape.pad_left + shape.pad_right) * shape.channels),
        together_(shape.dilation_w == 1 && shape.group == 1),
        block_(std::clamp<int64_t>(kBlockBytes / patch_, 1, shape.out_width)) {}

  size_t scratch() const override {
    // A row more: the last one's right padding is written together with the left padding of the next.
    const size_t padded = size_t(shape_.height + shape_.pad_top + shape_.pad_bottom + 1) * size_t(pitch_);
    return patches_size() + padded + 2 * kSlack;
  }

  void run(uint8_t* arena, uint8_t* scratch) const override {
    uint8_t* patches = scratch;
    const uint8_t* padded = pad(arena + x_, scratch + patches_size());
    for (int64_t y = 0; y < shape_.out_height; ++y) {
      uint8_t* row = arena + y_ + y * shape_.out_width * shape_.out_channels;
      for (int64_t first = 0; first < shape_.out_width; first += block_) {
        const int64_t count = std::min(block_, shape_.out_width - first);
        for (size_t group = 0; group < groups_.size(); ++group) {
          gather(padded + int64_t(group) * depth_, y, first, count, patches);
          path_.multiply(groups_[group], patches, patch_, count,
                         row + first * shape_.out_channels + int64_t(group) * groups_[group].channels, shape_.out_channels);
        }
      }
    }
  }

 private:
  static constexpr int64_t kBlockBytes = 8 << 10;

  size_t patches_size() const { return (size_t(block_ * patch_) + 2 * kSlack) / Bytes::kAlignment * Bytes::kAlignment; }

  const uint8_t* pad(const uint8_t* x, uint8_t* padded) const {
    if (!(shape_.pad_top | shape_.pad_left | shape_.pad_bottom | shape_.pad_right)) return x;
    const int64_t row = int64_t(shape_.width) * shape_.channels, left = int64_t(shape_.pad_left) * shape_.channels;
    uint8_t* to = padded;
    std::memset(to, shape_.x_zero_point, size_t(shape_.pad_top * pitch_ + left));
    to += shape_.pad_top * pitch_ + left;
    // Between two rows lie the right padding of one and the left of the next.
    for (int64_t y = 0; y < shape_.height; ++y, to += pitch_) {
      std::memcpy(to, x + y * row, size_t(row));
      std::memset(to + row, shape_.x_zero_point, size_t(pitch_ - row));
    }
    std::memset(to - left, shape_.x_zero_point, size_t(shape_.pad_bottom * pitch_));
    return padded;
  }

  void gather(const uint8_t* padded, int64_t y, int64_t first, int64_t count, uint8_t* to) const {
    const uint8_t* from = padded + y * shape_.stride_h * pitch_ + first * shape_.stride_w * shape_.channels;
    const int64_t across = int64_t(shape_.stride_w) * shape_.channels, down = int64_t(shape_.dilation_h) * pitch_;
    if (together_ && shape_.kernel_h == 3 && run_ <= 16) return gather_small<3>(from, across, down, count, to);
    for (int64_t x = 0; x < count; ++x, from += across, to += patch_) {
      for (int32_t ky = 0; ky < shape_.kernel_h; ++ky) {
        if (together_) {
          copy_over(to + ky * run_, from + ky * down, run_);
          continue;
        }
        for (int32_t kx = 0; kx < shape_.kernel_w; ++kx)
          copy_over(to + ky * run_ + kx * depth_,
                    from + ky * down + int64_t(kx) * shape_.dilation_w * shape_.channels, depth_);
      }
    }
  }

  // Windows whose rows are one piece each: the first convolution of most nets.
  template <int ROWS>
  void gather_small(const uint8_t* from, int64_t across, int64_t down, int64_t count, uint8_t* to) const {
    const int64_t run = run_, patch = patch_;
    for (int64_t x = 0; x < count; ++x, from += across, to += patch)
      for (int row = 0; row < ROWS; ++row) copy_over(to + row * run, from + row * down, 16);
  }

  const Path& path_;
  const ConvShape shape_;
  const std::vector<Packed> groups_;
  const size_t x_, y_;
  const int64_t depth_;  // channels of a group
  const int64_t run_;    // bytes of a window's row
  const int64_t patch_;  // bytes of a window, a multiple of 4: the weights of what is too much are 0
  const int64_t pitch_;  // bytes of a padded row
  const bool together_;  // a window's row is one piece of memory
  const int64_t block_;  // output pixels whose patches are gathered together
};

class DepthwiseStep final : public Step {
 public:
  DepthwiseStep(const Path& path, const DepthwiseShape& shape, PackedDepthwise weights, size_t x, size_t y)
      : path_(path), shape_(shape), weights_(std::move(weights)), x_(x), y_(y) {}

  size_t scratch() const override { return path_.depthwise_scratch(weights_, shape_); }
  void run(uint8_t* arena, uint8_t* scratch) const override {
    path_.depthwise(weights_, shape_, arena + x_, arena + y_, scratch);
  }

 private:
  const Path& path_;
  const DepthwiseShape shape_;
  const PackedDepthwise weights_;
  const size_t x_, y_;
};

}  // namespace

StepPointer make_convolution(const Path& path, const ConvShape& s, std::vector<Packed> groups, size_t x, size_t y) {
  const bool pointwise = s.group == 1 && s.kernel_h == 1 && s.kernel_w == 1 && s.stride_h == 1 && s.stride_w == 1 &&
                         !(s.pad_top | s.pad_left | s.pad_bottom | s.pad_right);
  if (pointwise) return std::make_unique<Pointwise>(path, s, std::move(groups.front()), x, y);
  return std::make_unique<Patches>(path, s, std::move(groups), x, y);
}

StepPointer make_depthwise(const Path& path, const DepthwiseShape& shape, PackedDepthwise weights, size_t x, size_t y) {
  return std::make_unique<DepthwiseStep>(path, shape, std::move(weights), x, y);
}

}  // namespace imagequeue
