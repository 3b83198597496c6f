#include "extractor/vision/kernels.h"

unsigned vision_cpu_detect(void)
{
    unsigned cpu = 0;
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2"))
        cpu |= VISION_CPU_AVX2;
    if (__builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl"))
        cpu |= VISION_CPU_AVX512;
#endif
    return cpu;
}

/* Only the scalar versions exist so far; the bits of `cpu` choose among later twins. */
void vision_kernels_init(struct vision_kernels *k, unsigned cpu)
{
    (void)cpu;
    k->nlm_u8 = vision_nlm_u8_c;
    k->nlm_u16 = vision_nlm_u16_c;
}

int vision_nlm(const struct vision_kernels *k, const struct vision_image *dst,
               const struct vision_image *src, const struct vision_nlm_params *params,
               void *scratch, struct vision_control *control)
{
    vision_nlm_fn *nlm = src->depth_bits == 16 ? k->nlm_u16 : k->nlm_u8;
    return nlm(dst, src, params, scratch, control);
}
