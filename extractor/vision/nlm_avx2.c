/*
 * nlm_avx2.c - nlm_lanes.inc with 8 lanes. A look-up in a register has 8 entries here, so
 * a weight is a product of floats: three digits of the distance. The last multiplication
 * is fused with the addition that rounds; this is the only file with FMA, and it is named
 * where meant, so that the compiler contracts nothing. Compiled for its level; called
 * through the kernel table only.
 */
#if defined(__x86_64__)

#include "extractor/vision/nlm_lanes.h"
#include "extractor/vision/nlm_table.h"

#include <errno.h>
#include <immintrin.h>
#include <string.h>

typedef __m256i vec;

#define LANES         8
#define PAIR_HALF_MAX 4
#define RUN_NAME      vision_nlm_u8_avx2

struct table {
    __m256 low, mid, top[2]; /* with nine, top[1] is the factor of 8 only */
    vec from;
    int tops; /* values of the top digit: 8, 9 or 16 */
};

/* The same for wide: four digits of 3 bits, or five. */
struct wide_table {
    __m256 digit[5];
    bool five;
    vec end; /* the first distance without a weight */
};

static bool wide_table_make(struct wide_table *table, const struct vision_nlm_plan *plan)
{
    struct vision_nlm_digits digits;

    table->five = plan->weight_last > 1u << 12;
    if (!vision_nlm_digits_make(&digits, plan, table->five ? 5 : 4, 3))
        return false;
    for (int d = 0; d < 5; d++)
        table->digit[d] = _mm256_loadu_ps(digits.factor[d]);
    table->end = _mm256_set1_epi32((int)plan->weight_last);
    return true;
}

static bool table_make(struct table *table, const struct vision_nlm_plan *plan)
{
    struct vision_nlm_floats floats;

    if (!vision_nlm_floats_make(&floats, plan))
        return false;
    table->low = _mm256_loadu_ps(floats.digits.factor[0]);
    table->mid = _mm256_loadu_ps(floats.digits.factor[1]);
    table->top[0] = _mm256_loadu_ps(floats.digits.factor[2]);
    table->top[1] = floats.tops == 9 ? _mm256_set1_ps(floats.digits.factor[2][8])
                                     : _mm256_loadu_ps(floats.digits.factor[2] + 8);
    table->tops = floats.tops;
    table->from = _mm256_set1_epi16((short)floats.from);
    return true;
}

static inline vec v_zero(void)
{
    return _mm256_setzero_si256();
}

static inline vec v_set16(int16_t word)
{
    return _mm256_set1_epi16(word);
}

static inline vec v_set32(int32_t word)
{
    return _mm256_set1_epi32(word);
}

static inline vec v_add_sat(vec a, vec b)
{
    return _mm256_adds_epu16(a, b);
}

static inline vec v_square(vec a, vec b)
{
    const vec d = _mm256_sub_epi16(a, b);
    return _mm256_mullo_epi16(d, d);
}

/* sum + a0 * b0 + a1 * b1 in each lane. */
static inline vec v_dot(vec sum, vec a, vec b)
{
    return _mm256_add_epi32(sum, _mm256_madd_epi16(a, b));
}

/* Word 0 of `a`, word 1 of `b`. */
static inline vec v_blend_odd(vec a, vec b)
{
    return _mm256_blend_epi16(a, b, 0xAA);
}

static inline vec v_low_words(vec a)
{
    return _mm256_and_si256(a, _mm256_set1_epi32(0xFFFF));
}

static inline vec v_low_byte(vec a)
{
    return _mm256_and_si256(a, _mm256_set1_epi32(0xFF));
}

/* (w0, w1) to (w0, w0), and to (w1, w0). */
static inline vec v_twice(vec a)
{
    return _mm256_blend_epi16(a, _mm256_slli_epi32(a, 16), 0xAA);
}

