#include "tests/kernels/check.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define PAD        VISION_SIFT_PAD
#define RADIUS_MAX 24
#define ROWS_MAX   9

/* Ordinary values, ties, zeros of both signs, small and large ones. */
static float some_float(struct check *c)
{
    const uint64_t r = check_rand(c);

    switch (r % 8) {
    case 0:
        return r & 64 ? 0.0f : -0.0f;
    case 1:
        return (float)(r >> 8 & 3);
    case 2:
        return (float)(r >> 8 & 0xffff) * 1e-9f;
    default:
        return (float)(r >> 8 & 0xffffff) / 65536.0f;
    }
}

static size_t padded(size_t n)
{
    return (n + PAD - 1) / PAD * PAD;
}

/* Rows as sift_kernels.h promises them; the last ends where nothing may be touched. */
struct rows {
    float *memory;
    size_t bytes, stride;
};

static struct rows some_rows(struct check *c, size_t count, size_t n)
{
    struct rows rows = {.stride = PAD + padded(n) + PAD};

    rows.bytes = count * rows.stride * sizeof(float);
    rows.memory = check_guarded(c, rows.bytes);
    for (size_t i = 0; i < count * rows.stride; i++)
        rows.memory[i] = some_float(c);
    return rows;
}

static float *row_of(const struct rows *rows, size_t i)
{
    return rows->memory + i * rows->stride + PAD;
}

static void rows_free(struct rows *rows)
{
    check_release(rows->memory, rows->bytes);
}

/* ---- sift_lines: what is done to whole rows ---- */

static void check_load(struct check *c, const struct vision_sift_table *plain,
                       const struct vision_sift_table *fast, size_t n)
{
    const unsigned depth = check_below(c, 2) ? 8 : 16, doubled = check_below(c, 2) != 0;
    const size_t results = n << doubled;
    void *src = check_guarded(c, n * depth / 8);
    struct rows out = some_rows(c, 2, results);

    snprintf(c->about, sizeof c->about, "%zu pixels of %u bits, doubled %u", n, depth,
             doubled);
    plain->load(row_of(&out, 0), src, n, depth, doubled);
    fast->load(row_of(&out, 1), src, n, depth, doubled);
    check_same(c, row_of(&out, 0), row_of(&out, 1), results * sizeof(float), "load");
    rows_free(&out);
    check_release(src, n * depth / 8);
}

static void check_mix_and_halve(struct check *c, const struct vision_sift_table *plain,
                                const struct vision_sift_table *fast, size_t n)
{
    struct rows in = some_rows(c, 2, 2 * n), out = some_rows(c, 2, n);
    float *want = row_of(&out, 0), *got = row_of(&out, 1);

    snprintf(c->about, sizeof c->about, "%zu results", n);
    plain->mix(want, row_of(&in, 0), row_of(&in, 1), n);
    fast->mix(got, row_of(&in, 0), row_of(&in, 1), n);
    check_same(c, want, got, n * sizeof(float), "mix");
    plain->halve(want, row_of(&in, 1), n);
    fast->halve(got, row_of(&in, 1), n);
    check_same(c, want, got, n * sizeof(float), "halve");
    rows_free(&in);
    rows_free(&out);
}

static void check_columns(struct check *c, const struct vision_sift_table *plain,
                          const struct vision_sift_table *fast, size_t n)
{
    const size_t radius = 1 + check_below(c, RADIUS_MAX),
                 count = 1 + check_below(c, ROWS_MAX);
    const size_t begin = check_below(c, padded(n) / PAD) * PAD;
    const float *rows[2 * RADIUS_MAX + ROWS_MAX];
    float w[RADIUS_MAX + 1];
    struct rows in = some_rows(c, 2 * radius + count, n);
    struct rows want = some_rows(c, count, n), got = some_rows(c, count, n);

    for (size_t i = 0; i <= radius; i++)
        w[i] = some_float(c);
    for (size_t i = 0; i < 2 * radius + count; i++)
        rows[i] = row_of(&in, i);
    snprintf(c->about, sizeof c->about, "%zu rows of %zu from %zu on, radius %zu", count,
             n, begin, radius);
    plain->columns(row_of(&want, 0), want.stride, rows, count, w, radius, begin, n);
    fast->columns(row_of(&got, 0), got.stride, rows, count, w, radius, begin, n);
    for (size_t i = 0; i < count; i++)
        check_same(c, row_of(&want, i) + begin, row_of(&got, i) + begin,
                   (n - begin) * sizeof(float), "columns");
    rows_free(&in);
    rows_free(&want);
    rows_free(&got);
}

