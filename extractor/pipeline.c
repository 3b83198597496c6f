#include "extractor/pipeline.h"

#include "extractor/decode/decode.h"
#include "extractor/vision/kernels.h"
#include "extractor/vision/sift.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

_Static_assert(PROTO_DESCRIPTOR_BYTES == VISION_DESCRIPTOR_BYTES, "one descriptor");
_Static_assert(PROTO_BLOB_FEATURES_MAX >= VISION_SIFT_FEATURES_MAX, "every feature fits");

#define DECODER_BYTES_A_PIXEL 8 /* libjpeg's coefficients, libwebp's planes */
#define SCRATCH_ALIGN         64

static uint64_t now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static int fail(struct extractor_error *error, enum proto_status status,
                const char *format, ...) __attribute__((format(printf, 3, 4)));

static int fail(struct extractor_error *error, enum proto_status status,
                const char *format, ...)
{
    va_list args;
    *error = (struct extractor_error){.status = status};
    va_start(args, format);
    vsnprintf(error->detail, sizeof error->detail, format, args);
    va_end(args);
    return -1;
}

static int fail_decode(struct extractor_error *error, const struct decode_error *why)
{
    static const enum proto_status statuses[] = {
        [DECODE_BAD_TYPE] = PROTO_STATUS_BAD_TYPE,
        [DECODE_UNDECODABLE] = PROTO_STATUS_UNDECODABLE,
        [DECODE_TOO_MANY_PIXELS] = PROTO_STATUS_TOO_MANY_PIXELS,
        [DECODE_NO_MEMORY] = PROTO_STATUS_INTERNAL,
        [DECODE_CANCELLED] = PROTO_STATUS_CANCELLED,
    };
    fail(error, statuses[why->kind], "%s", why->detail);
    error->limit = why->limit;
    error->actual = why->actual;
    return -1;
}

static int fail_errno(struct extractor_error *error, int err)
{
    switch (err) {
    case -ECANCELED:
        return fail(error, PROTO_STATUS_CANCELLED, "The work was cancelled.");
    case -ENOMEM:
        return fail(error, PROTO_STATUS_INTERNAL, "There is no memory for the work.");
    case -EFBIG:
        return fail(error, PROTO_STATUS_TOO_MANY_PIXELS,
                    "The picture has too many pixels for this first_octave and "
                    "octave_layers.");
    default:
        return fail(error, PROTO_STATUS_INTERNAL, "The work failed: %s.", strerror(-err));
    }
}

static struct vision_sift_params sift_params(const struct proto_params *params)
{
    return (struct vision_sift_params){
        .first_octave = params->first_octave,
        .octave_layers = params->octave_layers,
        .contrast = params->contrast,
        .edge = params->edge,
        .sigma = params->sigma,
        .max_features = (uint32_t)params->max_features,
        .upright = params->upright != 0,
        .norm = params->norm == PROTO_NORM_ROOT ? VISION_NORM_ROOT : VISION_NORM_L2,
    };
}

static bool job_denoises(enum proto_kind kind, const struct proto_params *params)
{
    return kind == PROTO_KIND_DENOISE || params->denoise == PROTO_DENOISE_NLM;
}

uint64_t extractor_pipeline_memory_bytes(enum proto_kind kind,
                                         const struct proto_params *params,
                                         uint64_t width_px, uint64_t height_px,
                                         unsigned depth_bits)
{
    const struct vision_sift_params sift = sift_params(params);
    const uint64_t plane = width_px * height_px * (depth_bits / 8);
    uint64_t peak = plane + width_px * height_px * DECODER_BYTES_A_PIXEL;
    uint64_t stage = 2 * plane + vision_nlm_scratch_bytes();

    if (job_denoises(kind, params) && stage > peak)
        peak = stage;
    stage = plane + vision_sift_memory_bytes(width_px, height_px, &sift);
    if (kind == PROTO_KIND_FEATURES && stage > peak)
        peak = stage;
    return peak;
}

static int check_memory(const struct extractor_job *job, const struct decode_info *info,
                        struct extractor_error *error)
{
    uint64_t bytes = extractor_pipeline_memory_bytes(
        job->kind, &job->params, info->width_px, info->height_px, info->depth_bits);
    if (job->memory_max == 0 || bytes <= job->memory_max)
        return 0;
    fail(error, PROTO_STATUS_TOO_MANY_PIXELS,
         "A picture of %" PRIu32 " x %" PRIu32 " pixels needs %" PRIu64
         " MiB with these parameters, %" PRIu64 " MiB are allowed.",
         info->width_px, info->height_px, bytes >> 20, job->memory_max >> 20);
    error->limit = job->memory_max;
    error->actual = bytes;
    return -1;
}

/* The size is judged before the memory, for the sake of the clearer sentence. */
static int decode(const struct extractor_job *job, struct vision_control *control,
                  struct vision_image *out, struct extractor_error *error)
{
    const struct decode_options options = {
        .pixels_max = job->pixels_max,
        .upright = job->params.orient == PROTO_ORIENT_EXIF,
        .control = control,
    };
    struct decode_info info;
    struct decode_error why;

