#include "extractor/vision/nlm_table.h"

#include <math.h>

#define DISTANCES_MAX  1023  /* ten bits; the last is for what weighs nothing */
#define WEIGHT_MAX     32767 /* kernels multiply signed words */
#define NUDGES_MAX     16
#define NUDGE_ULPS_MAX 3

static bool fits(const struct vision_nlm_plan *plan)
{
    return plan->one <= WEIGHT_MAX && plan->weight[plan->weight_last] == 0 &&
           plan->weight_last <= DISTANCES_MAX && plan->weight_last > 0 &&
           plan->weight_last <= 65535u >> plan->shift;
}

/* ---- words ---- */

static unsigned product(const struct vision_nlm_words *words, unsigned distance)
{
    return (unsigned)words->low[distance % 64] * words->high[distance / 64] >> 16;
}

/* How many distances of a row a bit cannot mend. */
static unsigned row_wrong(const struct vision_nlm_words *words,
                          const struct vision_nlm_plan *plan, unsigned row)
{
    unsigned wrong = 0;

    for (unsigned i = row * 64; i < row * 64 + 64 && i < plan->weight_last; i++)
        wrong += plan->weight[i] - product(words, i) > 1;
    return wrong;
}

/* Rounding to the nearest nearly always does; where not, one of its neighbours may. */
static bool row_make(struct vision_nlm_words *words, const struct vision_nlm_plan *plan,
                     unsigned row, double scale)
{
    static const int tries[] = {0, 1, -1, 2, -2};
    const int nearest = (int)lround(scale * exp(-plan->decay * 64 * row));

    for (size_t i = 0; i < sizeof tries / sizeof tries[0]; i++) {
        words->high[row] = (uint16_t)(nearest + tries[i]);
        if (nearest + tries[i] >= 0 && row_wrong(words, plan, row) == 0)
            return true;
    }
    return false;
}

bool vision_nlm_words_make(struct vision_nlm_words *words,
                           const struct vision_nlm_plan *plan)
{
    if (!fits(plan))
        return false;

    /* Both factors alike, so that each is rounded as finely as the other: an error of
     * 0.54 at most where weights are largest, and half of it where they are not. */
    const double scale = 256 * sqrt(plan->one);
    *words =
        (struct vision_nlm_words){.limit = (uint16_t)(plan->weight_last << plan->shift)};
    for (unsigned i = 0; i < 64; i++)
        words->low[i] = (uint16_t)lround(scale * exp(-plan->decay * i));
    for (unsigned row = 0; row * 64 < plan->weight_last; row++)
        if (!row_make(words, plan, row, scale))
            return false;
    for (unsigned i = 0; i < plan->weight_last; i++)
        if (plan->weight[i] != product(words, i))
            words->fix[i % 64] |= (uint16_t)(1u << i / 64);
    return true;
}

/* ---- floats ---- */

/* The index of a distance. */
static unsigned index_of(const struct vision_nlm_digits *digits, unsigned distance)
{
    return digits->reversed ? digits->entries - distance : distance;
}

static void factors_of(struct vision_nlm_digits *digits, unsigned index, float **factors)
{
    unsigned rest = index;

    for (unsigned d = 0; d < digits->count; d++) {
        factors[d] = &digits->factor[d][rest % (1u << digits->bits[d])];
        rest >>= digits->bits[d];
    }
}

/* In the order of the kernels, for floats round at every step. A product of two is exact
 * in a double. */
static uint32_t product_of(float *const *factors, unsigned count)
{
    float product = *factors[0];

    for (unsigned d = 1; d < count - 1; d++)
        product *= *factors[d];
    return (uint32_t)nearbyint((double)product * (double)*factors[count - 1]);
}

/* Entries with the value `value` in the bits `mask` of the index; all when both are 0. */
struct subset {
    unsigned mask, value;
};

/* The number of wrong entries of a subset, and the index of one of them. */
static unsigned wrong_entries(struct vision_nlm_digits *digits,
                              const struct vision_nlm_plan *plan, struct subset of,
                              unsigned *which)
{
    float *factors[VISION_NLM_DIGITS_MAX] = {NULL};
    unsigned wrong = 0;

    for (unsigned i = 0; i < digits->entries; i++) {
        const unsigned index = index_of(digits, i);
        if ((index & of.mask) != of.value)
            continue;
        factors_of(digits, index, factors);
        if (product_of(factors, digits->count) != plan->weight[i]) {
            *which = index;
            wrong++;
        }
    }
    return wrong;
}

