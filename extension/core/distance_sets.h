// The kernel sets, one per source file; private to extension/core/distance*.cpp. A set may only be
// called after its instruction set was found to be there.
#pragma once

#include "extension/core/distance.h"

namespace ann {

extern const Kernels kPortableKernels;
#if defined(__x86_64__)
extern const Kernels kAvx2Kernels;
extern const Kernels kAvx512Kernels;
#endif

} // namespace ann
