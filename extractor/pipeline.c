#include "extractor/pipeline.h"

#include "extractor/decode/decode.h"
#include "extractor/vision/kernels.h"
#include "extractor/vision/sift.h"
#include "extractor/vision/sift_native.h"
#include "proto/mask.h"
#include "proto/picture.h"

#include <errno.h>
#include <inttypes.h>
#include <malloc.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

_Static_assert(PROTO_DESCRIPTOR_BYTES == VISION_DESCRIPTOR_BYTES, "one descriptor");
_Static_assert(PROTO_BLOB_FEATURES_MAX >= VISION_SIFT_FEATURES_MAX, "every feature fits");

#define DECODER_BYTES_A_PIXEL 8 /* libjpeg's coefficients, libwebp's planes */
#define SCRATCH_ALIGN         64
/* Of features, above which what was free is given back before the result is copied: it
 * would count beside both. Below it is kept warm for the next job (slot.c). */
#define DENSE_BYTES (1u << 20)

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
        .spread = params->spread != 0,
    };
}

static void kernels_for(const struct extractor_job *job, struct vision_kernels *k)
{
    vision_kernels_init(k, vision_cpu_detect() & ~job->cpu_off);
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
    stage = plane + (params->sift == PROTO_SIFT_VLFEAT
                         ? vision_sift_memory_bytes(width_px, height_px, &sift)
                         : vision_sift_native_memory_bytes(width_px, height_px, &sift));
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

/* What a job works on: the picture, and the mask where it has one. */
struct work {
    const struct extractor_job *job;
    struct vision_control *control;
    struct vision_image image, mask; /* mask.pixels NULL: none */
    struct extractor_result result;
    uint64_t found, features_max; /* where there are too many: at least, at most */
};

/* As it is stored, and of the picture's size, which bounds its memory. */
static int decode_mask(struct work *w, const uint8_t *bytes, size_t size,
                       struct extractor_error *error)
{
    const size_t width = w->image.width_px, height = w->image.height_px;
    const struct decode_options options = {.pixels_max = width * height,
                                           .control = w->control};
    struct decode_info info;
    struct decode_error why;

    if (decode_probe(bytes, size, &info, &why) < 0)
        return fail_decode(error, &why);
    if (info.width_px != width || info.height_px != height)
        return fail(error, PROTO_STATUS_UNDECODABLE,
                    "The mask has %" PRIu32 " x %" PRIu32
                    " pixels, the picture %zu x %zu; they are to be equal.",
                    info.width_px, info.height_px, width, height);
    return decode_image(bytes, size, &options, &w->mask, &why) < 0
               ? fail_decode(error, &why)
               : 0;
}

/* The size is judged before the memory, for the sake of the clearer sentence. */
static int decode_picture(const struct extractor_job *job, size_t size,
                          struct vision_control *control, struct vision_image *out,
                          struct extractor_error *error)
{
    const struct decode_options options = {
        .pixels_max = job->pixels_max,
        .upright = job->params.orient == PROTO_ORIENT_EXIF,
        .control = control,
    };
    struct decode_info info;
    struct decode_error why;

    if (decode_probe(job->image, size, &info, &why) < 0)
        return fail_decode(error, &why);
    bool in_bounds = (uint64_t)info.width_px * info.height_px <= job->pixels_max;
    if (in_bounds && check_memory(job, &info, error) < 0)
        return -1;
    if (decode_image(job->image, size, &options, out, &why) < 0)
        return fail_decode(error, &why);
    return 0;
}

static int decode(struct work *w, struct extractor_error *error)
{
    const struct extractor_job *job = w->job;
    size_t picture = job->image_bytes, mask = 0;
    bool masked = proto_mask_split(job->image, job->image_bytes, &picture, &mask);

    if (decode_picture(job, picture, w->control, &w->image, error) < 0)
        return -1;
    return masked ? decode_mask(w, job->image + picture, mask, error) : 0;
}

/* Replace `image` by its denoised self. 0, or a negative errno. */
static int denoise(const struct extractor_job *job, struct vision_control *control,
                   struct vision_image *image)
{
    const struct proto_params *params = &job->params;
    const struct vision_nlm_params nlm = {
        .h = params->h,
        .template_px = (unsigned)params->template,
        .search_px = (unsigned)params->search,
    };
    struct vision_kernels kernels;
    struct vision_image clean = {0};
    size_t bytes = vision_nlm_scratch_bytes();
    int err = -ENOMEM;

    kernels_for(job, &kernels);
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

static int find(const struct work *w, const struct vision_sift_params *params,
                struct vision_features *found)
{
    struct vision_kernels kernels;

    if (w->job->params.sift == PROTO_SIFT_VLFEAT)
        return vision_sift(&w->image, params, w->control, found);
    kernels_for(w->job, &kernels);
    return vision_sift_native(&kernels, &w->image, params, w->control, found);
}

static int features(struct work *w)
{
    const struct proto_picture picture = {
        (uint32_t)w->image.width_px, (uint32_t)w->image.height_px, w->image.depth_bits};
    struct vision_sift_params params = sift_params(&w->job->params);
    struct vision_features found = {0};

    params.features_max = proto_picture_features_max(&picture, &w->job->params);
    params.waiting_max = proto_picture_waiting_max(&picture, &w->job->params);
    params.mask = w->mask.pixels != NULL ? &w->mask : NULL;
    int err = find(w, &params, &found);
    if (err == -E2BIG) {
        w->found = found.count;
        w->features_max =
            found.count > params.features_max ? params.features_max : params.waiting_max;
    }
    if (err == 0)
        err = blob_from(w->job, &found, &w->result);
    const bool is_dense = found.count * sizeof *found.items >= DENSE_BYTES;
    vision_features_free(&found);
    if (is_dense)
        malloc_trim(0);
    return err;
}

static int fail_features(const struct work *w, struct extractor_error *error)
{
    fail(error, PROTO_STATUS_TOO_MANY_FEATURES,
         "A picture of this size may have %" PRIu64
         " features with these parameters, it has at least %" PRIu64
         "; max_features keeps the strongest.",
         w->features_max, w->found);
    error->limit = w->features_max;
    error->actual = w->found;
    return -1;
}

/* The stages after decoding. 0, or a negative errno. */
static int work(struct work *w)
{
    const struct extractor_job *job = w->job;
    uint64_t start = now_us();

    if (job_denoises(job->kind, &job->params)) {
        int err = denoise(job, w->control, &w->image);
        if (err < 0)
            return err;
        w->result.denoise_us = now_us() - start;
    }
    if (vision_step(w->control))
        return -ECANCELED;
    if (job->kind == PROTO_KIND_DENOISE)
        return decode_png_write(&w->image, w->control, &w->result.bytes, &w->result.size);

    start = now_us();
    int err = features(w);
    w->result.sift_us = now_us() - start;
    return err;
}

int extractor_pipeline_run(const struct extractor_job *job,
                           struct vision_control *control, struct extractor_result *out,
                           struct extractor_error *error)
{
    struct work w = {.job = job, .control = control};
    uint64_t start = now_us();
    int code = decode(&w, error);

    if (code == 0) {
        w.result.decode_us = now_us() - start;
        w.result.width_px = (uint32_t)w.image.width_px;
        w.result.height_px = (uint32_t)w.image.height_px;
        int err = work(&w);
        code = err == -E2BIG ? fail_features(&w, error)
               : err < 0     ? fail_errno(error, err)
                             : 0;
    }
    decode_image_free(&w.image);
    decode_image_free(&w.mask);
    if (code < 0)
        extractor_result_free(&w.result);
    else
        *out = w.result;
    return code;
}

void extractor_result_free(struct extractor_result *result)
{
    free(result->bytes);
    *result = (struct extractor_result){0};
}
