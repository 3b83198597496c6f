/*
 * result.c - checks of a result against its key: a blob of features or a denoised PNG.
 *
 * Called where results come in: by the supervisor of slots, the cacher and the gateway.
 * It never unpacks pixels and never changes a byte.
 */
#include "proto/result.h"

#include <string.h>
#include <zlib.h>

enum {
    SIGNATURE_BYTES = 8,
    CHUNK_BYTES = 12, /* length, type and CRC of each chunk */
    TYPE_BYTES = 4,
    IHDR_BYTES = 13,
    FEATURES_FREE = 64,   /* features of a picture of a few pixels */
    PNG_FREE_BYTES = 1024 /* of a PNG of a few pixels */
};

#define PNG_SIDE_PX_MAX 0x7fffffffu

static const uint8_t signature[SIGNATURE_BYTES] = {0x89, 'P',  'N',  'G',
                                                   '\r', '\n', 0x1a, '\n'};

static uint32_t get_be32(const uint8_t *src)
{
    return (uint32_t)src[0] << 24 | (uint32_t)src[1] << 16 | (uint32_t)src[2] << 8 |
           src[3];
}

/* ---- sizes ---- */

static uint64_t features_max(const struct proto_params *params, uint64_t pixels)
{
    uint64_t layers = (uint64_t)params->octave_layers;
    /* Doubling makes four pixels of one; a halved picture has fewer, which is left. */
    uint64_t doubled = params->first_octave < 0 ? 4 : 1;

    if (pixels > PROTO_BLOB_FEATURES_MAX) /* enough for the most, and no overflow */
        pixels = PROTO_BLOB_FEATURES_MAX;
    uint64_t most = FEATURES_FREE + pixels * doubled * layers * PROTO_RESULT_DENSITY;

    if (params->max_features > 0 && most > (uint64_t)params->max_features)
        most = (uint64_t)params->max_features;
    return most < PROTO_BLOB_FEATURES_MAX ? most : PROTO_BLOB_FEATURES_MAX;
}

/* Rows of a filter byte and samples; deflate adds 5 bytes to each block that it cannot
 * make smaller, a chunk has 12 bytes around its 8 KiB. */
static uint64_t png_bytes_max(uint64_t width_px, uint64_t height_px, unsigned depth_bits)
{
    uint64_t raw = height_px * (1 + width_px * (depth_bits / 8));

    return raw + raw / 64 + PNG_FREE_BYTES;
}

uint64_t proto_result_bytes_max(enum proto_kind kind, const struct proto_params *params,
                                uint64_t width_px, uint64_t height_px)
{
    if (kind == PROTO_KIND_DENOISE)
        return png_bytes_max(width_px, height_px, 16);
    return proto_blob_bytes((uint32_t)features_max(params, width_px * height_px));
}

/* ---- what is known ---- */

static const char *check_size(const struct proto_result_known *known,
                              const struct proto_params *params,
                              const struct proto_result *result)
{
    uint32_t width = result->width_px, height = result->height_px;
    bool turns = params == NULL || params->orient == PROTO_ORIENT_EXIF;

    if (known->width_px == 0 || known->height_px == 0 ||
        (width == known->width_px && height == known->height_px) ||
        (turns && height == known->width_px && width == known->height_px))
        return NULL;
    return "the result is of a picture of another size";
}

static const char *check_key(const uint8_t *key, const uint8_t *image_sha256,
                             enum proto_kind kind, const struct proto_params *params)
{
    uint8_t made[PROTO_DIGEST_BYTES];

    if (proto_key(image_sha256, kind, params, made) < 0)
        return "there was no memory to check the result's key";
    return memcmp(made, key, sizeof made) == 0
               ? NULL
               : "the result's picture and parameters do not make its key";
}

static bool params_equal(const struct proto_params *a, const struct proto_params *b)
{
    uint8_t bytes_a[PROTO_PARAMS_BYTES], bytes_b[PROTO_PARAMS_BYTES];

    proto_params_encode(a, bytes_a);
    proto_params_encode(b, bytes_b);
    return memcmp(bytes_a, bytes_b, sizeof bytes_a) == 0;
}

/* ---- features ---- */

static const char *check_blob(const uint8_t *bytes, size_t size,
                              const struct proto_result_known *known,
                              struct proto_result *result)
{
    struct proto_blob blob;

    if (proto_blob_decode(bytes, size, &blob) < 0)
        return "the result is neither features nor a PNG";
    if (known->key != NULL && memcmp(blob.key, known->key, sizeof blob.key) != 0)
        return "the features are those of another key";
    if (known->image_sha256 != NULL &&
        memcmp(blob.image_sha256, known->image_sha256, sizeof blob.image_sha256) != 0)
        return "the features are those of another picture";
    if (known->params != NULL && !params_equal(&blob.params, known->params))
        return "the features have other parameters";
    if (blob.width_px == 0 || blob.height_px == 0)
        return "the features are of a picture without pixels";
    if (blob.params.max_features > 0 && blob.count > (uint32_t)blob.params.max_features)
        return "there are more features than max_features";
    if (blob.count > features_max(&blob.params, (uint64_t)blob.width_px * blob.height_px))
        return "there are more features than the picture's pixels can have";
    *result = (struct proto_result){PROTO_KIND_FEATURES, blob.count, blob.width_px,
                                    blob.height_px};
    const char *why = check_size(known, &blob.params, result);
    return why != NULL ? why
                       : check_key(blob.key, blob.image_sha256, PROTO_KIND_FEATURES,
                                   &blob.params);
}

