/*
 * sift_math.h - the few functions of libm that SIFT needs, from + - * / alone.
 *
 * libm's last bit differs between machines and versions, and what the features of a
 * picture are must not. Series long enough for a double; none is in an inner loop.
 */
#ifndef VISION_SIFT_MATH_H
#define VISION_SIFT_MATH_H

#include <stdint.h>
#include <string.h>

#define SIFT_LN2 0.693147180559945309417
#define SIFT_PI  3.14159265358979323846

/* 2^n, -1022 <= n <= 1023 */
static inline double sift_power_of_two(int n)
{
    uint64_t bits = (uint64_t)(n + 1023) << 52;
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* 2^x; 0 below -1000; x <= 1000. */
static inline double sift_exp2(double x)
{
    if (x < -1000)
        return 0;
    int n = (int)(x < 0 ? x - 0.5 : x + 0.5);
    double t = (x - n) * SIFT_LN2, sum = 1;
    for (int k = 14; k > 0; k--)
        sum = 1 + t / k * sum;
    return sum * sift_power_of_two(n);
}

static inline double sift_exp(double x)
{
    return sift_exp2(x / SIFT_LN2);
}

/* Of an angle in 0 to 2 pi: Taylor's series on half a quarter turn either way. */
static inline void sift_sin_cos(double angle, double *sine, double *cosine)
{
    static const double s[8] = {
        1.0,          -1.0 / 6,        1.0 / 120,        -1.0 / 5040,
        1.0 / 362880, -1.0 / 39916800, 1.0 / 6227020800, -1.0 / 1307674368000};
    static const double c[8] = {
        1.0,         -1.0 / 2,       1.0 / 24,        -1.0 / 720,
        1.0 / 40320, -1.0 / 3628800, 1.0 / 479001600, -1.0 / 87178291200};
    const int quarter = (int)(angle * (2 / SIFT_PI) + 0.5);
    const double t = angle - quarter * (SIFT_PI / 2), tt = t * t;
    double p = s[7], q = c[7];
    for (int k = 6; k >= 0; k--) {
        p = s[k] + tt * p;
        q = c[k] + tt * q;
    }
    p *= t;
    const double turned[4][2] = {{p, q}, {q, -p}, {-p, -q}, {-q, p}};
    *sine = turned[quarter & 3][0];
    *cosine = turned[quarter & 3][1];
}

#endif
