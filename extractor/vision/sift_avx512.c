/*
 * sift_avx512.c - sift_simd.inc, 16 lanes. Compiled for AVX-512 F, DQ and VL.
 */
#include "extractor/vision/sift_kernels.h"

#if defined(__AVX512F__)
#include <immintrin.h>
#include <math.h>
#include <stdbool.h>

#define LANES   16
#define NAME(x) x##_avx512

typedef __m512 vf;

#define v_set      _mm512_set1_ps
#define v_load     _mm512_load_ps
#define v_loadu    _mm512_loadu_ps
#define v_store    _mm512_store_ps
#define v_storeu   _mm512_storeu_ps
#define v_add      _mm512_add_ps
#define v_sub      _mm512_sub_ps
#define v_mul      _mm512_mul_ps
#define v_div      _mm512_div_ps
#define v_sqrt     _mm512_sqrt_ps
#define v_min      _mm512_min_ps
#define v_max      _mm512_max_ps
#define v_abs      _mm512_abs_ps
#define v_trunc(a) _mm512_roundscale_ps(a, _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC)

/* Lanes one to the right, the first one from the end of `before`. */
static inline vf v_shift_in(vf before, vf a)
{
    return _mm512_castsi512_ps(
        _mm512_alignr_epi32(_mm512_castps_si512(a), _mm512_castps_si512(before), 15));
}

/* Lanes one to the left, the last one from the start of `after`. */
static inline vf v_shift_out(vf a, vf after)
{
    return _mm512_castsi512_ps(
        _mm512_alignr_epi32(_mm512_castps_si512(after), _mm512_castps_si512(a), 1));
}

/* Lanes k to the left, a constant from 1 to 15, the last ones from the start of `after`.
 */
#define v_shift(a, after, k)                                                             \
    _mm512_castsi512_ps(                                                                 \
        _mm512_alignr_epi32(_mm512_castps_si512(after), _mm512_castps_si512(a), k))

static inline unsigned v_mask_ge(vf a, vf b)
{
    return _mm512_cmp_ps_mask(a, b, _CMP_GE_OQ);
}

/* Lane by lane a < b ? yes : no. */
static inline vf v_if_less(vf a, vf b, vf yes, vf no)
{
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), no, yes);
}

static inline void v_store_int(int32_t *to, vf a)
{
    _mm512_storeu_si512((void *)to, _mm512_cvttps_epi32(a));
}

/* a and b in turn, to 32 floats. */
static inline void v_store_zip(float *to, vf a, vf b)
{
    const __m512i first =
        _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    const __m512i second = _mm512_add_epi32(first, _mm512_set1_epi32(8));
    _mm512_storeu_ps(to, _mm512_permutex2var_ps(a, first, b));
    _mm512_storeu_ps(to + 16, _mm512_permutex2var_ps(a, second, b));
}

/* at[0] += more[0], at[1] += more[1] */
static inline void add_two(float *at, const float *more)
{
    const __m128 sum = _mm_add_ps(_mm_castsi128_ps(_mm_loadu_si64(at)),
                                  _mm_castsi128_ps(_mm_loadu_si64(more)));
    _mm_storel_epi64((void *)at, _mm_castps_si128(sum));
}

/* Two floats from each of two places. */
static inline __m128 two_pairs(const float *base, const int32_t *at)
{
    return _mm_castsi128_ps(
        _mm_unpacklo_epi64(_mm_loadu_si64(base + at[0]), _mm_loadu_si64(base + at[1])));
}

/* Of places 0-1, 4-5, 8-9, 12-13 counted from `at`. */
static inline __m512 four_twos(const float *base, const int32_t *at)
{
    const __m256 low = _mm256_set_m128(two_pairs(base, at + 4), two_pairs(base, at));
    const __m256 high =
        _mm256_set_m128(two_pairs(base, at + 12), two_pairs(base, at + 8));
    return _mm512_insertf32x8(_mm512_castps256_ps512(low), high, 1);
}

static inline void v_pairs(const float *base, const int32_t at[16], vf *first, vf *second)
{
    const __m512 a = four_twos(base, at), b = four_twos(base, at + 2);
    *first = _mm512_shuffle_ps(a, b, 0x88);
    *second = _mm512_shuffle_ps(a, b, 0xdd);
}

/* Where the pixels (x, row) are, in floats. */
static inline void v_store_places(int32_t *at, vf x, vf row, ptrdiff_t stride)
{
    const __m512i rows =
        _mm512_mullo_epi32(_mm512_cvttps_epi32(row), _mm512_set1_epi32((int32_t)stride));
    _mm512_store_si512((void *)at, _mm512_add_epi32(rows, _mm512_cvttps_epi32(x)));
}

/* columns[j] = (from[0][j], from[1][j], ... from[15][j]), rows of 16. */
static inline void v_transpose(vf columns[16], const float *from)
{
    __m512 r[16], t[16];
    for (int i = 0; i < 16; i++)
        r[i] = _mm512_loadu_ps(from + 16 * i);
    for (int i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_ps(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]);
    }
    for (int i = 0; i < 16; i += 4) {
        r[i] = _mm512_shuffle_ps(t[i], t[i + 2], 0x44);
        r[i + 1] = _mm512_shuffle_ps(t[i], t[i + 2], 0xee);
        r[i + 2] = _mm512_shuffle_ps(t[i + 1], t[i + 3], 0x44);
        r[i + 3] = _mm512_shuffle_ps(t[i + 1], t[i + 3], 0xee);
    }
    /* r[4q + c], quarter l: column 4l + c of rows 4q to 4q + 3. */
    for (int c = 0; c < 4; c++) {
        const __m512 a = _mm512_shuffle_f32x4(r[c], r[4 + c], 0x44);
        const __m512 b = _mm512_shuffle_f32x4(r[8 + c], r[12 + c], 0x44);
        const __m512 d = _mm512_shuffle_f32x4(r[c], r[4 + c], 0xee);
        const __m512 e = _mm512_shuffle_f32x4(r[8 + c], r[12 + c], 0xee);
        columns[c] = _mm512_shuffle_f32x4(a, b, 0x88);
        columns[4 + c] = _mm512_shuffle_f32x4(a, b, 0xdd);
        columns[8 + c] = _mm512_shuffle_f32x4(d, e, 0x88);
        columns[12 + c] = _mm512_shuffle_f32x4(d, e, 0xdd);
    }
}

/* Eight directions of one row of squares, eight of the next. */
static inline void v_store_directions(float *raw, vf a)
{
    _mm256_storeu_ps(raw, _mm512_castps512_ps256(a));
    _mm256_storeu_ps(raw + 32, _mm512_extractf32x8_ps(a, 1));
}

#include "extractor/vision/sift_simd.inc"

void vision_sift_table_avx512(struct vision_sift_table *t)
{
    fill_avx512(t);
}
#endif