/* ---- PNG ---- */

struct chunk {
    const uint8_t *type, *data;
    uint32_t size; /* of data */
};

static bool chunk_is(const struct chunk *chunk, const char *type)
{
    return memcmp(chunk->type, type, TYPE_BYTES) == 0;
}

/* The chunk at `*at` is whole: `*at` moves behind it. */
static bool chunk_next(const uint8_t *bytes, size_t size, size_t *at, struct chunk *out)
{
    if (size - *at < CHUNK_BYTES)
        return false;
    struct chunk chunk = {
        .type = bytes + *at + 4, .data = bytes + *at + 8, .size = get_be32(bytes + *at)};
    if (chunk.size > size - *at - CHUNK_BYTES)
        return false;
    *at += CHUNK_BYTES + chunk.size;
    *out = chunk;
    return true;
}

static bool chunk_sum_is_right(const struct chunk *chunk)
{
    uLong sum = crc32(crc32(0, chunk->type, TYPE_BYTES), chunk->data, chunk->size);

    return get_be32(chunk->data + chunk->size) == (uint32_t)sum;
}

/* As slots write it: grey, 8 or 16 bits, the one compression and filter, no interlace. */
static const char *check_ihdr(const struct chunk *chunk, struct proto_result *result,
                              unsigned *depth_bits)
{
    const uint8_t *data = chunk->data;

    if (!chunk_is(chunk, "IHDR") || chunk->size != IHDR_BYTES)
        return "the PNG has no header";
    result->kind = PROTO_KIND_DENOISE;
    result->width_px = get_be32(data);
    result->height_px = get_be32(data + 4);
    *depth_bits = data[8];
    if (result->width_px - 1 >= PNG_SIDE_PX_MAX ||
        result->height_px - 1 >= PNG_SIDE_PX_MAX)
        return "the PNG has no size";
    if ((*depth_bits != 8 && *depth_bits != 16) || data[9] != 0 || data[10] != 0 ||
        data[11] != 0 || data[12] != 0)
        return "the PNG is not grey of 8 or 16 bits as denoised pictures are";
    return NULL;
}

/* After IHDR: one or more IDATs, then IEND, and no byte behind it. */
static const char *check_chunks(const uint8_t *bytes, size_t size, size_t at, bool sums)
{
    struct chunk chunk;
    size_t idats = 0;

    while (chunk_next(bytes, size, &at, &chunk)) {
        bool ends = chunk_is(&chunk, "IEND");
        if (!ends && !chunk_is(&chunk, "IDAT"))
            return "the PNG has a chunk that denoised pictures do not have";
        if (sums && !chunk_sum_is_right(&chunk))
            return "a chunk of the PNG has a wrong CRC";
        if (!ends) {
            idats++;
            continue;
        }
        if (chunk.size != 0 || idats == 0)
            return "the PNG has no pixels";
        return at == size ? NULL : "bytes follow the end of the PNG";
    }
    return "the PNG does not end: it was cut";
}

static const char *check_png(const uint8_t *bytes, size_t size,
                             const struct proto_result_known *known,
                             struct proto_result *result)
{
    size_t at = SIGNATURE_BYTES;
    struct chunk header;
    unsigned depth_bits = 0;

    if (!chunk_next(bytes, size, &at, &header))
        return "the PNG has no header";
    const char *why = check_ihdr(&header, result, &depth_bits);
    if (why == NULL && !known->sums_checked && !chunk_sum_is_right(&header))
        why = "a chunk of the PNG has a wrong CRC";
    if (why == NULL &&
        size > png_bytes_max(result->width_px, result->height_px, depth_bits))
        why = "the PNG is larger than its pixels";
    if (why == NULL)
        why = check_size(known, known->params, result);
    if (why == NULL && known->key != NULL && known->image_sha256 != NULL &&
        known->params != NULL)
        why =
            check_key(known->key, known->image_sha256, PROTO_KIND_DENOISE, known->params);
    return why != NULL ? why : check_chunks(bytes, size, at, !known->sums_checked);
}

const char *proto_result_check(const uint8_t *bytes, size_t size,
                               const struct proto_result_known *known,
                               struct proto_result *out)
{
    struct proto_result result = {0};
    bool is_png =
        size >= SIGNATURE_BYTES && memcmp(bytes, signature, SIGNATURE_BYTES) == 0;
    enum proto_kind kind = is_png ? PROTO_KIND_DENOISE : PROTO_KIND_FEATURES;

    if (known->kind != 0 && known->kind != kind)
        return is_png ? "the result is a PNG, and features were asked for"
                      : "the result is no PNG, as a denoised picture is";
    const char *why = is_png ? check_png(bytes, size, known, &result)
                             : check_blob(bytes, size, known, &result);
    if (why == NULL && out != NULL)
        *out = result;
    return why;
}
