/*
 * reuse.h - what hit ratio a larger or smaller memory would have: a reuse-distance curve,
 * from a sample of the keys.
 *
 * SHARDS with a fixed size (Waldspurger, Park, Garthwaite and Ahmad, "Efficient MRC
 * Construction with SHARDS", FAST 2015): a key is watched when its hash is below a
 * threshold, which is lowered so that at most `keys_max` are watched. The distance of a
 * request is the bytes of the other keys asked for since the key was last asked for, as
 * the sample has it, divided by the sampling rate; an LRU of at least that size would
 * have hit. Differences between the requests that a sample of this rate should have seen
 * and those it saw are put to the smallest distances (their SHARDS-adj).
 *
 * What is predicted is LRU; S3-FIFO, which the cacher has, does as well or better (see
 * bench/cache_trace.c). Some 100 bytes for each watched key. Pure, one thread.
 */
#ifndef CACHER_REUSE_H
#define CACHER_REUSE_H

#include "proto/key.h"

#include <stdint.h>

struct cacher_reuse;

/* NULL: out of memory, or `keys_max` is 0 or above 2^20. `seed` keeps peers from choosing
 * what is watched. */
struct cacher_reuse *cacher_reuse_new(uint32_t keys_max, uint64_t seed);
void cacher_reuse_free(struct cacher_reuse *reuse); /* NULL is fine */

/* A request for `key`. */
void cacher_reuse_get(struct cacher_reuse *reuse, const uint8_t key[PROTO_DIGEST_BYTES]);
/* What it takes in memory, once that is known; until then nothing. */
void cacher_reuse_size(struct cacher_reuse *reuse, const uint8_t key[PROTO_DIGEST_BYTES],
                       uint64_t bytes);

/* The hit ratio, 0 to 1, that an LRU of `bytes` would have had; 0 before any request. */
double cacher_reuse_hit_ratio(const struct cacher_reuse *reuse, uint64_t bytes);
/* How many keys are watched, of how large a part of all, and the requests seen, which
 * count half after each 2^22. */
struct cacher_reuse_sample {
    uint32_t keys;
    double rate, requests;
};
struct cacher_reuse_sample cacher_reuse_sample(const struct cacher_reuse *reuse);

#endif
