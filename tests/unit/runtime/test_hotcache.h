/* test_hotcache.h - what the hot cache's tests share: keys made of a number, and values
 * filled with it. */
#ifndef TESTS_UNIT_RUNTIME_TEST_HOTCACHE_H
#define TESTS_UNIT_RUNTIME_TEST_HOTCACHE_H

#include "runtime/hotcache.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define NEVER UINT64_MAX

/* The key as users have it: 33 bytes, made of a number. */
struct test_key {
    uint8_t bytes[33];
};

static inline struct test_key key_of(uint64_t number)
{
    struct test_key key;
    for (size_t i = 0; i < sizeof key.bytes; i++)
        key.bytes[i] = (uint8_t)(number >> 8 * (i % 8));
    return key;
}

static inline struct hotcache_value *value_of(size_t size, uint8_t fill)
{
    uint8_t *bytes = malloc(size > 0 ? size : 1);
    assert_non_null(bytes);
    memset(bytes, fill, size);
    struct hotcache_value *value = hotcache_value_new(bytes, size);
    assert_non_null(value);
    return value;
}

static inline int put(struct hotcache *cache, uint64_t number, size_t size,
                      uint64_t ttl_us, uint64_t now_us)
{
    struct test_key key = key_of(number);
    struct hotcache_value *value = value_of(size, (uint8_t)number);
    int err = hotcache_put(cache, &key, sizeof key, value, ttl_us, now_us);
    hotcache_value_unref(value);
    return err;
}

static inline bool has(struct hotcache *cache, uint64_t number, uint64_t now_us)
{
    struct test_key key = key_of(number);
    struct hotcache_value *value = hotcache_get(cache, &key, sizeof key, now_us);
    bool found = value != NULL;
    if (found && value->size > 0)
        assert_int_equal(value->bytes[value->size - 1], (uint8_t)number);
    hotcache_value_unref(value);
    return found;
}

#endif
