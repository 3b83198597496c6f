#include "extractor/vision/nlm_table.h"

#include <math.h>

#define DISTANCES_MAX  1023  /* ten bits; the last is for what weighs nothing */
#define WEIGHT_MAX     32767 /* kernels multiply signed words */
#define NUDGES_MAX     64
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

struct digits {
    float *low, *mid, *top;
};

static struct digits digits_of(struct vision_nlm_floats *floats, unsigned index)
{
    return (struct digits){&floats->low[index % 8], &floats->mid[index / 8 % 8],
                           &floats->top[index / 64]};
}

/* The kernels' product, in their order: floats round at every step. */
static float float_product(struct digits digits)
{
    return (*digits.low * *digits.mid) * *digits.top;
}

/* The number of wrong entries, and one of them. */
static unsigned wrong_floats(struct vision_nlm_floats *floats,
                             const struct vision_nlm_plan *plan, unsigned *which)
{
    const unsigned bias = floats->bias >> plan->shift;
    unsigned wrong = 0;

    for (unsigned i = 0; i <= plan->weight_last; i++) {
        if (nearbyintf(float_product(digits_of(floats, i + bias))) !=
            (float)plan->weight[i]) {
            *which = i;
            wrong++;
        }
    }
    return wrong;
}

/* A product can lie so near to a half that its own rounding decides. Move one of its
 * factors by a few units in the last place to where fewer entries are wrong. */
static bool nudge(struct vision_nlm_floats *floats, const struct vision_nlm_plan *plan,
                  unsigned which, unsigned wrong)
{
    struct digits digits = digits_of(floats, which + (floats->bias >> plan->shift));
    float *const factors[] = {digits.low, digits.mid, digits.top};
    const float towards =
        nearbyintf(float_product(digits)) < (float)plan->weight[which] ? INFINITY : 0;
    unsigned ignored;

    for (int i = 0; i < 3; i++) {
        const float before = *factors[i];
        for (int ulp = 0; ulp < NUDGE_ULPS_MAX; ulp++) {
            *factors[i] = nextafterf(*factors[i], towards);
            if (wrong_floats(floats, plan, &ignored) < wrong)
                return true;
        }
        *factors[i] = before;
    }
    return false;
}

/* So steep a decay that one digit is enough; with three, floats would underflow. */
static void floats_of_one_digit(struct vision_nlm_floats *floats,
                                const struct vision_nlm_plan *plan)
{
    *floats = (struct vision_nlm_floats){
        .mid = {1}, .top = {1}, .limit = (uint16_t)(plan->weight_last << plan->shift)};
    for (unsigned i = 0; i < plan->weight_last; i++)
        floats->low[i] = (float)plan->weight[i];
}

bool vision_nlm_floats_make(struct vision_nlm_floats *floats,
                            const struct vision_nlm_plan *plan)
{
    if (!fits(plan))
        return false;
    if (plan->weight_last < 8) {
        floats_of_one_digit(floats, plan);
        return true;
    }

    const unsigned rows = ((unsigned)plan->weight_last + 63) / 64;
    const unsigned bias = rows * 64 - (unsigned)plan->weight_last;
    if (rows >= 16 || rows * 64 << plan->shift > UINT16_MAX)
        return false; /* no room for the row that weighs nothing */
    *floats =
        (struct vision_nlm_floats){.limit = (uint16_t)(plan->weight_last << plan->shift),
                                   .bias = (uint16_t)(bias << plan->shift)};
    for (unsigned i = 0; i < 8; i++) {
        floats->low[i] = (float)exp(-plan->decay * i);
        floats->mid[i] = (float)exp(-plan->decay * 8 * i);
    }
    for (unsigned i = 0; i < rows; i++)
        floats->top[i] =
            (float)(plan->one * exp(-plan->decay * ((double)(64 * i) - bias)));

    for (int i = 0; i < NUDGES_MAX; i++) {
        unsigned which = 0, wrong = wrong_floats(floats, plan, &which);
        if (wrong == 0)
            return true;
        if (!nudge(floats, plan, which, wrong))
            return false;
    }
    return false;
}
