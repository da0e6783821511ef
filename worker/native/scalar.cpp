// Plain C++, the reference of the other paths: 32-bit sums of 16-bit products, requantized in double or by the rule.
#include <algorithm>
#include <cstring>

#include "path.h"

namespace imagequeue {
namespace {

constexpr int32_t kLanes = 4;       // output channels of a panel
constexpr int64_t kDepth = 1024;    // inputs that are widened together
constexpr int64_t kChannels = 256;  // accumulators that are requantized together
constexpr int32_t kBlock = 16;      // channels of a depthwise block

int32_t in_order(int32_t, int32_t, int32_t lane) { return lane; }
int32_t in_block_order(int32_t, int32_t lane) { return lane; }

void requantize(const Requantization& r, const int32_t* acc, int64_t count, uint8_t* out) {
  if (!r.exact_in_double) {
    for (int64_t i = 0; i < count; ++i) out[i] = r.byte(acc[i]);
    return;
  }
  const double scale = r.scale, minimum = r.minimum;
  const double positive = 0.5 + r.nudge() + r.zero_point, negative = 0.5 - r.nudge() + r.zero_point;
  for (int64_t i = 0; i < count; ++i) {
    const double y = acc[i] * scale + (acc[i] < 0 ? negative : positive);
    out[i] = uint8_t(int32_t(std::min(std::max(y, minimum), 255.0)));  // not negative: truncation is the floor
  }
}

// Two pixels times four channels; compilers make multiply-adds of pairs of it.
void dot(const int16_t* x0, const int16_t* x1, const int16_t* w, int64_t depth, int64_t pitch, int32_t (&acc)[2][kLanes]) {
  const int16_t *w0 = w, *w1 = w + pitch, *w2 = w + 2 * pitch, *w3 = w + 3 * pitch;
  int32_t a0 = 0, a1 = 0, a2 = 0, a3 = 0, b0 = 0, b1 = 0, b2 = 0, b3 = 0;
  for (int64_t k = 0; k < depth; ++k) {
    a0 += x0[k] * w0[k], a1 += x0[k] * w1[k], a2 += x0[k] * w2[k], a3 += x0[k] * w3[k];
    b0 += x1[k] * w0[k], b1 += x1[k] * w1[k], b2 += x1[k] * w2[k], b3 += x1[k] * w3[k];
  }
  acc[0][0] = a0, acc[0][1] = a1, acc[0][2] = a2, acc[0][3] = a3;
  acc[1][0] = b0, acc[1][1] = b1, acc[1][2] = b2, acc[1][3] = b3;
}

// Sums of two pixels' products with some channels, onto `sums`.
void add_products(const Packed& weights, const uint8_t* const (&x)[2], int64_t first, int64_t channels,
                  int32_t (&sums)[2][kChannels]) {
  int16_t wide[2][kDepth];
  for (int64_t k = 0; k < weights.depth; k += kDepth) {
    const int64_t depth = std::min(kDepth, weights.depth - k);
    for (int64_t p = 0; p < 2; ++p)
      for (int64_t i = 0; i < depth; ++i) wide[p][i] = x[p][k + i];
    const Panel* panel = weights.panels.data() + first / kLanes;
    for (int64_t c = 0; c < channels; c += kLanes, ++panel) {
      int32_t acc[2][kLanes];
      dot(wide[0], wide[1], weights.memory.at<int16_t>(panel->weights) + k, depth, weights.depth, acc);
      for (int64_t p = 0; p < 2; ++p)
        for (int64_t lane = 0; lane < kLanes; ++lane) sums[p][c + lane] += acc[p][lane];
    }
  }
}

void multiply(const Packed& weights, const uint8_t* x, int64_t x_pitch, int64_t pixels, uint8_t* out, int64_t out_pitch) {
  const Requantization& r = weights.requantization;
  int32_t start[kChannels], sums[2][kChannels];
  for (int64_t first = 0; first < weights.channels; first += kChannels) {
    const int64_t channels = std::min(kChannels, weights.channels - first);
    for (int64_t c = 0; c < channels; ++c)
      start[c] = weights.memory.at<int32_t>(weights.panels[size_t((first + c) / kLanes)].start)[c % kLanes] - r.start;
    for (int64_t pixel = 0; pixel < pixels; pixel += 2) {
      const int64_t count = std::min<int64_t>(2, pixels - pixel);
      const uint8_t* const rows[2] = {x + pixel * x_pitch, x + (pixel + count - 1) * x_pitch};
      for (auto& row : sums) std::copy_n(start, channels, row);
      add_products(weights, rows, first, channels, sums);
      for (int64_t p = 0; p < count; ++p) requantize(r, sums[p], channels, out + (pixel + p) * out_pitch + first);
    }
  }
}

// Accumulators of one row of outputs, [out_width][kBlock], behind a pixel of padding.
size_t depthwise_scratch(const PackedDepthwise&, const DepthwiseShape& s) {
  return kBlock + size_t(s.out_width) * kBlock * sizeof(int32_t) + Bytes::kAlignment;
}

// One tap for a row of outputs: 16-bit products, which compilers make vectors of.
void add_tap(const uint8_t* from, int64_t step, const int16_t* taps, int64_t count, int32_t* acc) {
  int16_t w[kBlock];
  std::copy_n(taps, kBlock, w);
  for (int64_t ox = 0; ox < count; ++ox, from += step, acc += kBlock) {
    for (int32_t lane = 0; lane < kBlock; ++lane) {
      const int16_t x = from[lane];
      acc[lane] += x * w[lane];
    }
  }
}

// The outputs of a row whose tap `column` columns to the right of their first one is inside the picture.
struct Span {
  int64_t first, last;
  Span(const DepthwiseShape& s, int64_t column) {
    const int64_t offset = s.pad_left - column, stride = s.stride_w;
    first = std::clamp<int64_t>(offset <= 0 ? 0 : (offset + stride - 1) / stride, 0, s.out_width);
    const int64_t end = s.width + offset;  // ox * stride must stay below
    last = std::clamp<int64_t>(end <= 0 ? 0 : (end + stride - 1) / stride, first, s.out_width);
  }
};

void depthwise(const PackedDepthwise& weights, const DepthwiseShape& s, const uint8_t* x, uint8_t* out, uint8_t* scratch) {
  uint8_t* padding = scratch;
  std::memset(padding, s.x_zero_point, kBlock);
  auto* acc = reinterpret_cast<int32_t*>(Bytes::round_up(reinterpret_cast<uintptr_t>(scratch) + kBlock));
  const Requantization& r = weights.requantization;
  for (size_t number = 0; number < weights.blocks.size(); ++number) {
    const PackedDepthwise::Block& block = weights.blocks[number];
    const int64_t channel = int64_t(number) * kBlock, count = std::min<int64_t>(kBlock, weights.channels - channel);
    int32_t start[kBlock];
    for (int32_t lane = 0; lane < kBlock; ++lane) start[lane] = weights.memory.at<int32_t>(block.start)[lane] - r.start;
    for (int64_t oy = 0; oy < s.out_height; ++oy) {
      for (int64_t ox = 0; ox < s.out_width; ++ox) std::copy_n(start, kBlock, acc + ox * kBlock);
      const int16_t* taps = weights.memory.at<int16_t>(block.weights[0]);
      for (int32_t ky = 0; ky < weights.height; ++ky) {
        const int64_t y = oy * s.stride_h - s.pad_top + ky;
        for (int32_t kx = 0; kx < weights.width; ++kx, taps += kBlock) {
          const int64_t column = int64_t(kx) * s.dilation_w;
          const Span inside = y >= 0 && y < s.height ? Span(s, column) : Span(s, s.width + s.pad_left);
          const uint8_t* row = x + (y * s.width + column - s.pad_left) * weights.channels + channel;
          const int64_t step = int64_t(s.stride_w) * weights.channels;
          add_tap(padding, 0, taps, inside.first, acc);
          add_tap(row + inside.first * step, step, taps, inside.last - inside.first, acc + inside.first * kBlock);
          add_tap(padding, 0, taps, s.out_width - inside.last, acc + inside.last * kBlock);
        }
      }
      for (int64_t ox = 0; ox < s.out_width; ++ox)
        requantize(r, acc + ox * kBlock, count, out + (oy * s.out_width + ox) * weights.channels + channel);
    }
  }
}

void add(const AddRule& rule, const uint8_t* a, const uint8_t* b, uint8_t* out, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    const int32_t t = rule.a_multiplier * (a[i] - rule.a_zero_point) + rule.b_multiplier * (b[i] - rule.b_zero_point);
    const int32_t y = (t + (1 << (rule.shift - 1)) + (t >> 31)) >> rule.shift;
    out[i] = uint8_t(std::clamp(y + rule.zero_point, rule.minimum, 255));
  }
}

}  // namespace

const Path* scalar_path() {
  static const Path path = {"scalar",
                            {PanelFormat::kWords, kLanes, {1}, in_order},
                            {1, 1, kBlock, in_block_order},
                            multiply,
                            depthwise_scratch,
                            depthwise,
                            add};
  return &path;
}

}  // namespace imagequeue
