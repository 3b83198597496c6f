/*
 * sift_refine.c - where exactly, between samples, an extremum lies.
 *
 * A quadric is fitted to the 27 differences round a sample, as in Lowe's paper; where its
 * extremum is nearer to another sample the fit is repeated there. Doubles, because it is
 * rare and differences of differences lose bits.
 */
#include "extractor/vision/sift_points.h"

#include "extractor/vision/sift_math.h"

#include <math.h>
#include <string.h>

#define FITS_MAX 5 /* so 4 moves, of one sample each: within SIFT_REACH_ROWS */
/* More than a half, or it would swing between two equal samples. */
#define MOVE_ABOVE     0.6
#define SETTLED_MAX    1.0 /* of a fit that did not settle */
#define CORRECTION_MAX 0.25
#define PIVOT_LEAST    1e-10
#define FULL_SCALE     255.0

struct cube {
    float at[3][3][3]; /* difference: layer, y, x */
};

struct slopes {
    double x, y, s;
    double xx, yy, ss, xy, xs, ys;
};

static struct cube cube_at(const struct sift_octave *o, size_t layer, size_t x, size_t y)
{
    const float *rows[4][3];
    struct cube c;

    for (size_t i = 0; i < 4; i++) {
        const size_t capacity = o->level[layer - 1 + i].capacity;
        size_t slot = (y - 1) % capacity; /* one division a level */
        for (size_t j = 0; j < 3; j++) {
            rows[i][j] = sift_slot(o, layer - 1 + i, slot) + x - 1;
            slot = slot + 1 < capacity ? slot + 1 : 0;
        }
    }
    for (size_t i = 0; i < 3; i++)
        for (size_t j = 0; j < 3; j++)
            for (size_t k = 0; k < 3; k++)
                c.at[i][j][k] = rows[i + 1][j][k] - rows[i][j][k];
    return c;
}

/* Of equal neighbours only the first is an extremum: it must beat the 13 before it, and
 * be no worse than the others, which the search has made sure of. */
static bool is_first(const struct cube *c)
{
    const float *d = &c->at[0][0][0];
    for (int i = 0; i < 13; i++)
        if (d[i] == d[13])
            return false;
    return true;
}

static struct slopes slopes_of(const struct cube *c)
{
#define D(s, y, x) ((double)c->at[1 + (s)][1 + (y)][1 + (x)])
    const double centre = 2.0 * D(0, 0, 0);
    return (struct slopes){
        .x = 0.5 * (D(0, 0, 1) - D(0, 0, -1)),
        .y = 0.5 * (D(0, 1, 0) - D(0, -1, 0)),
        .s = 0.5 * (D(1, 0, 0) - D(-1, 0, 0)),
        .xx = D(0, 0, 1) + D(0, 0, -1) - centre,
        .yy = D(0, 1, 0) + D(0, -1, 0) - centre,
        .ss = D(1, 0, 0) + D(-1, 0, 0) - centre,
        .xy = 0.25 * (D(0, 1, 1) + D(0, -1, -1) - D(0, 1, -1) - D(0, -1, 1)),
        .xs = 0.25 * (D(1, 0, 1) + D(-1, 0, -1) - D(1, 0, -1) - D(-1, 0, 1)),
        .ys = 0.25 * (D(1, 1, 0) + D(-1, -1, 0) - D(1, -1, 0) - D(-1, 1, 0)),
    };
#undef D
}

static double determinant(const double a[3], const double b[3], const double c[3])
{
    return a[0] * (b[1] * c[2] - b[2] * c[1]) - a[1] * (b[0] * c[2] - b[2] * c[0]) +
           a[2] * (b[0] * c[1] - b[1] * c[0]);
}

/* Cramer's rule; the matrix is symmetric, so its rows are its columns. */
static bool offset_of(const struct slopes *d, double out[3])
{
    const double x[3] = {d->xx, d->xy, d->xs}, y[3] = {d->xy, d->yy, d->ys};
    const double s[3] = {d->xs, d->ys, d->ss}, right[3] = {-d->x, -d->y, -d->s};
    const double det = determinant(x, y, s);

    if (fabs(det) < PIVOT_LEAST)
        return false;
    out[0] = determinant(right, y, s) / det;
    out[1] = determinant(x, right, s) / det;
    out[2] = determinant(x, y, right) / det;
    return true;
}

/* Go on to the next sample, where `offset` says and there is one with neighbours. */
static bool move(size_t *at, double offset, size_t first, size_t last)
{
    if (offset > MOVE_ABOVE && *at < last)
        ++*at;
    else if (offset<-MOVE_ABOVE && * at> first)
        --*at;
    else
        return false;
    return true;
}

