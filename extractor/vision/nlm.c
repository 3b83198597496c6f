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
#include "extractor/vision/nlm_plan.h"

#include <errno.h>
#include <string.h>

/* More than the vector versions use, whose bands are short for the cache's sake. */
#define SCRATCH_BYTES (VISION_NLM_SCRATCH_MAX_BYTES - 65536)

#define TILE_W_PX   256
#define TILE_H_PX   64
#define PAD_MAX_PX  (VISION_NLM_TEMPLATE_MAX_PX / 2 + VISION_NLM_SEARCH_MAX_PX / 2)
#define PADDED_W_PX (TILE_W_PX + 2 * PAD_MAX_PX)
#define PADDED_H_PX (TILE_H_PX + 2 * PAD_MAX_PX)
#define COLUMNS     (TILE_W_PX + VISION_NLM_TEMPLATE_MAX_PX - 1)

struct tile {
    int x, y, w, h; /* in the picture */
};

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
    _Static_assert(sizeof(struct scratch_u16) <= SCRATCH_BYTES, "the scalar versions'");
    _Static_assert(SCRATCH_BYTES < VISION_NLM_SCRATCH_MAX_BYTES, "bound");
    return SCRATCH_BYTES;
}
