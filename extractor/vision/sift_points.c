#include "extractor/vision/sift_points.h"

#include "extractor/vision/sift_math.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define STEP_FEATURES 32 /* described between two looks at `cancel` */
#define GROW_FIRST    1024

int vision_sift_points_init(struct sift_points *p,
                            const struct vision_sift_params *params,
                            struct sift_stream *stream)
{
    const bool spread = params->spread && params->max_features > 0;

    *p = (struct sift_points){
        .params = params, .stream = stream, .limit = VISION_SIFT_FEATURES_MAX};
    if (params->max_features > 0 && params->max_features < p->limit)
        p->limit = params->max_features;
    vision_sift_windows_init(&p->windows);
    return vision_sift_best_init(&p->best, stream->width_px, stream->height_px, p->limit,
                                 spread);
}

void vision_sift_points_free(struct sift_points *p)
{
    for (size_t i = 0; i < SIFT_OCTAVES_MAX; i++)
        free(p->queues[i].items);
    free(p->items);
    vision_sift_best_free(&p->best);
    *p = (struct sift_points){0};
}

/* Room for `more` after `count` items of `size` bytes. */
static int reserve(void **items, size_t *capacity, size_t count, size_t more, size_t size)
{
    if (count + more <= *capacity)
        return 0;
    size_t wanted = *capacity < GROW_FIRST ? GROW_FIRST : *capacity + *capacity / 2;
    wanted = wanted < count + more ? count + more : wanted;
    void *grown = realloc(*items, wanted * size);
    if (grown == NULL)
        return -ENOMEM;
    *items = grown;
    *capacity = wanted;
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
static bool is_inside(const struct sift_points *p, float x, float y)
{
    return x >= 0 && y >= 0 && x <= (float)(p->stream->width_px - 1) &&
           y <= (float)(p->stream->height_px - 1) &&
           (p->params->mask == NULL || vision_sift_is_unmasked(p->params->mask, x, y));
}

int vision_sift_points_on_hit(void *arg, struct sift_octave *o, size_t layer, size_t x,
                              size_t y)
{
    struct sift_points *p = arg;
    struct sift_queue *q = queue_of(p, o);
    struct sift_point point;

    if (!vision_sift_refine(o, p->params, layer, x, y, &point))
        return 0;
    const float x_px = place_px(p, o, point.x), y_px = place_px(p, o, point.y);
    if (!is_inside(p, x_px, y_px) ||
        vision_sift_best_beats(&p->best, x_px, y_px, point.response) ||
        is_known(q, &point))
        return 0;
    void *items = q->items;
    int err = reserve(&items, &q->capacity, q->count, 1, sizeof point);
    q->items = items;
    if (err < 0)
        return err;
    q->items[q->count++] = point;
    return vision_sift_best_add(&p->best, x_px, y_px, point.response);
}

/* ---- the order of the result ---- */

struct ranked {
    float response, scale, y, x, orientation;
    uint32_t index;
};

static int ascending(float a, float b)
{
    return (a > b) - (a < b);
}

static int rank_order(const void *left, const void *right)
{
    const struct ranked *a = left, *b = right;
    int order = ascending(b->response, a->response);
    if (order == 0)
        order = ascending(a->scale, b->scale);
    if (order == 0)
        order = ascending(a->y, b->y);
    if (order == 0)
        order = ascending(a->x, b->x);
    return order != 0 ? order : ascending(a->orientation, b->orientation);
}

/* Sorts keys, since features are six times as large. */
static struct vision_feature *ranked_copy(const struct sift_points *p,
                                          struct ranked *ranked)
{
    struct vision_feature *items =
        malloc((p->count + 1) * sizeof *items); /* never of 0 */

    if (items == NULL)
        return NULL;
    for (size_t i = 0; i < p->count; i++) {
        const struct vision_feature *f = &p->items[i];
        ranked[i] = (struct ranked){f->response, f->scale,       f->y,
                                    f->x,        f->orientation, (uint32_t)i};
    }
    qsort(ranked, p->count, sizeof *ranked, rank_order);
    for (size_t i = 0; i < p->count; i++)
        items[i] = p->items[ranked[i].index];
    return items;
}

int vision_sift_points_rank(struct sift_points *p)
{
    const struct vision_sift_choice choice = {.max_features = (uint32_t)p->limit,
                                              .spread = p->best.spread};
    struct ranked *ranked = malloc((p->count + 1) * sizeof *ranked);
    struct vision_features sorted = {NULL, p->count};

    if (ranked != NULL)
        sorted.items = ranked_copy(p, ranked);
    free(ranked);
    if (sorted.items == NULL)
        return -ENOMEM;
    free(p->items);
    p->items = sorted.items;
    p->capacity = p->count + 1;
    int err =
        vision_sift_select(&sorted, p->stream->width_px, p->stream->height_px, &choice);
    p->count = sorted.count;
    return err;
}

struct vision_features vision_sift_points_take(struct sift_points *p)
{
    struct vision_features features = {p->items, p->count};
    p->items = NULL;
    p->count = p->capacity = 0;
    return features;
}

/* ---- described ---- */

static int point_describe(struct sift_points *p, const struct sift_octave *o,
                          const struct sift_point *point)
{

    if (p->count >= 2 * p->limit + GROW_FIRST) {
        int short_of = vision_sift_points_rank(p);
        if (short_of < 0)
            return short_of;
    }
    void *items = p->items;
    int err = reserve(&items, &p->capacity, p->count, SIFT_ANGLES_MAX, sizeof *p->items);
    p->items = items;
    if (err < 0)
        return err;
    size_t count = vision_sift_describe(p, o, point, p->items + p->count);
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

int vision_sift_points_on_rows(void *arg, struct sift_octave *o)
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
        if (vision_sift_best_beats(&p->best, place_px(p, o, point->x),
                                   place_px(p, o, point->y), point->response))
            continue;
        int err = point_describe(p, o, point);
        if (err < 0)
            return err;
    }
    queue_trim(q, o->scanned);
    return 0;
}
