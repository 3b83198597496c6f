/*
 * kernels.h - which version of each kernel to run.
 *
 * The caller owns the table, so two can be compared in one process. All versions of a
 * kernel give the same bytes: the choice changes the time and nothing else.
 */
#ifndef VISION_KERNELS_H
#define VISION_KERNELS_H

#include "extractor/vision/nlm.h"

enum vision_cpu { VISION_CPU_AVX2 = 1u << 0, VISION_CPU_AVX512 = 1u << 1 };

struct vision_kernels {
    vision_nlm_fn *nlm_u8;
    vision_nlm_fn *nlm_u16;
};

/* What this processor and its operating system can run, as bits of enum vision_cpu. */
unsigned vision_cpu_detect(void);

/* Choose the best version allowed by the bits of `cpu`; 0 means all scalar. */
void vision_kernels_init(struct vision_kernels *k, unsigned cpu);

/* Run the one for the depth of `src`. Errors as in nlm.h. */
int vision_nlm(const struct vision_kernels *k, const struct vision_image *dst,
               const struct vision_image *src, const struct vision_nlm_params *params,
               void *scratch, struct vision_control *control);

#endif
