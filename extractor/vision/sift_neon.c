/*
 * sift_neon.c - sift_simd.inc on aarch64: 8 lanes in two registers of 4.
 */
#include "extractor/vision/sift_kernels.h"

#if defined(__aarch64__)
#include <arm_neon.h>
#include <math.h>
#include <stdbool.h>

#define LANES   8
#define NAME(x) x##_neon

typedef struct {
    float32x4_t a, b;
} vf;

#define EACH(name, op)                                                                   \
    static inline vf name(vf x, vf y)                                                    \
    {                                                                                    \
        return (vf){op(x.a, y.a), op(x.b, y.b)};                                         \
    }
#define EACH_OF_ONE(name, op)                                                            \
    static inline vf name(vf x)                                                          \
    {                                                                                    \
        return (vf){op(x.a), op(x.b)};                                                   \
    }

EACH(v_add, vaddq_f32)
EACH(v_sub, vsubq_f32)
EACH(v_mul, vmulq_f32)
EACH(v_div, vdivq_f32)
EACH(v_min, vminq_f32)
EACH(v_max, vmaxq_f32)
EACH_OF_ONE(v_sqrt, vsqrtq_f32)
EACH_OF_ONE(v_abs, vabsq_f32)
EACH_OF_ONE(v_trunc, vrndq_f32)

static inline vf v_set(float x)
{
    return (vf){vdupq_n_f32(x), vdupq_n_f32(x)};
}

static inline vf v_loadu(const float *from)
{
    return (vf){vld1q_f32(from), vld1q_f32(from + 4)};
}

static inline void v_storeu(float *to, vf x)
{
    vst1q_f32(to, x.a);
    vst1q_f32(to + 4, x.b);
}

#define v_load             v_loadu
#define v_store            v_storeu
#define v_store_directions v_storeu

/* Lanes one to the right, the first one from the end of `before`. */
static inline vf v_shift_in(vf before, vf x)
{
    return (vf){vextq_f32(before.b, x.a, 3), vextq_f32(x.a, x.b, 3)};
}

/* Lanes one to the left, the last one from the start of `after`. */
static inline vf v_shift_out(vf x, vf after)
{
    return (vf){vextq_f32(x.a, x.b, 1), vextq_f32(x.b, after.a, 1)};
}

/* Lanes k to the left, 0 < k < 8, the last ones from the start of `after`. */
static inline vf v_shift(vf x, vf after, const int k)
{
#define SHIFT(from, middle, to, k)                                                       \
    return (vf)                                                                          \
    {                                                                                    \
        vextq_f32(from, middle, k), vextq_f32(middle, to, k)                             \
    }
    switch (k) {
    case 1:
        SHIFT(x.a, x.b, after.a, 1);
    case 2:
        SHIFT(x.a, x.b, after.a, 2);
    case 3:
        SHIFT(x.a, x.b, after.a, 3);
    case 4:
        return (vf){x.b, after.a};
    case 5:
        SHIFT(x.b, after.a, after.b, 1);
    case 6:
        SHIFT(x.b, after.a, after.b, 2);
    default:
        SHIFT(x.b, after.a, after.b, 3);
    }
#undef SHIFT
}

static inline unsigned v_mask_ge(vf x, vf y)
{
    static const uint32_t low[4] = {1, 2, 4, 8}, high[4] = {16, 32, 64, 128};
    const uint32x4_t bits = vorrq_u32(vandq_u32(vcgeq_f32(x.a, y.a), vld1q_u32(low)),
                                      vandq_u32(vcgeq_f32(x.b, y.b), vld1q_u32(high)));
    return vaddvq_u32(bits);
}

/* Lane by lane x < y ? yes : no. */
static inline vf v_if_less(vf x, vf y, vf yes, vf no)
{
    return (vf){vbslq_f32(vcltq_f32(x.a, y.a), yes.a, no.a),
                vbslq_f32(vcltq_f32(x.b, y.b), yes.b, no.b)};
}

static inline void v_store_int(int32_t *to, vf x)
{
    vst1q_s32(to, vcvtq_s32_f32(x.a));
    vst1q_s32(to + 4, vcvtq_s32_f32(x.b));
}

/* x and y in turn, to 16 floats. */
static inline void v_store_zip(float *to, vf x, vf y)
{
    vst2q_f32(to, ((float32x4x2_t){{x.a, y.a}}));
    vst2q_f32(to + 8, ((float32x4x2_t){{x.b, y.b}}));
}

/* at[0] += more[0], at[1] += more[1] */
static inline void add_two(float *at, const float *more)
{
    vst1_f32(at, vadd_f32(vld1_f32(at), vld1_f32(more)));
}

/* Two floats from each of two places. */
static inline float32x4_t two_pairs(const float *base, const int32_t *at)
{
    return vcombine_f32(vld1_f32(base + at[0]), vld1_f32(base + at[1]));
}

static inline void v_pairs(const float *base, const int32_t at[8], vf *first, vf *second)
{
    const float32x4_t p = two_pairs(base, at), q = two_pairs(base, at + 2);
    const float32x4_t r = two_pairs(base, at + 4), s = two_pairs(base, at + 6);
    *first = (vf){vuzp1q_f32(p, q), vuzp1q_f32(r, s)};
    *second = (vf){vuzp2q_f32(p, q), vuzp2q_f32(r, s)};
}

/* Where the pixels (x, row) are, in floats. */
static inline void v_store_places(int32_t *at, vf x, vf row, ptrdiff_t stride)
{
    const int32x4_t width = vdupq_n_s32((int32_t)stride);
    vst1q_s32(at, vmlaq_s32(vcvtq_s32_f32(x.a), vcvtq_s32_f32(row.a), width));
    vst1q_s32(at + 4, vmlaq_s32(vcvtq_s32_f32(x.b), vcvtq_s32_f32(row.b), width));
}

/* to[i] = (from[0][i], from[1][i], from[2][i], from[3][i]), rows of 16. */
static inline void transpose4(float32x4_t to[4], const float *from)
{
    const float32x4_t r0 = vld1q_f32(from), r1 = vld1q_f32(from + 16);
    const float32x4_t r2 = vld1q_f32(from + 32), r3 = vld1q_f32(from + 48);
    const float32x4_t even01 = vtrn1q_f32(r0, r1), odd01 = vtrn2q_f32(r0, r1);
    const float32x4_t even23 = vtrn1q_f32(r2, r3), odd23 = vtrn2q_f32(r2, r3);
    to[0] = vcombine_f32(vget_low_f32(even01), vget_low_f32(even23));
    to[1] = vcombine_f32(vget_low_f32(odd01), vget_low_f32(odd23));
    to[2] = vcombine_f32(vget_high_f32(even01), vget_high_f32(even23));
    to[3] = vcombine_f32(vget_high_f32(odd01), vget_high_f32(odd23));
}

/* columns[j] = (from[0][j], from[1][j], ... from[7][j]), rows of 16. */
static inline void v_transpose(vf columns[16], const float *from)
{
    for (int j = 0; j < 16; j += 4) {
        float32x4_t upper[4], lower[4];
        transpose4(upper, from + j);
        transpose4(lower, from + 64 + j);
        for (int i = 0; i < 4; i++)
            columns[j + i] = (vf){upper[i], lower[i]};
    }
}

#include "extractor/vision/sift_simd.inc"

void vision_sift_table_neon(struct vision_sift_table *t)
{
    fill_neon(t);
}
#endif
