// The plain C interface that Python calls through ctypes. Every function may be called from any thread; a program is
// made by one thread and then run by many. Functions that can fail return -1 (or null) and never throw.
#include <exception>
#include <cstring>

#include "jpeg.h"
#include "program.h"
#include "resize.h"

#define IQ_API extern "C" __attribute__((visibility("default")))

using namespace imagequeue;

namespace {

constexpr int32_t kMostPaths = 8;

const Path* find_path(const char* name) {
  const Path* paths[kMostPaths];
  const int32_t count = find_paths(paths, kMostPaths);
  for (int32_t i = 0; i < count; ++i)
    if (std::strcmp(paths[i]->name, name) == 0) return paths[i];
  return nullptr;
}

template <class Action>
int32_t guarded(Action action) {
  try {
    return action();
  } catch (const std::exception&) {  // bad_alloc and length_error: all that can come here
    return -1;
  }
}

// What a linear layer's arithmetic needs beside its shape; the same struct in caffe2/native.py.
struct Linear {
  float scale;
  int32_t zero_point, minimum;
  int64_t lowest, highest;  // accumulators that can occur
  const int16_t* weights;   // [out_channels][kernel_h][kernel_w][channels / group], w - w_zero_point
  const int32_t* bias;      // - x_zero_point * sum(weights) folded in

  Requantization requantization() const { return prove(scale, zero_point, minimum, lowest, highest); }
};

}  // namespace

IQ_API int32_t iq_path_count() {
  const Path* paths[kMostPaths];
  return find_paths(paths, kMostPaths);
}

IQ_API const char* iq_path_name(int32_t index) {
  const Path* paths[kMostPaths];
  return index >= 0 && index < find_paths(paths, kMostPaths) ? paths[index]->name : nullptr;
}

IQ_API Program* iq_program_new(const char* path_name) {
  const Path* path = find_path(path_name);
  return path == nullptr ? nullptr : new (std::nothrow) Program(*path);
}

IQ_API void iq_program_free(Program* program) { delete program; }

// Returns the requantization's form.
IQ_API int32_t iq_convolution(Program* program, const ConvShape* s, const Linear* linear, size_t x, size_t y) {
  return guarded([&] {
    const Requantization r = linear->requantization();
    const int32_t channels = s->out_channels / s->group, depth = s->kernel_h * s->kernel_w * (s->channels / s->group);
    std::vector<Packed> groups;
    for (int64_t group = 0; group < s->group; ++group) {
      const int64_t first = group * channels;
      groups.push_back(pack({channels, depth, linear->weights + first * depth, linear->bias + first, r}, program->path().panels));
    }
    program->add(make_convolution(program->path(), *s, std::move(groups), x, y));
    return int32_t(r.form);
  });
}

// As iq_convolution, for group = channels = out_channels and dilation_h = 1.
IQ_API int32_t iq_depthwise(Program* program, const ConvShape* s, const Linear* linear, size_t x, size_t y) {
  return guarded([&] {
    const Requantization r = linear->requantization();
    const DepthwiseShape shape{s->height,   s->width,    s->out_height, s->out_width,  s->stride_h,
                               s->stride_w, s->pad_top, s->pad_left,   s->dilation_w, s->x_zero_point};
    auto weights = pack(Kernel{s->channels, s->kernel_h, s->kernel_w, linear->weights, linear->bias, r}, program->path().units);
    program->add(make_depthwise(program->path(), shape, std::move(weights), x, y));
    return int32_t(r.form);
  });
}

IQ_API int32_t iq_add(Program* program, const AddRule* rule, int64_t count, size_t a, size_t b, size_t y) {
  return guarded([&] { return program->add(make_add(program->path(), *rule, count, a, b, y)), 0; });
}

IQ_API int32_t iq_average_pool(Program* program, const PoolShape* shape, const AverageRule* rule, size_t x, size_t y) {
  return guarded([&] { return program->add(make_average_pool(*shape, *rule, x, y)), 0; });
}

IQ_API int32_t iq_max_pool(Program* program, const PoolShape* shape, int32_t minimum, size_t x, size_t y) {
  return guarded([&] { return program->add(make_max_pool(*shape, uint8_t(minimum), x, y)), 0; });
}

IQ_API int32_t iq_bytes(Program* program, const uint8_t* table, int64_t count, size_t x, size_t y) {
  return guarded([&] { return program->add(make_bytes(table, count, x, y)), 0; });
}

IQ_API int32_t iq_floats(Program* program, const float* table, int64_t count, size_t x, size_t y) {
  return guarded([&] { return program->add(make_floats(table, count, x, y)), 0; });
}

IQ_API int32_t iq_softmax(Program* program, const int64_t* exponentials, int64_t count, size_t x, size_t y) {
  return guarded([&] { return program->add(make_softmax(exponentials, count, x, y)), 0; });
}

IQ_API int32_t iq_input(Program* program, size_t offset, size_t size) {
  return guarded([&] { return program->add_input({offset, size}), 0; });
}

IQ_API int32_t iq_output(Program* program, size_t offset, size_t size) {
  return guarded([&] { return program->add_output({offset, size}), 0; });
}

// Makes ready for a table, uint8 [channels][256], that runs will be given.
IQ_API int32_t iq_expect_table(Program* program, const uint8_t* table, int32_t channels) {
  return guarded([&] { return program->expect(table, channels), 0; });
}

IQ_API void iq_finish(Program* program, size_t arena_size) { program->finish(arena_size); }

IQ_API int32_t iq_run(const Program* program, int64_t count, const uint8_t* const* inputs, uint8_t* const* outputs,
                      const uint8_t* table, int32_t channels) {
  return guarded([&] { return program->run(count, inputs, outputs, table, channels), 0; });
}

// Nanoseconds of the way in and of each step; see Program::profile.
IQ_API int32_t iq_profile(const Program* program, int32_t rounds, const uint8_t* const* inputs, const uint8_t* table,
                          int32_t channels, double* nanoseconds) {
  return guarded([&] { return program->profile(rounds, inputs, table, channels, nanoseconds), 0; });
}

// Resizes uint8 [rows.src][columns.src][3], rows `pitch` bytes apart, and writes the crop, uint8 [rows.size][columns.size][3].
IQ_API int32_t iq_resize(const uint8_t* pixels, int64_t pitch, const Axis* rows, const Axis* columns, int32_t vectors,
                         uint8_t* out) {
  return guarded([&] { return resize(pixels, pitch, *rows, *columns, vectors != 0, out), 0; });
}

// For tests: compares the chosen form with the rule for every accumulator in [first, last]; returns how many differ.
IQ_API int64_t iq_requantization_differences(float scale, int32_t zero_point, int32_t minimum, int64_t lowest,
                                             int64_t highest, int32_t* form) {
  const Requantization r = prove(scale, zero_point, minimum, lowest, highest);
  *form = int32_t(r.form);
  int64_t differing = 0;
  for (int64_t acc = lowest; acc <= highest; ++acc) {
    const int32_t y = std::min(std::max(evaluate(r, int32_t(acc)) + zero_point, minimum), 255);
    differing += uint8_t(y) != r.byte(int32_t(acc));
  }
  return differing;
}

// 0, or -1 when a decoder of whole pictures is to be asked.
IQ_API int32_t iq_jpeg_region(const uint8_t* data, int64_t bytes, const Region* region, uint8_t* pixels, int64_t pitch) {
  return decode_region(data, bytes, *region, pixels, pitch) ? 0 : -1;
}

IQ_API const char* iq_jpeg_version() { return jpeg_version(); }
