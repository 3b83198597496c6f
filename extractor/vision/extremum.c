#include "extractor/vision/extremum.h"

#include <math.h>

#define MOVES_MAX 5 /* fits; so moves are one less */
#define MOVE_ABOVE                                                                       \
    0.6 /* more than a half, or it would swing between two equal samples                 \
         */
#define OFFSET_MAX  1.5
#define PIVOT_LEAST 1e-10

struct slopes {
    double x, y, s;
    double xx, yy, ss, xy, xs, ys;
};

static const float *sample(const struct vision_dog *dog, int x, int y, int plane)
{
    return dog->samples +
           ((ptrdiff_t)plane * dog->height_px + y) * (ptrdiff_t)dog->width_px + x;
}

/* Does `v` beat the three of `row`, `at` being the one in the middle? */
static bool beats_row(const float *at, float v, float sign, bool strictly)
{
    const float a = sign * at[-1], b = sign * at[0], c = sign * at[1];
    return strictly ? v > a && v > b && v > c : v >= a && v >= b && v >= c;
}

bool vision_extremum_test(const struct vision_dog *dog, int x, int y, int plane,
                          double least)
{
    const ptrdiff_t row = dog->width_px, level = row * dog->height_px;
    const float *at = sample(dog, x, y, plane);
    const float sign = *at > 0 ? 1.0f : -1.0f, v = sign * *at;

    if (v <= 0 || v < least)
        return false;
    if (!(v > sign * at[-1] && v >= sign * at[1]))
        return false;
    return beats_row(at - row, v, sign, true) && beats_row(at + row, v, sign, false) &&
           beats_row(at - level - row, v, sign, true) &&
           beats_row(at - level, v, sign, true) &&
           beats_row(at - level + row, v, sign, true) &&
           beats_row(at + level - row, v, sign, false) &&
           beats_row(at + level, v, sign, false) &&
           beats_row(at + level + row, v, sign, false);
}

static struct slopes slopes_at(const float *at, ptrdiff_t dy, ptrdiff_t ds)
{
    const double centre = 2.0 * at[0];
    return (struct slopes){
        .x = 0.5 * ((double)at[1] - at[-1]),
        .y = 0.5 * ((double)at[dy] - at[-dy]),
        .s = 0.5 * ((double)at[ds] - at[-ds]),
        .xx = (double)at[1] + at[-1] - centre,
        .yy = (double)at[dy] + at[-dy] - centre,
        .ss = (double)at[ds] + at[-ds] - centre,
        .xy = 0.25 * ((double)at[1 + dy] + at[-1 - dy] - at[-1 + dy] - at[1 - dy]),
        .xs = 0.25 * ((double)at[1 + ds] + at[-1 - ds] - at[-1 + ds] - at[1 - ds]),
        .ys = 0.25 * ((double)at[dy + ds] + at[-dy - ds] - at[-dy + ds] - at[dy - ds]),
    };
}

static void swap_rows(double a[4], double b[4])
{
    for (int i = 0; i < 4; i++) {
        double t = a[i];
        a[i] = b[i];
        b[i] = t;
    }
}

/* Gauss, with pivots: three equations in `m`, the right side in the last column. False:
 * they have no one solution. */
static bool solve(double m[3][4], double out[3])
{
    for (int col = 0; col < 3; col++) {
        int pivot = col;
        for (int row = col + 1; row < 3; row++)
            if (fabs(m[row][col]) > fabs(m[pivot][col]))
                pivot = row;
        if (fabs(m[pivot][col]) < PIVOT_LEAST)
            return false;
        swap_rows(m[col], m[pivot]);
        for (int row = col + 1; row < 3; row++) {
            double factor = m[row][col] / m[col][col];
            for (int i = col; i < 4; i++)
                m[row][i] -= factor * m[col][i];
        }
    }
    for (int row = 2; row >= 0; row--) {
        double rest = m[row][3];
        for (int i = row + 1; i < 3; i++)
            rest -= m[row][i] * out[i];
        out[row] = rest / m[row][row];
    }
    return true;
}

static bool offset_of(const struct slopes *d, double out[3])
{
    double m[3][4] = {{d->xx, d->xy, d->xs, -d->x},
                      {d->xy, d->yy, d->ys, -d->y},
                      {d->xs, d->ys, d->ss, -d->s}};
    return solve(m, out);
}

/* -1, 0 or 1: where to go on along one side of `size` samples. */
static int move_of(double offset, int at, int size)
{
    if (offset > MOVE_ABOVE && at < size - 2)
        return 1;
    return offset < -MOVE_ABOVE && at > 1 ? -1 : 0;
}

static bool is_corner(const struct slopes *d, double edge)
{
    const double trace = d->xx + d->yy, determinant = d->xx * d->yy - d->xy * d->xy;
    return determinant > 0 &&
           trace * trace * edge < (edge + 1) * (edge + 1) * determinant;
}

bool vision_extremum_refine(const struct vision_dog *dog, int x, int y, int plane,
                            double contrast, double edge, struct vision_extremum *out)
{
    const ptrdiff_t row = dog->width_px, level = row * dog->height_px;
    struct slopes d;
    double offset[3];
    const float *at;

    for (int fit = 1;; fit++) {
        at = sample(dog, x, y, plane);
        d = slopes_at(at, row, level);
        if (!offset_of(&d, offset))
            return false;
        int move_x = move_of(offset[0], x, dog->width_px);
        int move_y = move_of(offset[1], y, dog->height_px);
        if (fit == MOVES_MAX || (move_x == 0 && move_y == 0))
            break;
        x += move_x;
        y += move_y;
    }

    double value = *at + 0.5 * (d.x * offset[0] + d.y * offset[1] + d.s * offset[2]);
    struct vision_extremum e = {
        x, y, plane, x + offset[0], y + offset[1], plane + offset[2], value};
    if (!(fabs(value) >= contrast) || !is_corner(&d, edge) ||
        fabs(offset[0]) >= OFFSET_MAX || fabs(offset[1]) >= OFFSET_MAX ||
        fabs(offset[2]) >= OFFSET_MAX || e.at_x < 0 || e.at_x > dog->width_px - 1 ||
        e.at_y < 0 || e.at_y > dog->height_px - 1 || e.at_plane < 0 ||
        e.at_plane > dog->planes)
        return false;
    *out = e;
    return true;
}
