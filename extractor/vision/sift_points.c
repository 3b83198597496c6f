#include "extractor/vision/sift_points.h"

#include "extractor/vision/sift_math.h"
#include "extractor/vision/sift_select.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define STEP_FEATURES 8 /* described between two looks at `cancel` */
#define GROW_FIRST    1024
#define ALIGN_BYTES   64

static size_t bound_of(uint32_t most)
{
    return most > 0 && most < VISION_SIFT_FEATURES_MAX ? most : VISION_SIFT_FEATURES_MAX;
}

int vision_sift_points_init(struct sift_points *p,
                            const struct vision_sift_params *params,
                            struct sift_stream *stream)
{
    const size_t most = bound_of(params->features_max);
    const bool cuts = params->max_features > 0 && params->max_features < most;
    const bool spread = params->spread && cuts;

    *p = (struct sift_points){.params = params,
                              .stream = stream,
                              .cuts = cuts,
                              .limit = cuts ? params->max_features : most,
                              .waiting_max = cuts ? bound_of(params->waiting_max) : most};
    vision_sift_windows_init(&p->windows);
    if (!cuts)
        return 0;
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

/* Too many: from now on they are only counted. */
static void give_up(struct sift_points *p)
{
    p->over = p->count + p->waiting;
    free(p->items);
    p->items = NULL;
    p->count = p->capacity = p->waiting = 0;
    for (size_t i = 0; i < SIFT_OCTAVES_MAX; i++) {
        free(p->queues[i].items);
        p->queues[i].items = NULL;
        p->queues[i].count = p->queues[i].capacity = p->queues[i].described = 0;
    }
}

/* ---- found ---- */

static int queue_add(struct sift_queue *q, const struct sift_point *point)
{
    if (q->count == q->capacity) {
        size_t wanted = q->capacity < GROW_FIRST ? GROW_FIRST : q->capacity / 2 * 3;
        struct sift_point *grown = realloc(q->items, wanted * sizeof *grown);
        if (grown == NULL)
            return -ENOMEM;
        q->items = grown;
        q->capacity = wanted;
    }
    q->items[q->count++] = *point;
    return 0;
}

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
    const bool is_cut = p->cuts;
    const float x_px = place_px(p, o, point.x), y_px = place_px(p, o, point.y);
    if (!is_inside(p, x_px, y_px) ||
        (is_cut && vision_sift_best_beats(&p->best, x_px, y_px, point.response)))
        return 0;
    vision_sift_known_advance(&q->known, y);
    if (!vision_sift_known_add(&q->known, point.layer, point.at_x, point.at_y))
        return 0;
    if (p->over > 0) {
        p->over++;
        return 0;
    }
    if (p->waiting >= p->waiting_max || (!is_cut && p->count + p->waiting >= p->limit)) {
        give_up(p);
        p->over++;
        return 0;
    }
    int err = queue_add(q, &point);
    if (err < 0)
        return err;
    p->waiting++;
    return is_cut ? vision_sift_best_add(&p->best, x_px, y_px, point.response) : 0;
}

struct vision_features vision_sift_points_take(struct sift_points *p)
{
    struct vision_features features = {p->items, p->count};
    p->items = NULL;
    p->count = p->capacity = 0;
    return features;
}

/* Room for the features of one more keypoint. */
static int make_room(struct sift_points *p)
{
    const size_t most = p->cuts ? 2 * p->limit + GROW_FIRST : p->limit;

    if (p->items == NULL) {
        p->capacity = most + SIFT_ANGLES_MAX;
        p->items = malloc(p->capacity * sizeof *p->items);
        return p->items == NULL ? -ENOMEM : 0;
    }
    return p->cuts && p->count >= most ? vision_sift_points_rank(p) : 0;
}

static int point_describe(struct sift_points *p, const struct sift_octave *o,
                          const struct sift_point *point)
{
    int err = make_room(p);
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
    if (!p->cuts && p->count > p->limit)
        give_up(p);
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

static bool is_beaten(struct sift_points *p, const struct sift_octave *o,
                      const struct sift_point *point)
{
    return p->cuts && vision_sift_best_beats(&p->best, place_px(p, o, point->x),
                                             place_px(p, o, point->y), point->response);
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
        p->waiting--;
        if (is_beaten(p, o, point))
            continue;
        int err = point_describe(p, o, point);
        if (err < 0)
            return err;
        if (p->over > 0)
            return 0;
    }
    queue_trim(q);
    return 0;
}
