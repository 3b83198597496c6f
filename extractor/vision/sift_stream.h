/*
 * sift_stream.h - the scale space of a picture, row by row, and where its extrema are.
 *
 * For sift_native.c alone, which tells the idea. A stream holds, of every octave and
 * level, only a ring of its latest rows; whoever wants to look at a place must do so
 * while its rows are there, which is as long as sift_stream.c promises in band_back().
 * Allocates nothing: the caller gives one arena.
 */
#ifndef VISION_SIFT_STREAM_H
#define VISION_SIFT_STREAM_H

#include "extractor/vision/control.h"
#include "extractor/vision/image.h"
#include "extractor/vision/sift.h"
#include "extractor/vision/sift_kernels.h"

#define SIFT_LAYERS_MAX  10
#define SIFT_LEVELS_MAX  (SIFT_LAYERS_MAX + 3)
#define SIFT_OCTAVES_MAX 16  /* 131069 pixels halved until fewer than 8 are left: 15 */
#define SIFT_RADIUS_MAX  288 /* blur of sigma 10, one layer: 208 */
#define SIFT_REACH_ROWS  6   /* rows round an extremum that refining it may touch */

/* A keypoint looks at most so many of its sigmas, and so many rows more, up and down: the
 * corners of the descriptor's grid. */
#define SIFT_PATCH_SIGMAS    13.15
#define SIFT_PATCH_MORE_ROWS 4

/* The latest `capacity` of `done` rows. */
struct sift_ring {
    float *rows;
    size_t capacity, done;
};

struct sift_octave {
    size_t width, height; /* samples */
    size_t stride;        /* floats from row to row of a ring */
    int index;            /* its pixels are 2^index of the picture's; -1 to 15 */
    size_t levels;        /* in use */
    bool searched;        /* for extrema; else only a step on the way to the next */
    size_t scanned;       /* rows searched; row 0 counts */
    struct sift_ring input, level[SIFT_LEVELS_MAX];
};

struct sift_stream {
    const struct vision_sift_table *k;
    struct vision_control *control;
    size_t layers, octaves;
    size_t width_px, height_px; /* of the picture */
    float shift_px;  /* sample i of the octave of index n is at i * 2^n + shift */
    float least;     /* |difference| of an extremum, at full scale 255 */
    double reach_px; /* rows above and below a keypoint kept for its descriptor */
    struct sift_octave octave[SIFT_OCTAVES_MAX];

    size_t
        radius[SIFT_LEVELS_MAX]; /* of the blur that makes a level from the one before */
    float weights[SIFT_LEVELS_MAX][SIFT_RADIUS_MAX + 1];
    float *lines; /* of a band, between the two passes of a blur */
    size_t line_stride;
    float *pair[2]; /* rows of the picture doubled along x */
    uint32_t *hits; /* of one row */

    /* A sample of the middle of 27 may be an extremum; all its ties are included. */
    int (*on_hit)(void *arg, struct sift_octave *octave, size_t layer, size_t x,
                  size_t y);
    /* More rows of `octave` are there, or all are. */
    int (*on_rows)(void *arg, struct sift_octave *octave);
    void *arg;
};

/* The row in a slot of a level's ring, slot < capacity. */
static inline const float *sift_slot(const struct sift_octave *o, size_t level,
                                     size_t slot)
{
    return o->level[level].rows + slot * o->stride + VISION_SIFT_PAD;
}

static inline const float *sift_row(const struct sift_octave *o, size_t level, size_t y)
{
    return sift_slot(o, level, y % o->level[level].capacity);
}

/* Plan for a picture of this size; `params` are valid. No pointer is set. */
void vision_sift_stream_init(struct sift_stream *s, size_t width_px, size_t height_px,
                             const struct vision_sift_params *params);

/* Bytes of arena; sets the pointers where `arena`, aligned to 64, is given. */
size_t vision_sift_stream_lay_out(struct sift_stream *s, char *arena);

/* All of `image`. 0, -ECANCELED, or what a callback returned that was not 0. */
int vision_sift_stream_run(struct sift_stream *s, const struct vision_image *image);

#endif
