/*
 * nlm_neon.c - nlm_lanes.inc with 4 lanes. A look-up has 64 entries of a byte, so each
 * table of words is one of their low bytes and one of their high bytes. Called through
 * the kernel table only.
 */
#if defined(__aarch64__)

#include "extractor/vision/nlm_lanes.h"
#include "extractor/vision/nlm_table.h"

#include <arm_neon.h>
#include <errno.h>
#include <string.h>

typedef uint32x4_t vec;

#define LANES         4
#define PAIR_HALF_MAX 4
#define RUN_NAME      vision_nlm_u8_neon

struct table {
    uint8x16x4_t low[2], fix[2]; /* low bytes, high bytes */
    uint8x16_t high[2];
    uint16x8_t limit;
};

/* Look-ups of floats would take as long as those in memory. */
struct wide_table {
    char none;
};

static bool wide_table_make(struct wide_table *table, const struct vision_nlm_plan *plan)
{
    (void)table;
    (void)plan;
    return false;
}

static void table_split(uint8x16_t *bytes[2], const uint16_t *words, int count)
{
    uint8_t part[64];

    for (int byte = 0; byte < 2; byte++) {
        for (int i = 0; i < count; i++)
            part[i] = (uint8_t)(words[i] >> 8 * byte);
        for (int i = 0; i < count / 16; i++)
            bytes[byte][i] = vld1q_u8(part + 16 * i);
    }
}

static bool table_make(struct table *table, const struct vision_nlm_plan *plan)
{
    struct vision_nlm_words words;

    if (!vision_nlm_words_make(&words, plan))
        return false;
    table_split((uint8x16_t *[]){table->low[0].val, table->low[1].val}, words.low, 64);
    table_split((uint8x16_t *[]){table->fix[0].val, table->fix[1].val}, words.fix, 64);
    table_split((uint8x16_t *[]){&table->high[0], &table->high[1]}, words.high, 16);
    table->limit = vdupq_n_u16(words.limit);
    return true;
}

static inline uint16x8_t words(vec a)
{
    return vreinterpretq_u16_u32(a);
}

static inline vec lanes(uint16x8_t a)
{
    return vreinterpretq_u32_u16(a);
}

static inline vec v_zero(void)
{
    return vdupq_n_u32(0);
}

static inline vec v_set16(int16_t word)
{
    return lanes(vdupq_n_u16((uint16_t)word));
}

static inline vec v_set32(int32_t word)
{
    return vdupq_n_u32((uint32_t)word);
}

static inline vec v_add_sat(vec a, vec b)
{
    return lanes(vqaddq_u16(words(a), words(b)));
}

static inline vec v_square(vec a, vec b)
{
    const uint16x8_t d = vsubq_u16(words(a), words(b));
    return lanes(vmulq_u16(d, d));
}

/* sum + a0 * b0 + a1 * b1 in each lane. */
static inline vec v_dot(vec sum, vec a, vec b)
{
    const int16x8_t x = vreinterpretq_s16_u32(a), y = vreinterpretq_s16_u32(b);
    const int32x4_t low = vmull_s16(vget_low_s16(x), vget_low_s16(y));
    const int32x4_t high = vmull_high_s16(x, y);

    return vaddq_u32(sum, vreinterpretq_u32_s32(vpaddq_s32(low, high)));
}

/* Word 0 of `a`, word 1 of `b`. */
static inline vec v_blend_odd(vec a, vec b)
{
    return vbslq_u32(vdupq_n_u32(0xFFFF0000), b, a);
}

static inline vec v_low_words(vec a)
{
    return vandq_u32(a, vdupq_n_u32(0xFFFF));
}

static inline vec v_low_byte(vec a)
{
    return vandq_u32(a, vdupq_n_u32(0xFF));
}

/* (w0, w1) to (w0, w0), and to (w1, w0). */
static inline vec v_twice(vec a)
{
    return lanes(vtrn1q_u16(words(a), words(a)));
}

static inline vec v_turn(vec a)
{
    return lanes(vrev32q_u16(words(a)));
}

/* Of 64 words, those at i below 64. An index of 255 looks up 0. */
static inline uint16x8_t look_up(const uint8x16x4_t table[2], uint16x8_t i)
{
    const uint16x8_t for_low = vorrq_u16(i, vdupq_n_u16(0xFF00));
    const uint16x8_t for_high = vsliq_n_u16(vdupq_n_u16(0x00FF), i, 8);

    return vorrq_u16(
        vreinterpretq_u16_u8(vqtbl4q_u8(table[0], vreinterpretq_u8_u16(for_low))),
        vreinterpretq_u16_u8(vqtbl4q_u8(table[1], vreinterpretq_u8_u16(for_high))));
}

static inline uint16x8_t look_up_row(const uint8x16_t table[2], uint16x8_t row)
{
    const uint16x8_t for_low = vorrq_u16(row, vdupq_n_u16(0xFF00));
    const uint16x8_t for_high = vsliq_n_u16(vdupq_n_u16(0x00FF), row, 8);

    return vorrq_u16(
        vreinterpretq_u16_u8(vqtbl1q_u8(table[0], vreinterpretq_u8_u16(for_low))),
        vreinterpretq_u16_u8(vqtbl1q_u8(table[1], vreinterpretq_u8_u16(for_high))));
}

