/*
 * Each kernel of sift_kernels.h beside its scalar definition, at each level of this
 * machine, on memory that ends at an unmapped page.
 */
#include "extractor/vision/kernels.h"
#include "tests/unit/extractor/scene.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#define PAD        VISION_SIFT_PAD
#define WIDTH_MAX  150
#define RADIUS_MAX 20
#define ROWS_MAX   (2 * RADIUS_MAX + 1)
#define POOL_BYTES (1u << 20)

static struct vision_kernels scalar, fast;
static uint64_t seed = 9;
static char *pool_start, *pool_end; /* the page behind pool_end faults */
static char *pool_at;

static void pool_reset(void)
{
    pool_at = pool_end;
}

/* `floats` that end where the kernel may not go on; aligned as rows are. */
static float *guarded(size_t floats)
{
    pool_at -= (floats * sizeof(float) + 63) & ~(size_t)63;
    assert_true(pool_at >= pool_start);
    return (float *)(void *)pool_at;
}

/* Ordinary values, ties, zeros of both signs, small and large ones. */
static float noise(void)
{
    const uint32_t r = scene_rand(&seed);
    switch (r % 8) {
    case 0:
        return r & 64 ? 0.0f : -0.0f;
    case 1:
        return (float)(r >> 8 & 3);
    case 2:
        return (float)(int)(r >> 3 & 0xffff) * 1e-9f;
    default:
        return (float)(r >> 3 & 0xffffff) / 65536.0f;
    }
}

static size_t padded(size_t n)
{
    return (n + PAD - 1) / PAD * PAD;
}

/* A row as sift_kernels.h promises it: room before and behind. */
static float *noise_row(size_t n)
{
    const size_t all = PAD + padded(n) + PAD;
    float *row = guarded(all);
    for (size_t i = 0; i < all; i++)
        row[i] = noise();
    return row + PAD;
}

static void same(const float *want, const float *got, size_t n, const char *what,
                 size_t width)
{
    for (size_t i = 0; i < n; i++)
        if (memcmp(want + i, got + i, sizeof *want) != 0)
            fail_msg("%s, width %zu: element %zu is %a, not %a", what, width, i,
                     (double)got[i], (double)want[i]);
}

static void lines_are_loaded_alike(size_t n)
{
    for (unsigned depth = 8; depth <= 16; depth += 8)
        for (unsigned doubled = 0; doubled < 2; doubled++) {
            float want[2 * WIDTH_MAX], got[2 * WIDTH_MAX];
            pool_reset();
            /* Exactly n pixels: not one more may be read. */
            uint8_t *src = (uint8_t *)pool_end - n * depth / 8;
            for (size_t i = 0; i < n * depth / 8; i++)
                src[i] = (uint8_t)scene_rand(&seed);
            memset(want, 0, sizeof want);
            memset(got, 0, sizeof got);
            scalar.sift.load(want, src, n, depth, doubled);
            fast.sift.load(got, src, n, depth, doubled);
            same(want, got, 2 * WIDTH_MAX, "load", n);
        }
}

static void lines_are_mixed_and_halved_alike(size_t n)
{
    float want[WIDTH_MAX + 1], got[WIDTH_MAX + 1];
    pool_reset();
    const float *a = noise_row(n), *b = noise_row(n), *wide = noise_row(2 * n);
    want[n] = got[n] = 7;
    scalar.sift.mix(want, a, b, n);
    fast.sift.mix(got, a, b, n);
    same(want, got, n + 1, "mix", n);
    scalar.sift.halve(want, wide, n);
    fast.sift.halve(got, wide, n);
    same(want, got, n + 1, "halve", n);
}

