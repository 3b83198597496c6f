#include "extractor/vision/nlm_lanes.h"

#include <string.h>

static int divide_up(int value, int by)
{
    return (value + by - 1) / by;
}

void vision_nlm_cut_make(struct vision_nlm_cut *cut, const struct vision_nlm_plan *plan,
                         const struct vision_image *src, struct vision_nlm_lanes lanes,
                         size_t rest_bytes)
{
    const int width = (int)src->width_px, height = (int)src->height_px;
    const int r = plan->search_half, t = plan->template_half;
    const int strips = divide_up(width, VISION_NLM_STRIP_MAX_PX - 2 * lanes.margin);

    cut->w = divide_up(width, strips);
    cut->lane_px = divide_up(cut->w + 2 * lanes.margin, lanes.count * 2) * 2;
    if (cut->lane_px < lanes.min_px)
        cut->lane_px = lanes.min_px;
    cut->columns = cut->lane_px + 2 * r + 2 * t;
    cut->sum_columns = cut->lane_px + 2 * r;
    cut->weights_rows = cut->lane_px + 4;

    const size_t vector = (size_t)lanes.count * 4, margins = 2 * (size_t)(r + t) + 1;
    const size_t copy_row = (size_t)cut->columns * vector;
    const size_t sums_row = (size_t)cut->sum_columns * vector * 2;
    const size_t around = margins * copy_row + (size_t)r * sums_row;
    int rows = (int)((rest_bytes - around) / (copy_row + sums_row));
    if (rows > VISION_NLM_BAND_MAX_PX)
        rows = VISION_NLM_BAND_MAX_PX;
    cut->h = divide_up(height, divide_up(height, rows / 2 * 2) * 2) * 2;
    cut->rows = cut->h + (int)margins;
}

void vision_nlm_mirrored_row(uint8_t *to, const struct vision_image *src, int x, int y,
                             int count)
{
    const int width = (int)src->width_px;
    const int row = vision_nlm_mirror(y, (int)src->height_px);
    const uint8_t *from = (const uint8_t *)src->pixels + (size_t)row * src->stride_bytes;
    const int begin = x < 0 ? -x : 0; /* what lies in the picture itself */
    const int end = width - x < count ? width - x : count;

    for (int i = 0; i < begin && i < count; i++)
        to[i] = from[vision_nlm_mirror(x + i, width)];
    if (begin < end)
        memcpy(to + begin, from + x + begin, (size_t)(end - begin));
    for (int i = end > begin ? end : begin; i < count; i++)
        to[i] = from[vision_nlm_mirror(x + i, width)];
}
