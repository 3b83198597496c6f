/*
 * sift_select.h - which of the features found are kept: inside a mask, spread, capped.
 */
#ifndef VISION_SIFT_SELECT_H
#define VISION_SIFT_SELECT_H

#include "extractor/vision/image.h"
#include "extractor/vision/sift.h"

struct vision_sift_choice {
    const struct vision_image *mask; /* NULL: none; 8 or 16 bits, of the picture's size */
    uint32_t max_features;           /* 0: no cap */
    bool spread; /* with a cap: by cells of a grid, see sift_select.c */
};

/* The square cells of `spread`. */
struct vision_sift_cells {
    size_t width_px, height_px; /* of the picture */
    size_t side_px, columns, rows;
};

struct vision_sift_cells vision_sift_cells_for(size_t width_px, size_t height_px,
                                               size_t wanted);
/* The cell of a place within half a pixel of the picture: below columns * rows. */
size_t vision_sift_cell_at(const struct vision_sift_cells *cells, float x, float y);

/* Is the pixel of `mask` nearest to a place set? */
bool vision_sift_is_unmasked(const struct vision_image *mask, float x, float y);

/*
 * Keep in `features`, which are in the order of sift.h, those that `choice` wants; their
 * order stays. The result depends on nothing but its arguments. 0 or -ENOMEM, then
 * `features` are as good as they were.
 */
int vision_sift_select(struct vision_features *features, size_t width_px,
                       size_t height_px, const struct vision_sift_choice *choice);

#endif