static void lines_are_blurred_alike(size_t n, size_t radius)
{
    const float *rows[ROWS_MAX];
    float w[RADIUS_MAX + 1];
    pool_reset();
    for (size_t i = 0; i <= radius; i++)
        w[i] = noise();
    for (size_t i = 0; i < 2 * radius + 1; i++)
        rows[i] = noise_row(n);
    float *want = noise_row(n), *got = noise_row(n);
    for (size_t begin = 0; begin < n; begin += 3 * PAD) {
        const size_t end = begin + 3 * PAD < n ? begin + 3 * PAD : n;
        scalar.sift.columns(want, rows, w, radius, begin, end);
        fast.sift.columns(got, rows, w, radius, begin, end);
    }
    same(want, got, n, "columns", n);

    float *line = guarded(2 * RADIUS_MAX + padded(n) + 4 * PAD) + RADIUS_MAX;
    line += (64 - (uintptr_t)line % 64) % 64 / sizeof *line;
    for (ptrdiff_t i = -(ptrdiff_t)radius; i < (ptrdiff_t)(n + radius); i++)
        line[i] = noise();
    scalar.sift.rows(want, line, w, radius, n);
    fast.sift.rows(got, line, w, radius, n);
    same(want, got, n, "rows", n);
}

/* Few different values, so that there are ties; and one slope, where nothing is one. */
static size_t extrema_are_found_alike(size_t n, float least)
{
    float *rows[4][3];
    uint32_t want[WIDTH_MAX], got[WIDTH_MAX];
    pool_reset();
    const uint32_t values = 2 + scene_rand(&seed) % 40;
    for (int s = 0; s < 4; s++)
        for (int y = 0; y < 3; y++) {
            rows[s][y] = noise_row(n);
            for (size_t x = 0; x < n; x++)
                rows[s][y][x] = (float)(scene_rand(&seed) % values);
        }
    for (int i = 0; i < 3; i++) { /* raise and lower some of the middle */
        const size_t x = scene_rand(&seed) % n;
        rows[2][1][x] += scene_rand(&seed) % 2 ? 200.0f : -200.0f;
    }
    const float *const(*g)[3] = (const float *const(*)[3])rows;
    const size_t count = scalar.sift.extrema(want, g, least, n);
    assert_int_equal(fast.sift.extrema(got, g, least, n), count);
    assert_memory_equal(want, got, count * sizeof want[0]);
    for (size_t i = 0; i < count; i++)
        assert_true(want[i] > 0 && want[i] + 1 < n && (i == 0 || want[i] > want[i - 1]));
    return count;
}

static void every_width_is_done_alike(void **state)
{
    (void)state;
    size_t found = 0;
    for (size_t n = 1; n < WIDTH_MAX / 2; n++) {
        lines_are_loaded_alike(n);
        lines_are_mixed_and_halved_alike(n);
        for (size_t radius = 1; radius <= RADIUS_MAX; radius += n % 3 + 1)
            lines_are_blurred_alike(n, radius);
        for (int i = 0; i < 20; i++)
            found += extrema_are_found_alike(n, i % 2 ? 1e-20f : 3.0f);
    }
    for (size_t n = WIDTH_MAX / 2; n <= WIDTH_MAX; n++)
        lines_are_blurred_alike(n, 1 + n % RADIUS_MAX);
    assert_true(found > 1000);
}

/* A patch that ends where the grid's last pixel is. */
static void random_grid(struct vision_sift_grid *grid)
{
    const double scale = 1 + scene_rand(&seed) % 300 / 100.0;
    const double angle = scene_rand(&seed) % 6284 / 1000.0;
    const size_t reach = (size_t)(12.4 * scale) + 2, side = 2 * reach + 2;
    float *pixels;

    pool_reset();
    pixels = (float *)(void *)(pool_end - side * side * sizeof(float));
    for (size_t i = 0; i < side * side; i++)
        pixels[i] = (float)(scene_rand(&seed) % 256);
    *grid = (struct vision_sift_grid){
        .pixels = pixels,
        .stride = (ptrdiff_t)side,
        .x = (float)reach + (float)(scene_rand(&seed) % 1000) / 1000.0f,
        .y = (float)reach + (float)(scene_rand(&seed) % 1000) / 1000.0f,
        .along_x = (float)(1.03 * scale * cos(angle)),
        .along_y = (float)(1.03 * scale * sin(angle)),
    };
}

