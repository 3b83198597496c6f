/*
 * sift_kernels.c - the definition of each kernel of sift_kernels.h, one element at a
 * time.
 */
#include "extractor/vision/sift_kernels.h"

#include "extractor/vision/kernels.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

#define CELLS VISION_SIFT_CELLS

static size_t padded(size_t n)
{
    return (n + VISION_SIFT_PAD - 1) / VISION_SIFT_PAD * VISION_SIFT_PAD;
}

static float pixel(const void *src, size_t x, unsigned depth_bits)
{
    return depth_bits == 16 ? (float)((const uint16_t *)src)[x] / 257.0f
                            : (float)((const uint8_t *)src)[x];
}

static void load_c(float *dst, const void *src, size_t n, unsigned depth_bits,
                   unsigned doubled)
{
    for (size_t x = 0; x < n; x++) {
        const float v = pixel(src, x, depth_bits);
        if (!doubled) {
            dst[x] = v;
            continue;
        }
        const float before = pixel(src, x > 0 ? x - 1 : 0, depth_bits);
        const float after = pixel(src, x + 1 < n ? x + 1 : x, depth_bits);
        dst[2 * x] = 0.75f * v + 0.25f * before;
        dst[2 * x + 1] = 0.75f * v + 0.25f * after;
    }
}

static void mix_c(float *dst, const float *more, const float *less, size_t n)
{
    for (size_t x = 0; x < n; x++)
        dst[x] = 0.75f * more[x] + 0.25f * less[x];
}

static void columns_c(float *dst, size_t stride, const float *const *rows, size_t count,
                      const float *w, size_t radius, size_t begin, size_t end)
{
    for (size_t i = 0; i < count; i++, dst += stride, rows++)
        for (size_t x = begin; x < padded(end); x++) {
            float sum = w[0] * rows[radius][x];
            for (size_t k = 1; k <= radius; k++)
                sum += w[k] * (rows[radius - k][x] + rows[radius + k][x]);
            dst[x] = sum;
        }
}

static void rows_c(float *dst, const float *src, const float *w, size_t radius, size_t n)
{
    for (size_t x = 0; x < padded(n); x++) {
        float sum = w[0] * src[x];
        for (size_t k = 1; k <= radius; k++)
            sum += w[k] * (*(src + x - k) + src[x + k]);
        dst[x] = sum;
    }
}

static void halve_c(float *dst, const float *src, size_t n)
{
    for (size_t x = 0; x < n; x++)
        dst[x] = src[2 * x];
}

static bool is_highest(const float *const g[4][3], ptrdiff_t x, float v, float sign)
{
    for (int s = 0; s < 3; s++)
        for (int y = 0; y < 3; y++)
            for (int dx = -1; dx <= 1; dx++)
                if (!(v >= sign * (g[s + 1][y][x + dx] - g[s][y][x + dx])))
                    return false;
    return true;
}

static size_t extrema_c(uint32_t *hits, const float *const g[4][3], float least, size_t n)
{
    size_t count = 0;
    for (size_t x = 1; x + 1 < n; x++) {
        float d = g[2][1][x] - g[1][1][x];
        float sign = d > 0 ? 1.0f : -1.0f, v = sign * d;
        if (v >= least && is_highest(g, (ptrdiff_t)x, v, sign))
            hits[count++] = (uint32_t)x;
    }
    return count;
}

static const float *grid_row(const struct vision_sift_grid *g, int y)
{
    const int row = (float)y < g->wrap ? y : y - (int)g->back;
    return g->pixels + row * g->stride;
}

static void sample_c(float *samples, const struct vision_sift_steps *steps,
                     const struct vision_sift_grid *g)
{
    for (size_t k = 0; k < steps->count; k++) {
        const float u = steps->u[k], v = steps->v[k];
        const float x = g->x + (u * g->along_x - v * g->along_y);
        const float y = g->y + (u * g->along_y + v * g->along_x);
        const int ix = (int)x, iy = (int)y;
        const float fx = x - (float)ix, fy = y - (float)iy;
        const float *p = grid_row(g, iy) + ix, *q = grid_row(g, iy + 1) + ix;
        const float a = p[0] + fx * (p[1] - p[0]), b = q[0] + fx * (q[1] - q[0]);
        samples[k] = a + fy * (b - a);
    }
}

#define POLYNOMIAL(c0, c1, c2, c3, c4, c5)                                               \
    (c0 + aa * (c1 + aa * (c2 + aa * (c3 + aa * (c4 + aa * c5)))))

static float turn_of(float dx, float dy)
{
    const float ax = fabsf(dx), ay = fabsf(dy);
    const float low = ax < ay ? ax : ay, high = ax > ay ? ax : ay;
    const float a = low / (high + VISION_SIFT_LENGTH_LEAST), aa = a * a;
    float turn = a * VISION_SIFT_ATAN(POLYNOMIAL);
    turn = ay > ax ? 0.25f - turn : turn;
    turn = dx < 0 ? 0.5f - turn : turn;
    return dy < 0 ? 1.0f - turn : turn;
}