static inline vec v_turn(vec a)
{
    return _mm256_or_si256(_mm256_slli_epi32(a, 16), _mm256_srli_epi32(a, 16));
}

/* a * b rounded to an integer, half to even, below the exponent of 2^23. */
static inline vec rounded_product(__m256 a, __m256 b)
{
    return _mm256_castps_si256(_mm256_fmadd_ps(a, b, _mm256_set1_ps(0x1p23f)));
}

/* Eight weights, in the low words, from their digits; look-ups ignore what is above the
 * lowest three bits. `sign` has the top digit's fourth bit as its sign. */
static inline __attribute__((always_inline)) vec
eight_weights(const struct table *t, vec low, vec mid, vec high, vec sign, const int tops)
{
    const __m256 product = _mm256_mul_ps(_mm256_permutevar8x32_ps(t->low, low),
                                         _mm256_permutevar8x32_ps(t->mid, mid));
    __m256 top = _mm256_permutevar8x32_ps(t->top[0], high);

    if (tops > 8)
        top = _mm256_blendv_ps(
            top, tops == 9 ? t->top[1] : _mm256_permutevar8x32_ps(t->top[1], high),
            _mm256_castsi256_ps(sign));
    return rounded_product(product, top);
}

/* A shift to the right of words: where look-ups and shifts fill their ports,
 * multiplications find others. */
static inline __attribute__((always_inline)) vec words_right(vec a, const int by)
{
    return _mm256_mulhi_epu16(a, _mm256_set1_epi16((short)(1 << (16 - by))));
}

/* `left` is what the table's `from` is above the sum. The shift of a template of 3, 5, 7
 * and 9 pixels is 4, 5, 6 and 7; with 7, nine bits of distance are left. Even words and
 * odd words are looked up where they are. */
static inline __attribute__((always_inline)) vec
sixteen_weights(const struct table *t, vec left, const int half, const int tops)
{
    const int at = half + 3;
    const vec index = words_right(left, at);
    const vec even =
        eight_weights(t, index, words_right(left, at + 3), words_right(left, at + 6),
                      _mm256_slli_epi32(left, 22 - at), tops);
    const vec odd =
        eight_weights(t, _mm256_srli_epi32(left, at + 16),
                      _mm256_srli_epi32(left, at + 19), _mm256_srli_epi32(left, at + 22),
                      at < 6 ? _mm256_slli_epi32(left, 6 - at) : left, tops);
    const vec weights = _mm256_blend_epi16(even, _mm256_slli_epi32(odd, 16), 0xAA);

    return _mm256_sign_epi16(weights, index); /* 0 where it is 0 */
}

static inline __attribute__((always_inline)) vec v_core(const struct table *t, vec sum)
{
    return _mm256_subs_epu16(t->from, sum);
}

static inline __attribute__((always_inline)) vec v_core_add(vec core, vec a)
{
    return _mm256_subs_epu16(core, a);
}

static inline __attribute__((always_inline)) vec v_weights_now(const struct table *t,
                                                               vec core, const int half)
{
    (void)t;
    (void)half;
    return core; /* the look-ups need all 16 registers */
}

static inline __attribute__((always_inline)) void
weights_of(const struct table *table, vec *row, int n, const int half, const int tops)
{
    const struct table t = *table;

    for (int k = 0; k < n; k += 2) {
        row[k] = sixteen_weights(&t, row[k], half, tops);
        row[k + 1] = sixteen_weights(&t, row[k + 1], half, tops);
    }
}

static inline __attribute__((always_inline)) void
v_weights_later(const struct table *t, vec *row, int n, const int half)
{
    if (t->tops == 8)
        weights_of(t, row, n, half, 8);
    else if (t->tops == 9)
        weights_of(t, row, n, half, 9);
    else
        weights_of(t, row, n, half, 16);
}

