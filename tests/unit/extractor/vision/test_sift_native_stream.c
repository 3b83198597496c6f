/*
 * The stream beside a scale space of whole planes: every row that a ring promises is the
 * plane's, bit by bit, and every extremum is searched.
 */
#include "extractor/vision/kernels.h"
#include "extractor/vision/sift_stream.h"
#include "tests/unit/extractor/scene.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

#include <cmocka.h>

/* ---- the planes, as plainly as can be ---- */

struct plane {
    size_t w, h;
    float *at;
};

struct space {
    struct plane planes[SIFT_OCTAVES_MAX][SIFT_LEVELS_MAX];
    size_t hits, hits_wanted, rows_seen;
    struct sift_stream *stream;
};

static struct plane plane_new(size_t w, size_t h)
{
    return (struct plane){w, h, calloc(w * h, sizeof(float))};
}

static float mirrored(const struct plane *p, long x, long y)
{
    const long w = (long)p->w, h = (long)p->h;
    while (x < 0 || x >= w)
        x = w == 1 ? 0 : x < 0 ? -x : 2 * (w - 1) - x;
    while (y < 0 || y >= h)
        y = h == 1 ? 0 : y < 0 ? -y : 2 * (h - 1) - y;
    return p->at[(size_t)y * p->w + (size_t)x];
}

static struct plane blurred(const struct plane *from, const float *w, long radius)
{
    struct plane down = plane_new(from->w, from->h), out = plane_new(from->w, from->h);
    for (long y = 0; y < (long)from->h; y++)
        for (long x = 0; x < (long)from->w; x++) {
            float sum = w[0] * mirrored(from, x, y);
            for (long k = 1; k <= radius; k++)
                sum += w[k] * (mirrored(from, x, y - k) + mirrored(from, x, y + k));
            down.at[(size_t)y * from->w + (size_t)x] = sum;
        }
    for (long y = 0; y < (long)from->h; y++)
        for (long x = 0; x < (long)from->w; x++) {
            float sum = w[0] * mirrored(&down, x, y);
            for (long k = 1; k <= radius; k++)
                sum += w[k] * (mirrored(&down, x - k, y) + mirrored(&down, x + k, y));
            out.at[(size_t)y * from->w + (size_t)x] = sum;
        }
    free(down.at);
    return out;
}

static struct plane picture_plane(const struct vision_image *image, bool doubled)
{
    struct plane p = plane_new(image->width_px, image->height_px);
    for (size_t i = 0; i < p.w * p.h; i++)
        p.at[i] = (float)scene_get(image, i % p.w, i / p.w);
    if (!doubled)
        return p;

    struct plane wide = plane_new(2 * p.w, p.h), all = plane_new(2 * p.w, 2 * p.h);
    for (size_t y = 0; y < p.h; y++)
        for (size_t x = 0; x < wide.w; x++) {
            const size_t near = x / 2, far = x % 2 ? near + 1 : near - (near > 0);
            wide.at[y * wide.w + x] = 0.75f * p.at[y * p.w + near] +
                                      0.25f * p.at[y * p.w + (far < p.w ? far : near)];
        }
    for (size_t y = 0; y < all.h; y++)
        for (size_t x = 0; x < all.w; x++) {
            const size_t near = y / 2, far = y % 2 ? near + 1 : near - (near > 0);
            all.at[y * all.w + x] = 0.75f * wide.at[near * all.w + x] +
                                    0.25f * wide.at[(far < p.h ? far : near) * all.w + x];
        }
    free(p.at);
    free(wide.at);
    return all;
}

static struct plane halved(const struct plane *from)
{
    struct plane p = plane_new((from->w + 1) / 2, (from->h + 1) / 2);
    for (size_t i = 0; i < p.w * p.h; i++)
        p.at[i] = from->at[i / p.w * 2 * from->w + i % p.w * 2];
    return p;
}

static void space_init(struct space *space, struct sift_stream *s,
                       const struct vision_image *image)
{
    *space = (struct space){.stream = s};
    struct plane input = picture_plane(image, s->octave[0].index < 0);
    for (size_t o = 0; o < s->octaves; o++) {
        struct plane *planes = space->planes[o];
        planes[0] = o == 0 ? blurred(&input, s->weights[0], (long)s->radius[0])
                           : halved(&space->planes[o - 1][s->layers]);
        assert_int_equal(planes[0].w, s->octave[o].width);
        assert_int_equal(planes[0].h, s->octave[o].height);
        for (size_t level = 1; level < s->octave[o].levels; level++)
            planes[level] =
                blurred(&planes[level - 1], s->weights[level], (long)s->radius[level]);
    }
    free(input.at);
}

static float difference(const struct plane *p, size_t level, size_t x, size_t y)
{
    return p[level + 1].at[y * p->w + x] - p[level].at[y * p->w + x];
}

static bool is_extremum(const struct plane *p, size_t layer, size_t x, size_t y,
                        float least)
{
    const float d = difference(p, layer, x, y), sign = d > 0 ? 1.0f : -1.0f;
    bool best = sign * d >= least;
    for (size_t i = 0; best && i < 27; i++)
        best = sign * d >=
               sign * difference(p, layer - 1 + i / 9, x - 1 + i % 3, y - 1 + i / 3 % 3);
    return best;
}

