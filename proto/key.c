#include "proto/key.h"

#include <errno.h>
#include <openssl/evp.h>
#include <string.h>

int proto_sha256(const void *bytes, size_t size, uint8_t out[PROTO_DIGEST_BYTES])
{
    /* The one-shot call fails only for want of memory: the algorithm is built in. */
    return EVP_Digest(bytes, size, out, NULL, EVP_sha256(), NULL) == 1 ? 0 : -ENOMEM;
}

int proto_key(const uint8_t image_sha256[PROTO_DIGEST_BYTES], enum proto_kind kind,
              const struct proto_params *params, uint8_t out[PROTO_DIGEST_BYTES])
{
    /* Every part but the last has a fixed length, so no two inputs run together. */
    struct {
        uint8_t image[PROTO_DIGEST_BYTES];
        uint8_t kind;
        uint8_t params[PROTO_PARAMS_BYTES];
        char algorithm[sizeof PROTO_ALGORITHM - 1]; /* without its NUL */
    } whole;
    _Static_assert(sizeof whole == PROTO_DIGEST_BYTES + 1 + PROTO_PARAMS_BYTES +
                                       sizeof PROTO_ALGORITHM - 1,
                   "bytes only, so there is no padding to be hashed");

    memcpy(whole.image, image_sha256, sizeof whole.image);
    whole.kind = (uint8_t)kind;
    proto_params_encode(params, whole.params);
    memcpy(whole.algorithm, PROTO_ALGORITHM, sizeof whole.algorithm);
    return proto_sha256(&whole, sizeof whole, out);
}

void proto_hex(const uint8_t digest[PROTO_DIGEST_BYTES], char out[PROTO_HEX_BYTES])
{
    static const char digits[] = "0123456789abcdef";

    for (size_t i = 0; i < PROTO_DIGEST_BYTES; i++) {
        out[2 * i] = digits[digest[i] >> 4];
        out[2 * i + 1] = digits[digest[i] & 15];
    }
    out[PROTO_HEX_BYTES - 1] = '\0';
}

/* The digit's value, or -1. Not isxdigit(): that asks the locale. */
static int nibble(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

int proto_unhex(const char *text, size_t length, uint8_t out[PROTO_DIGEST_BYTES])
{
    uint8_t digest[PROTO_DIGEST_BYTES];

    if (length != 2 * PROTO_DIGEST_BYTES)
        return -EINVAL;
    for (size_t i = 0; i < PROTO_DIGEST_BYTES; i++) {
        int high = nibble(text[2 * i]), low = nibble(text[2 * i + 1]);
        if (high < 0 || low < 0)
            return -EINVAL;
        digest[i] = (uint8_t)(high << 4 | low);
    }
    memcpy(out, digest, sizeof digest);
    return 0;
}
