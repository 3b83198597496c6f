/*
 * sift_kernels.h - the inner loops of sift_native.c, one line of the kernel table each.
 *
 * The scalar functions in sift_kernels.c are the definition. All arithmetic is float,
 * element by element, of + - * / and square root, in the order written here; there is no
 * FMA and no libm. So a version that does 8 or 16 elements at once gives the same bits,
 * and so does another architecture.
 *
 * Rows: floats, aligned to 64 bytes, with VISION_SIFT_PAD floats readable before the
 * first and readable and writable up to the next multiple of VISION_SIFT_PAD after the
 * last, and as many again. A kernel works on whole multiples of VISION_SIFT_PAD from
 * element 0 on; what it writes past the end of a row means nothing.
 */
#ifndef VISION_SIFT_KERNELS_H
#define VISION_SIFT_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#define VISION_SIFT_PAD 16 /* floats: the widest vector */

/* Grids of samples round a keypoint; the rim is for the central differences of the cells
 * inside: 16 x 16 for the descriptor, 12 x 12 for the orientations. */
#define VISION_SIFT_CELLS        16
#define VISION_SIFT_GRID         (VISION_SIFT_CELLS + 2)
#define VISION_SIFT_SPIN_CELLS   12
#define VISION_SIFT_SPIN_GRID    (VISION_SIFT_SPIN_CELLS + 2)
#define VISION_SIFT_SAMPLES_MAX  336 /* GRID^2, up to a multiple of PAD */
#define VISION_SIFT_POLAR_FLOATS (VISION_SIFT_CELLS * VISION_SIFT_CELLS)
#define VISION_SIFT_ANGLES       36
#define VISION_SIFT_RAW_FLOATS   128

/* The cells of the smaller grid are taken as one run, from the first to the last, rims
 * between them included, whose weights are 0; and so are those after it. */
#define VISION_SIFT_SPIN_RUN 176

/* The steps from a grid's middle to its samples, row by row. */
struct vision_sift_steps {
    size_t
        count; /* a multiple of VISION_SIFT_PAD; past the last sample, it is repeated */
    float u[VISION_SIFT_SAMPLES_MAX], v[VISION_SIFT_SAMPLES_MAX];
};

/* Where a grid lies. The sample of step (u, v) is at
 *   (x + (u * along_x - v * along_y), y + (u * along_y + v * along_x)),
 * which is never left of or above `pixels`, and one pixel from the end of both sides.
 * Rows may lie in a ring: row y begins at pixels + y * stride, or, from `wrap` on, at
 * pixels + (y - back) * stride. Products of rows and `stride` fit 31 bits. */
struct vision_sift_grid {
    const float *pixels;
    ptrdiff_t stride; /* floats */
    float wrap, back; /* rows, whole numbers */
    float x, y;
    float along_x, along_y; /* from one sample to the next of its row */
};

/* A row of n pixels, n > 0; 16 bits are divided by 257. Doubled, 2n floats:
 *   dst[2x] = 0.75 * p[x] + 0.25 * p[x-1], dst[2x+1] = 0.75 * p[x] + 0.25 * p[x+1],
 * beyond the ends the pixel there. */
typedef void vision_sift_load_fn(float *dst, const void *src, size_t n,
                                 unsigned depth_bits, unsigned doubled);

/* dst[x] = 0.75 * more[x] + 0.25 * less[x] */
typedef void vision_sift_mix_fn(float *dst, const float *more, const float *less,
                                size_t n);

/* Row i of `count`, at dst + i * stride:
 *   dst[x] = w[0] * rows[r+i][x] + w[1] * (rows[r+i-1][x] + rows[r+i+1][x]) + ...,
 * from left to right, for x from begin, a multiple of VISION_SIFT_PAD, to before end. */
typedef void vision_sift_columns_fn(float *dst, size_t stride, const float *const *rows,
                                    size_t count, const float *w, size_t radius,
                                    size_t begin, size_t end);

/* dst[x] = w[0] * src[x] + w[1] * (src[x-1] + src[x+1]) + ..., from left to right. r
 * floats are readable before src, and r more than the row rules say behind. */
typedef void vision_sift_rows_fn(float *dst, const float *src, const float *w,
                                 size_t radius, size_t n);