static void keypoints_are_described_alike(void **state)
{
    (void)state;
    for (int i = 0; i < 3000; i++) {
        float want[VISION_SIFT_GRID_FLOATS], got[VISION_SIFT_GRID_FLOATS];
        float length[2][VISION_SIFT_POLAR_FLOATS], turn[2][VISION_SIFT_POLAR_FLOATS];
        float weights[VISION_SIFT_POLAR_FLOATS], squares[4][VISION_SIFT_CELLS];
        float histogram[2][VISION_SIFT_ANGLES], raw[2][VISION_SIFT_RAW_FLOATS];
        struct vision_sift_grid grid;

        random_grid(&grid);
        scalar.sift.sample(want, &grid);
        fast.sift.sample(got, &grid);
        same(want, got, VISION_SIFT_GRID * VISION_SIFT_GRID, "sample", 0);
        if (i % 2) /* flat parts, and axes, where angles are at their edges */
            for (int k = 0; k < VISION_SIFT_GRID_FLOATS; k++)
                want[k] = (float)(scene_rand(&seed) % 2);
        scalar.sift.polar(length[0], turn[0], want);
        fast.sift.polar(length[1], turn[1], want);
        same(length[0], length[1], VISION_SIFT_POLAR_FLOATS, "polar length", 0);
        same(turn[0], turn[1], VISION_SIFT_POLAR_FLOATS, "polar turn", 0);
        for (int k = 0; k < VISION_SIFT_POLAR_FLOATS; k++) {
            assert_true(turn[0][k] >= 0 && turn[0][k] <= 1);
            weights[k] = (float)(scene_rand(&seed) % 1000) / 1000.0f;
        }
        scalar.sift.angles(histogram[0], length[0], turn[0], weights);
        fast.sift.angles(histogram[1], length[0], turn[0], weights);
        same(histogram[0], histogram[1], VISION_SIFT_ANGLES, "angles", 0);

        /* Zero where a square has no share, as the kernels may assume. */
        for (int k = 0; k < 4 * VISION_SIFT_CELLS; k++) {
            const double at = (k % VISION_SIFT_CELLS - 7.5) * 5 / 16,
                         middle = k / 16 - 1.5;
            squares[k / 16][k % 16] = (float)fmax(0, 1 - fabs(at - middle));
        }
        scalar.sift.pool(raw[0], length[0], turn[0],
                         (const float(*)[VISION_SIFT_CELLS])squares);
        fast.sift.pool(raw[1], length[0], turn[0],
                       (const float(*)[VISION_SIFT_CELLS])squares);
        same(raw[0], raw[1], VISION_SIFT_RAW_FLOATS, "pool", 0);
    }
}

static void angles_are_those_of_libm(void **state)
{
    (void)state;
    for (int i = 0; i < 20000; i++) {
        float samples[VISION_SIFT_GRID_FLOATS] = {0}, length[VISION_SIFT_POLAR_FLOATS];
        float turn[VISION_SIFT_POLAR_FLOATS];
        const double angle = i * 6.283185307179586 / 20000;
        float *at = samples + VISION_SIFT_GRID + 1; /* of the first cell */
        at[1] = (float)(100 * cos(angle));
        at[VISION_SIFT_GRID] = (float)(100 * sin(angle));
        scalar.sift.polar(length, turn, samples);
        const double off = fabs(turn[0] - i / 20000.0);
        assert_true(fmin(off, 1 - off) < 1e-6);
        assert_true(fabs(length[0] - 100) < 1e-4);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_width_is_done_alike),
        cmocka_unit_test(keypoints_are_described_alike),
        cmocka_unit_test(angles_are_those_of_libm),
    };
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    pool_start = mmap(NULL, POOL_BYTES + page, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pool_start == MAP_FAILED ||
        mprotect(pool_start + POOL_BYTES, page, PROT_NONE) != 0)
        return 1;
    pool_end = pool_start + POOL_BYTES;

    const unsigned have = vision_cpu_detect();
    int failed = 0;
    vision_kernels_init(&scalar, 0);
    for (unsigned bit = 1; bit <= VISION_CPU_NEON; bit <<= 1) {
        if (!(have & bit))
            continue;
        printf("level %u\n", bit);
        vision_kernels_init(&fast, have & (2 * bit - 1));
        failed += cmocka_run_group_tests(tests, NULL, NULL);
    }
    return failed;
}
