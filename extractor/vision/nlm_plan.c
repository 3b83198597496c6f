/*
 * nlm_plan.c - the part of nlm.h's definition that needs no pixels.
 */
#include "extractor/vision/nlm_plan.h"

#include <math.h>

#define WEIGHT_CUTOFF 0.001 /* of the weight 1.0; a smaller one counts as 0 */

int vision_nlm_mirror(int i, int n)
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
static void weights_fill(struct vision_nlm_plan *plan, double step, double h_squared,
                         uint32_t one, uint64_t distances)
{
    uint64_t i = 0;
    plan->one = one;
    plan->decay = step / h_squared;
    do {
        plan->weight[i] = weight_of((double)i * step, h_squared, one);
    } while (plan->weight[i] != 0 && ++i < distances);
    plan->weight_last = i < distances ? i : distances - 1;
}

static void plan_common(struct vision_nlm_plan *plan,
                        const struct vision_nlm_params *params, uint32_t *weight)
{
    *plan = (struct vision_nlm_plan){
        .template_half = (int)params->template_px / 2,
        .search_half = (int)params->search_px / 2,
        .shift = shift_of(params->template_px * params->template_px),
        .weight = weight};
}

/* What a distance shifted by `plan->shift` must be multiplied with to be a mean. */
static double plan_unshift(const struct vision_nlm_plan *plan,
                           const struct vision_nlm_params *params)
{
    return (double)(1u << plan->shift) / (params->template_px * params->template_px);
}

void vision_nlm_plan_u8(struct vision_nlm_plan *plan,
                        const struct vision_nlm_params *params, uint32_t *weight)
{
    plan_common(plan, params, weight);
    double unshift = plan_unshift(plan, params);
    uint32_t one = INT32_MAX / (int32_t)(params->search_px * params->search_px * 255);
    float h = (float)params->h, h_squared = h * h;
    weights_fill(plan, unshift, h_squared, one, (uint64_t)(65025 / unshift + 1));
}

void vision_nlm_plan_u16(struct vision_nlm_plan *plan,
                         const struct vision_nlm_params *params, uint32_t *weight)
{
    plan_common(plan, params, weight);
    double unshift = plan_unshift(plan, params), h = params->h * 257;

    /* exp(-7) < WEIGHT_CUTOFF: no distance from here on has a weight. */
    double end = fmin(65535.0 * 65535.0, 7 * h * h) / unshift + 1;
    unsigned bucket = 0;
    while (end / (double)(1u << bucket) > VISION_NLM_WEIGHTS_MAX)
        bucket++;
    weights_fill(plan, unshift * (double)(1u << bucket), h * h, 32767,
                 (uint64_t)(end / (double)(1u << bucket)) + 1);
    plan->shift += bucket;
}

bool vision_nlm_shape_is_valid(const struct vision_image *dst,
                               const struct vision_image *src,
                               const struct vision_nlm_params *params,
                               unsigned depth_bits)
{
    return params->h > 0 && params->template_px % 2 == 1 && params->search_px % 2 == 1 &&
           params->template_px <= VISION_NLM_TEMPLATE_MAX_PX &&
           params->search_px <= VISION_NLM_SEARCH_MAX_PX && src->width_px > 0 &&
           src->height_px > 0 && src->width_px <= 65535 && src->height_px <= 65535 &&
           src->width_px == dst->width_px && src->height_px == dst->height_px &&
           src->depth_bits == depth_bits && dst->depth_bits == depth_bits;
}
