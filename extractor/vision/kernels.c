#include "extractor/vision/kernels.h"

#include <errno.h>
#include <string.h>

#if defined(__x86_64__)
static unsigned detect(void)
{
    unsigned cpu = 0;

    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        cpu |= VISION_CPU_AVX2;
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vbmi") &&
        __builtin_cpu_supports("avx512vnni"))
        cpu |= VISION_CPU_AVX512;
    return cpu;
}
#elif defined(__aarch64__)
static unsigned detect(void)
{
    return VISION_CPU_NEON;
}
#else
static unsigned detect(void)
{
    return 0;
}
#endif

unsigned vision_cpu_detect(void)
{
    return detect();
}

static const struct level {
    const char *name;
    unsigned cpu;
} levels[] = {{"avx512", VISION_CPU_AVX2 | VISION_CPU_AVX512},
              {"avx2", VISION_CPU_AVX2},
              {"neon", VISION_CPU_NEON},
              {"scalar", 0}};
enum { LEVELS = sizeof levels / sizeof levels[0] };

int vision_cpu_parse(const char *name, unsigned *cpu)
{
    if (strcmp(name, "auto") == 0) {
        *cpu = ~0u;
        return 0;
    }
    for (size_t i = 0; i < LEVELS; i++) {
        if (strcmp(name, levels[i].name) == 0) {
            *cpu = levels[i].cpu;
            return 0;
        }
    }
    return -EINVAL;
}

int vision_cpu_choose(const char *name, unsigned *cpu)
{
    const unsigned has = vision_cpu_detect();
    unsigned wanted;

    int err = vision_cpu_parse(name, &wanted);
    if (err < 0)
        return err;
    if (strcmp(name, "auto") != 0 && (wanted & ~has) != 0)
        return -ENOTSUP;
    *cpu = wanted & has;
    return 0;
}

const char *vision_cpu_name(unsigned cpu)
{
    size_t i = 0;
    while ((levels[i].cpu & ~cpu) != 0) /* the last one wants nothing */
        i++;
    return levels[i].name;
}

void vision_kernels_init(struct vision_kernels *k, unsigned cpu)
{
    *k = (struct vision_kernels){0};
    vision_nlm_kernels(k, cpu);
    vision_sift_kernels(k, cpu);
}

int vision_nlm(const struct vision_kernels *k, const struct vision_image *dst,
               const struct vision_image *src, const struct vision_nlm_params *params,
               void *scratch, struct vision_control *control)
{
    vision_nlm_fn *nlm = src->depth_bits == 16 ? k->nlm_u16 : k->nlm_u8;
    return nlm(dst, src, params, scratch, control);
}
