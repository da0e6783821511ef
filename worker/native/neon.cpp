#include "path.h"
const imagequeue::Path* imagequeue::neon_path() { return nullptr; }
