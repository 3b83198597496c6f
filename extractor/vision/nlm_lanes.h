/*
 * nlm_lanes.h - what the vector versions of non-local means on 8 bits share. Inside this
 * folder; the loops are in nlm_lanes.inc, which explains the method.
 */
#ifndef VISION_NLM_LANES_H
#define VISION_NLM_LANES_H

#include "extractor/vision/nlm_plan.h"

/* Columns of a strip, with its margins; a lane has this over the number of lanes. Rows of
 * a band, even: all offsets pass over its sums, which so stay in the second-level cache.
 */
#define VISION_NLM_STRIP_MAX_PX 768
#define VISION_NLM_BAND_MAX_PX  64

/* How a picture is cut: all strips but the last have `w` columns, all bands
 * but the last `h` rows, an even number. */
struct vision_nlm_cut {
    int w, h;
    int lane_px;      /* columns a lane; even */
    int columns;      /* vectors in a row of the picture's copy */
    int sum_columns;  /* vectors in a row of one kind of sum */
    int rows;         /* of the picture's copy */
    int weights_rows; /* vectors in a row of weights, with a guard at either end */
};

struct vision_nlm_lanes {
    int count;
    int min_px; /* columns a lane has at least; even */
    int margin; /* columns of a strip at either side of those it is for */
};

/* `rest_bytes` are for the copy and for the sums, of which a band can have as many rows
 * as fit. */
void vision_nlm_cut_make(struct vision_nlm_cut *cut, const struct vision_nlm_plan *plan,
                         const struct vision_image *src, struct vision_nlm_lanes lanes,
                         size_t rest_bytes);

/* Columns x to x + count - 1 of row y of the mirrored picture. */
void vision_nlm_mirrored_row(uint8_t *to, const struct vision_image *src, int x, int y,
                             int count);

vision_nlm_fn vision_nlm_u8_avx2;
vision_nlm_fn vision_nlm_u8_avx512;
vision_nlm_fn vision_nlm_u8_neon;

#endif
