// A net, or a part of one, as steps over one arena: made once, then run for any number of images by any threads.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "path.h"
#include "pixel_table.h"

namespace imagequeue {

// One operator. `arena` holds every tensor of one image at an offset that was planned when the net was loaded.
class Step {
 public:
  virtual ~Step() = default;
  virtual void run(uint8_t* arena, uint8_t* scratch) const = 0;
  virtual size_t scratch() const { return 0; }
};

// A tensor that crosses the program's border, image by image.
struct Border {
  size_t offset;
  size_t size;  // bytes of one image
};

class Program {
 public:
  explicit Program(const Path& path) : path_(path) {}

  const Path& path() const { return path_; }
  void add(std::unique_ptr<Step> step);
  void add_input(Border border) { inputs_.push_back(border); }
  void add_output(Border border) { outputs_.push_back(border); }
  // Makes ready for the table that most runs will be given.
  void expect(const uint8_t* table, int32_t channels) { table_ = std::make_unique<PixelTable>(table, channels); }
  // Fixes the arena. After this nothing changes any more.
  void finish(size_t arena_size);

  // Runs `count` images, one after the other: inputs[i] and outputs[i] hold them back to back. With a table,
  // uint8 [channels][256], the first input's bytes are mapped through it, channels innermost.
  void run(int64_t count, const uint8_t* const* inputs, uint8_t* const* outputs, const uint8_t* table,
           int32_t channels) const;

  // The shortest of `rounds` runs of each step on one image, in nanoseconds, for benchmarks: the way in first.
  void profile(int32_t rounds, const uint8_t* const* inputs, const uint8_t* table, int32_t channels,
               double* nanoseconds) const;

 private:
  class Lease;

  void enter(int64_t image, const uint8_t* const* inputs, const uint8_t* table, int32_t channels, uint8_t* arena) const;

  const Path& path_;
  std::vector<std::unique_ptr<Step>> steps_;
  std::vector<Border> inputs_, outputs_;
  std::unique_ptr<PixelTable> table_;
  size_t tensors_ = 0, scratch_ = 0;
  // Arenas that no call uses right now: as many as calls ever ran at the same time.
  mutable std::mutex mutex_;
  mutable std::vector<Bytes> idle_;
};

// A convolution over one image, NHWC.
struct ConvShape {
  int32_t height, width, channels;  // of the input
  int32_t out_height, out_width, out_channels;
  int32_t kernel_h, kernel_w, stride_h, stride_w, dilation_h, dilation_w;
  int32_t pad_top, pad_left, pad_bottom, pad_right;
  int32_t group;
  uint8_t x_zero_point;
};

struct PoolShape {
  int32_t height, width, channels;
  int32_t out_height, out_width;
  int32_t kernel_h, kernel_w, stride_h, stride_w, pad_top, pad_left;
};

// (total * multiplier - (total < 0) + 2^(shift-1)) >> shift, then clip(… + zero_point, minimum, 255).
struct AverageRule {
  int64_t multiplier;
  int32_t shift, x_zero_point, zero_point, minimum;
};

using StepPointer = std::unique_ptr<Step>;

StepPointer make_convolution(const Path& path, const ConvShape& shape, std::vector<Packed> groups, size_t x, size_t y);
StepPointer make_depthwise(const Path& path, const DepthwiseShape& shape, PackedDepthwise weights, size_t x, size_t y);
StepPointer make_add(const Path& path, const AddRule& rule, int64_t count, size_t a, size_t b, size_t y);
StepPointer make_average_pool(const PoolShape& shape, const AverageRule& rule, size_t x, size_t y);
StepPointer make_max_pool(const PoolShape& shape, uint8_t minimum, size_t x, size_t y);
StepPointer make_bytes(const uint8_t* table, int64_t count, size_t x, size_t y);           // y = table[x]
StepPointer make_floats(const float* table, int64_t count, size_t x, size_t y);            // y = table[x]
StepPointer make_softmax(const int64_t* exponentials, int64_t count, size_t x, size_t y);  // Int8Softmax

}  // namespace imagequeue
