/*
 * kernels.h - which version of each kernel to run.
 *
 * The caller owns the table, so two can be compared in one process. All versions of a
 * kernel give the same bytes: the choice changes the time and nothing else.
 *
 * A module with kernels fills its own lines of the table, in a function declared at the
 * end of this file: first the scalar versions, then, for each bit of `cpu` from the
 * lowest, what it has for that level.
 */
#ifndef VISION_KERNELS_H
#define VISION_KERNELS_H

#include "extractor/vision/nlm.h"
#include "extractor/vision/sift_kernels.h"

/* Levels. A higher one of the same machine includes the lower ones. */
enum vision_cpu {
    VISION_CPU_AVX2 = 1u << 0,   /* and FMA, which only nlm_avx2.c uses: see there */
    VISION_CPU_AVX512 = 1u << 1, /* F, BW, CD, DQ, VL, VBMI and VNNI: Ice Lake, Zen 4 */
    VISION_CPU_NEON = 1u << 2    /* aarch64's base */
};

struct vision_kernels {
    vision_nlm_fn *nlm_u8;
    vision_nlm_fn *nlm_u16;
    struct vision_sift_table sift;
};

/* What this processor and its operating system can run, as bits of enum vision_cpu. */
unsigned vision_cpu_detect(void);

/* The bits of a level and all below it, from "scalar", "avx2", "avx512" or "neon"; "auto"
 * gives all bits. They are what may be used, not what this processor has. Returns 0, or
 * -EINVAL for another name. */
int vision_cpu_parse(const char *name, unsigned *cpu);

/* The bits that `name`, as above, means on this processor: 0; -EINVAL for another name,
 * or -ENOTSUP where this processor lacks the level. */
int vision_cpu_choose(const char *name, unsigned *cpu);

/* The name of the highest of these levels. */
const char *vision_cpu_name(unsigned cpu);

/* Choose the best versions allowed by the bits of `cpu`; 0 means all scalar. Bits that
 * this processor lacks are for the caller to mask off with vision_cpu_detect(). */
void vision_kernels_init(struct vision_kernels *k, unsigned cpu);

/* Run the one for the depth of `src`. Errors as in nlm.h. */
int vision_nlm(const struct vision_kernels *k, const struct vision_image *dst,
               const struct vision_image *src, const struct vision_nlm_params *params,
               void *scratch, struct vision_control *control);

/* The modules' parts of vision_kernels_init(). */
void vision_nlm_kernels(struct vision_kernels *k, unsigned cpu);
void vision_sift_kernels(struct vision_kernels *k, unsigned cpu);

#endif
