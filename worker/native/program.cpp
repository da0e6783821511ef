#include "program.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <utility>

namespace imagequeue {

// An arena for the time of one call.
class Program::Lease {
 public:
  explicit Lease(const Program& program) : program_(program) {
    const std::lock_guard<std::mutex> lock(program.mutex_);
    if (!program.idle_.empty()) {
      bytes_ = std::move(program.idle_.back());
      program.idle_.pop_back();
    }
    if (bytes_.size() == 0) bytes_ = Bytes(program.tensors_ + program.scratch_ + kSlack);
  }
  ~Lease() {
    const std::lock_guard<std::mutex> lock(program_.mutex_);
    program_.idle_.push_back(std::move(bytes_));
  }
  Lease(const Lease&) = delete;
  Lease& operator=(const Lease&) = delete;

  uint8_t* arena() { return bytes_.at<uint8_t>(0); }

 private:
  const Program& program_;
  Bytes bytes_;
};

void Program::add(std::unique_ptr<Step> step) {
  scratch_ = std::max(scratch_, step->scratch() + kSlack);
  steps_.push_back(std::move(step));
}

void Program::finish(size_t arena_size) {
  tensors_ = Bytes::round_up(arena_size + kSlack);
}

void Program::enter(int64_t image, const uint8_t* const* inputs, const uint8_t* table, int32_t channels,
                    uint8_t* arena) const {
  for (size_t i = 0; i < inputs_.size(); ++i) {
    const uint8_t* from = inputs[i] + size_t(image) * inputs_[i].size;
    uint8_t* to = arena + inputs_[i].offset;
    if (i == 0 && table != nullptr && table_ && table_->is(table, channels))
      table_->map(from, to, int64_t(inputs_[i].size));
    else if (i == 0 && table != nullptr)
      look_up(table, channels, from, to, int64_t(inputs_[i].size));
    else
      std::memcpy(to, from, inputs_[i].size);
  }
}

void Program::run(int64_t count, const uint8_t* const* inputs, uint8_t* const* outputs, const uint8_t* table,
                  int32_t channels) const {
  Lease lease(*this);
  uint8_t* arena = lease.arena();
  for (int64_t image = 0; image < count; ++image) {
    enter(image, inputs, table, channels, arena);
    for (const auto& step : steps_) step->run(arena, arena + tensors_);
    for (size_t i = 0; i < outputs_.size(); ++i)
      std::memcpy(outputs[i] + size_t(image) * outputs_[i].size, arena + outputs_[i].offset, outputs_[i].size);
  }
}

void Program::profile(int32_t rounds, const uint8_t* const* inputs, const uint8_t* table, int32_t channels,
                      double* nanoseconds) const {
  using Clock = std::chrono::steady_clock;
  Lease lease(*this);
  uint8_t* arena = lease.arena();
  std::fill_n(nanoseconds, steps_.size() + 1, 1e18);
  for (int32_t round = 0; round < rounds; ++round) {
    auto last = Clock::now();
    const auto lap = [&](size_t at) {
      const auto now = Clock::now();
      nanoseconds[at] = std::min(nanoseconds[at], std::chrono::duration<double, std::nano>(now - last).count());
      last = now;
    };
    enter(0, inputs, table, channels, arena);
    lap(0);
    for (size_t i = 0; i < steps_.size(); ++i) {
      steps_[i]->run(arena, arena + tensors_);
      lap(i + 1);
    }
  }
}

}  // namespace imagequeue
