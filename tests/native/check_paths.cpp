// Compares every path that this processor offers with the scalar path: random layers, every byte of their results.
//
//   check_paths [--cases N] [--seed N] [path …]
//
// Paths that are named must be offered. Exit code 1: a difference, or a path that is missing; 2: there is the scalar
// path only, so nothing to compare.
#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "random_layers.h"

using namespace imagequeue;

namespace {

// The result and the slack behind it, which nothing may write. What must not matter is noise, another one each time.
std::vector<uint8_t> result_of(const Case& each, const Path& path, uint8_t noise) {
  const StepPointer step = each.make(path);
  Bytes arena(each.y + each.y_size + kSlack), scratch(step->scratch() + kSlack);
  std::memset(arena.at<uint8_t>(0), noise, arena.size());
  std::memset(scratch.at<uint8_t>(0), noise, scratch.size());
  std::copy(each.inputs.begin(), each.inputs.end(), arena.at<uint8_t>(0));
  uint8_t* y = arena.at<uint8_t>(each.y);
  std::memset(y + each.y_size, 0xA5, kSlack);
  step->run(arena.at<uint8_t>(0), scratch.at<uint8_t>(0));
  return {y, y + each.y_size + kSlack};
}

struct Count {
  int64_t cases = 0, compared = 0, differing = 0;
};

using Counts = std::map<std::pair<std::string, std::string>, Count>;  // by path and kind of layer

void compare(const Case& each, const std::vector<const Path*>& paths, Random& random, Counts& counts) {
  const std::vector<uint8_t> expected = result_of(each, *scalar_path(), uint8_t(random.between(0, 255)));
  for (const Path* path : paths) {
    const std::vector<uint8_t> actual = result_of(each, *path, uint8_t(random.between(0, 255)));
    int64_t differing = 0;
    for (size_t i = 0; i < expected.size(); ++i) differing += actual[i] != expected[i];
    Count& count = counts[{path->name, each.kind}];
    ++count.cases, count.compared += int64_t(each.y_size), count.differing += differing;
    if (differing != 0 && count.differing == differing)  // the first of its kind
      std::printf("%s, %s:%s: %lld of %zu differ\n", path->name, each.kind.c_str(), each.text.c_str(),
                  (long long)differing, each.y_size);
  }
}

// All paths but the scalar one.
std::vector<const Path*> offered_paths() {
  std::array<const Path*, 8> paths{};
  std::vector<const Path*> offered(paths.begin(), paths.begin() + find_paths(paths.data(), int32_t(paths.size())));
  offered.erase(std::remove(offered.begin(), offered.end(), scalar_path()), offered.end());
  return offered;
}

}  // namespace

int main(int count, char** arguments) {
  int32_t cases = 250;
  uint32_t seed = 1;
  bool missing = false;
  const std::vector<const Path*> paths = offered_paths();
  for (int i = 1; i < count; ++i) {
    const std::string argument = arguments[i];
    if (argument == "--cases" && i + 1 < count) {
      cases = std::atoi(arguments[++i]);
    } else if (argument == "--seed" && i + 1 < count) {
      seed = uint32_t(std::atoi(arguments[++i]));
    } else if (std::none_of(paths.begin(), paths.end(), [&](const Path* path) { return argument == path->name; })) {
      std::printf("%s: this processor does not offer it\n", argument.c_str());
      missing = true;
    }
  }
  if (missing) return 1;
  if (paths.empty()) {
    std::printf("this processor offers the scalar path only: nothing to compare\n");
    return 2;
  }
  Random random(seed);
  Counts counts;
  for (int32_t i = 0; i < cases; ++i)
    for (const auto make : {pointwise, convolution, depthwise, add}) compare(make(random), paths, random, counts);

  Count all;
  std::printf("%-12s %-34s %8s %12s %10s\n", "path", "layer", "cases", "compared", "differing");
  for (const auto& [key, each] : counts) {
    std::printf("%-12s %-34s %8lld %12lld %10lld\n", key.first.c_str(), key.second.c_str(), (long long)each.cases,
                (long long)each.compared, (long long)each.differing);
    all.compared += each.compared, all.differing += each.differing;
  }
  std::printf("%lld compared, %lld differing\n", (long long)all.compared, (long long)all.differing);
  return all.compared == 0 || all.differing != 0;
}
