/*
 * proto_blob_decode() and every renderer behind it; proto_result_check(), which also
 * takes a PNG. The input's size is seldom what its count says, so the count is first made
 * to fit; one bit of the first byte leaves it.
 */
#include "proto/blob.h"
#include "proto/render.h"
#include "proto/result.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_header(const struct proto_blob *blob, const uint8_t *bytes)
{
    uint8_t again[PROTO_BLOB_HEADER_BYTES];

    proto_blob_encode_header(blob, again);
    if (memcmp(again, bytes, sizeof again) != 0)
        abort();
}

static void render_all(const uint8_t *bytes, size_t size)
{
    for (int format = 0; format < PROTO_FORMAT_COUNT; format++) {
        for (int descriptors = 0; descriptors < 3; descriptors++) {
            uint8_t *out;
            size_t out_size;
            if (proto_render(bytes, size, (enum proto_format)format,
                             (enum proto_descriptors)descriptors, &out, &out_size) < 0)
                abort();
            if (out_size == 0)
                abort();
            free(out);
        }
    }
}

/* With CRCs and without, as no fuzzer finds one; what passes is in its bounds. */
static void check_result(const uint8_t *bytes, size_t size)
{
    struct proto_params params;
    struct proto_result result;

    for (int summed = 0; summed < 2; summed++) {
        const struct proto_result_known known = {.sums_checked = summed != 0};
        if (proto_result_check(bytes, size, &known, &result) != NULL)
            continue;
        proto_params_init(&params);
        params.octave_layers = 10;
        if (result.width_px == 0 || result.height_px == 0 ||
            size > proto_result_bytes_max(result.kind, &params, result.width_px,
                                          result.height_px))
            abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct proto_blob blob;

    if (size == 0)
        return 0;
    size_t rest = size - 1;
    uint8_t *copy = malloc(rest);
    if (rest > 0)
        memcpy(copy, data + 1, rest);
    if (rest >= PROTO_BLOB_HEADER_BYTES && !(data[0] & 1)) {
        size_t count = (rest - PROTO_BLOB_HEADER_BYTES) /
                       (proto_blob_bytes(1) - proto_blob_bytes(0));
        for (int k = 0; k < 4; k++)
            copy[8 + k] = (uint8_t)(count >> 8 * k);
        rest = proto_blob_bytes((uint32_t)count);
        copy = realloc(copy, rest);
    }
    check_result(copy, rest);
    if (proto_blob_decode(copy, rest, &blob) == 0) {
        check_header(&blob, copy);
        render_all(copy, rest);
    }
    free(copy);
    return 0;
}
