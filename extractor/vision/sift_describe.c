/*
 * sift_describe.c - the orientations and the descriptor of one keypoint.
 *
 * Both come from a grid of samples whose spacing follows the keypoint's scale: 14 x 14,
 * 0.6 of a sigma apart, for the orientations; 18 x 18, 1.09 apart and turned, for the
 * descriptor. The level is blurred by about that sigma, so denser samples would say
 * nothing new: at a spacing of 1.09 sigmas a Gaussian has lost all but 1.6 % of what
 * could alias. OpenCV looks at every pixel, about 1590 for a descriptor; here it is 324.
 * What is gained most is that in a grid the weight of each sample is a constant, and the
 * histogram a product with constant matrices instead of a scatter.
 */
#include "extractor/vision/sift_points.h"

#include "extractor/vision/sift_math.h"

#include <math.h>
#include <string.h>

#define SPIN_STEP     0.6 /* sigmas between samples */
#define SPIN_WINDOW   1.3 /* sigmas; Lowe says 1.5 */
#define SQUARE_SIGMAS 3.5 /* side of one of the 4 x 4 squares; Lowe says 3.0 */
#define SQUARES_SPAN  5.0 /* squares that the cells cover: 4, and a half on each side */
#define SQUARE_WINDOW 2.5 /* squares; Lowe says 2.0 */
#define SQUARES_STEP  (SQUARE_SIGMAS * SQUARES_SPAN / VISION_SIFT_CELLS)
#define PEAK_SHARE    0.8f /* of the highest, that another orientation must reach */

static void steps_init(struct vision_sift_steps *steps, size_t side)
{
    const size_t samples = side * side;
    const float middle = 0.5f * (float)(side - 1);

    steps->count = (samples + VISION_SIFT_PAD - 1) / VISION_SIFT_PAD * VISION_SIFT_PAD;
    for (size_t k = 0; k < steps->count; k++) {
        const size_t at = k < samples ? k : samples - 1;
        steps->u[k] = (float)(at % side) - middle;
        steps->v[k] = (float)(at / side) - middle;
    }
}

/* How much a cell weighs for the orientation, along one side. */
static double spin_weight(size_t cell)
{
    const double middle = 0.5 * (VISION_SIFT_SPIN_CELLS - 1);
    const double sigmas = ((double)cell - middle) * SPIN_STEP / SPIN_WINDOW;
    return sift_exp(-0.5 * sigmas * sigmas);
}

