/*
 * sift_describe.c - the orientations and the descriptor of one keypoint.
 *
 * Both come from a grid of 18 x 18 samples whose spacing follows the keypoint's scale:
 * half a sigma for the orientations, 1.09 of one, turned, for the descriptor. The level
 * is blurred by about that sigma, so denser samples would say nothing new: at a spacing
 * of 1.09 sigmas a Gaussian has lost all but 1.6 % of what could alias. OpenCV looks at
 * every pixel, about 1590 for a descriptor; here it is 324. What is gained most is that
 * in a grid the weight of each sample is a constant, and the histogram a product with
 * constant matrices instead of a scatter.
 */
#include "extractor/vision/sift_points.h"

#include "extractor/vision/sift_math.h"

#include <math.h>
#include <string.h>

#define ANGLES_STEP   0.5 /* sigmas between samples */
#define ANGLES_WINDOW 1.3 /* sigmas; Lowe says 1.5 */
#define SQUARE_SIGMAS 3.5 /* side of one of the 4 x 4 squares; Lowe says 3.0 */
#define SQUARES_SPAN  5.0 /* squares that the cells cover: 4, and a half on each side */
#define SQUARE_WINDOW 2.5 /* squares; Lowe says 2.0 */
#define SQUARES_STEP  (SQUARE_SIGMAS * SQUARES_SPAN / VISION_SIFT_CELLS)
#define PEAK_SHARE    0.8f /* of the highest, that another orientation must reach */
#define CLIP          0.2f
#define QUANTUM       512.0f
#define LANES         16 /* of sums: what the widest vector adds at once */

void vision_sift_windows_init(struct sift_windows *w)
{
    double angles[VISION_SIFT_CELLS];

    for (int i = 0; i < VISION_SIFT_CELLS; i++) {
        const double sigmas = (i - 7.5) * ANGLES_STEP / ANGLES_WINDOW;
        const double square = (i - 7.5) * SQUARES_SPAN / VISION_SIFT_CELLS;
        const double window = square / SQUARE_WINDOW;
        angles[i] = sift_exp(-0.5 * sigmas * sigmas);
        for (int k = 0; k < 4; k++) {
            const double share = 1 - fabs(square - (k - 1.5));
            w->squares[k][i] =
                share > 0 ? (float)(share * sift_exp(-0.5 * window * window)) : 0.0f;
        }
    }
    for (int k = 0; k < VISION_SIFT_POLAR_FLOATS; k++)
        w->angles[k] =
            (float)(angles[k / VISION_SIFT_CELLS] * angles[k % VISION_SIFT_CELLS]);
}

/* ---- the samples round a keypoint ---- */

static size_t patch_reach(double scale)
{
    return (size_t)(SIFT_PATCH_SIGMAS * scale) + 2;
}

size_t vision_sift_patch_floats(const struct sift_stream *s)
{
    const size_t side = 2 * (size_t)s->reach_px + 4;
    return side * side + VISION_SIFT_PAD;
}

static ptrdiff_t clamp(ptrdiff_t i, size_t n)
{
    return i < 0 ? 0 : i >= (ptrdiff_t)n ? (ptrdiff_t)n - 1 : i;
}

/* n samples of a row from x on; beyond its ends, the sample there. */
static void copy_row(float *to, const float *from, ptrdiff_t x, ptrdiff_t n,
                     ptrdiff_t width)
{
    ptrdiff_t i = 0;
    for (; i < n && x + i < 0; i++)
        to[i] = from[0];
    const ptrdiff_t inside = (width - x < n ? width - x : n) - i;
    if (inside > 0) {
        memcpy(to + i, from + x + i, (size_t)inside * sizeof *to);
        i += inside;
    }
    for (; i < n; i++)
        to[i] = from[width - 1];
}

/* The pixels round `point`: in the ring, or, where some are beyond the rim of the picture,
 * a copy, with those on the rim for them. */
static struct vision_sift_grid grid_round(const struct sift_points *p,
                                          const struct sift_octave *o,
                                          const struct sift_point *point)
{
    const size_t reach = patch_reach(point->scale), side = 2 * reach + 2;
    const ptrdiff_t x = (ptrdiff_t)point->x - (ptrdiff_t)reach;
    const ptrdiff_t y = (ptrdiff_t)point->y - (ptrdiff_t)reach;
    const size_t capacity = o->level[point->layer].capacity;
    struct vision_sift_grid grid = {.x = point->x - (float)x,
                                    .y = point->y - (float)y,
                                    .back = (float)capacity};

    if (x >= 0 && y >= 0 && x + side <= o->width && y + side <= o->height) {
        grid.pixels = sift_row(o, point->layer, (size_t)y) + x;
        grid.stride = (ptrdiff_t)o->stride;
        grid.wrap = (float)(capacity - (size_t)y % capacity);
        return grid;
    }
    for (size_t i = 0; i < side; i++)
        copy_row(p->patch + i * side,
                 sift_row(o, point->layer, (size_t)clamp(y + (ptrdiff_t)i, o->height)), x,
                 (ptrdiff_t)side, (ptrdiff_t)o->width);
    grid.pixels = p->patch;
    grid.stride = (ptrdiff_t)side;
    grid.wrap = (float)side;
    return grid;
}

/* ---- orientations ---- */

static float wrap_turn(float radians)
{
    const float whole = (float)(2 * SIFT_PI);
    radians = radians < 0 ? radians + whole : radians;
    return radians < whole ? radians : 0.0f;
}