    if (decode_probe(job->image, job->image_bytes, &info, &why) < 0)
        return fail_decode(error, &why);
    bool in_bounds = (uint64_t)info.width_px * info.height_px <= job->pixels_max;
    if (in_bounds && check_memory(job, &info, error) < 0)
        return -1;
    if (decode_image(job->image, job->image_bytes, &options, out, &why) < 0)
        return fail_decode(error, &why);
    return 0;
}

/* Replace `image` by its denoised self. 0, or a negative errno. */
static int denoise(const struct proto_params *params, struct vision_control *control,
                   struct vision_image *image)
{
    const struct vision_nlm_params nlm = {
        .h = params->h,
        .template_px = (unsigned)params->template,
        .search_px = (unsigned)params->search,
    };
    struct vision_kernels kernels;
    struct vision_image clean = {0};
    size_t bytes = vision_nlm_scratch_bytes();
    int err = -ENOMEM;

    vision_kernels_init(&kernels, vision_cpu_detect());
    bytes += SCRATCH_ALIGN - bytes % SCRATCH_ALIGN;
    void *scratch = aligned_alloc(SCRATCH_ALIGN, bytes);
    if (scratch != NULL)
        err = decode_image_new(image->width_px, image->height_px, image->depth_bits,
                               &clean);
    if (err == 0)
        err = vision_nlm(&kernels, &clean, image, &nlm, scratch, control);
    free(scratch);
    if (err < 0) {
        decode_image_free(&clean);
        return err;
    }
    decode_image_free(image);
    *image = clean;
    return 0;
}

static int blob_from(const struct extractor_job *job,
                     const struct vision_features *features,
                     struct extractor_result *result)
{
    struct proto_blob blob = {.count = (uint32_t)features->count,
                              .width_px = result->width_px,
                              .height_px = result->height_px,
                              .params = job->params};
    memcpy(blob.image_sha256, job->image_sha256, sizeof blob.image_sha256);
    memcpy(blob.key, job->key, sizeof blob.key);

    result->size = proto_blob_bytes(blob.count);
    result->bytes = malloc(result->size);
    if (result->bytes == NULL)
        return -ENOMEM;
    result->count = blob.count;
    proto_blob_encode_header(&blob, result->bytes);

    uint8_t *keypoint = result->bytes + PROTO_BLOB_HEADER_BYTES;
    uint8_t *descriptor =
        keypoint + features->count * PROTO_KEYPOINT_FLOATS * sizeof(float);
    for (size_t i = 0; i < features->count; i++) {
        const struct vision_feature *f = &features->items[i];
        const float values[PROTO_KEYPOINT_FLOATS] = {f->x, f->y, f->scale, f->orientation,
                                                     f->response};
        proto_blob_put_keypoint(keypoint, values);
        memcpy(descriptor, f->descriptor, PROTO_DESCRIPTOR_BYTES);
        keypoint += PROTO_KEYPOINT_FLOATS * sizeof(float);
        descriptor += PROTO_DESCRIPTOR_BYTES;
    }
    return 0;
}

static int features(const struct extractor_job *job, const struct vision_image *image,
                    struct vision_control *control, struct extractor_result *result)
{
    const struct vision_sift_params params = sift_params(&job->params);
    struct vision_features found = {0};
    int err = vision_sift(image, &params, control, &found);
    if (err == 0)
        err = blob_from(job, &found, result);
    vision_features_free(&found);
    return err;
}

/* The stages after decoding. 0, or a negative errno. */
static int work(const struct extractor_job *job, struct vision_control *control,
                struct vision_image *image, struct extractor_result *result)
{
    uint64_t start = now_us();
    if (job_denoises(job->kind, &job->params)) {
        int err = denoise(&job->params, control, image);
        if (err < 0)
            return err;
        result->denoise_us = now_us() - start;
    }
    if (vision_step(control))
        return -ECANCELED;
    if (job->kind == PROTO_KIND_DENOISE)
        return decode_png_write(image, control, &result->bytes, &result->size);

    start = now_us();
    int err = features(job, image, control, result);
    result->sift_us = now_us() - start;
    return err;
}

int extractor_pipeline_run(const struct extractor_job *job,
                           struct vision_control *control, struct extractor_result *out,
                           struct extractor_error *error)
{
    struct extractor_result result = {0};
    struct vision_image image = {0};
    uint64_t start = now_us();

    if (decode(job, control, &image, error) < 0)
        return -1;
    result.decode_us = now_us() - start;
    result.width_px = (uint32_t)image.width_px;
    result.height_px = (uint32_t)image.height_px;

    int err = work(job, control, &image, &result);
    decode_image_free(&image);
    if (err < 0) {
        extractor_result_free(&result);
        return fail_errno(error, err);
    }
    *out = result;
    return 0;
}

void extractor_result_free(struct extractor_result *result)
{
    free(result->bytes);
    *result = (struct extractor_result){0};
}