void vision_sift_windows_init(struct sift_windows *w)
{
    steps_init(&w->spin_steps, VISION_SIFT_SPIN_GRID);
    steps_init(&w->steps, VISION_SIFT_GRID);
    for (size_t k = 0; k < VISION_SIFT_SPIN_RUN; k++) {
        const size_t i = k / VISION_SIFT_SPIN_GRID, j = k % VISION_SIFT_SPIN_GRID;
        const bool is_cell = i < VISION_SIFT_SPIN_CELLS && j < VISION_SIFT_SPIN_CELLS;
        w->spin[k] = is_cell ? (float)(spin_weight(i) * spin_weight(j)) : 0.0f;
    }
    for (int i = 0; i < VISION_SIFT_CELLS; i++) {
        const double square = (i - 7.5) * SQUARES_SPAN / VISION_SIFT_CELLS;
        const double window = square / SQUARE_WINDOW;
        for (int k = 0; k < 4; k++) {
            const double share = 1 - fabs(square - (k - 1.5));
            w->squares[k][i] =
                share > 0 ? (float)(share * sift_exp(-0.5 * window * window)) : 0.0f;
        }
    }
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

/* The pixels round `point`: in the ring, or, where some are beyond the rim of the
 * picture, a copy, with those on the rim for them. */
static struct vision_sift_grid grid_round(const struct sift_points *p,
                                          const struct sift_octave *o,
                                          const struct sift_point *point)
{
    const size_t reach = patch_reach(point->scale), side = 2 * reach + 2;
    const ptrdiff_t x = (ptrdiff_t)point->x - (ptrdiff_t)reach;
    const ptrdiff_t y = (ptrdiff_t)point->y - (ptrdiff_t)reach;
    const size_t capacity = o->level[point->layer].capacity;
    struct vision_sift_grid grid = {
        .x = point->x - (float)x, .y = point->y - (float)y, .back = (float)capacity};

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

#define ANGLES VISION_SIFT_ANGLES

/* With the last one before the first, and the first after the last. */
static void smooth(float to[ANGLES + 2], const float from[ANGLES])
{
    float around[ANGLES + 4]; /* two more on each side instead of a wrap */
    memcpy(around + 2, from, ANGLES * sizeof *from);
    memcpy(around, from + ANGLES - 2, 2 * sizeof *from);
    memcpy(around + ANGLES + 2, from, 2 * sizeof *from);
    for (int i = 0; i < ANGLES; i++) {
        const float *at = around + i;
        to[i + 1] = (at[0] + at[4]) * (1.0f / 16) + (at[1] + at[3]) * (4.0f / 16) +
                    at[2] * (6.0f / 16);
    }
    to[0] = to[ANGLES];
    to[ANGLES + 1] = to[1];
}

static float highest(const float h[ANGLES])
{
    float lanes[4] = {0}; /* of the vectors of any machine */
    for (int i = 0; i < ANGLES; i += 4)
        for (int l = 0; l < 4; l++)
            lanes[l] = h[i + l] > lanes[l] ? h[i + l] : lanes[l];
    lanes[0] = lanes[0] > lanes[2] ? lanes[0] : lanes[2];
    lanes[1] = lanes[1] > lanes[3] ? lanes[1] : lanes[3];
    return lanes[0] > lanes[1] ? lanes[0] : lanes[1];
}

/* At least one: of equal neighbours the first counts, and where all are equal the first
 * of all. So a keypoint is a feature at least, which vision_sift_points_on_hit() goes by.
 */
static size_t peaks(const float h[ANGLES + 2], float radians[SIFT_ANGLES_MAX])
{
    const float least = PEAK_SHARE * highest(h + 1);
    size_t count = 0;

    for (int i = 0; i < ANGLES && count < SIFT_ANGLES_MAX; i++) {
        const float before = h[i], here = h[i + 1], after = h[i + 2];
        if (here < least || here <= before || here < after)
            continue;
        const float bin =
            (float)i + 0.5f * (before - after) / (before - 2.0f * here + after);
        radians[count++] = wrap_turn(bin * (float)(2 * SIFT_PI / ANGLES));
    }
    if (count == 0)
        radians[count++] = 0;
    return count;
}

static size_t orientations(const struct sift_points *p, struct vision_sift_grid grid,
                           float scale, float radians[SIFT_ANGLES_MAX])
{
    float samples[VISION_SIFT_SAMPLES_MAX], length[VISION_SIFT_SPIN_RUN];
    float turn[VISION_SIFT_SPIN_RUN], raw[ANGLES], once[ANGLES + 2];
    const struct vision_sift_table *k = p->stream->k;

    if (p->params->upright) {
        radians[0] = 0;
        return 1;
    }
    grid.along_x = (float)SPIN_STEP * scale;
    grid.along_y = 0;
    k->sample(samples, &p->windows.spin_steps, &grid);
    k->polar(length, turn, samples, VISION_SIFT_SPIN_GRID, 1, VISION_SIFT_SPIN_RUN);
    k->angles(raw, length, turn, p->windows.spin);
    smooth(once, raw);
    return peaks(once, radians);
}

/* ---- descriptor ---- */

static void describe(const struct sift_points *p, struct vision_sift_grid grid,
                     float scale, float radians, uint8_t out[VISION_DESCRIPTOR_BYTES])
{
    float samples[VISION_SIFT_SAMPLES_MAX], length[VISION_SIFT_POLAR_FLOATS];
    float turn[VISION_SIFT_POLAR_FLOATS], raw[VISION_SIFT_RAW_FLOATS];
    const struct vision_sift_table *k = p->stream->k;
    double sine, cosine;

    sift_sin_cos(radians, &sine, &cosine);
    grid.along_x = (float)(SQUARES_STEP * scale * cosine);
    grid.along_y = (float)(SQUARES_STEP * scale * sine);
    k->sample(samples, &p->windows.steps, &grid);
    k->polar(length, turn, samples, VISION_SIFT_GRID, VISION_SIFT_CELLS,
             VISION_SIFT_CELLS);
    k->pool(raw, length, turn, (const float(*)[VISION_SIFT_CELLS])p->windows.squares);
    k->finish(out, raw, p->params->norm == VISION_NORM_ROOT);
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