static inline uint16x8_t multiply_high(uint16x8_t a, uint16x8_t b)
{
    const uint32x4_t low = vmull_u16(vget_low_u16(a), vget_low_u16(b));

    return vuzp2q_u16(words(low), words(vmull_high_u16(a, b)));
}

/* The shift of a template of 3, 5, 7 and 9 pixels is 4, 5, 6 and 7. */
static inline __attribute__((always_inline)) vec four_weights(const struct table *t,
                                                              vec sum, const int half)
{
    const int16x8_t by = vdupq_n_s16((int16_t) - (half + 3));
    const uint16x8_t distance = vshlq_u16(words(sum), by);
    const uint16x8_t i = vandq_u16(distance, vdupq_n_u16(63));
    const uint16x8_t row = vshrq_n_u16(distance, 6);
    const uint16x8_t product =
        multiply_high(look_up(t->low, i), look_up_row(t->high, row));
    const uint16x8_t fix =
        vshlq_u16(look_up(t->fix, i), vnegq_s16(vreinterpretq_s16_u16(row)));
    const uint16x8_t weight = vaddq_u16(product, vandq_u16(fix, vdupq_n_u16(1)));

    return lanes(vandq_u16(weight, vcltq_u16(words(sum), t->limit)));
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

static inline vec v_weights_now(const struct table *t, vec core, const int half)
{
    (void)t;
    (void)half;
    return core; /* the tables need 18 of 32 registers */
}

static inline __attribute__((always_inline)) void
v_weights_later(const struct table *t, vec *row, int n, const int half)
{
    for (int k = 0; k < n; k++)
        row[k] = four_weights(t, row[k], half);
}

static inline vec v_wide_weights(const struct wide_table *t, vec i)
{
    (void)t;
    return i;
}

/* Four bytes from `from` in lane 0, from `from` + stride in lane 1, ... */
static inline vec v_bytes(const uint8_t *from, int stride)
{
    uint32_t four[LANES];

    for (int lane = 0; lane < LANES; lane++)
        memcpy(&four[lane], from + lane * stride, 4);
    return vld1q_u32(four);
}

static inline vec v_pair_pixels(vec four)
{
    return vorrq_u32(v_low_byte(four),
                     vshlq_n_u32(vandq_u32(four, vdupq_n_u32(0xFF00)), 8));
}

/* w % 128 and w / 128 as words. */
static inline vec v_wide_split(vec w)
{
    const vec high = vandq_u32(vshlq_n_u32(w, 9), v_set32(~0xFFFF));
    return vorrq_u32(vandq_u32(w, v_set32(127)), high);
}

static inline vec v_wide_pixel(vec four)
{
    const vec p = v_low_byte(four);
    return vorrq_u32(p, vshlq_n_u32(p, 23));
}

static inline vec v_wide_square(vec a, vec b)
{
    const int16x8_t d = vreinterpretq_s16_u16(vsubq_u16(words(a), words(b)));
    const int16x4_t even = vget_low_s16(vuzp1q_s16(d, d));

    return vreinterpretq_u32_s32(vmull_s16(even, even));
}

static inline vec v_add32(vec a, vec b)
{
    return vaddq_u32(a, b);
}

static inline vec v_sub32(vec a, vec b)
{
    return vsubq_u32(a, b);
}

static inline vec v_mul32(vec a, vec b)
{
    return vmulq_u32(a, b);
}

static inline vec v_min32(vec a, vec b)
{
    return vminq_u32(a, b);
}

static inline vec v_srl32(vec a, int shift)
{
    return vshlq_u32(a, vdupq_n_s32(-shift));
}

/* All ones where a > b, with signs. */
static inline vec v_greater32(vec a, vec b)
{
    return vcgtq_s32(vreinterpretq_s32_u32(a), vreinterpretq_s32_u32(b));
}

static inline vec v_gather(const uint32_t *table, vec index)
{
    uint32_t i[LANES];

    vst1q_u32(i, index);
    for (int lane = 0; lane < LANES; lane++)
        i[lane] = table[i[lane]];
    return vld1q_u32(i);
}

/* About 2 * half / by. */
static inline vec v_float_quotient(vec half, vec by)
{
    const float32x4_t value = vcvtq_f32_u32(half);

    return vcvtq_u32_f32(vdivq_f32(vaddq_f32(value, value), vcvtq_f32_u32(by)));
}

/* What lane i has, to lane i + 1; and to lane i - 1. */
static inline vec v_lane_up(vec a)
{
    return vextq_u32(v_zero(), a, 3);
}

static inline vec v_lane_down(vec a)
{
    return vextq_u32(a, v_zero(), 1);
}

static inline void v_store_lanes(uint32_t to[LANES], vec a)
{
    vst1q_u32(to, a);
}

#include "extractor/vision/nlm_lanes.inc"

#endif
