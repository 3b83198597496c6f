/*
 * value.h - which results may be kept and served under a key.
 *
 * Features show what they are: picture hash and parameters in a blob make its key
 * (proto/result.h). A denoised picture and the refusal of an input show nothing, so who
 * puts one says of which picture, with which parameters, and these have to make the key:
 * a key alone, which answers and addresses carry, is not enough to put something under
 * it. What a tier behind gives back is checked as well: other programs may write there.
 * Pure, thread-safe.
 */
#ifndef CACHER_VALUE_H
#define CACHER_VALUE_H

#include "proto/body.h"
#include "proto/result.h"

/* Of which kind the key of a job is, proved by its picture hash and parameters; 0: they
 * are not there, or make another key. */
enum proto_kind cacher_value_kind(const struct proto_submit *submit);

/* Whether `bytes`, which were checked once, are of `kind`; 0: of either. */
bool cacher_value_is_of(enum proto_kind kind, const uint8_t *bytes, size_t size);

/* Whether what a tier gave back may be served under `key`. Its sums are the record's. */
bool cacher_value_fits(const uint8_t key[PROTO_DIGEST_BYTES], enum proto_kind kind,
                       const uint8_t *bytes, size_t size);

/* NULL with `out` filled: the payload of a put may be kept. Else why not: a static
 * sentence. */
const char *cacher_value_check_put(const struct proto_submit *submit,
                                   const uint8_t *bytes, size_t size,
                                   struct proto_result *out);

#endif