static void polar_c(float *length, float *turn, const float *samples, size_t side,
                    size_t rows, size_t n)
{
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < n; j++) {
            const float *p = samples + (i + 1) * side + 1 + j;
            const float dx = p[1] - *(p - 1), dy = p[side] - *(p - side);
            *length++ = sqrtf(dx * dx + dy * dy);
            *turn++ = turn_of(dx, dy);
        }
}

/* The shares of cells in the direction below them, and in that above. */
struct shares {
    float below, above;
};

static void angles_c(float histogram[VISION_SIFT_ANGLES], const float *length,
                     const float *turn, const float *weights)
{
    struct shares copies[4][VISION_SIFT_ANGLES + 1] = {{{0}}};
    float below[VISION_SIFT_ANGLES + 1], above[VISION_SIFT_ANGLES + 1];

    for (int k = 0; k < VISION_SIFT_SPIN_RUN; k++) {
        const float at = turn[k] * (float)VISION_SIFT_ANGLES, v = length[k] * weights[k];
        const int bin = (int)at;
        const float share = v * (at - (float)bin);
        copies[k % 4][bin].below += v - share;
        copies[k % 4][bin].above += share;
    }
    for (int i = 0; i <= VISION_SIFT_ANGLES; i++) {
        below[i] = (copies[0][i].below + copies[1][i].below) +
                   (copies[2][i].below + copies[3][i].below);
        above[i] = (copies[0][i].above + copies[1][i].above) +
                   (copies[2][i].above + copies[3][i].above);
    }
    below[0] += below[VISION_SIFT_ANGLES];
    above[0] += above[VISION_SIFT_ANGLES];
    for (int i = 0; i < VISION_SIFT_ANGLES; i++)
        histogram[i] = below[i] + above[i > 0 ? i - 1 : VISION_SIFT_ANGLES - 1];
}

/* The share of direction `bin` in a cell of direction `at`, 0 to 8 inclusive. */
static float share_of(float at, int bin)
{
    float apart = fabsf(at - (float)bin);
    apart = 8.0f - apart < apart ? 8.0f - apart : apart;
    return 1.0f - apart > 0.0f ? 1.0f - apart : 0.0f;
}

static void pool_c(float raw[VISION_SIFT_RAW_FLOATS], const float *length,
                   const float *turn, const float weights[4][CELLS])
{
    float sums[4][8][CELLS] = {{{0}}};

    for (int i = 0; i < CELLS; i++)
        for (int j = 0; j < CELLS; j++)
            for (int bin = 0; bin < 8; bin++) {
                /* Lowe's directions turn the other way. */
                const float at = 8.0f - 8.0f * turn[i * CELLS + j];
                const float v = length[i * CELLS + j] * share_of(at, bin);
                for (int row = 0; row < 4; row++)
                    sums[row][bin][j] += weights[row][i] * v;
            }

    memset(raw, 0, VISION_SIFT_RAW_FLOATS * sizeof raw[0]);
    for (int k = 0; k < VISION_SIFT_RAW_FLOATS; k++)
        for (int j = 0; j < CELLS; j++)
            raw[k] += weights[k / 8 % 4][j] * sums[k / 32][k % 8][j];
}

#define LANES 16 /* of sums: what the widest vector adds at once */

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
    for (int i = 0; i < VISION_SIFT_RAW_FLOATS; i++)
        lanes[i % LANES] += v[i];
    return sum_lanes(lanes);
}

static float length_of(const float *v)
{
    float lanes[LANES] = {0};
    for (int i = 0; i < VISION_SIFT_RAW_FLOATS; i++)
        lanes[i % LANES] += v[i] * v[i];
    return sqrtf(sum_lanes(lanes));
}

static void finish_c(uint8_t bytes[VISION_SIFT_RAW_FLOATS],
                     float raw[VISION_SIFT_RAW_FLOATS], unsigned root)
{
    const float most = VISION_SIFT_CLIP * length_of(raw);
    for (int i = 0; i < VISION_SIFT_RAW_FLOATS; i++)
        raw[i] = raw[i] < most ? raw[i] : most;

    const float whole = root ? sum_of(raw) : length_of(raw);
    const float one = whole > 0 ? 1.0f / whole : 0.0f;
    for (int i = 0; i < VISION_SIFT_RAW_FLOATS; i++) {
        const float share = raw[i] * one;
        const float v = VISION_SIFT_QUANTUM * (root ? sqrtf(share) : share);
        bytes[i] = (uint8_t)((v < 255.0f ? v : 255.0f) + 0.5f);
    }
}

void vision_sift_kernels(struct vision_kernels *k, unsigned cpu)
{
    k->sift = (struct vision_sift_table){load_c,   mix_c,     columns_c, rows_c,
                                         halve_c,  extrema_c, sample_c,  polar_c,
                                         angles_c, pool_c,    finish_c};
#if defined(__x86_64__)
    if (cpu & VISION_CPU_AVX2)
        vision_sift_table_avx2(&k->sift);
    if (cpu & VISION_CPU_AVX512)
        vision_sift_table_avx512(&k->sift);
#elif defined(__aarch64__)
    if (cpu & VISION_CPU_NEON)
        vision_sift_table_neon(&k->sift);
#else
    (void)cpu;
#endif
}