static inline vec v_wide_weights(const struct wide_table *t, vec i)
{
    __m256 product = _mm256_permutevar8x32_ps(t->digit[0], i);

    const int last = t->five ? 4 : 3;
    for (int d = 1; d < last; d++)
        product = _mm256_mul_ps(
            product, _mm256_permutevar8x32_ps(t->digit[d], _mm256_srli_epi32(i, 3 * d)));
    const vec weights = rounded_product(
        product,
        _mm256_permutevar8x32_ps(t->digit[last], _mm256_srli_epi32(i, 3 * last)));
    return _mm256_and_si256(weights, _mm256_cmpgt_epi32(t->end, i));
}

/* Four bytes from `from` in lane 0, from `from` + stride in lane 1, ... */
static inline vec v_bytes(const uint8_t *from, int stride)
{
    const vec lane = _mm256_set_epi32(7, 6, 5, 4, 3, 2, 1, 0);
    return _mm256_i32gather_epi32((const void *)from,
                                  _mm256_mullo_epi32(lane, _mm256_set1_epi32(stride)), 1);
}

static inline vec v_pair_pixels(vec four)
{
    return _mm256_or_si256(
        v_low_byte(four),
        _mm256_slli_epi32(_mm256_and_si256(four, _mm256_set1_epi32(0xFF00)), 8));
}

/* w % 128 and w / 128 as words. */
static inline vec v_wide_split(vec w)
{
    const vec high = _mm256_and_si256(_mm256_slli_epi32(w, 9), v_set32(~0xFFFF));
    return _mm256_or_si256(_mm256_and_si256(w, v_set32(127)), high);
}

static inline vec v_wide_pixel(vec four)
{
    const vec p = v_low_byte(four);
    return _mm256_or_si256(p, _mm256_slli_epi32(p, 23));
}

static inline vec v_wide_square(vec a, vec b)
{
    const vec d = _mm256_sub_epi16(a, b);
    return _mm256_madd_epi16(d, v_low_words(d));
}

static inline vec v_add32(vec a, vec b)
{
    return _mm256_add_epi32(a, b);
}

static inline vec v_sub32(vec a, vec b)
{
    return _mm256_sub_epi32(a, b);
}

static inline vec v_mul32(vec a, vec b)
{
    return _mm256_mullo_epi32(a, b);
}

static inline vec v_min32(vec a, vec b)
{
    return _mm256_min_epi32(a, b);
}

static inline vec v_srl32(vec a, int shift)
{
    return _mm256_srl_epi32(a, _mm_cvtsi32_si128(shift));
}

/* All ones where a > b. */
static inline vec v_greater32(vec a, vec b)
{
    return _mm256_cmpgt_epi32(a, b);
}

static inline vec v_gather(const uint32_t *table, vec index)
{
    return _mm256_i32gather_epi32((const void *)table, index, 4);
}

/* About 2 * half / by. */
static inline vec v_float_quotient(vec half, vec by)
{
    const __m256 twice =
        _mm256_add_ps(_mm256_cvtepi32_ps(half), _mm256_cvtepi32_ps(half));
    return _mm256_cvttps_epi32(_mm256_div_ps(twice, _mm256_cvtepi32_ps(by)));
}

/* What lane i has, to lane i + 1; and to lane i - 1. */
static inline vec v_lane_up(vec a)
{
    const vec from = _mm256_set_epi32(6, 5, 4, 3, 2, 1, 0, 0);
    return _mm256_blend_epi32(_mm256_permutevar8x32_epi32(a, from), v_zero(), 0x01);
}

static inline vec v_lane_down(vec a)
{
    const vec from = _mm256_set_epi32(7, 7, 6, 5, 4, 3, 2, 1);
    return _mm256_blend_epi32(_mm256_permutevar8x32_epi32(a, from), v_zero(), 0x80);
}

static inline void v_store_lanes(uint32_t lanes[LANES], vec a)
{
    _mm256_storeu_si256((void *)lanes, a);
}

#include "extractor/vision/nlm_lanes.inc"

#endif
