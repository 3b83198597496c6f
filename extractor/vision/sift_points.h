/*
 * sift_points.h - keypoints: found in a stream, refined, the best chosen, described.
 *
 * For sift_native.c alone, which tells the idea.
 */
#ifndef VISION_SIFT_POINTS_H
#define VISION_SIFT_POINTS_H

#include "extractor/vision/sift.h"
#include "extractor/vision/sift_best.h"
#include "extractor/vision/sift_known.h"
#include "extractor/vision/sift_stream.h"

/* A refined extremum, in samples of its octave. */
struct sift_point {
    float x, y, scale; /* scale: sigma */
    float response;    /* |difference|, picture scaled to 0..1 */
    uint32_t at_x, at_y;
    uint16_t layer; /* at_*, layer: the sample nearest to it, where the fit ended */
};

/* Found and not yet described, in the order found. */
struct sift_queue {
    struct sift_point *items; /* malloc'd */
    size_t count, capacity, described;
    struct sift_known known; /* samples that have been in it */
};

/* Constants of describing, computed once. */
struct sift_windows {
    struct vision_sift_steps spin_steps, steps;
    float spin[VISION_SIFT_SPIN_RUN];
    float squares[4][VISION_SIFT_CELLS];
};

struct sift_points {
    const struct vision_sift_params *params;
    struct sift_stream *stream;
    struct sift_queue queues[SIFT_OCTAVES_MAX];
    struct sift_windows windows;
    float *patch; /* in the arena: samples round one keypoint */

    /* malloc'd, no order; of its final capacity from the first feature on, since memory
     * that is not written to is none, and to grow would take twice as much */
    struct vision_feature *items;
    size_t count, capacity;

    size_t limit;   /* features wanted, >= 1 */
    bool cuts;      /* what is weaker than the best `limit`; else more are an error */
    size_t waiting; /* in the queues, not described */
    size_t waiting_max;
    size_t over; /* not 0: it is that error, and so many have been counted */
    struct sift_best best;
};

/* Floats that `patch` needs for a stream. */
size_t vision_sift_patch_floats(const struct sift_stream *s);

/* Bytes of arena, a multiple of its alignment; sets the pointers where `arena` is given.
 */
size_t vision_sift_points_lay_out(struct sift_points *p, const struct sift_stream *s,
                                  char *arena);

/* Call first; then vision_sift_points_lay_out(). 0 or -ENOMEM; vision_sift_points_free()
 * is due in either case. */
int vision_sift_points_init(struct sift_points *p,
                            const struct vision_sift_params *params,
                            struct sift_stream *stream);
void vision_sift_points_free(struct sift_points *p);

/* The stream's callbacks; `arg` is a struct sift_points. 0, -ENOMEM or -ECANCELED. Where
 * there are too many features they go on and count. */
int vision_sift_points_on_hit(void *arg, struct sift_octave *o, size_t layer, size_t x,
                              size_t y);
int vision_sift_points_on_rows(void *arg, struct sift_octave *o);

/* Sort what is described into the order of sift.h, and keep what is chosen of it so far.
 * What more is found later does not bring back what this drops. 0, -ENOMEM or -ECANCELED.
 */
int vision_sift_points_rank(struct sift_points *p);

/* The described features, from now on the caller's; items is not NULL. */
struct vision_features vision_sift_points_take(struct sift_points *p);

/* Refine the extremum at a sample; false when it is none. */
bool vision_sift_refine(const struct sift_octave *o,
                        const struct vision_sift_params *params, size_t layer, size_t x,
                        size_t y, struct sift_point *out);

#define SIFT_ANGLES_MAX 4 /* orientations of one keypoint */

void vision_sift_windows_init(struct sift_windows *w);

/* Fill `out`: orientations and descriptors of one keypoint, whose rows are there. Returns
 * how many; positions and responses are the caller's to fill in. */
size_t vision_sift_describe(const struct sift_points *p, const struct sift_octave *o,
                            const struct sift_point *point,
                            struct vision_feature out[SIFT_ANGLES_MAX]);

#endif
