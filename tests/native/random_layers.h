// Random layers for check_paths.cpp, with all that is at the edge of something.
#pragma once

#include <algorithm>
#include <cmath>
#include <functional>
#include <initializer_list>
#include <limits>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "program.h"

namespace imagequeue {

class Random {
 public:
  explicit Random(uint32_t seed) : engine_(seed) {}

  int32_t between(int32_t low, int32_t high) { return std::uniform_int_distribution<int32_t>(low, high)(engine_); }
  double real(double low, double high) { return std::uniform_real_distribution<double>(low, high)(engine_); }
  bool one_in(int32_t count) { return between(1, count) == 1; }
  template <class T>
  T one_of(std::initializer_list<T> values) {
    return values.begin()[between(0, int32_t(values.size()) - 1)];
  }
  std::vector<uint8_t> bytes(size_t count) {
    std::vector<uint8_t> result(count);
    const bool edges = one_in(4);  // only 0 and 255
    for (uint8_t& byte : result) byte = uint8_t(edges ? 255 * between(0, 1) : between(0, 255));
    return result;
  }

 private:
  std::mt19937 engine_;
};

// A layer that any path can be asked for. Its inputs lie at the arena's beginning, its result at `y`.
struct Case {
  std::string kind, text;
  std::vector<uint8_t> inputs;
  size_t y, y_size;
  std::function<StepPointer(const Path&)> make;
};

inline size_t behind(size_t inputs) {
  return (inputs + kSlack + Bytes::kAlignment - 1) / Bytes::kAlignment * Bytes::kAlignment;
}

// Weights of all kinds: as nets have them, all of int8, a few or many beyond it, only extremes.
inline std::vector<int16_t> random_weights(Random& random, size_t count) {
  std::vector<int16_t> weights(count);
  const int32_t kind = random.between(0, 4);
  for (int16_t& w : weights) {
    int32_t value = random.between(-40, 40);
    if (kind == 1) value = random.between(-128, 127);
    if (kind == 2) value = random.between(-255, 255);
    if (kind == 3 && random.one_in(50)) value = random.one_of({-1, 1}) * random.between(128, 255);
    if (kind == 4) value = random.one_of({-255, -128, 0, 127, 255});
    w = int16_t(value);
  }
  return weights;
}

// [channels][depth] weights with all that makes bytes of their products.
struct Linear {
  int32_t channels, depth;
  std::vector<int16_t> weights;
  std::vector<int32_t> bias;
  uint8_t x_zero_point;
  Requantization requantization;

  Linear(Random& random, int32_t c, int32_t d)
      : channels(c), depth(d), weights(random_weights(random, size_t(c) * size_t(d))),
        x_zero_point(uint8_t(random.one_of({0, 255, random.between(0, 255)}))) {
    int64_t lowest = 0, highest = 0;
    for (int32_t channel = 0; channel < channels; ++channel) {
      int64_t sum = 0, negative = 0, positive = 0;
      for (int32_t k = 0; k < depth; ++k) {
        const int32_t w = weights[size_t(channel) * size_t(depth) + size_t(k)];
        sum += w, negative += std::min(w, 0), positive += std::max(w, 0);
      }
      bias.push_back(int32_t(random.between(-5000, 5000) - x_zero_point * sum));
      lowest = std::min(lowest, bias.back() + 255 * negative);
      highest = std::max(highest, bias.back() + 255 * positive);
    }
    const int32_t zero_point = random.one_of({0, 0, random.between(0, 254)});
    const int32_t minimum = random.one_of({0, zero_point});
    const float scale = random_scale(random, double(highest - lowest));
    // No vector form is right for all of int32, so the rule is taken.
    if (random.one_in(4)) lowest = std::numeric_limits<int32_t>::min(), highest = std::numeric_limits<int32_t>::max();
    requantization = prove(scale, zero_point, minimum, lowest, highest);
  }

