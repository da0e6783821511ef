// x86 intrinsics, or with IQ_EMULATE stand-ins for them.
#pragma once

#if defined(IQ_EMULATE)
#include "emulation.h"
#else
#include <immintrin.h>
#endif
