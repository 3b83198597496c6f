#include "extractor/vision/sift_stream.h"

#include "extractor/vision/sift_math.h"

#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

#define OCTAVE_MIN_PX 8   /* shorter side of the last octave: a descriptor spans more */
#define BAND_ROWS     8   /* rows that enter an octave before all its levels follow */
#define BLUR_REACH    3.0 /* sigmas; farther out is 0.3 % of the weight */
#define TUNE_STEPS    20
#define INPUT_BLUR_PX 0.5
#define FULL_SCALE    255.0
#define RING_SLACK    4
/* Columns blurred together: 28 rows of so many fit the first level of cache. */
#define STRETCH_FLOATS 256
#define PIECE_FLOATS   8192 /* of a row, blurred between two looks at `cancel` */
#define STEP_HITS      64   /* looked at between two */
#define ALIGN_FLOATS   16

/* ---- the plan ---- */

static size_t aligned(size_t floats)
{
    return (floats + ALIGN_FLOATS - 1) / ALIGN_FLOATS * ALIGN_FLOATS;
}

/* A Gaussian of parameter `sigma`, cut at `radius`, of sum 1; returns its variance. */
static double gaussian(float *weights, size_t radius, double sigma)
{
    double sum = 0, variance = 0;
    for (size_t i = 0; i <= radius; i++) {
        double w = (i > 0 ? 2 : 1) * sift_exp(-0.5 * (double)(i * i) / (sigma * sigma));
        sum += w;
        variance += w * (double)(i * i);
    }
    for (size_t i = 0; i <= radius; i++)
        weights[i] = (float)(sift_exp(-0.5 * (double)(i * i) / (sigma * sigma)) / sum);
    return variance / sum;
}

static void plan_blur(struct sift_stream *s, size_t level, double variance)
{
    /* What OpenCV does where the picture is blurred more than asked. */
    const double sigma = sqrt(variance > 0.01 ? variance : 0.01);
    double tuned = sigma;

    s->radius[level] = (size_t)(BLUR_REACH * sigma + 0.999);
    /* What is cut off would make the blur smaller than asked, by 1.5 % a level. */
    for (int i = 0; i < TUNE_STEPS; i++) {
        double got = gaussian(s->weights[level], s->radius[level], tuned);
        tuned *= sqrt(sigma * sigma / got);
        if (tuned > 2 * sigma)
            tuned = 2 * sigma;
    }
}

