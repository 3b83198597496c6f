/*
 * nlm_avx512.c - nlm_lanes.inc with 16 lanes. The words of the table lie in registers:
 * two look-ups of 64 entries and one of 32 give a weight. Compiled for its level; called
 * through the kernel table only.
 */
#if defined(__x86_64__)

#include "extractor/vision/nlm_lanes.h"
#include "extractor/vision/nlm_table.h"

#include <errno.h>
#include <immintrin.h>
#include <string.h>

typedef __m512i vec;

#define LANES         16
#define PAIR_HALF_MAX 4
#define RUN_NAME      vision_nlm_u8_avx512

struct table {
    vec low[2], fix[2], high, limit;
};

/* For wide: three digits of 5 bits, as floats. */
struct wide_table {
    __m512 digit[3][2];
    vec end; /* the first distance without a weight */
};

static bool wide_table_make(struct wide_table *table, const struct vision_nlm_plan *plan)
{
    struct vision_nlm_digits digits;

    if (!vision_nlm_digits_make(&digits, plan, 3, 5))
        return false;
    for (int d = 0; d < 3; d++)
        for (int i = 0; i < 2; i++)
            table->digit[d][i] = _mm512_loadu_ps(digits.factor[d] + 16 * i);
    table->end = _mm512_set1_epi32((int)plan->weight_last);
    return true;
}

static bool table_make(struct table *table, const struct vision_nlm_plan *plan)
{
    struct vision_nlm_words words;

    if (!vision_nlm_words_make(&words, plan))
        return false;
    for (int i = 0; i < 2; i++) {
        table->low[i] = _mm512_loadu_si512(words.low + 32 * i);
        table->fix[i] = _mm512_loadu_si512(words.fix + 32 * i);
    }
    table->high = _mm512_loadu_si512(words.high);
    table->limit = _mm512_set1_epi16((short)words.limit);
    return true;
}

static inline vec v_zero(void)
{
    return _mm512_setzero_si512();
}

static inline vec v_set16(int16_t word)
{
    return _mm512_set1_epi16(word);
}

static inline vec v_set32(int32_t word)
{
    return _mm512_set1_epi32(word);
}

static inline vec v_add_sat(vec a, vec b)
{
    return _mm512_adds_epu16(a, b);
}

static inline vec v_square(vec a, vec b)
{
    const vec d = _mm512_sub_epi16(a, b);
    return _mm512_mullo_epi16(d, d);
}

/* sum + a0 * b0 + a1 * b1 in each lane. */
static inline vec v_dot(vec sum, vec a, vec b)
{
    return _mm512_dpwssd_epi32(sum, a, b);
}

/* Word 0 of `a`, word 1 of `b`. */
static inline vec v_blend_odd(vec a, vec b)
{
    return _mm512_mask_mov_epi16(a, 0xAAAAAAAA, b);
}

static inline vec v_low_words(vec a)
{
    return _mm512_and_si512(a, _mm512_set1_epi32(0xFFFF));
}

static inline vec v_low_byte(vec a)
{
    return _mm512_and_si512(a, _mm512_set1_epi32(0xFF));
}

/* (w0, w1) to (w0, w0), and to (w1, w0). */
static inline vec v_twice(vec a)
{
    return _mm512_mask_mov_epi16(a, 0xAAAAAAAA, _mm512_slli_epi32(a, 16));
}

static inline vec v_turn(vec a)
{
    return _mm512_rol_epi32(a, 16);
}

/* The shift of a template of 3, 5, 7 and 9 pixels is 4, 5, 6 and 7. */
static inline vec v_weights_now(const struct table *t, vec sum, const int half)
{
    const unsigned shift = (unsigned)half + 3;
    const vec i = _mm512_srli_epi16(sum, shift), row = _mm512_srli_epi16(sum, shift + 6);
    const vec product =
        _mm512_mulhi_epu16(_mm512_permutex2var_epi16(t->low[0], i, t->low[1]),
                           _mm512_permutexvar_epi16(row, t->high));
    const vec fix =
        _mm512_srlv_epi16(_mm512_permutex2var_epi16(t->fix[0], i, t->fix[1]), row);

    return _mm512_maskz_add_epi16(_mm512_cmplt_epu16_mask(sum, t->limit), product,
                                  _mm512_and_si512(fix, _mm512_set1_epi16(1)));
}