/* dst[x] = src[2x] for n results. */
typedef void vision_sift_halve_fn(float *dst, const float *src, size_t n);

/*
 * The x, ascending, 1 <= x < n - 1, where the middle of 3 x 3 x 3 differences d[s][y][x]
 * = g[s+1][y][x] - g[s][y][x] is at least `least` and at least all the others, or at most
 * -`least` and at most all the others. least > 0. Returns how many; hits[] has room for
 * n.
 */
typedef size_t vision_sift_extrema_fn(uint32_t *hits, const float *const g[4][3],
                                      float least, size_t n);

/* The samples of the grid, between pixels by a, b, then a + fy * (b - a),
 * where a = p00 + fx * (p01 - p00), b = p10 + fx * (p11 - p10). */
typedef void vision_sift_sample_fn(float *samples, const struct vision_sift_steps *steps,
                                   const struct vision_sift_grid *grid);

/* Of a grid's rows, `side` samples each, `rows` rows of n cells: of cell j of row i,
 * which is sample (i + 1) * side + j + 1, the gradient (dx, dy) of central differences,
 * not halved: its length, and its angle from x towards y in turns, 0 to 1 inclusive. n is
 * a multiple of VISION_SIFT_PAD. */
typedef void vision_sift_polar_fn(float *length, float *turn, const float *samples,
                                  size_t side, size_t rows, size_t n);

/* Histogram of 36 directions, each of VISION_SIFT_SPIN_RUN cells shared between the two
 * nearest. Cell k goes into copy k % 4, copies are added as (0 + 1) + (2 + 3), shares of
 * the direction below and of that above apart from each other; then they are added, those
 * of a whole turn to those of none before. */
typedef void vision_sift_angles_fn(float histogram[VISION_SIFT_ANGLES],
                                   const float *length, const float *turn,
                                   const float *weights);

/* The descriptor before it is normalised: 4 x 4 squares, 8 directions, each cell shared
 * trilinearly, weighed by weights[square][row or column of cells]. First sums over the
 * rows of cells, downwards, then over columns, rightwards. */
typedef void vision_sift_pool_fn(float raw[VISION_SIFT_RAW_FLOATS], const float *length,
                                 const float *turn,
                                 const float weights[4][VISION_SIFT_CELLS]);

/* The bytes of a descriptor: cut at 0.2 of its length, then of length 512, or, as
 * RootSIFT, 512 times the roots of the shares of its sum; rounded, at most 255. Sums:
 * element i into lane i % 16, then lane i and i + 8, i + 4, i + 2, i + 1. Changes `raw`.
 */
typedef void vision_sift_finish_fn(uint8_t bytes[VISION_SIFT_RAW_FLOATS],
                                   float raw[VISION_SIFT_RAW_FLOATS], unsigned root);

struct vision_sift_table {
    vision_sift_load_fn *load;
    vision_sift_mix_fn *mix;
    vision_sift_columns_fn *columns;
    vision_sift_rows_fn *rows;
    vision_sift_halve_fn *halve;
    vision_sift_extrema_fn *extrema;
    vision_sift_sample_fn *sample;
    vision_sift_polar_fn *polar;
    vision_sift_angles_fn *angles;
    vision_sift_pool_fn *pool;
    vision_sift_finish_fn *finish;
};

#define VISION_SIFT_CLIP    0.2f
#define VISION_SIFT_QUANTUM 512.0f

/* Coefficients of atan(a) / (2 pi) = a * (c0 + a^2 * (c1 + ...)), 0 <= a <= 1: least
 * error in the maximum norm, 0.0001 degrees. Fitted here for this file. */
#define VISION_SIFT_ATAN(X)                                                              \
    X(0.15915131568908691f, -0.05293856933712959f, 0.030802913010120392f,                \
      -0.018529852852225304f, 0.008379083126783371f, -0.001865155529230833f)

#define VISION_SIFT_LENGTH_LEAST 1e-20f /* keeps 0 / 0 out of the angle */

/* The whole table of a level of cpu, each on its own architecture only. */
void vision_sift_table_avx2(struct vision_sift_table *t);
void vision_sift_table_avx512(struct vision_sift_table *t);
void vision_sift_table_neon(struct vision_sift_table *t);

#endif
