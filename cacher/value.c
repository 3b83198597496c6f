#include "cacher/value.h"

#include <string.h>

enum proto_kind cacher_value_kind(const struct proto_submit *submit)
{
    static const enum proto_kind kinds[] = {PROTO_KIND_FEATURES, PROTO_KIND_DENOISE};
    struct proto_params params;
    uint8_t made[PROTO_DIGEST_BYTES];

    if (submit->image_sha256_bytes != PROTO_DIGEST_BYTES ||
        proto_params_decode(submit->params, submit->params_bytes, &params) < 0)
        return 0;
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (proto_key(submit->image_sha256, kinds[i], &params, made) == 0 &&
            memcmp(made, submit->key, sizeof made) == 0)
            return kinds[i];
    return 0;
}

bool cacher_value_is_of(enum proto_kind kind, const uint8_t *bytes, size_t size)
{
    static const uint8_t magic[4] = {'S', 'M', 'F', 'B'};
    bool is_blob = size >= sizeof magic && memcmp(bytes, magic, sizeof magic) == 0;

    return kind == 0 || is_blob == (kind == PROTO_KIND_FEATURES);
}

bool cacher_value_fits(const uint8_t key[PROTO_DIGEST_BYTES], enum proto_kind kind,
                       const uint8_t *bytes, size_t size)
{
    struct proto_result_known known = {.kind = kind, .key = key, .sums_checked = true};

    return proto_result_check(bytes, size, &known, NULL) == NULL;
}

const char *cacher_value_check_put(const struct proto_submit *submit,
                                   const uint8_t *bytes, size_t size,
                                   struct proto_result *out)
{
    struct proto_params params;
    struct proto_result_known known = {.key = submit->key};

    if (submit->params_bytes > 0) {
        if (proto_params_decode(submit->params, submit->params_bytes, &params) < 0)
            return "the parameters are malformed";
        known.params = &params;
    }
    if (submit->image_sha256_bytes == PROTO_DIGEST_BYTES)
        known.image_sha256 = submit->image_sha256;
    const char *why = proto_result_check(bytes, size, &known, out);
    if (why == NULL && cacher_value_is_of(PROTO_KIND_DENOISE, bytes, size) &&
        cacher_value_kind(submit) != PROTO_KIND_DENOISE)
        return "a denoised picture is put with the hash and parameters that make its key";
    return why;
}
