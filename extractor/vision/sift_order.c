/*
 * sift_order.c - the described features in the order of sift.h.
 *
 * A merge sort of keys, as features are six times as large, which looks at `cancel`: with
 * a million features qsort() alone would take longer than a job that is to stop may.
 */
#include "extractor/vision/sift_points.h"
#include "extractor/vision/sift_select.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define STEP_KEYS 8192 /* merged between two looks at `cancel` */

struct ranked {
    float response, scale, y, x, orientation;
    uint32_t index;
};

static int ascending(float a, float b)
{
    return (a > b) - (a < b);
}

static int rank_order(const struct ranked *a, const struct ranked *b)
{
    int order = ascending(b->response, a->response);
    if (order == 0)
        order = ascending(a->scale, b->scale);
    if (order == 0)
        order = ascending(a->y, b->y);
    if (order == 0)
        order = ascending(a->x, b->x);
    return order != 0 ? order : ascending(a->orientation, b->orientation);
}

struct sort {
    struct vision_control *control;
    size_t merged; /* since the last look at `cancel` */
};

/* from[begin..middle) and from[middle..end), each in order, to `to`. -ECANCELED or 0. */
static int merge(struct sort *sort, struct ranked *to, const struct ranked *from,
                 size_t begin, size_t middle, size_t end)
{
    size_t left = begin, right = middle;

    for (size_t at = begin; at < end; at++) {
        if (++sort->merged % STEP_KEYS == 0 && vision_step(sort->control))
            return -ECANCELED;
        bool is_left =
            right == end || (left < middle && rank_order(&from[left], &from[right]) <= 0);
        to[at] = from[is_left ? left++ : right++];
    }
    return 0;
}

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Stable. The result is in `keys`; `spare` is as large. */
static int sort_keys(struct vision_control *control, struct ranked *keys,
                     struct ranked *spare, size_t count)
{
    struct sort sort = {.control = control};
    struct ranked *from = keys, *to = spare;

    for (size_t run = 1; run < count; run *= 2) {
        for (size_t at = 0; at < count; at += 2 * run) {
            int err = merge(&sort, to, from, at, smaller(at + run, count),
                            smaller(at + 2 * run, count));
            if (err < 0)
                return err;
        }
        struct ranked *sorted = to;
        to = from;
        from = sorted;
    }
    if (from != keys)
        memcpy(keys, from, count * sizeof *keys);
    return 0;
}

/* items[i] becomes what items[keys[i].index] was, in place: round each cycle. */
static void permute(struct vision_feature *items, struct ranked *keys, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const struct vision_feature first = items[i];
        size_t at = i;
        while (keys[at].index != i) {
            const size_t next = keys[at].index;
            items[at] = items[next];
            keys[at].index = (uint32_t)at;
            at = next;
        }
        items[at] = first;
        keys[at].index = (uint32_t)at;
    }
}

static int sort_features(struct sift_points *p)
{
    struct ranked *keys = malloc((p->count + 1) * sizeof *keys); /* never of 0 */
    struct ranked *spare = malloc((p->count + 1) * sizeof *spare);
    int err = keys == NULL || spare == NULL ? -ENOMEM : 0;

    for (size_t i = 0; err == 0 && i < p->count; i++) {
        const struct vision_feature *f = &p->items[i];
        keys[i] = (struct ranked){f->response, f->scale,       f->y,
                                  f->x,        f->orientation, (uint32_t)i};
    }
    if (err == 0)
        err = sort_keys(p->stream->control, keys, spare, p->count);
    if (err == 0)
        permute(p->items, keys, p->count);
    free(keys);
    free(spare);
    return err;
}

int vision_sift_points_rank(struct sift_points *p)
{
    const struct vision_sift_choice choice = {.max_features = (uint32_t)p->limit,
                                              .spread = p->best.spread};
    struct vision_features sorted = {p->items, p->count};

    if (p->items == NULL) {
        p->items = malloc(sizeof *p->items); /* of no features, and never NULL */
        return p->items == NULL ? -ENOMEM : 0;
    }
    int err = sort_features(p);
    if (err == 0)
        err = vision_sift_select(&sorted, p->stream->width_px, p->stream->height_px,
                                 &choice);
    if (err == 0)
        p->count = sorted.count;
    return err;
}
