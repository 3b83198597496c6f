/*
 * sift.h - scale-invariant features of a grey picture.
 *
 * The parameters mean what they mean in OpenCV's SIFT; the computation is VLFeat 0.9.21.
 * What differs from OpenCV on purpose: positions are not biased by a quarter of a pixel,
 * there is no border of five pixels without features, and an extremum is refined as
 * VLFeat does it. So most features are the same, not all.
 *
 * The features come in one total order: strongest response first, then ascending scale,
 * y, x, orientation. Equal pictures and parameters give equal bytes from run to run.
 *
 * VLFeat keeps tables of its own: one thread of a process at a time. It tests only the
 * large buffers made at the start against lack of memory, so do we; if one of the few
 * small ones later cannot be had, it crashes.
 */
#ifndef VISION_SIFT_H
#define VISION_SIFT_H

#include "extractor/vision/control.h"
#include "extractor/vision/image.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define VISION_DESCRIPTOR_BYTES  128
#define VISION_SIFT_FEATURES_MAX 1000000u

enum vision_norm {
    VISION_NORM_L2,  /* VLFeat's: unit length, cut at 0.2, unit length; times 512 */
    VISION_NORM_ROOT /* RootSIFT: square root of the share of the sum; times 512 */
};

struct vision_sift_params {
    int first_octave;  /* -1 to 4. -1: from the picture doubled, 0: as it is, n > 0: the
                        * features of first_octave 0 from its octave n on */
    int octave_layers; /* 1 to 10 */
    double contrast;   /* 0 to 1: least |DoG| * octave_layers, picture scaled to 0..1 */
    double edge;       /* >= 1: greatest ratio of the two curvatures */
    double sigma;      /* 0.6 to 10 pixels: blur of an octave's first layer; the picture
                        * itself is taken to have 0.5 */
    uint32_t max_features; /* the first so many of the order above; 0: no cap; at
                            * most VISION_SIFT_FEATURES_MAX */
    bool upright;          /* one feature a keypoint, its orientation 0 */
    enum vision_norm norm;
    const struct vision_image *mask; /* NULL: none; else of the picture's size, 8 or 16
                                      * bits: no features where its nearest pixel is 0 */
    bool spread; /* with max_features: not the first of the order but those of a choice
                  * spread over the picture by cells (sift_select.c) */
    /* More than `features_max` that max_features does not cut are an error, so are more
     * than `waiting_max` keypoints that wait for rows: what bounds memory. 0, or above
     * it: VISION_SIFT_FEATURES_MAX. */
    uint32_t features_max, waiting_max;
};

struct vision_feature {
    float x, y;        /* pixels, centres at integers */
    float scale;       /* sigma of the keypoint, pixels; half of OpenCV's `size` */
    float orientation; /* radians in [0, 2 pi), from x towards y */
    float response;    /* |DoG| at the refined extremum, picture scaled to 0..1 */
    /* 4 x 4 cells of 8 directions, y slowest, direction fastest, each rounded and cut at
     * 255. Lowe's order, which is OpenCV's: directions turn from x away from y. VLFeat
     * and COLMAP's memory have them the other way round (0 7 6 5 4 3 2 1). */
    uint8_t descriptor[VISION_DESCRIPTOR_BYTES];
};

struct vision_features {
    struct vision_feature *items; /* malloc'd */
    size_t count;
};

/*
 * All features of `image`; a picture too small for an octave has none. Returns 0 with
 * `out` filled (release it with vision_features_free); -EINVAL when a parameter is out of
 * range; -E2BIG when it has more features than may be, and then out->count says how many
 * there are at least, without items; -EFBIG when VLFeat's indices cannot reach all of its
 * pyramid (from 67 megapixels on at three layers, doubled); -ENOMEM; -ECANCELED, looked
 * for between octaves and every few features.
 */
int vision_sift(const struct vision_image *image, const struct vision_sift_params *params,
                struct vision_control *control, struct vision_features *out);

/* Bytes that vision_sift asks for to begin with, for a picture of this size. */
uint64_t vision_sift_memory_bytes(uint64_t width_px, uint64_t height_px,
                                  const struct vision_sift_params *params);

/* Accepts zeroed and already freed. */
void vision_features_free(struct vision_features *features);

#endif