/* A product can lie so near to a half that its own rounding decides. Move one of the
 * factors of the entry `which` by a few units in the last place to where fewer are wrong;
 * only entries with the same factor change. */
static bool nudge(struct vision_nlm_digits *digits, const struct vision_nlm_plan *plan,
                  unsigned which)
{
    float *factors[VISION_NLM_DIGITS_MAX] = {NULL};
    unsigned ignored, mask;

    factors_of(digits, which, factors);
    const bool low = product_of(factors, digits->count) <
                     plan->weight[digits->reversed ? digits->entries - which : which];
    for (unsigned d = 0, at = 0; d < digits->count; at += digits->bits[d++]) {
        mask = ((1u << digits->bits[d]) - 1) << at;
        const struct subset same = {mask, which & mask};
        const unsigned wrong = wrong_entries(digits, plan, same, &ignored);
        const float before = *factors[d];
        for (int ulp = 0; ulp < NUDGE_ULPS_MAX; ulp++) {
            *factors[d] = nextafterf(*factors[d], low ? INFINITY : 0);
            if (wrong_entries(digits, plan, same, &ignored) < wrong)
                return true;
        }
        *factors[d] = before;
    }
    return false;
}

/* Set bits, count, entries and reversed before. Factors of what is past the last index
 * are 0. */
static bool digits_fill(struct vision_nlm_digits *digits,
                        const struct vision_nlm_plan *plan)
{
    const double decay = digits->reversed ? -plan->decay : plan->decay;
    const double first =
        digits->reversed ? plan->one * exp(decay * (double)digits->entries) : plan->one;
    unsigned at = 0;

    for (unsigned d = 0; d < digits->count; at += digits->bits[d++])
        for (unsigned i = 0; i < 1u << digits->bits[d] && i << at <= digits->entries;
             i++) {
            const double scale = d == digits->count - 1 ? first : 1;
            digits->factor[d][i] = (float)(scale * exp(-decay * (double)(i << at)));
        }
    for (;;) { /* every turn leaves fewer wrong */
        unsigned which = 0;
        const unsigned wrong = wrong_entries(digits, plan, (struct subset){0, 0}, &which);
        if (wrong == 0)
            return true;
        if (wrong > NUDGES_MAX || !nudge(digits, plan, which))
            return false;
    }
}

bool vision_nlm_digits_make(struct vision_nlm_digits *digits,
                            const struct vision_nlm_plan *plan, unsigned count,
                            unsigned bits)
{
    *digits = (struct vision_nlm_digits){.count = count,
                                         .entries = (unsigned)plan->weight_last};
    for (unsigned d = 0; d < count; d++)
        digits->bits[d] = bits;
    return plan->weight[plan->weight_last] == 0 &&
           plan->weight_last <= VISION_NLM_DIGITS_ENTRIES_MAX &&
           plan->weight_last <= 1u << count * bits && digits_fill(digits, plan);
}

/* So steep a decay that one digit is enough; with three, floats would underflow. */
static void floats_of_one_digit(struct vision_nlm_floats *floats,
                                const struct vision_nlm_plan *plan)
{
    for (unsigned i = 0; i < plan->weight_last; i++)
        floats->digits.factor[0][plan->weight_last - i] = (float)plan->weight[i];
    floats->digits.factor[1][0] = floats->digits.factor[2][0] = 1;
}

bool vision_nlm_floats_make(struct vision_nlm_floats *floats,
                            const struct vision_nlm_plan *plan)
{
    if (!fits(plan))
        return false;

    const unsigned last = (unsigned)plan->weight_last;
    *floats = (struct vision_nlm_floats){
        .digits = {.bits = {3, 3, 4}, .count = 3, .entries = last, .reversed = true},
        .from = (uint16_t)(((last + 1) << plan->shift) - 1),
        .tops = last < 8 * 64   ? 8
                : last < 9 * 64 ? 9
                                : 16};
    if (last < 8) {
        floats_of_one_digit(floats, plan);
        return true;
    }
    return digits_fill(&floats->digits, plan);
}