  // Results that fill a byte, a part of it, or far more; at times a scale with few bits, with many borders at halves.
  static float random_scale(Random& random, double range) {
    const double scale = std::exp2(random.real(5, 12)) / (range + 1);
    const double few_bits = random.one_of({1.0, 1.25, 1.5}) * std::exp2(std::floor(std::log2(scale)));
    return float(std::clamp(random.one_in(4) ? few_bits : scale, 0x1p-31, 0.999));
  }

  const char* form() const {
    switch (requantization.form) {
      case Form::kOneFma: return requantization.zero_point == 0 ? "one FMA" : "one FMA, zero point";
      case Form::kSigned: return "signed";
      case Form::kQ31: return "Q31";
    }
    return "";
  }
};

inline int32_t windows(int32_t size, int32_t pads, int32_t kernel, int32_t stride) {
  return (size + pads - kernel) / stride + 1;
}

inline std::string describe(std::initializer_list<std::pair<const char*, int32_t>> values) {
  std::string text;
  for (const auto& [name, value] : values) text += std::string(" ") + name + "=" + std::to_string(value);
  return text;
}

inline Case convolution_case(Random& random, const ConvShape& s, const std::string& kind) {
  const int32_t channels = s.out_channels / s.group, depth = s.kernel_h * s.kernel_w * (s.channels / s.group);
  const Linear linear(random, s.out_channels, depth);
  ConvShape shape = s;
  shape.x_zero_point = linear.x_zero_point;
  Case each;
  each.kind = kind + ", " + linear.form();
  each.text = describe({{"height", s.height}, {"width", s.width}, {"channels", s.channels}, {"out", s.out_channels},
                        {"kernel_h", s.kernel_h}, {"kernel_w", s.kernel_w}, {"group", s.group}});
  each.inputs = random.bytes(size_t(s.height) * size_t(s.width) * size_t(s.channels));
  each.y = behind(each.inputs.size());
  each.y_size = size_t(s.out_height) * size_t(s.out_width) * size_t(s.out_channels);
  each.make = [=, y = each.y](const Path& path) {
    std::vector<Packed> groups;
    for (int64_t first = 0; first < shape.out_channels; first += channels)
      groups.push_back(pack({channels, depth, linear.weights.data() + first * depth, linear.bias.data() + first,
                             linear.requantization},
                            path.panels));
    return make_convolution(path, shape, std::move(groups), 0, y);
  };
  return each;
}

inline Case pointwise(Random& random) {
  const bool large = random.one_in(8);  // a classifier's sizes; else those of a few panels and their tails
  const int32_t height = large ? 1 : random.between(1, 6), width = random.between(1, large ? 3 : 20);
  const int32_t channels = large ? random.between(500, 1300) : random.between(1, 100);
  const int32_t out = random.between(1, large ? 200 : 150);
  return convolution_case(
      random, {height, width, channels, height, width, out, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 1, 0}, "pointwise");
}

inline Case convolution(Random& random) {
  const int32_t group = random.one_of({1, 1, 1, 2, 3}), out = group * random.between(1, 40);
  const int32_t channels = group * random.one_of({1, 3, 3, random.between(1, 20)});
  const int32_t kernel_h = random.one_of({1, 3, 3, 5}), kernel_w = random.one_of({1, 3, 3, 5, 7});
  const int32_t stride_h = random.between(1, 3), stride_w = random.between(1, 3);
  const int32_t dilation_h = random.one_of({1, 1, 2}), dilation_w = random.one_of({1, 1, 2});
  const int32_t pads[] = {random.between(0, 2), random.between(0, 2), random.between(0, 2), random.between(0, 2)};
  const int32_t covered_h = (kernel_h - 1) * dilation_h + 1, covered_w = (kernel_w - 1) * dilation_w + 1;
  const int32_t height = covered_h + random.between(0, 12), width = covered_w + random.between(0, 12);
  return convolution_case(random,
                          {height, width, channels, windows(height, pads[0] + pads[2], covered_h, stride_h),
                           windows(width, pads[1] + pads[3], covered_w, stride_w), out, kernel_h, kernel_w, stride_h,
                           stride_w, dilation_h, dilation_w, pads[0], pads[1], pads[2], pads[3], group, 0},
                          "convolution");
}

inline Case depthwise(Random& random) {
  const int32_t size = random.one_of({3, 3, 5, 0}), stride = random.one_of({1, 2, 0});  // 0: any, in both directions
  const int32_t kernel_h = size ? size : random.between(1, 7), kernel_w = size ? size : random.between(1, 7);
  const int32_t stride_h = stride ? stride : random.between(1, 3), stride_w = stride ? stride : random.between(1, 3);
  const int32_t dilation_w = random.one_of({1, 1, 1, 2}), covered_w = (kernel_w - 1) * dilation_w + 1;
  const int32_t pads[] = {random.between(0, 2), random.between(0, 2), random.between(0, 2), random.between(0, 2)};
  const int32_t channels = random.one_of({random.between(1, 150), 16 * random.between(1, 8)});
  const int32_t height = kernel_h + random.between(0, 20), width = covered_w + random.between(0, 20);
  const Linear linear(random, channels, kernel_h * kernel_w);
  const DepthwiseShape shape{height, width, windows(height, pads[0] + pads[2], kernel_h, stride_h),
                             windows(width, pads[1] + pads[3], covered_w, stride_w), stride_h, stride_w, pads[0],
                             pads[1], dilation_w, linear.x_zero_point};
  Case each;
  each.kind = std::string("depthwise, ") + linear.form();
  each.text = describe({{"height", height}, {"width", width}, {"channels", channels}, {"kernel_h", kernel_h},
                        {"kernel_w", kernel_w}, {"stride_h", stride_h}, {"stride_w", stride_w}, {"dilation_w", dilation_w}});
  each.inputs = random.bytes(size_t(height) * size_t(width) * size_t(channels));
  each.y = behind(each.inputs.size());
  each.y_size = size_t(shape.out_height) * size_t(shape.out_width) * size_t(channels);
  each.make = [=, y = each.y](const Path& path) {
    const Kernel kernel{channels, kernel_h, kernel_w, linear.weights.data(), linear.bias.data(), linear.requantization};
    return make_depthwise(path, shape, pack(kernel, path.units), 0, y);
  };
  return each;
}

inline Case add(Random& random) {
  // Multipliers as NUMERICS.md has them: the larger one has 22 bits.
  AddRule rule;
  do {
    // Scales with few bits make sums that lie halfway.
    const auto scale = [&](double low, double high) {
      const double any = std::exp2(random.real(low, high));
      return random.one_in(2) ? any : random.one_of({1.0, 1.25, 1.5}) * std::exp2(std::floor(std::log2(any)));
    };
    const double ra = scale(-8, 6), rb = random.one_of({ra, ra * scale(-12, 12)});
    rule.shift = 21 - std::ilogb(std::max(ra, rb));
    rule.a_multiplier = int32_t(std::rint(std::ldexp(ra, rule.shift)));
    rule.b_multiplier = int32_t(std::rint(std::ldexp(rb, rule.shift)));
    rule.a_zero_point = random.one_of({0, 255, random.between(0, 255)}), rule.b_zero_point = random.between(0, 255);
    rule.zero_point = random.between(0, 255), rule.minimum = random.one_of({0, std::min(rule.zero_point, 254)});
  } while (255.0 * rule.a_multiplier + 255.0 * rule.b_multiplier + std::ldexp(1, rule.shift - 1) >= 0x1p31);
  const int32_t count = random.between(1, 3000);
  Case each;
  each.kind = "add";
  each.text = describe({{"count", count}, {"shift", rule.shift}, {"a_multiplier", rule.a_multiplier},
                        {"b_multiplier", rule.b_multiplier}});
  each.inputs = random.bytes(2 * size_t(count));
  each.y = behind(each.inputs.size()), each.y_size = size_t(count);
  each.make = [=, y = each.y](const Path& path) { return make_add(path, rule, count, 0, size_t(count), y); };
  return each;
}

}  // namespace imagequeue
