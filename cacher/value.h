/*
 * value.h - what may be cached: results that show what they are.
 *
 * A put comes from another process. What is served to everybody under a key is checked
 * first: features must be a whole blob that names the same key, a denoised picture must
 * be a whole PNG. The same holds for what a tier behind memory gives back: other programs
 * may write there. Pure, thread-safe.
 */
#ifndef CACHER_VALUE_H
#define CACHER_VALUE_H

#include "proto/key.h"

#include <stddef.h>
#include <stdint.h>

/* NULL when `bytes` may be served under `key`, else why not: a static sentence. */
const char *cacher_value_check(const uint8_t key[PROTO_DIGEST_BYTES],
                               const uint8_t *bytes, size_t size);

/* Width and height in pixels of what cacher_value_check() passed. */
void cacher_value_picture(const uint8_t *bytes, size_t size, uint32_t *width_px,
                          uint32_t *height_px);

#endif
