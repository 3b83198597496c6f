/*
 * nlm_plan.h - what every version of non-local means knows before it sees a pixel: the
 * table of weights by distance, which is their common definition. Inside this folder.
 */
#ifndef VISION_NLM_PLAN_H
#define VISION_NLM_PLAN_H

#include "extractor/vision/nlm.h"

#include <stdbool.h>
#include <stdint.h>

#define VISION_NLM_WEIGHTS_MAX 65536 /* distances with a weight; of 8 bits 65026 */

/* Weights sink with the distance: those at and after `weight_last` are all equal to it,
 * so an index is cut to it instead of a long table. */
struct vision_nlm_plan {
    int template_half, search_half;
    unsigned shift; /* of a sum of squares: what is left is its index */
    uint32_t one;   /* the weight of equal templates */
    double decay;   /* weight[i] is one * exp(-decay * i), rounded, cut off */
    uint64_t weight_last;
    uint32_t *weight; /* VISION_NLM_WEIGHTS_MAX + 1, the caller's */
};

/* The index in 0 to n - 1 that lies at `i` in the mirror image, however far outside. */
int vision_nlm_mirror(int i, int n);

bool vision_nlm_shape_is_valid(const struct vision_image *dst,
                               const struct vision_image *src,
                               const struct vision_nlm_params *params,
                               unsigned depth_bits);

/* `params` are valid. */
void vision_nlm_plan_u8(struct vision_nlm_plan *plan,
                        const struct vision_nlm_params *params, uint32_t *weight);
void vision_nlm_plan_u16(struct vision_nlm_plan *plan,
                         const struct vision_nlm_params *params, uint32_t *weight);

#endif
