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

/* Of an angle in 0 to 2 pi. */
static inline void sift_sin_cos(double angle, double *sine, double *cosine)
{
    int quarter = (int)(angle * (2 / SIFT_PI) + 0.5);
    double t = angle - quarter * (SIFT_PI / 2), s = 1, c = 1;
    for (int k = 18; k > 0; k -= 2) {
        s = 1 - t * t / (k * (k + 1)) * s;
        c = 1 - t * t / (k * (k - 1)) * c;
    }
    s *= t;
    double turned[4][2] = {{s, c}, {c, -s}, {-s, -c}, {-c, s}};
    *sine = turned[quarter & 3][0];
    *cosine = turned[quarter & 3][1];
}

#endif