static inline vec v_core(const struct table *t, vec sum)
{
    (void)t;
    return sum;
}

static inline vec v_core_add(vec core, vec a)
{
    return v_add_sat(core, a);
}

/* All fits into 32 registers. */
static inline void v_weights_later(const struct table *t, vec *row, int n, const int half)
{
    (void)t;
    (void)row;
    (void)n;
    (void)half;
}

static inline vec v_wide_weights(const struct wide_table *t, vec i)
{
    __m512 product = _mm512_permutex2var_ps(t->digit[0][0], i, t->digit[0][1]);

    product = _mm512_mul_ps(
        product,
        _mm512_permutex2var_ps(t->digit[1][0], _mm512_srli_epi32(i, 5), t->digit[1][1]));
    const __m512 top =
        _mm512_permutex2var_ps(t->digit[2][0], _mm512_srli_epi32(i, 10), t->digit[2][1]);
    return _mm512_castps_si512(_mm512_maskz_fmadd_ps(
        _mm512_cmplt_epi32_mask(i, t->end), product, top, _mm512_set1_ps(0x1p23f)));
}

/* Four bytes from `from` in lane 0, from `from` + stride in lane 1, ... */
static inline vec v_bytes(const uint8_t *from, int stride)
{
    const vec lane =
        _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    return _mm512_i32gather_epi32(_mm512_mullo_epi32(lane, _mm512_set1_epi32(stride)),
                                  from, 1);
}

static inline vec v_pair_pixels(vec four)
{
    return _mm512_or_si512(
        v_low_byte(four),
        _mm512_slli_epi32(_mm512_and_si512(four, _mm512_set1_epi32(0xFF00)), 8));
}

/* w % 128 and w / 128 as words. */
static inline vec v_wide_split(vec w)
{
    const vec high = _mm512_and_si512(_mm512_slli_epi32(w, 9), v_set32(~0xFFFF));
    return _mm512_or_si512(_mm512_and_si512(w, v_set32(127)), high);
}

static inline vec v_wide_pixel(vec four)
{
    const vec p = v_low_byte(four);
    return _mm512_or_si512(p, _mm512_slli_epi32(p, 23));
}

static inline vec v_wide_square(vec a, vec b)
{
    const vec d = _mm512_sub_epi16(a, b);
    return _mm512_madd_epi16(d, v_low_words(d));
}

static inline vec v_add32(vec a, vec b)
{
    return _mm512_add_epi32(a, b);
}

static inline vec v_sub32(vec a, vec b)
{
    return _mm512_sub_epi32(a, b);
}

static inline vec v_mul32(vec a, vec b)
{
    return _mm512_mullo_epi32(a, b);
}

static inline vec v_min32(vec a, vec b)
{
    return _mm512_min_epi32(a, b);
}

static inline vec v_srl32(vec a, int shift)
{
    return _mm512_srl_epi32(a, _mm_cvtsi32_si128(shift));
}

/* All ones where a > b. */
static inline vec v_greater32(vec a, vec b)
{
    return _mm512_movm_epi32(_mm512_cmpgt_epi32_mask(a, b));
}

static inline vec v_gather(const uint32_t *table, vec index)
{
    return _mm512_i32gather_epi32(index, table, 4);
}

/* About 2 * half / by. */
static inline vec v_float_quotient(vec half, vec by)
{
    const __m512 twice =
        _mm512_add_ps(_mm512_cvtepi32_ps(half), _mm512_cvtepi32_ps(half));
    return _mm512_cvttps_epi32(_mm512_div_ps(twice, _mm512_cvtepi32_ps(by)));
}

/* What lane i has, to lane i + 1; and to lane i - 1. */
static inline vec v_lane_up(vec a)
{
    return _mm512_alignr_epi32(a, v_zero(), 15);
}

static inline vec v_lane_down(vec a)
{
    return _mm512_alignr_epi32(v_zero(), a, 1);
}

static inline void v_store_lanes(uint32_t lanes[LANES], vec a)
{
    _mm512_storeu_si512(lanes, a);
}

#include "extractor/vision/nlm_lanes.inc"

#endif