static bool is_corner(const struct slopes *d, double edge)
{
    const double trace = d->xx + d->yy, det = d->xx * d->yy - d->xy * d->xy;
    return det > 0 && trace * trace * edge < (edge + 1) * (edge + 1) * det;
}

static bool is_near(const double offset[3])
{
    return fabs(offset[0]) <= SETTLED_MAX && fabs(offset[1]) <= SETTLED_MAX &&
           fabs(offset[2]) <= SETTLED_MAX;
}

/* A parabola through a, b, c at -1, 0, 1. */
static double parabola_at(double a, double b, double c, double at)
{
    return b + 0.5 * at * ((c - a) + at * (a + c - 2 * b));
}

/* A quadric in x and y through one layer. */
static double layer_at(const double v[3][3], double x, double y)
{
    const double xy = 0.25 * (v[2][2] + v[0][0] - v[2][0] - v[0][2]);
    return parabola_at(v[1][0], v[1][1], v[1][2], x) +
           parabola_at(v[0][1], v[1][1], v[2][1], y) - v[1][1] + xy * x * y;
}

static void place_in_layer(const double v[3][3], double out[2])
{
    const double x = 0.5 * (v[1][2] - v[1][0]), y = 0.5 * (v[2][1] - v[0][1]);
    const double xx = v[1][2] + v[1][0] - 2 * v[1][1],
                 yy = v[2][1] + v[0][1] - 2 * v[1][1];
    const double xy = 0.25 * (v[2][2] + v[0][0] - v[2][0] - v[0][2]);
    const double det = xx * yy - xy * xy;
    out[0] = (xy * y - yy * x) / det;
    out[1] = (xy * x - xx * y) / det;
}

/*
 * The quadric takes a blob to be as wide in the next layer as in this. It is not, and
 * between samples and between layers the place is off by up to 0.09 samples. So once
 * more: the place in the layer interpolated at the scale found, then the scale at that
 * place. Kept where it is a correction, as a hessian that is nearly flat may give
 * anything.
 */
static void sharpen(const struct cube *c, double offset[3])
{
    double layers[3][3][3], middle[3][3], along[3], better[3];

    for (int j = 0; j < 3; j++)
        for (int k = 0; k < 3; k++) {
            for (int i = 0; i < 3; i++)
                layers[i][j][k] = c->at[i][j][k];
            middle[j][k] =
                parabola_at(layers[0][j][k], layers[1][j][k], layers[2][j][k], offset[2]);
        }
    place_in_layer((const double(*)[3])middle, better);
    for (int i = 0; i < 3; i++)
        along[i] = layer_at((const double(*)[3])layers[i], better[0], better[1]);
    better[2] = 0.5 * (along[0] - along[2]) / (along[0] + along[2] - 2 * along[1]);
    if (fabs(better[0] - offset[0]) < CORRECTION_MAX &&
        fabs(better[1] - offset[1]) < CORRECTION_MAX &&
        fabs(better[2] - offset[2]) < CORRECTION_MAX)
        memcpy(offset, better, sizeof better);
}

bool vision_sift_refine(const struct sift_octave *o,
                        const struct vision_sift_params *params, size_t layer, size_t x,
                        size_t y, struct sift_point *out)
{
    const size_t layers = (size_t)params->octave_layers;
    struct cube c = cube_at(o, layer, x, y);
    struct slopes d;
    double offset[3];

    if (!is_first(&c))
        return false;
    for (int fit = 1;; fit++) {
        d = slopes_of(&c);
        if (!offset_of(&d, offset))
            return false;
        if (fit == FITS_MAX)
            break;
        bool step = move(&x, offset[0], 1, o->width - 2);
        step |= move(&y, offset[1], 1, o->height - 2);
        step |= move(&layer, offset[2], 1, layers);
        if (!step)
            break;
        c = cube_at(o, layer, x, y);
    }

    const double value =
        c.at[1][1][1] + 0.5 * (d.x * offset[0] + d.y * offset[1] + d.s * offset[2]);
    sharpen(&c, offset);
    const double at_x = (double)x + offset[0], at_y = (double)y + offset[1];
    if (!is_near(offset) || at_x < 0 || at_x > (double)(o->width - 1) || at_y < 0 ||
        at_y > (double)(o->height - 1) || !is_corner(&d, params->edge) ||
        fabs(value) * params->octave_layers < FULL_SCALE * params->contrast)
        return false;
    *out = (struct sift_point){
        .x = (float)at_x,
        .y = (float)at_y,
        .scale = (float)(params->sigma *
                         sift_exp2(((double)layer + offset[2]) / (double)layers)),
        .response = (float)(fabs(value) / FULL_SCALE),
        .at_x = (uint32_t)x,
        .at_y = (uint32_t)y,
        .layer = (uint16_t)layer,
    };
    return true;
}
