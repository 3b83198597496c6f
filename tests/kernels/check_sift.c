#include "tests/kernels/check.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define PAD        VISION_SIFT_PAD
#define RADIUS_MAX 24

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

static void check_blur(struct check *c, const struct vision_sift_table *plain,
                       const struct vision_sift_table *fast, size_t n)
{
    const size_t radius = 1 + check_below(c, RADIUS_MAX), count = 2 * radius + 1;
    const size_t begin = check_below(c, padded(n) / PAD) * PAD;
    const float *rows[2 * RADIUS_MAX + 1];
    float w[RADIUS_MAX + 1];
    /* The line along which it is blurred has room for the radius on both sides. */
    struct rows in = some_rows(c, count, n), out = some_rows(c, 2, n);
    struct rows line = some_rows(c, 1, n + 4 * RADIUS_MAX);
    float *want = row_of(&out, 0), *got = row_of(&out, 1);

    for (size_t i = 0; i <= radius; i++)
        w[i] = some_float(c);
    for (size_t i = 0; i < count; i++)
        rows[i] = row_of(&in, i);
    snprintf(c->about, sizeof c->about, "%zu from %zu on, radius %zu", n, begin, radius);
    plain->columns(want, rows, w, radius, begin, n);
    fast->columns(got, rows, w, radius, begin, n);
    check_same(c, want + begin, got + begin, (n - begin) * sizeof(float), "columns");
    plain->rows(want, row_of(&line, 0) + 2 * PAD, w, radius, n);
    fast->rows(got, row_of(&line, 0) + 2 * PAD, w, radius, n);
    check_same(c, want, got, n * sizeof(float), "rows");
    rows_free(&in);
    rows_free(&out);
    rows_free(&line);
}

void check_sift_lines(struct check *c, const struct vision_kernels *plain,
                      const struct vision_kernels *fast)
{
    const size_t n = 1 + check_below(c, check_below(c, 3) ? 80 : 700);

    check_load(c, &plain->sift, &fast->sift, n);
    check_mix_and_halve(c, &plain->sift, &fast->sift, n);
    check_blur(c, &plain->sift, &fast->sift, n);
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

/* The grid turned by any angle in a patch that ends with the last pixel it may read. */
static void check_sample(struct check *c, const struct vision_sift_table *plain,
                         const struct vision_sift_table *fast,
                         float samples[VISION_SIFT_GRID_FLOATS])
{
    const double step = 0.5 + (double)check_below(c, 400) / 100;
    const double angle = (double)check_below(c, 6284) / 1000;
    const size_t reach = (size_t)(8.5 * 1.4143 * step) + 2, side = 2 * reach + 2;
    const size_t bytes = side * side * sizeof(float);
    float *pixels = check_guarded(c, bytes), got[VISION_SIFT_GRID_FLOATS];

    for (size_t i = 0; i < side * side; i++)
        pixels[i] = (float)check_below(c, 256);
    const struct vision_sift_grid grid = {
        .pixels = pixels,
        .stride = (ptrdiff_t)side,
        .x = (float)reach + (float)check_below(c, 1000) / 1000.0f,
        .y = (float)reach + (float)check_below(c, 1000) / 1000.0f,
        .along_x = (float)(step * cos(angle)),
        .along_y = (float)(step * sin(angle)),
    };
    snprintf(c->about, sizeof c->about, "step %g, angle %g", step, angle);
    plain->sample(samples, &grid);
    fast->sample(got, &grid);
    check_same(c, samples, got, VISION_SIFT_GRID * VISION_SIFT_GRID * sizeof(float),
               "sample");
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

static void check_histograms(struct check *c, const struct vision_sift_table *plain,
                             const struct vision_sift_table *fast, const float *length,
                             const float *turn)
{
    float weights[VISION_SIFT_POLAR_FLOATS], squares[4][VISION_SIFT_CELLS];
    float angles[2][VISION_SIFT_ANGLES], raw[2][VISION_SIFT_RAW_FLOATS];
    const float(*const w)[VISION_SIFT_CELLS] = (const float(*)[VISION_SIFT_CELLS])squares;

    for (int i = 0; i < VISION_SIFT_POLAR_FLOATS; i++)
        weights[i] = (float)check_below(c, 1000) / 1000.0f;
    some_squares(c, squares);
    plain->angles(angles[0], length, turn, weights);
    fast->angles(angles[1], length, turn, weights);
    check_same(c, angles[0], angles[1], sizeof angles[0], "angles");
    plain->pool(raw[0], length, turn, w);
    fast->pool(raw[1], length, turn, w);
    check_same(c, raw[0], raw[1], sizeof raw[0], "pool");
}

void check_sift_keypoint(struct check *c, const struct vision_kernels *plain,
                         const struct vision_kernels *fast)
{
    float samples[VISION_SIFT_GRID_FLOATS];
    float length[2][VISION_SIFT_POLAR_FLOATS], turn[2][VISION_SIFT_POLAR_FLOATS];

    check_sample(c, &plain->sift, &fast->sift, samples);
    if (check_below(c, 2)) /* flat parts, and axes, where angles are at their edges */
        for (int i = 0; i < VISION_SIFT_GRID_FLOATS; i++)
            samples[i] = (float)check_below(c, 2);
    plain->sift.polar(length[0], turn[0], samples);
    fast->sift.polar(length[1], turn[1], samples);
    check_same(c, length[0], length[1], sizeof length[0], "lengths of gradients");
    check_same(c, turn[0], turn[1], sizeof turn[0], "turns of gradients");
    check_histograms(c, &plain->sift, &fast->sift, length[0], turn[0]);
}
