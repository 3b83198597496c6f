/*
 * sift_best.h - which keypoints can still be among those wanted, while more are found.
 *
 * For sift_points.c alone: so that what cannot be chosen in the end is never described.
 * It turns away no keypoint that vision_sift_select() would choose when all are known,
 * and lets pass a few that it will not: those that are only beaten later. A keypoint is
 * one feature at least; that is what all this rests on.
 *
 * Without `spread` there is one heap, of the responses of the best `limit` keypoints.
 * With it there is one for each cell. The choice goes in rounds: the best of each cell,
 * then the second best... and ends within round `whole`. That can only come earlier as
 * more is found, so each cell's heap has the best whole + 1, and what is weaker than all
 * of a full one is beaten for good.
 */
#ifndef VISION_SIFT_BEST_H
#define VISION_SIFT_BEST_H

#include "extractor/vision/sift_select.h"

/* Responses, the least on top. */
struct sift_heap {
    float *items; /* malloc'd */
    size_t count, capacity;
};

struct sift_best {
    size_t limit; /* features wanted, >= 1 */
    bool spread;
    struct vision_sift_cells cells;
    struct sift_heap *heaps; /* of the cells; malloc'd */
    uint32_t *with_rank;     /* with_rank[r]: cells of more than r keypoints; malloc'd */
    size_t whole, within;    /* rounds that fit, keypoints in them; within <= limit */
};

/* 0 or -ENOMEM; vision_sift_best_free() is due in either case. */
int vision_sift_best_init(struct sift_best *best, size_t width_px, size_t height_px,
                          size_t limit, bool spread);

/* Accepts zeroed and already freed. */
void vision_sift_best_free(struct sift_best *best);

/* Are there enough better ones already? Equals are kept: the final order decides. */
bool vision_sift_best_beats(struct sift_best *best, float x, float y, float response);

/* A keypoint that is not beaten. 0 or -ENOMEM. */
int vision_sift_best_add(struct sift_best *best, float x, float y, float response);

#endif