static void plan_blurs(struct sift_stream *s, double sigma, bool doubled)
{
    const double input = INPUT_BLUR_PX * (doubled ? 2 : 1);
    plan_blur(s, 0, sigma * sigma - input * input);
    for (size_t level = 1; level < s->layers + 3; level++) {
        double before = sigma * sift_exp2((double)(level - 1) / (double)s->layers);
        double after = sigma * sift_exp2((double)level / (double)s->layers);
        plan_blur(s, level, after * after - before * before);
    }
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

/* How many rows a level may be ahead of the last one, when a band has just come in. */
static size_t level_lead(const struct sift_stream *s, const struct sift_octave *o,
                         size_t level)
{
    size_t lead = BAND_ROWS;
    for (size_t i = level + 1; i < o->levels; i++)
        lead += s->radius[i];
    return lead;
}

/*
 * How many rows, counted back from the last level's latest, a level keeps:
 *  - the next level's blur needs twice its radius, less its lag;
 *  - the search is SIFT_REACH_ROWS behind the last level and looks as far back again;
 *  - a keypoint found there waits until the levels 1 to `layers` reach reach_px below it,
 *    and then looks reach_px up.
 */
static size_t band_back(const struct sift_stream *s, const struct sift_octave *o,
                        size_t level)
{
    size_t back = level + 1 < o->levels ? 2 * s->radius[level + 1] : 0;
    if (!o->searched)
        return back;
    back = larger(back, 2 * SIFT_REACH_ROWS);
    if (level < 1 || level > s->layers)
        return back;
    const size_t reach = (size_t)s->reach_px;
    return larger(back, reach + larger(reach, 3 * SIFT_REACH_ROWS));
}

static void plan_octave(struct sift_stream *s, struct sift_octave *o, bool first)
{
    o->levels = o->searched ? s->layers + 3 : s->layers + 1;
    o->stride = aligned(o->width) + 2 * VISION_SIFT_PAD;
    /* An odd number of cache lines, so that rows do not all compete for the same sets. */
    if (o->stride / ALIGN_FLOATS % 2 == 0)
        o->stride += ALIGN_FLOATS;
    for (size_t level = 0; level < o->levels; level++) {
        size_t rows = band_back(s, o, level) + level_lead(s, o, level) + RING_SLACK;
        o->level[level].capacity = rows < o->height ? rows : o->height;
    }
    if (first) {
        size_t rows = 2 * s->radius[0] + BAND_ROWS + RING_SLACK;
        o->input.capacity = rows < o->height ? rows : o->height;
    }
}

void vision_sift_stream_init(struct sift_stream *s, size_t width_px, size_t height_px,
                             const struct vision_sift_params *params)
{
    const bool doubled = params->first_octave < 0;
    size_t w = doubled ? 2 * width_px : width_px;
    size_t h = doubled ? 2 * height_px : height_px;

    *s = (struct sift_stream){.layers = (size_t)params->octave_layers,
                              .width_px = width_px,
                              .height_px = height_px,
                              .shift_px = doubled ? -0.25f : 0.0f,
                              .reach_px = SIFT_PATCH_SIGMAS *
                                              sift_exp2(1 + 1.0 / params->octave_layers) *
                                              params->sigma +
                                          SIFT_PATCH_MORE_ROWS};
    /* OpenCV's: a raw extremum may be weaker by half than a refined one must be. */
    s->least = (float)(0.5 * FULL_SCALE * params->contrast / params->octave_layers);
    s->least = s->least > 1e-20f ? s->least : 1e-20f;
    plan_blurs(s, params->sigma, doubled);

    for (int index = doubled ? -1 : 0; (w < h ? w : h) >= OCTAVE_MIN_PX; index++) {
        struct sift_octave *o = &s->octave[s->octaves];
        *o = (struct sift_octave){.width = w, .height = h, .index = index, .scanned = 1};
        o->searched = index >= params->first_octave;
        plan_octave(s, o, s->octaves == 0);
        s->octaves++;
        w = (w + 1) / 2;
        h = (h + 1) / 2;
    }
}

/* The next `floats` of the arena, from the `lead`th on. Without an arena they are only
 * counted: nothing may be added to a null pointer. */
static float *take(char *arena, size_t *used, size_t floats, size_t lead)
{
    const size_t at = *used;
    *used += aligned(floats) * sizeof(float);
    return arena == NULL ? NULL : (float *)(void *)(arena + at) + lead;
}

size_t vision_sift_stream_lay_out(struct sift_stream *s, char *arena)
{
    size_t used = 0;
    if (s->octaves == 0)
        return 0;

    for (struct sift_octave *o = s->octave; o < s->octave + s->octaves; o++) {
        o->input.rows = take(arena, &used, o->input.capacity * o->stride, 0);
        for (size_t i = 0; i < o->levels; i++)
            o->level[i].rows = take(arena, &used, o->level[i].capacity * o->stride, 0);
    }
    const size_t widest = s->octave[0].stride;
    s->line_stride = widest + 2 * (SIFT_RADIUS_MAX + VISION_SIFT_PAD);
    s->lines = take(arena, &used, BAND_ROWS * s->line_stride, SIFT_RADIUS_MAX);
    s->pair[0] = take(arena, &used, widest, VISION_SIFT_PAD);
    s->pair[1] = take(arena, &used, widest, VISION_SIFT_PAD);
    s->hits = (uint32_t *)(void *)take(arena, &used, widest, 0);
    return used;
}

/* ---- the run ---- */

/* What pads the rows is read, though it decides nothing. To write there first is to ask
 * the system for the memory, which takes long where it is much. True: stop. */
static bool clear_pads(const struct sift_stream *s, float *rows, size_t count,
                       const struct sift_octave *o)
{
    const size_t behind = VISION_SIFT_PAD + o->width;

    for (size_t i = 0; i < count; i++, rows += o->stride) {
        if (vision_step(s->control))
            return true;
        memset(rows, 0, VISION_SIFT_PAD * sizeof *rows);
        memset(rows + behind, 0, (o->stride - behind) * sizeof *rows);
    }
    return false;
}

static bool clear_all_pads(const struct sift_stream *s)
{
    const struct sift_octave *first = s->octave;

    for (const struct sift_octave *o = first; o < first + s->octaves; o++) {
        if (clear_pads(s, o->input.rows, o->input.capacity, o))
            return true;
        for (size_t i = 0; i < o->levels; i++)
            if (clear_pads(s, o->level[i].rows, o->level[i].capacity, o))
                return true;
    }
    for (size_t i = 0; i < 2; i++)
        if (clear_pads(s, s->pair[i] - VISION_SIFT_PAD, 1, first))
            return true;
    memset(s->lines - SIFT_RADIUS_MAX, 0, BAND_ROWS * s->line_stride * sizeof *s->lines);
    return false;
}

/* Mirror index `i` into 0..n-1, the rim not repeated. */
static size_t mirror(ptrdiff_t i, size_t n)
{
    const ptrdiff_t last = (ptrdiff_t)n - 1;
    if (last == 0)
        return 0;
    i = (i < 0 ? -i : i) % (2 * last);
    return (size_t)(i > last ? 2 * last - i : i);
}

static float *ring_row(const struct sift_octave *o, const struct sift_ring *ring,
                       size_t y)
{
    return ring->rows + y % ring->capacity * o->stride + VISION_SIFT_PAD;
}

/* Where `count` rows from y on are, those outside of the picture mirrored. */
static void rows_round(const float **rows, const struct sift_octave *o,
                       const struct sift_ring *ring, ptrdiff_t y, size_t count)
{
    size_t i = 0;
    for (; i < count && y + (ptrdiff_t)i < 0; i++)
        rows[i] = ring_row(o, ring, mirror(y + (ptrdiff_t)i, o->height));
    if (i < count && y + (ptrdiff_t)i < (ptrdiff_t)o->height) {
        /* One division for all of them. */
        size_t slot = (size_t)(y + (ptrdiff_t)i) % ring->capacity;
        for (; i < count && y + (ptrdiff_t)i < (ptrdiff_t)o->height; i++) {
            rows[i] = ring->rows + slot * o->stride + VISION_SIFT_PAD;
            slot = slot + 1 < ring->capacity ? slot + 1 : 0;
        }
    }
    for (; i < count; i++)
        rows[i] = ring_row(o, ring, mirror(y + (ptrdiff_t)i, o->height));
}

/* The `radius` samples before a line and those behind it. */
static void mirror_ends(float *line, size_t width, size_t radius)
{
    float *const last = line + width - 1;
    const bool is_wide = radius < width;

    for (ptrdiff_t k = 1; k <= (ptrdiff_t)radius; k++) {
        line[-k] = line[is_wide ? (size_t)k : mirror(-k, width)];
        last[k] = is_wide ? last[-k] : line[mirror((ptrdiff_t)width - 1 + k, width)];
    }
}

/* Along a row, a piece of it at a time. True when the work is to stop. */
static bool blur_row(const struct sift_stream *s, float *to, const float *line,
                     size_t level, size_t width)
{
    for (size_t x = 0; x < width; x += PIECE_FLOATS) {
        const size_t n = width - x < PIECE_FLOATS ? width - x : PIECE_FLOATS;
        if (vision_step(s->control))
            return true;
        s->k->rows(to + x, line + x, s->weights[level], s->radius[level], n);
    }
    return false;
}

/* The next `count` rows of `to`, from those of `from` round them: first down the columns,
 * of all rows a stretch of the width at a time, so that they are read from near; then
 * along the rows. */
static int blur_rows(const struct sift_stream *s, const struct sift_octave *o,
                     struct sift_ring *to, const struct sift_ring *from, size_t level,
                     size_t count)
{
    const float *rows[2 * SIFT_RADIUS_MAX + BAND_ROWS];
    const size_t radius = s->radius[level], width = o->width;
    const float *w = s->weights[level];

    rows_round(rows, o, from, (ptrdiff_t)to->done - (ptrdiff_t)radius,
               2 * radius + count);
    for (size_t x = 0; x < width; x += STRETCH_FLOATS) {
        const size_t end = x + STRETCH_FLOATS < width ? x + STRETCH_FLOATS : width;
        if (vision_step(s->control))
            return -ECANCELED;
        s->k->columns(s->lines, s->line_stride, rows, count, w, radius, x, end);
    }
    for (size_t i = 0; i < count; i++) {
        float *line = s->lines + i * s->line_stride;
        mirror_ends(line, width, radius);
        if (blur_row(s, ring_row(o, to, to->done + i), line, level, width))
            return -ECANCELED;
    }
    to->done += count;
    return 0;
}

static int advance(struct sift_stream *s, struct sift_octave *o);

/* Every second row of the level with twice the first one's blur begins the next octave.
 */
static int pass_on(struct sift_stream *s, struct sift_octave *o, size_t y)
{
    struct sift_octave *next = o + 1;
    struct sift_ring *to = &next->level[0];

    if (next == s->octave + s->octaves || y % 2 != 0)
        return 0;
    s->k->halve(ring_row(next, to, to->done), ring_row(o, &o->level[s->layers], y),
                next->width);
    to->done++;
    if (to->done % BAND_ROWS == 0 || to->done == next->height)
        return advance(s, next);
    return 0;
}

/* How many rows of a level those before it allow now; a band at most, as the levels after
 * it must follow before it goes on. */
static size_t rows_ready(const struct sift_stream *s, const struct sift_octave *o,
                         const struct sift_ring *from, size_t level)
{
    const size_t done = o->level[level].done, radius = s->radius[level];
    size_t end = from->done == o->height ? o->height
                 : from->done > radius   ? from->done - radius
                                         : 0;
    if (end <= done)
        return 0;
    return end - done < BAND_ROWS ? end - done : BAND_ROWS;
}

static int fill_level(struct sift_stream *s, struct sift_octave *o, size_t level)
{
    const struct sift_ring *from = level == 0 ? &o->input : &o->level[level - 1];
    const size_t done = o->level[level].done, count = rows_ready(s, o, from, level);

    if (count == 0)
        return 0;
    if (blur_rows(s, o, &o->level[level], from, level, count) < 0)
        return -ECANCELED;
    for (size_t y = done; level == s->layers && y < done + count; y++) {
        int err = pass_on(s, o, y);
        if (err != 0)
            return err;
    }
    return 0;
}

static int search_row(struct sift_stream *s, struct sift_octave *o, size_t y)
{
    for (size_t layer = 1; layer <= s->layers; layer++) {
        const float *g[4][3];
        for (size_t i = 0; i < 4; i++)
            for (size_t j = 0; j < 3; j++)
                g[i][j] = sift_row(o, layer - 1 + i, y - 1 + j);

        size_t hits =
            s->k->extrema(s->hits, (const float *const(*)[3])g, s->least, o->width);
        for (size_t i = 0; i < hits; i++) {
            if (i % STEP_HITS == 0 && vision_step(s->control))
                return -ECANCELED;
            int err = s->on_hit(s->arg, o, layer, s->hits[i], y);
            if (err != 0)
                return err;
        }
    }
    return 0;
}

static int search(struct sift_stream *s, struct sift_octave *o)
{
    const size_t done = o->level[o->levels - 1].done;
    while (o->scanned + 1 < o->height &&
           (done == o->height || o->scanned + SIFT_REACH_ROWS < done)) {
        if (vision_step(s->control))
            return -ECANCELED;
        int err = search_row(s, o, o->scanned);
        if (err != 0)
            return err;
        o->scanned++;
    }
    return s->on_rows(s->arg, o);
}

static int advance_band(struct sift_stream *s, struct sift_octave *o)
{
    for (size_t level = o == s->octave ? 0 : 1; level < o->levels; level++) {
        int err = fill_level(s, o, level);
        if (err != 0)
            return err;
    }
    return o->searched ? search(s, o) : 0;
}

/* Rows have come into `o`: let its levels follow as far as they can, and search them. At
 * the picture's end they can follow to the end, but no faster than the rings allow. */
static int advance(struct sift_stream *s, struct sift_octave *o)
{
    const struct sift_ring *in = o == s->octave ? &o->input : &o->level[0];
    int err;
    do {
        err = advance_band(s, o);
    } while (err == 0 && in->done == o->height &&
             o->level[o->levels - 1].done < o->height);
    return err;
}

/* The doubled picture: sample i lies at i / 2 - 1/4, so that each is a quarter of a pixel
 * from its nearest one and all are blurred alike. Row y of the picture, and where it and
 * the one before it give two rows of the doubled. */
static void double_row(struct sift_stream *s, struct sift_octave *o, size_t y, bool last)
{
    struct sift_ring *in = &o->input;
    float *before = s->pair[(y + 1) % 2], *here = s->pair[y % 2];

    if (y == 0)
        memcpy(ring_row(o, in, 0), here, o->width * sizeof *here);
    else {
        s->k->mix(ring_row(o, in, 2 * y - 1), before, here, o->width);
        s->k->mix(ring_row(o, in, 2 * y), here, before, o->width);
    }
    if (last)
        memcpy(ring_row(o, in, 2 * y + 1), here, o->width * sizeof *here);
    in->done = last ? o->height : 2 * y + 1;
}

int vision_sift_stream_run(struct sift_stream *s, const struct vision_image *image)
{
    struct sift_octave *o = s->octave;
    const bool doubled = o->index < 0;

    if (clear_all_pads(s))
        return -ECANCELED;
    for (size_t y = 0; y < image->height_px; y++) {
        const bool last = y + 1 == image->height_px;
        float *to = doubled ? s->pair[y % 2] : ring_row(o, &o->input, y);
        s->k->load(to, (char *)image->pixels + y * image->stride_bytes, image->width_px,
                   image->depth_bits, doubled);
        if (doubled)
            double_row(s, o, y, last);
        else
            o->input.done = y + 1;
        if ((y + 1) % (doubled ? BAND_ROWS / 2 : BAND_ROWS) == 0 || last) {
            int err = advance(s, o);
            if (err != 0)
                return err;
        }
    }
    return 0;
}