static void check_rows(struct check *c, const struct vision_sift_table *plain,
                       const struct vision_sift_table *fast, size_t n)
{
    const size_t radius = 1 + check_below(c, RADIUS_MAX);
    float w[RADIUS_MAX + 1];
    /* The line along which it is blurred has room for the radius on both sides. */
    struct rows out = some_rows(c, 2, n), line = some_rows(c, 1, n + 4 * RADIUS_MAX);

    for (size_t i = 0; i <= radius; i++)
        w[i] = some_float(c);
    snprintf(c->about, sizeof c->about, "%zu wide, radius %zu", n, radius);
    plain->rows(row_of(&out, 0), row_of(&line, 0) + 2 * PAD, w, radius, n);
    fast->rows(row_of(&out, 1), row_of(&line, 0) + 2 * PAD, w, radius, n);
    check_same(c, row_of(&out, 0), row_of(&out, 1), n * sizeof(float), "rows");
    rows_free(&out);
    rows_free(&line);
}

void check_sift_lines(struct check *c, const struct vision_kernels *plain,
                      const struct vision_kernels *fast)
{
    const size_t n = 1 + check_below(c, check_below(c, 3) ? 80 : 700);

    check_load(c, &plain->sift, &fast->sift, n);
    check_mix_and_halve(c, &plain->sift, &fast->sift, n);
    check_columns(c, &plain->sift, &fast->sift, n);
    check_rows(c, &plain->sift, &fast->sift, n);
}

/* ---- sift_extrema ---- */

/* Few different values, so that there are ties, and a few that stand out. */
void check_sift_extrema(struct check *c, const struct vision_kernels *plain,
                        const struct vision_kernels *fast)
{
    const size_t n = 1 + check_below(c, check_below(c, 3) ? 80 : 700);
    const size_t values = 2 + check_below(c, 40);
    const float least = check_below(c, 2) ? 1e-20f : 3.0f;
    struct rows rows = some_rows(c, 12, n);
    const float *g[4][3];
    const size_t bytes = n * sizeof(uint32_t);
    uint32_t *want = check_guarded(c, bytes), *got = check_guarded(c, bytes);

    for (size_t i = 0; i < 12; i++) {
        g[i / 3][i % 3] = row_of(&rows, i);
        for (size_t x = 0; x < n; x++)
            row_of(&rows, i)[x] = (float)check_below(c, values);
    }
    for (size_t i = 0; i < 1 + n / 20; i++)
        row_of(&rows, 7)[check_below(c, n)] += check_below(c, 2) ? 200.0f : -200.0f;

    const float *const(*levels)[3] = (const float *const(*)[3])g;
    size_t hits = plain->sift.extrema(want, levels, least, n);
    size_t found = fast->sift.extrema(got, levels, least, n);
    snprintf(c->about, sizeof c->about, "%zu wide, %zu hits", n, hits);
    if (check_same(c, &hits, &found, sizeof hits, "the number of hits"))
        check_same(c, want, got, hits * sizeof *want, "hits");
    check_release(want, bytes);
    check_release(got, bytes);
    rows_free(&rows);
}

/* ---- sift_keypoint ---- */

static void steps_of(struct vision_sift_steps *steps, size_t side)
{
    const float middle = (float)(side - 1) / 2;

    steps->count = padded(side * side);
    for (size_t k = 0; k < steps->count; k++) {
        const size_t at = k < side * side ? k : side * side - 1;
        steps->u[k] = (float)(at % side) - middle;
        steps->v[k] = (float)(at / side) - middle;
    }
}

/* The grid turned by any angle in a patch that ends with the last pixel it may read, or
 * in a ring that begins anywhere in the patch. */
static void check_sample(struct check *c, const struct vision_sift_table *plain,
                         const struct vision_sift_table *fast, size_t grid_side,
                         float samples[VISION_SIFT_SAMPLES_MAX])
{
    const double step = 0.5 + (double)check_below(c, 400) / 100;
    const double angle = (double)check_below(c, 6284) / 1000;
    const size_t reach = (size_t)(0.5 * (double)grid_side * 1.4143 * step) + 2;
    const size_t side = 2 * reach + 2, bytes = side * side * sizeof(float);
    const size_t wrap = 1 + check_below(c, side); /* `side`: the patch is in one piece */
    float *pixels = check_guarded(c, bytes), got[VISION_SIFT_SAMPLES_MAX];
    struct vision_sift_steps steps;

    for (size_t i = 0; i < side * side; i++)
        pixels[i] = (float)check_below(c, 256);
    steps_of(&steps, grid_side);
    const struct vision_sift_grid grid = {
        .pixels = pixels + (side - wrap) * side,
        .stride = (ptrdiff_t)side,
        .wrap = (float)wrap,
        .back = (float)side,
        .x = (float)reach + (float)check_below(c, 1000) / 1000.0f,
        .y = (float)reach + (float)check_below(c, 1000) / 1000.0f,
        .along_x = (float)(step * cos(angle)),
        .along_y = (float)(step * sin(angle)),
    };
    snprintf(c->about, sizeof c->about, "side %zu, step %g, angle %g, wrap %zu of %zu",
             grid_side, step, angle, wrap, side);
    plain->sample(samples, &steps, &grid);
    fast->sample(got, &steps, &grid);
    check_same(c, samples, got, steps.count * sizeof(float), "sample");
    check_release(pixels, bytes);
}

