#include "extractor/vision/sift_points.h"

#include "extractor/vision/sift_math.h"
#include "extractor/vision/sift_select.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define STEP_FEATURES 8 /* described between two looks at `cancel` */
#define GROW_FIRST    1024
#define ALIGN_BYTES   64

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

size_t vision_sift_points_lay_out(struct sift_points *p, const struct sift_stream *s,
                                  char *arena)
{
    size_t used = 0;

    for (size_t i = 0; i < s->octaves; i++) {
        const struct sift_octave *o = &s->octave[i];
        if (arena != NULL && o->searched)
            vision_sift_known_init(&p->queues[i].known, o, s->layers,
                                   (uint64_t *)(void *)(arena + used));
        used += (vision_sift_known_bytes(o, s->layers) + ALIGN_BYTES - 1) / ALIGN_BYTES *
                ALIGN_BYTES;
    }
    if (arena != NULL)
        p->patch = (float *)(void *)(arena + used);
    return used + sizeof(float) * vision_sift_patch_floats(s);
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
        vision_sift_best_beats(&p->best, x_px, y_px, point.response))
        return 0;
    vision_sift_known_advance(&q->known, y);
    if (!vision_sift_known_add(&q->known, point.layer, point.at_x, point.at_y))
        return 0;
    void *items = q->items;
    int err = reserve(&items, &q->capacity, q->count, 1, sizeof point);
    q->items = items;
    if (err < 0)
        return err;
    q->items[q->count++] = point;
    return vision_sift_best_add(&p->best, x_px, y_px, point.response);
}

/* ---- described ---- */

struct vision_features vision_sift_points_take(struct sift_points *p)
{
    struct vision_features features = {p->items, p->count};
    p->items = NULL;
    p->count = p->capacity = 0;
    return features;
}

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

/* Forget the described: once they are half of all, so that each moves once on average. */
static void queue_trim(struct sift_queue *q)
{
    if (q->described < GROW_FIRST / 2 || 2 * q->described < q->count)
        return;
    q->count -= q->described;
    memmove(q->items, q->items + q->described, q->count * sizeof q->items[0]);
    q->described = 0;
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
    queue_trim(q);
    return 0;
}
