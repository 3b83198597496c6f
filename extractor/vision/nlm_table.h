/*
 * nlm_table.h - the table of weights in forms that fit vector registers. Inside this
 * folder.
 *
 * The makers compare every entry with the table they replace, so a form that is made is
 * exact. Words and floats are for sums of 16 bits: they exist only where the weights are
 * those of at most 1023 distances, none above 32767, and where a sum of squares that
 * saturates at 65535 has the weight 0.
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
 * In floats: the weight at an index is the product of one factor for each of its digits,
 * from the lowest up, rounded at every step but the last, and that one to an integer,
 * half to even, as a fused addition of 2^23 does. Digit d has bits[d] bits. The index is
 * the distance, or, reversed, `entries` less the distance.
 */
#define VISION_NLM_DIGITS_MAX 5
struct vision_nlm_digits {
    _Alignas(64) float factor[VISION_NLM_DIGITS_MAX][32];
    unsigned bits[VISION_NLM_DIGITS_MAX], count;
    unsigned entries; /* exact for distances below it: those with a weight */
    bool reversed;
};

/*
 * Three digits of 3, 3 and 4 bits for pairs. The index is max(from - sum, 0) >>
 * plan->shift: reversed, so that one subtraction that saturates leaves 0 for all that
 * weighs nothing. What the factors give for 0 means nothing.
 */
struct vision_nlm_floats {
    struct vision_nlm_digits digits;
    uint16_t from; /* a sum of squares */
    int tops;      /* values that the highest digit can have: 8, 9 or 16 */
};

/* True when made. */
bool vision_nlm_words_make(struct vision_nlm_words *words,
                           const struct vision_nlm_plan *plan);
bool vision_nlm_floats_make(struct vision_nlm_floats *floats,
                            const struct vision_nlm_plan *plan);

/* For all distances that have a weight, at most VISION_NLM_DIGITS_ENTRIES_MAX of them;
 * what lies beyond is for the caller to make 0. `count` digits of `bits` bits each.
 * Weights have no bound but that of floats. */
#define VISION_NLM_DIGITS_ENTRIES_MAX 16384
bool vision_nlm_digits_make(struct vision_nlm_digits *digits,
                            const struct vision_nlm_plan *plan, unsigned count,
                            unsigned bits);

#endif
