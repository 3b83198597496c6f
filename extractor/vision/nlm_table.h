/*
 * nlm_table.h - the table of weights in forms that fit vector registers. Inside this
 * folder; nlm_lanes.h says who uses which.
 *
 * Both forms exist only where the weights are those of at most 1023 distances, none above
 * 32767, and where a sum of squares that saturates at 65535 has the weight 0. The makers
 * compare every entry with the table they replace, so a form that is made is exact.
 */
#ifndef VISION_NLM_TABLE_H
#define VISION_NLM_TABLE_H

#include "extractor/vision/nlm_plan.h"

/*
 * In words: the weight at distance i below `limit` is
 *
 *   (low[i % 64] * high[i / 64] >> 16) + (fix[i % 64] >> i / 64 & 1)
 *
 * and above it 0. exp(a + b) = exp(a) * exp(b); `fix` has a bit for each product that is
 * one too small. Aligned for the loads of the kernels.
 */
struct vision_nlm_words {
    _Alignas(64) uint16_t low[64];
    _Alignas(64) uint16_t high[32]; /* the upper half is 0 */
    _Alignas(64) uint16_t fix[64];
    uint16_t limit; /* the first sum of squares (not distance) without a weight */
};

/*
 * In floats: with j = min(sum, limit) + bias, shifted right by plan->shift, the weight is
 *
 *   round_half_even((low[j % 8] * mid[j / 8 % 8]) * top[j / 64])
 *
 * The bias moves the cut-off to a multiple of 64, so that `top` can be 0 from there on.
 */
struct vision_nlm_floats {
    _Alignas(64) float low[8];
    _Alignas(64) float mid[8];
    _Alignas(64) float top[16];
    uint16_t limit, bias; /* of sums of squares */
};

/* True when made. */
bool vision_nlm_words_make(struct vision_nlm_words *words,
                           const struct vision_nlm_plan *plan);
bool vision_nlm_floats_make(struct vision_nlm_floats *floats,
                            const struct vision_nlm_plan *plan);

#endif
