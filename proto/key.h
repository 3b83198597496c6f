/*
 * key.h - the content key: which result a request means.
 *
 *   key = SHA-256( image SHA-256 | kind | canonical parameters | algorithm version )
 *
 * A result never changes under its key; whoever changes a result raises
 * PROTO_ALGORITHM. SHA-256: FIPS 180-4, by OpenSSL's EVP.
 */
#ifndef PROTO_KEY_H
#define PROTO_KEY_H

#include "proto/blob.h"
#include "proto/params.h"

#define PROTO_ALGORITHM "siftmesh-2:nlm1:sift2:vlfeat-0.9.21"
#define PROTO_HEX_BYTES (2 * PROTO_DIGEST_BYTES + 1)

enum proto_kind { PROTO_KIND_FEATURES = 1, PROTO_KIND_DENOISE = 2 };

/* SHA-256 of `size` bytes. For streams use EVP directly. 0, or -ENOMEM. */
int proto_sha256(const void *bytes, size_t size, uint8_t out[PROTO_DIGEST_BYTES]);

/* 0, or -ENOMEM when libcrypto has none. */
int proto_key(const uint8_t image_sha256[PROTO_DIGEST_BYTES], enum proto_kind kind,
              const struct proto_params *params, uint8_t out[PROTO_DIGEST_BYTES]);

/* 64 lower-case hexadecimal digits and a NUL. */
void proto_hex(const uint8_t digest[PROTO_DIGEST_BYTES], char out[PROTO_HEX_BYTES]);

/* Exactly 64 hexadecimal digits, either case. 0 or -EINVAL. */
int proto_unhex(const char *text, size_t length, uint8_t out[PROTO_DIGEST_BYTES]);

#endif
