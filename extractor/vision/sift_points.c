#include "extractor/vision/sift_points.h"

#include "extractor/vision/sift_math.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define STEP_FEATURES 32 /* described between two looks at `cancel` */
#define GROW_FIRST    1024

void sift_points_init(struct sift_points *p, const struct vision_sift_params *params,
                      struct sift_stream *stream)
{
    *p = (struct sift_points){.params = params, .stream = stream};
    if (params->max_features > 0 && params->max_features < VISION_SIFT_FEATURES_MAX)
        p->limit = params->max_features;
    sift_windows_init(&p->windows);
}

void sift_points_free(struct sift_points *p)
{
    for (size_t i = 0; i < SIFT_OCTAVES_MAX; i++)
        free(p->queues[i].items);
    free(p->items);
    free(p->best);
    *p = (struct sift_points){0};
}

/* Room for `more` after `count` items of `size` bytes. */
static int reserve(void **items, size_t *capacity, size_t count, size_t more, size_t size)
{
    if (count + more <= *capacity)
        return 0;
    size_t wanted = *capacity < GROW_FIRST ? GROW_FIRST : *capacity + *capacity / 2;
    void *grown = realloc(*items, wanted * size);
    if (grown == NULL)
        return -ENOMEM;
    *items = grown;
    *capacity = wanted;
    return 0;
}

/* ---- the best so far ---- */

static void sink(float *heap, size_t n, size_t i)
{
    for (;;) {
        size_t least = 2 * i + 1;
        if (least + 1 < n && heap[least + 1] < heap[least])
            least++;
        if (least >= n || heap[i] <= heap[least])
            return;
        float t = heap[i];
        heap[i] = heap[least];
        heap[least] = t;
        i = least;
    }
}

static void rise(float *heap, size_t i)
{
    while (i > 0 && heap[i] < heap[(i - 1) / 2]) {
        float t = heap[i];
        heap[i] = heap[(i - 1) / 2];
        heap[(i - 1) / 2] = t;
        i = (i - 1) / 2;
    }
}

/* Are there `limit` better ones already? Equals are kept: the final order decides. */
static bool is_beaten(const struct sift_points *p, float response)
{
    return p->limit > 0 && p->best_count == p->limit && response < p->best[0];
}

static int best_add(struct sift_points *p, float response)
{
    if (p->limit == 0)
        return 0;
    if (p->best_count == p->limit) {
        p->best[0] = response;
        sink(p->best, p->best_count, 0);
        return 0;
    }
    void *best = p->best;
    int err = reserve(&best, &p->best_capacity, p->best_count, 1, sizeof p->best[0]);
    p->best = best;
    if (err < 0)
        return err;
    p->best[p->best_count++] = response;
    rise(p->best, p->best_count - 1);
    return 0;
}

/* ---- found ---- */

static struct sift_queue *queue_of(struct sift_points *p, const struct sift_octave *o)
{
    return &p->queues[o - p->stream->octave];
}

/* Two extrema may be refined to the same one. Only where a fit has moved, and then they
 * began within a few rows of each other. */
static bool is_known(const struct sift_queue *q, const struct sift_point *point)
{
    for (size_t i = q->count; i > 0; i--) {
        const struct sift_point *other = &q->items[i - 1];
        if (other->from_y + 2 * SIFT_REACH_ROWS < point->from_y)
            return false;
        if (other->at_x == point->at_x && other->at_y == point->at_y &&
            other->layer == point->layer)
            return true;
    }
    return false;
}

static float place_px(const struct sift_points *p, const struct sift_octave *o, float at)
{
    return at * (float)sift_power_of_two(o->index) + p->stream->shift_px;
}

/* The doubled picture begins a quarter of a pixel before the picture. */
static bool is_inside(const struct sift_points *p, const struct sift_octave *o,
                      const struct sift_point *point)
{
    const float x = place_px(p, o, point->x), y = place_px(p, o, point->y);
    return x >= 0 && y >= 0 && x <= (float)(p->stream->width_px - 1) &&
           y <= (float)(p->stream->height_px - 1);
}

int sift_points_on_hit(void *arg, struct sift_octave *o, size_t layer, size_t x, size_t y)
{
    struct sift_points *p = arg;
    struct sift_queue *q = queue_of(p, o);
    struct sift_point point;

    if (!sift_refine(o, p->params, layer, x, y, &point) || !is_inside(p, o, &point) ||
        is_beaten(p, point.response) || is_known(q, &point))
        return 0;
    void *items = q->items;
    int err = reserve(&items, &q->capacity, q->count, 1, sizeof point);
    q->items = items;
    if (err < 0)
        return err;
    q->items[q->count++] = point;
    return best_add(p, point.response);
}

/* ---- described ---- */

static int point_describe(struct sift_points *p, const struct sift_octave *o,
                          const struct sift_point *point)
{
    void *items = p->items;

    if (p->count + SIFT_ANGLES_MAX > VISION_SIFT_FEATURES_MAX)
        return 0;
    int err = reserve(&items, &p->capacity, p->count, SIFT_ANGLES_MAX, sizeof *p->items);
    p->items = items;
    if (err < 0)
        return err;
    size_t count = sift_describe(p, o, point, p->items + p->count);
    for (size_t i = 0; i < count; i++) {
        struct vision_feature *f = &p->items[p->count++];
        f->x = place_px(p, o, point->x);
        f->y = place_px(p, o, point->y);
        f->scale = point->scale * (float)sift_power_of_two(o->index);
        f->response = point->response;
    }
    return 0;
}

/* Forget the described, but for those that is_known() may still ask for. */
static void queue_trim(struct sift_queue *q, size_t scanned)
{
    size_t gone = 0;
    if (q->described < GROW_FIRST / 2)
        return;
    while (gone < q->described &&
           q->items[gone].from_y + 2 * SIFT_REACH_ROWS + 1 < scanned)
        gone++;
    q->count -= gone;
    q->described -= gone;
    memmove(q->items, q->items + gone, q->count * sizeof q->items[0]);
}

int sift_points_on_rows(void *arg, struct sift_octave *o)
{
    struct sift_points *p = arg;
    struct sift_queue *q = queue_of(p, o);
    const size_t done = o->level[p->stream->layers].done;
    const size_t below = (size_t)p->stream->reach_px;

    for (; q->described < q->count; q->described++) {
        const struct sift_point *point = &q->items[q->described];
        if (done < o->height && point->at_y + below >= done)
            break;
        if (q->described % STEP_FEATURES == 0 && vision_step(p->stream->control))
            return -ECANCELED;
        if (is_beaten(p, point->response))
            continue;
        int err = point_describe(p, o, point);
        if (err < 0)
            return err;
    }
    queue_trim(q, o->scanned);
    return 0;
}