static void smooth(float to[VISION_SIFT_ANGLES], const float from[VISION_SIFT_ANGLES])
{
    float around[VISION_SIFT_ANGLES + 4]; /* two more on each side instead of a wrap */
    memcpy(around + 2, from, VISION_SIFT_ANGLES * sizeof *from);
    memcpy(around, from + VISION_SIFT_ANGLES - 2, 2 * sizeof *from);
    memcpy(around + VISION_SIFT_ANGLES + 2, from, 2 * sizeof *from);
    for (int i = 0; i < VISION_SIFT_ANGLES; i++) {
        const float *at = around + i;
        to[i] = (at[0] + at[4]) * (1.0f / 16) + (at[1] + at[3]) * (4.0f / 16) +
                at[2] * (6.0f / 16);
    }
}

static size_t peaks(const float h[VISION_SIFT_ANGLES], float radians[SIFT_ANGLES_MAX])
{
    float least = 0;
    size_t count = 0;
    for (int i = 0; i < VISION_SIFT_ANGLES; i++)
        least = h[i] > least ? h[i] : least;
    least *= PEAK_SHARE;

    for (int i = 0; i < VISION_SIFT_ANGLES && count < SIFT_ANGLES_MAX; i++) {
        const float before = h[(i + VISION_SIFT_ANGLES - 1) % VISION_SIFT_ANGLES];
        const float after = h[(i + 1) % VISION_SIFT_ANGLES];
        if (h[i] < least || h[i] <= before || h[i] <= after)
            continue;
        const float bin =
            (float)i + 0.5f * (before - after) / (before - 2.0f * h[i] + after);
        radians[count++] = wrap_turn(bin * (float)(2 * SIFT_PI / VISION_SIFT_ANGLES));
    }
    return count;
}

static size_t orientations(const struct sift_points *p, struct vision_sift_grid grid,
                           float scale, float radians[SIFT_ANGLES_MAX])
{
    float samples[VISION_SIFT_GRID_FLOATS], length[VISION_SIFT_POLAR_FLOATS];
    float turn[VISION_SIFT_POLAR_FLOATS];
    float raw[VISION_SIFT_ANGLES], once[VISION_SIFT_ANGLES];
    const struct vision_sift_table *k = p->stream->k;

    if (p->params->upright) {
        radians[0] = 0;
        return 1;
    }
    grid.along_x = (float)ANGLES_STEP * scale;
    grid.along_y = 0;
    k->sample(samples, &grid);
    k->polar(length, turn, samples);
    k->angles(raw, length, turn, p->windows.angles);
    smooth(once, raw);
    return peaks(once, radians);
}

/* ---- descriptor ---- */

static float sum_lanes(float lanes[LANES])
{
    for (int n = LANES / 2; n > 0; n /= 2)
        for (int i = 0; i < n; i++)
            lanes[i] += lanes[i + n];
    return lanes[0];
}

static float sum_of(const float *v)
{
    float lanes[LANES] = {0};
    for (int i = 0; i < VISION_SIFT_RAW_FLOATS; i += LANES)
        for (int l = 0; l < LANES; l++)
            lanes[l] += v[i + l];
    return sum_lanes(lanes);
}

static float length_of(const float *v)
{
    float lanes[LANES] = {0};
    for (int i = 0; i < VISION_SIFT_RAW_FLOATS; i += LANES)
        for (int l = 0; l < LANES; l++)
            lanes[l] += v[i + l] * v[i + l];
    return sqrtf(sum_lanes(lanes));
}

static void quantise(uint8_t out[VISION_DESCRIPTOR_BYTES], float *v,
                     enum vision_norm norm)
{
    const float most = CLIP * length_of(v);
    for (int i = 0; i < VISION_SIFT_RAW_FLOATS; i++)
        v[i] = v[i] < most ? v[i] : most;

    const float whole = norm == VISION_NORM_ROOT ? sum_of(v) : length_of(v);
    const float one = whole > 0 ? 1.0f / whole : 0.0f;
    if (norm == VISION_NORM_ROOT)
        for (int i = 0; i < VISION_SIFT_RAW_FLOATS; i++)
            v[i] = QUANTUM * sqrtf(v[i] * one);
    else
        for (int i = 0; i < VISION_SIFT_RAW_FLOATS; i++)
            v[i] = QUANTUM * (v[i] * one);
    for (int i = 0; i < VISION_SIFT_RAW_FLOATS; i++)
        out[i] = (uint8_t)(v[i] < 255.0f ? (int)(v[i] + 0.5f) : 255);
}

static void describe(const struct sift_points *p, struct vision_sift_grid grid,
                     float scale, float radians, uint8_t out[VISION_DESCRIPTOR_BYTES])
{
    float samples[VISION_SIFT_GRID_FLOATS], length[VISION_SIFT_POLAR_FLOATS];
    float turn[VISION_SIFT_POLAR_FLOATS], raw[VISION_SIFT_RAW_FLOATS];
    const struct vision_sift_table *k = p->stream->k;
    double sine, cosine;

    sift_sin_cos(radians, &sine, &cosine);
    grid.along_x = (float)(SQUARES_STEP * scale * cosine);
    grid.along_y = (float)(SQUARES_STEP * scale * sine);
    k->sample(samples, &grid);
    k->polar(length, turn, samples);
    k->pool(raw, length, turn, (const float(*)[VISION_SIFT_CELLS])p->windows.squares);
    quantise(out, raw, p->params->norm);
}

size_t vision_sift_describe(const struct sift_points *p, const struct sift_octave *o,
                            const struct sift_point *point,
                            struct vision_feature out[SIFT_ANGLES_MAX])
{
    const struct vision_sift_grid grid = grid_round(p, o, point);
    float radians[SIFT_ANGLES_MAX] = {0};
    const size_t count = orientations(p, grid, point->scale, radians);

    for (size_t i = 0; i < count; i++) {
        out[i].orientation = radians[i];
        describe(p, grid, point->scale, radians[i], out[i].descriptor);
    }
    return count;
}