static void space_count(struct space *space)
{
    const struct sift_stream *s = space->stream;
    for (size_t o = 0; o < s->octaves; o++)
        for (size_t layer = 1; s->octave[o].searched && layer <= s->layers; layer++)
            for (size_t y = 1; y + 1 < s->octave[o].height; y++)
                for (size_t x = 1; x + 1 < s->octave[o].width; x++)
                    space->hits_wanted +=
                        is_extremum(space->planes[o], layer, x, y, s->least);
}

static void space_free(struct space *space)
{
    for (size_t o = 0; o < SIFT_OCTAVES_MAX; o++)
        for (size_t level = 0; level < SIFT_LEVELS_MAX; level++)
            free(space->planes[o][level].at);
}

/* ---- what the stream shows ---- */

static void row_is_the_planes(struct space *space, const struct sift_octave *o,
                              size_t level, long y)
{
    if (y < 0 || y >= (long)o->height)
        return;
    const struct plane *p = &space->planes[o - space->stream->octave][level];
    assert_true((size_t)y < o->level[level].done);
    assert_memory_equal(sift_row(o, level, (size_t)y), p->at + (size_t)y * p->w,
                        p->w * sizeof(float));
    space->rows_seen++;
}

static int on_hit(void *arg, struct sift_octave *o, size_t layer, size_t x, size_t y)
{
    struct space *space = arg;
    assert_true(is_extremum(space->planes[o - space->stream->octave], layer, x, y,
                            space->stream->least));
    for (long i = -SIFT_REACH_ROWS; i <= SIFT_REACH_ROWS; i++)
        for (size_t level = 0; space->hits % 16 == 0 && level < o->levels; level++)
            row_is_the_planes(space, o, level, (long)y + i);
    space->hits++;
    return 0;
}

/* A keypoint described now may lie as far up as one that had to wait for its last row, or
 * as far down as the last row searched, less what refining moves it. */
static int on_rows(void *arg, struct sift_octave *o)
{
    struct space *space = arg;
    const long reach = (long)space->stream->reach_px;
    const long done = (long)o->level[space->stream->layers].done;
    const long waited =
        done == (long)o->height ? (long)o->scanned - SIFT_REACH_ROWS : done - 1 - reach;
    const long first = waited < (long)o->scanned ? waited : (long)o->scanned;
    for (size_t level = 1; level <= space->stream->layers; level++) {
        row_is_the_planes(space, o, level, first - reach + 1);
        row_is_the_planes(space, o, level, done - 1);
    }
    return 0;
}

static void stream_is_its_planes(const struct vision_image *image,
                                 const struct vision_sift_params *params, unsigned cpu)
{
    struct sift_stream *s = malloc(sizeof *s);
    struct space space;
    struct vision_kernels k;

    vision_kernels_init(&k, cpu);
    vision_sift_stream_init(s, image->width_px, image->height_px, params);
    const size_t bytes = (vision_sift_stream_lay_out(s, NULL) + 64) & ~(size_t)63;
    char *arena = aligned_alloc(64, bytes);
    memset(arena, 0, bytes);
    vision_sift_stream_lay_out(s, arena);
    space_init(&space, s, image);
    space_count(&space);
    s->k = &k.sift;
    s->on_hit = on_hit;
    s->on_rows = on_rows;
    s->arg = &space;
    if (s->octaves > 0)
        assert_int_equal(vision_sift_stream_run(s, image), 0);
    assert_int_equal(space.hits, space.hits_wanted);
    for (size_t o = 0; o < s->octaves; o++)
        for (size_t level = 0; level < s->octave[o].levels; level++)
            assert_int_equal(s->octave[o].level[level].done, s->octave[o].height);
    space_free(&space);
    free(arena);
    free(s);
}

static void rows_and_extrema_are_those_of_whole_planes(void **state)
{
    (void)state;
    static const double sigmas[] = {0.6, 1.6, 1.6, 2.5, 10};
    uint64_t seed = 77;
    for (int i = 0; i < 60; i++) {
        const size_t w = 1 + scene_rand(&seed) % 70, h = 1 + scene_rand(&seed) % 180;
        struct vision_image image = scene_spots(w, h, 8, (unsigned)(w * h / 40), seed);
        struct vision_sift_params params = {
            .first_octave = (int)(scene_rand(&seed) % 4) - 1,
            .octave_layers = 1 + (int)(scene_rand(&seed) % 5),
            .contrast = 0.01,
            .edge = 10,
            .sigma = sigmas[scene_rand(&seed) % 5],
        };
        stream_is_its_planes(&image, &params, i % 2 ? vision_cpu_detect() : 0);
        free(image.pixels);
    }
}

static void a_tall_picture_of_default_parameters_is_its_planes(void **state)
{
    (void)state;
    struct vision_image image = scene_spots(61, 420, 8, 700, 8);
    struct vision_sift_params params = {.first_octave = -1,
                                        .octave_layers = 3,
                                        .contrast = 0.04,
                                        .edge = 10,
                                        .sigma = 1.6};
    stream_is_its_planes(&image, &params, vision_cpu_detect());
    free(image.pixels);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_and_extrema_are_those_of_whole_planes),
        cmocka_unit_test(a_tall_picture_of_default_parameters_is_its_planes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
