/*
 * A picture file as a slot gets it: decode_probe() and decode_image() with the pixel
 * limit of the job, then, for small pictures, the whole pipeline without denoising. What
 * is decoded has the shape that the header promised (or that shape turned), and its
 * pixels are all set and inside the limit. What a decoder understands of a head, those
 * who only state a job's cost understand alike.
 */
#include "extractor/decode/decode.h"
#include "extractor/pipeline.h"
#include "proto/picture.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define PIXELS_MAX          4096
#define PIPELINE_PIXELS_MAX 400 /* SIFT under ASan is slow */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition)
{
    if (!condition)
        abort();
}

/* Reads every pixel: a sanitizer sees what was not allocated. */
static unsigned sum_of(const struct vision_image *image)
{
    const size_t row_bytes = image->width_px * (image->depth_bits / 8);
    unsigned sum = 0;

    for (size_t y = 0; y < image->height_px; y++) {
        const uint8_t *row =
            (const uint8_t *)image->pixels + (ptrdiff_t)y * image->stride_bytes;
        for (size_t i = 0; i < row_bytes; i++)
            sum += row[i];
    }
    return sum;
}

static void check_image(const struct vision_image *image, const struct decode_info *info)
{
    bool same = image->width_px == info->width_px && image->height_px == info->height_px;
    bool turned = image->width_px == info->height_px &&
                  image->height_px == info->width_px && info->orientation >= 5;

    require(same || turned);
    require((uint64_t)image->width_px * image->height_px <= PIXELS_MAX);
    require(image->depth_bits == info->depth_bits);
    require(sum_of(image) <= 255u * sizeof(uint16_t) * PIXELS_MAX);
}

static void run_pipeline(const uint8_t *bytes, size_t size)
{
    struct extractor_job job = {.kind = PROTO_KIND_FEATURES,
                                .image = bytes,
                                .image_bytes = size,
                                .pixels_max = PIPELINE_PIXELS_MAX};
    struct extractor_result result;
    struct extractor_error error;
    struct proto_blob blob;

    proto_params_init(&job.params);
    job.params.denoise = PROTO_DENOISE_NONE;
    if (extractor_pipeline_run(&job, NULL, &result, &error) < 0)
        return;
    require(proto_blob_decode(result.bytes, result.size, &blob) == 0);
    extractor_result_free(&result);
}

static void check_stated(const uint8_t *bytes, size_t size,
                         const struct decode_info *info)
{
    struct proto_picture picture;
    struct proto_params params;

    proto_params_init(&params);
    require(proto_picture_cost_bytes(bytes, size, PROTO_KIND_FEATURES, &params) > size);
    int err = proto_picture_probe(bytes, size, &picture);
    if (info == NULL)
        return;
    require(err == 0 && picture.width_px == info->width_px &&
            picture.height_px == info->height_px &&
            picture.depth_bits == info->depth_bits);
}

static void decode(const uint8_t *bytes, size_t size, bool upright)
{
    const struct decode_options options = {.pixels_max = PIXELS_MAX, .upright = upright};
    struct vision_image image;
    struct decode_info info;
    struct decode_error error = {0};

    bool known = decode_probe(bytes, size, &info, &error) == 0;
    require(known || error.detail[0] != '\0');
    check_stated(bytes, size, known ? &info : NULL);
    if (decode_image(bytes, size, &options, &image, &error) < 0) {
        require(memchr(error.detail, '\0', sizeof error.detail) != NULL);
        return;
    }
    require(known);
    check_image(&image, &info);
    uint64_t pixels = (uint64_t)image.width_px * image.height_px;
    decode_image_free(&image);
    if (pixels <= PIPELINE_PIXELS_MAX && upright)
        run_pipeline(bytes, size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    /* A copy, so that its end is the end of what may be read. */
    uint8_t *copy = malloc(size);

    if (size > 0)
        memcpy(copy, data, size);
    decode(copy, size, true);
    decode(copy, size, false);
    free(copy);
    return 0;
}
