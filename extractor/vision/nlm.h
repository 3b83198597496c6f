/*
 * nlm.h - non-local means on a grey picture.
 *
 * Each pixel becomes the mean of the pixels in a square of `search_px` round it, weighed
 * by how alike the squares of `template_px` round the two are. Outside the picture lies
 * its mirror image without the edge pixel repeated (reflect-101, as often as needed).
 *
 * 8 bits, bit-identical to OpenCV 4.6 cv2.fastNlMeansDenoising(h, template, search):
 *
 *   shift  = smallest s with 2^s >= template^2
 *   one    = INT32_MAX / (search^2 * 255)                         the weight 1.0
 *   d      = (sum of squared differences over the template) >> shift
 *   w(d)   = round_half_even(one * exp(-(d * 2^shift / template^2) / h^2)),
 *            h and h^2 rounded to float; 0 where that is below one / 1000
 *   result = (sum of w * p + (sum of w) / 2) / (sum of w)
 *
 * 16 bits, our own definition, as OpenCV has none with squared differences: the same on
 * 16-bit values with h * 257 (in double), one = 32767, 64-bit sums, and d rounded down to
 * a multiple of the smallest power of two that leaves at most 65536 distances with a
 * weight. Its results are within 0.02 % of the weight of the same formula in floats.
 *
 * The scalar functions are the definition; a faster twin gives the same bytes. Nothing
 * here allocates. Thread-safe: what a call needs is in its arguments.
 */
#ifndef VISION_NLM_H
#define VISION_NLM_H

#include "extractor/vision/control.h"
#include "extractor/vision/image.h"

#include <stddef.h>

#define VISION_NLM_TEMPLATE_MAX_PX   21
#define VISION_NLM_SEARCH_MAX_PX     35
#define VISION_NLM_SCRATCH_MAX_BYTES (4u << 20)

struct vision_nlm_params {
    double h;             /* above 0, in grey levels of 8 bits at any depth */
    unsigned template_px; /* odd, 1 to VISION_NLM_TEMPLATE_MAX_PX */
    unsigned search_px;   /* odd, 1 to VISION_NLM_SEARCH_MAX_PX */
};

/*
 * Write the denoised `src` to `dst`: same size and depth, no overlap. `scratch` holds
 * vision_nlm_scratch_bytes(), aligned to 64. Returns 0; -EINVAL when a parameter is out
 * of range or the pictures differ in shape or are not of the function's depth;
 * -ECANCELED.
 */
typedef int vision_nlm_fn(const struct vision_image *dst, const struct vision_image *src,
                          const struct vision_nlm_params *params, void *scratch,
                          struct vision_control *control);

/* Enough for every version of the kernel; does not grow with the picture. */
size_t vision_nlm_scratch_bytes(void);

/* The scalar versions. Callers use struct vision_kernels. */
vision_nlm_fn vision_nlm_u8_c;
vision_nlm_fn vision_nlm_u16_c;

#endif
