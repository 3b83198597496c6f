/*
 * sift_avx2.c - sift_simd.inc, 8 lanes. Compiled for AVX2 without FMA.
 */
#include "extractor/vision/sift_kernels.h"

#if defined(__AVX2__)
#include <immintrin.h>
#include <math.h>
#include <stdbool.h>

#define LANES   8
#define NAME(x) x##_avx2

typedef __m256 vf;

#define v_set      _mm256_set1_ps
#define v_load     _mm256_load_ps
#define v_loadu    _mm256_loadu_ps
#define v_store    _mm256_store_ps
#define v_storeu   _mm256_storeu_ps
#define v_add      _mm256_add_ps
#define v_sub      _mm256_sub_ps
#define v_mul      _mm256_mul_ps
#define v_div      _mm256_div_ps
#define v_sqrt     _mm256_sqrt_ps
#define v_min      _mm256_min_ps
#define v_max      _mm256_max_ps
#define v_trunc(a) _mm256_round_ps(a, _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC)

static inline vf v_abs(vf a)
{
    return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a);
}

/* Lanes one to the right, the first one from the end of `before`. */
static inline vf v_shift_in(vf before, vf a)
{
    const __m256i v = _mm256_castps_si256(a);
    const __m256i joint = _mm256_permute2x128_si256(_mm256_castps_si256(before), v, 0x21);
    return _mm256_castsi256_ps(_mm256_alignr_epi8(v, joint, 12));
}

/* Lanes one to the left, the last one from the start of `after`. */
static inline vf v_shift_out(vf a, vf after)
{
    const __m256i v = _mm256_castps_si256(a);
    const __m256i joint = _mm256_permute2x128_si256(v, _mm256_castps_si256(after), 0x21);
    return _mm256_castsi256_ps(_mm256_alignr_epi8(joint, v, 4));
}

/* Lanes k to the left, 0 < k < 8, the last ones from the start of `after`. */
static inline vf v_shift(vf a, vf after, const int k)
{
    const __m256i v = _mm256_castps_si256(a), next = _mm256_castps_si256(after);
    const __m256i joint = _mm256_permute2x128_si256(v, next, 0x21);
    switch (k) {
    case 1:
        return _mm256_castsi256_ps(_mm256_alignr_epi8(joint, v, 4));
    case 2:
        return _mm256_castsi256_ps(_mm256_alignr_epi8(joint, v, 8));
    case 3:
        return _mm256_castsi256_ps(_mm256_alignr_epi8(joint, v, 12));
    case 4:
        return _mm256_castsi256_ps(joint);
    case 5:
        return _mm256_castsi256_ps(_mm256_alignr_epi8(next, joint, 4));
    case 6:
        return _mm256_castsi256_ps(_mm256_alignr_epi8(next, joint, 8));
    default:
        return _mm256_castsi256_ps(_mm256_alignr_epi8(next, joint, 12));
    }
}

static inline unsigned v_mask_ge(vf a, vf b)
{
    return (unsigned)_mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_GE_OQ));
}

/* Lane by lane a < b ? yes : no. */
static inline vf v_if_less(vf a, vf b, vf yes, vf no)
{
    return _mm256_blendv_ps(no, yes, _mm256_cmp_ps(a, b, _CMP_LT_OQ));
}

static inline void v_store_int(int32_t *to, vf a)
{
    _mm256_storeu_si256((void *)to, _mm256_cvttps_epi32(a));
}

/* a and b in turn, to 16 floats. */
static inline void v_store_zip(float *to, vf a, vf b)
{
    const __m256 low = _mm256_unpacklo_ps(a, b), high = _mm256_unpackhi_ps(a, b);
    _mm256_storeu_ps(to, _mm256_permute2f128_ps(low, high, 0x20));
    _mm256_storeu_ps(to + 8, _mm256_permute2f128_ps(low, high, 0x31));
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

static inline void v_pairs(const float *base, const int32_t at[8], vf *first, vf *second)
{
    const __m256 a = _mm256_set_m128(two_pairs(base, at + 4), two_pairs(base, at));
    const __m256 b = _mm256_set_m128(two_pairs(base, at + 6), two_pairs(base, at + 2));
    *first = _mm256_shuffle_ps(a, b, 0x88);
    *second = _mm256_shuffle_ps(a, b, 0xdd);
}

/* Where the pixels (x, row) are, in floats. */
static inline void v_store_places(int32_t *at, vf x, vf row, ptrdiff_t stride)
{
    const __m256i rows =
        _mm256_mullo_epi32(_mm256_cvttps_epi32(row), _mm256_set1_epi32((int32_t)stride));
    _mm256_store_si256((void *)at, _mm256_add_epi32(rows, _mm256_cvttps_epi32(x)));
}

/* columns[j] = (from[0][j], from[1][j], ... from[7][j]), rows of 16. */
static inline void v_transpose(vf columns[16], const float *from)
{
    for (int j = 0; j < 16; j += 8) {
        __m256 r[8], t[8];
        for (int i = 0; i < 8; i++)
            r[i] = _mm256_loadu_ps(from + 16 * i + j);
        for (int i = 0; i < 8; i += 2) {
            t[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
            t[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
        }
        for (int i = 0; i < 8; i += 4) {
            r[i] = _mm256_shuffle_ps(t[i], t[i + 2], 0x44);
            r[i + 1] = _mm256_shuffle_ps(t[i], t[i + 2], 0xee);
            r[i + 2] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0x44);
            r[i + 3] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0xee);
        }
        for (int i = 0; i < 4; i++) {
            columns[j + i] = _mm256_permute2f128_ps(r[i], r[i + 4], 0x20);
            columns[j + i + 4] = _mm256_permute2f128_ps(r[i], r[i + 4], 0x31);
        }
    }
}

#define v_store_directions v_storeu

#include "extractor/vision/sift_simd.inc"

void vision_sift_table_avx2(struct vision_sift_table *t)
{
    fill_avx2(t);
}
#endif