/* Zero where a square has no share in a row of cells, as the kernels may assume. */
static void some_squares(struct check *c, float squares[4][VISION_SIFT_CELLS])
{
    for (int i = 0; i < 4; i++)
        for (int k = 0; k < VISION_SIFT_CELLS; k++) {
            const double apart = fabs((k - 7.5) * 5 / 16 - (i - 1.5));
            squares[i][k] = apart < 1 ? (float)check_below(c, 1000) / 1000.0f : 0.0f;
        }
}

/* A few flat ones, lone directions, and values that saturate the bytes. */
static void check_finish(struct check *c, const struct vision_sift_table *plain,
                         const struct vision_sift_table *fast,
                         const float raw[VISION_SIFT_RAW_FLOATS])
{
    float once[VISION_SIFT_RAW_FLOATS], again[VISION_SIFT_RAW_FLOATS];
    uint8_t want[VISION_SIFT_RAW_FLOATS], got[VISION_SIFT_RAW_FLOATS];
    const unsigned root = check_below(c, 2);

    memcpy(once, raw, sizeof once);
    switch (check_below(c, 4)) {
    case 0:
        memset(once, 0, sizeof once);
        break;
    case 1:
        memset(once, 0, sizeof once);
        once[check_below(c, VISION_SIFT_RAW_FLOATS)] = 1e-30f;
        once[check_below(c, VISION_SIFT_RAW_FLOATS)] = 77;
        break;
    default:
        once[check_below(c, VISION_SIFT_RAW_FLOATS)] *= 1000;
    }
    memcpy(again, once, sizeof again);
    snprintf(c->about, sizeof c->about, "root %u", root);
    plain->finish(want, once, root);
    fast->finish(got, again, root);
    check_same(c, want, got, sizeof want, "finish");
}

static void check_spin(struct check *c, const struct vision_sift_table *plain,
                       const struct vision_sift_table *fast, const float *samples)
{
    float length[2][VISION_SIFT_SPIN_RUN], turn[2][VISION_SIFT_SPIN_RUN];
    float weights[VISION_SIFT_SPIN_RUN], angles[2][VISION_SIFT_ANGLES];

    plain->polar(length[0], turn[0], samples, VISION_SIFT_SPIN_GRID, 1,
                 VISION_SIFT_SPIN_RUN);
    fast->polar(length[1], turn[1], samples, VISION_SIFT_SPIN_GRID, 1,
                VISION_SIFT_SPIN_RUN);
    check_same(c, length[0], length[1], sizeof length[0], "lengths in a run");
    check_same(c, turn[0], turn[1], sizeof turn[0], "turns in a run");
    for (int i = 0; i < VISION_SIFT_SPIN_RUN; i++)
        weights[i] = (float)check_below(c, 1000) / 1000.0f;
    plain->angles(angles[0], length[0], turn[0], weights);
    fast->angles(angles[1], length[0], turn[0], weights);
    check_same(c, angles[0], angles[1], sizeof angles[0], "angles");
}

static void check_square(struct check *c, const struct vision_sift_table *plain,
                         const struct vision_sift_table *fast, const float *samples)
{
    float length[2][VISION_SIFT_POLAR_FLOATS], turn[2][VISION_SIFT_POLAR_FLOATS];
    float squares[4][VISION_SIFT_CELLS], raw[2][VISION_SIFT_RAW_FLOATS];
    const float(*const w)[VISION_SIFT_CELLS] = (const float(*)[VISION_SIFT_CELLS])squares;
    const size_t cells = VISION_SIFT_CELLS;

    plain->polar(length[0], turn[0], samples, VISION_SIFT_GRID, cells, cells);
    fast->polar(length[1], turn[1], samples, VISION_SIFT_GRID, cells, cells);
    check_same(c, length[0], length[1], sizeof length[0], "lengths of gradients");
    check_same(c, turn[0], turn[1], sizeof turn[0], "turns of gradients");
    some_squares(c, squares);
    plain->pool(raw[0], length[0], turn[0], w);
    fast->pool(raw[1], length[0], turn[0], w);
    check_same(c, raw[0], raw[1], sizeof raw[0], "pool");
    check_finish(c, plain, fast, raw[0]);
}

void check_sift_keypoint(struct check *c, const struct vision_kernels *plain,
                         const struct vision_kernels *fast)
{
    const bool spin = check_below(c, 2) != 0;
    const size_t side = spin ? VISION_SIFT_SPIN_GRID : VISION_SIFT_GRID;
    float samples[VISION_SIFT_SAMPLES_MAX];

    check_sample(c, &plain->sift, &fast->sift, side, samples);
    if (check_below(c, 2)) /* flat parts, and axes, where angles are at their edges */
        for (size_t i = 0; i < padded(side * side); i++)
            samples[i] = (float)check_below(c, 2);
    if (spin)
        check_spin(c, &plain->sift, &fast->sift, samples);
    else
        check_square(c, &plain->sift, &fast->sift, samples);
}
