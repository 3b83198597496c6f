/*
 * sift_native.h - sift.h by our own kernels, many times faster and in little memory.
 *
 * Parameters and results mean what sift.h says, with these differences from the VLFeat
 * backend: the picture is doubled at half pixels (without a bias); an extremum is refined
 * along the scale too, and once more at the scale found; the orientations and descriptors
 * are taken from a grid that follows the scale, the descriptor's 4 x 4 squares being 3.5
 * sigmas wide instead of 3 (sift_describe.c; docs/PERFORMANCE.md tells what it is worth).
 * Thread-safe.
 */
#ifndef VISION_SIFT_NATIVE_H
#define VISION_SIFT_NATIVE_H

#include "extractor/vision/kernels.h"
#include "extractor/vision/sift.h"

/*
 * All features of `image`, in the total order of sift.h; the same bytes whichever kernels
 * are in `k`. Returns 0 with `out` filled (release it with vision_features_free);
 * -EINVAL when a parameter is out of range; -ENOMEM; -ECANCELED.
 */
int vision_sift_native(const struct vision_kernels *k, const struct vision_image *image,
                       const struct vision_sift_params *params,
                       struct vision_control *control, struct vision_features *out);

/* Bytes that vision_sift_native asks for to begin with. They grow with the width, not
 * with the height; features are added to them as they are found. */
uint64_t vision_sift_native_memory_bytes(uint64_t width_px, uint64_t height_px,
                                         const struct vision_sift_params *params);

#endif
