/*
 * nlm.c - scalar non-local means: the definition of nlm.h, in an order that is cheap.
 *
 * A pixel's 441 (21 x 21) distances of 49 squares each would be 21,609 squares a pixel.
 * Turned inside out it is 441 times this: for one offset (dx, dy), the squared difference
 * of the picture and the shifted picture, summed over the template by two sliding sums -
 * down each column, then along each row - which cost a handful of additions a pixel and
 * are exact, being integers. The picture is cut into tiles so that the sums of a tile
 * stay in the second-level cache over all offsets, and so that scratch does not grow with
 * it.
 */
#include "extractor/vision/nlm.h"

#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define TILE_W_PX     256
#define TILE_H_PX     64
#define PAD_MAX_PX    (VISION_NLM_TEMPLATE_MAX_PX / 2 + VISION_NLM_SEARCH_MAX_PX / 2)
#define PADDED_W_PX   (TILE_W_PX + 2 * PAD_MAX_PX)
#define PADDED_H_PX   (TILE_H_PX + 2 * PAD_MAX_PX)
#define COLUMNS       (TILE_W_PX + VISION_NLM_TEMPLATE_MAX_PX - 1)
#define WEIGHTS_MAX   65536 /* distances with a weight; 8 bits have at most 65026 */
#define WEIGHT_CUTOFF 0.001 /* of the weight 1.0; a smaller one counts as 0 */

/* What the two depths share. Weights sink with the distance: those at and after
 * `weight_last` are all equal to it, so an index is cut to it instead of a long table. */
struct plan {
    int template_half, search_half;
    unsigned shift;
    uint64_t weight_last;
    uint32_t *weight; /* WEIGHTS_MAX + 1 */
};

struct tile {
    int x, y, w, h; /* in the picture */
};

static int mirror(int i, int n)
{
    if (n == 1)
        return 0;
    while (i < 0 || i >= n)
        i = i < 0 ? -i : 2 * n - 2 - i;
    return i;
}

static unsigned shift_of(unsigned value)
{
    unsigned shift = 0;
    while ((1u << shift) < value)
        shift++;
    return shift;
}

static uint32_t weight_of(double distance, double h_squared, uint32_t one)
{
    double w = exp(-distance / h_squared);
    if (isnan(w)) /* 0 / 0: so small an h that its square is 0 */
        w = 1.0;
    double weight = nearbyint(one * w);
    return weight < WEIGHT_CUTOFF * one ? 0 : (uint32_t)weight;
}

/* Fill the table for distances of `step` << i, until one weighs nothing or is the last.
 */
static void weights_fill(struct plan *plan, double step, double h_squared, uint32_t one,
                         uint64_t distances)
{
    uint64_t i = 0;
    do {
        plan->weight[i] = weight_of((double)i * step, h_squared, one);
    } while (plan->weight[i] != 0 && ++i < distances);
    plan->weight_last = i < distances ? i : distances - 1;
}

static void plan_common(struct plan *plan, const struct vision_nlm_params *params,
                        uint32_t *weight)
{
    *plan = (struct plan){.template_half = (int)params->template_px / 2,
                          .search_half = (int)params->search_px / 2,
                          .shift = shift_of(params->template_px * params->template_px),
                          .weight = weight};
}

/* What a distance shifted by `plan->shift` must be multiplied with to be a mean. */
static double plan_unshift(const struct plan *plan,
                           const struct vision_nlm_params *params)
{
    return (double)(1u << plan->shift) / (params->template_px * params->template_px);
}

static void plan_u8(struct plan *plan, const struct vision_nlm_params *params,
                    uint32_t *weight)
{
    plan_common(plan, params, weight);
    double unshift = plan_unshift(plan, params);
    uint32_t one = INT32_MAX / (int32_t)(params->search_px * params->search_px * 255);
    float h = (float)params->h, h_squared = h * h;
    weights_fill(plan, unshift, h_squared, one, (uint64_t)(65025 / unshift + 1));
}

static void plan_u16(struct plan *plan, const struct vision_nlm_params *params,
                     uint32_t *weight)
{
    plan_common(plan, params, weight);
    double unshift = plan_unshift(plan, params), h = params->h * 257;

    /* exp(-7) < WEIGHT_CUTOFF: no distance from here on has a weight. */
    double end = fmin(65535.0 * 65535.0, 7 * h * h) / unshift + 1;
    unsigned bucket = 0;
    while (end / (double)(1u << bucket) > WEIGHTS_MAX)
        bucket++;
    weights_fill(plan, unshift * (double)(1u << bucket), h * h, 32767,
                 (uint64_t)(end / (double)(1u << bucket)) + 1);
    plan->shift += bucket;
}

static bool shape_is_valid(const struct vision_image *dst, const struct vision_image *src,
                           const struct vision_nlm_params *params, unsigned depth_bits)
{
    return params->h > 0 && params->template_px % 2 == 1 && params->search_px % 2 == 1 &&
           params->template_px <= VISION_NLM_TEMPLATE_MAX_PX &&
           params->search_px <= VISION_NLM_SEARCH_MAX_PX && src->width_px > 0 &&
           src->height_px > 0 && src->width_px <= 65535 && src->height_px <= 65535 &&
           src->width_px == dst->width_px && src->height_px == dst->height_px &&
           src->depth_bits == depth_bits && dst->depth_bits == depth_bits;
}

#define NAME(stem) stem##_u8
#define NAME_C     vision_nlm_u8_c
#define PIXEL      uint8_t
#define SUM        uint32_t /* 441 squares of 255 are 28,676,025; sums of w * p, INT32_MAX */
#define DEPTH_BITS 8
#include "extractor/vision/nlm_tile.inc"

#define NAME(stem) stem##_u16
#define NAME_C     vision_nlm_u16_c
#define PIXEL      uint16_t
#define SUM        uint64_t
#define DEPTH_BITS 16
#include "extractor/vision/nlm_tile.inc"

size_t vision_nlm_scratch_bytes(void)
{
    _Static_assert(sizeof(struct scratch_u16) <= VISION_NLM_SCRATCH_MAX_BYTES, "bound");
    _Static_assert(sizeof(struct scratch_u8) <= sizeof(struct scratch_u16), "the larger");
    return sizeof(struct scratch_u16);
}
