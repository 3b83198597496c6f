/*
 * fake_tier.h - a tier that answers when the test says so: keeps records by the first
 * byte of their key. Header only; one test program includes it once.
 */
#ifndef TESTS_CACHER_FAKE_TIER_H
#define TESTS_CACHER_FAKE_TIER_H

#include "cacher/result.h"
#include "cacher/tier/tier.h"
#include "proto/key.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct fake_tier {
    struct cacher_tier tier; /* first */
    int refuse;              /* what get and put return instead */
    bool fails;              /* what it is asked ends with FAILED */
    unsigned gets, puts, touches;
    struct hotcache_value *held[256];  /* by key[0]; a reference each */
    struct cacher_record records[256]; /* borrowed from them */
    cacher_tier_got_fn *got;           /* the get under way; one at a time */
    void *got_arg;
    uint8_t got_key[PROTO_DIGEST_BYTES];
    uint64_t close_ms;
    void (*closed)(void *arg);
    void *closed_arg;
    struct cacher_tier_counters counters;
};

static inline int fake_tier_get(struct cacher_tier *tier, const uint8_t *key,
                                cacher_tier_got_fn *got, void *arg)
{
    struct fake_tier *fake = (struct fake_tier *)tier;

    if (fake->refuse < 0)
        return fake->refuse;
    assert_null(fake->got);
    fake->gets++;
    fake->got = got;
    fake->got_arg = arg;
    memcpy(fake->got_key, key, PROTO_DIGEST_BYTES);
    return 0;
}

/* The get under way ends. */
static inline void fake_tier_answer(struct fake_tier *fake)
{
    cacher_tier_got_fn *got = fake->got;
    unsigned at = fake->got_key[0];
    bool found = fake->held[at] != NULL && !fake->fails;

    assert_non_null(got);
    fake->got = NULL;
    got(fake->fails ? CACHER_FAILED
        : found     ? CACHER_FOUND
                    : CACHER_MISSING,
        found ? &fake->records[at] : NULL, fake->got_arg);
}

static inline int fake_tier_put(struct cacher_tier *tier,
                                const struct cacher_record *record,
                                struct hotcache_value *value, uint64_t ttl_s)
{
    struct fake_tier *fake = (struct fake_tier *)tier;
    unsigned at = record->key[0];
    (void)ttl_s;

    if (fake->refuse < 0)
        return fake->refuse;
    assert_ptr_equal(record->payload, value->bytes);
    fake->puts++;
    hotcache_value_unref(fake->held[at]);
    fake->held[at] = hotcache_value_ref(value);
    fake->records[at] = *record;
    return 0;
}

static inline void fake_tier_touch(struct cacher_tier *tier, const uint8_t *key)
{
    (void)key;
    ((struct fake_tier *)tier)->touches++;
}

static inline const struct cacher_tier_counters *
fake_tier_counters(struct cacher_tier *tier)
{
    return &((struct fake_tier *)tier)->counters;
}

static inline void fake_tier_close(struct cacher_tier *tier, uint64_t ms,
                                   void (*closed)(void *arg), void *arg)
{
    struct fake_tier *fake = (struct fake_tier *)tier;

    fake->close_ms = ms;
    fake->closed = closed;
    fake->closed_arg = arg;
}

/* The close under way ends: gets first, with FAILED. */
static inline void fake_tier_end(struct fake_tier *fake)
{
    fake->fails = true;
    if (fake->got != NULL)
        fake_tier_answer(fake);
    for (unsigned i = 0; i < 256; i++) {
        hotcache_value_unref(fake->held[i]);
        fake->held[i] = NULL;
    }
    fake->closed(fake->closed_arg);
}

static const struct cacher_tier_class fake_tier_class = {.name = "fake",
                                                         .get = fake_tier_get,
                                                         .put = fake_tier_put,
                                                         .touch = fake_tier_touch,
                                                         .counters = fake_tier_counters,
                                                         .close = fake_tier_close};

static inline struct fake_tier *fake_tier_new(void)
{
    struct fake_tier *fake = calloc(1, sizeof *fake);

    assert_non_null(fake);
    fake->tier.class = &fake_tier_class;
    return fake;
}

/* The key of features with the defaults whose first byte is `number`, and their picture's
 * hash. */
static inline void fake_key(uint8_t number, uint8_t key[PROTO_DIGEST_BYTES],
                            uint8_t image[PROTO_DIGEST_BYTES])
{
    struct proto_params params;
    uint32_t tries = 0;

    proto_params_init(&params);
    memset(image, 0, PROTO_DIGEST_BYTES);
    do {
        memcpy(image, &tries, sizeof tries);
        tries++;
        assert_int_equal(proto_key(image, PROTO_KIND_FEATURES, &params, key), 0);
    } while (key[0] != number);
}

/* Features of fake_key(number). */
static inline struct hotcache_value *fake_result(uint8_t number, uint64_t created_s,
                                                 uint32_t cost_us, const char *tags,
                                                 size_t count)
{
    size_t size = proto_blob_bytes((uint32_t)count);
    uint8_t *bytes = calloc(1, size);
    struct proto_blob blob = {
        .count = (uint32_t)count, .width_px = 640, .height_px = 480};
    struct cacher_record record = {.created_s = created_s,
                                   .cost_us = cost_us,
                                   .tags = tags,
                                   .tags_bytes = (uint16_t)strlen(tags),
                                   .payload = bytes,
                                   .payload_bytes = (uint32_t)size};

    assert_non_null(bytes);
    fake_key(number, blob.key, blob.image_sha256);
    proto_params_init(&blob.params);
    proto_blob_encode_header(&blob, bytes);
    struct hotcache_value *value = cacher_result_new(&record);
    assert_non_null(value);
    free(bytes);
    return value;
}

#endif
