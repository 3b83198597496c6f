/*
 * nlm_kernels.c - the lines of the kernel table that are non-local means.
 */
#include "extractor/vision/kernels.h"
#include "extractor/vision/nlm_lanes.h"

void vision_nlm_kernels(struct vision_kernels *k, unsigned cpu)
{
    (void)cpu;
    k->nlm_u8 = vision_nlm_u8_c;
    k->nlm_u16 = vision_nlm_u16_c;
#if defined(__x86_64__)
    if (cpu & VISION_CPU_AVX2)
        k->nlm_u8 = vision_nlm_u8_avx2;
    if (cpu & VISION_CPU_AVX512)
        k->nlm_u8 = vision_nlm_u8_avx512;
#elif defined(__aarch64__)
    if (cpu & VISION_CPU_NEON)
        k->nlm_u8 = vision_nlm_u8_neon;
#endif
}
