/*
 * fixture.h - a loop, records to store, and calls that wait for their answers.
 *
 * A test waits for what it asks for, with a deadline that is far away; it never sleeps.
 */
#ifndef TESTS_STORE_FIXTURE_H
#define TESTS_STORE_FIXTURE_H

#include "cacher/store/core.h"
#include "tests/harness/harness.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DEADLINE_US 60000000 /* a loaded machine; nothing passes by its being shorter */

static uv_loop_t loop;
static uv_timer_t pulse; /* wakes the loop, so that conditions are looked at */

static void on_pulse(uv_timer_t *timer)
{
    (void)timer;
}

static void fixture_init(void)
{
    assert_int_equal(uv_loop_init(&loop), 0);
    assert_int_equal(uv_timer_init(&loop, &pulse), 0);
    uv_timer_start(&pulse, on_pulse, 1, 5);
}

/* Every handle must be closed: what a store left behind is found here. */
static void fixture_free(void)
{
    uv_close((uv_handle_t *)&pulse, NULL);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&loop), 0);
}

#define WAIT(condition)                                                                  \
    do {                                                                                 \
        uint64_t until_us = uv_hrtime() / 1000 + DEADLINE_US;                            \
        while (!(condition)) {                                                           \
            if (uv_hrtime() / 1000 > until_us)                                           \
                fail_msg("waited in vain for %s", #condition);                           \
            uv_run(&loop, UV_RUN_ONCE);                                                  \
        }                                                                                \
    } while (0)

/* ---- time ---- */

static uint64_t clock_s = 2000000000; /* what the stores think it is */

static uint64_t test_clock(void)
{
    return clock_s;
}

/* ---- a store ---- */

static struct cacher_store_options quick_options(void)
{
    struct cacher_store_options options;

    cacher_store_options_init(&options);
    options.store_batch_ms = 0;
    options.store_touch_ms = 10;
    options.store_breaker_ms = 10;
    options.store_breaker_ms_max = 100;
    options.store_retention_every_s = 1;
    options.store_get_ms = 60000;
    options.store_pool_wait_ms = 60000;
    options.store_connect_ms = 60000;
    return options;
}

static struct cacher_store *open_with(const char *where,
                                      const struct cacher_store_options *options)
{
    struct cacher_tier *tier = NULL;

    assert_int_equal(cacher_store_open(&loop, where, options, &tier), 0);
    struct cacher_store *store = (struct cacher_store *)tier;
    store->unix_s = test_clock;
    return store;
}

static void on_closed(void *arg)
{
    *(bool *)arg = true;
}

static void close_store_within(struct cacher_store *store, uint64_t ms)
{
    bool closed = false;

    store->tier.class->close(&store->tier, ms, on_closed, &closed);
    assert_false(closed);
    WAIT(closed);
}

static void close_it(struct cacher_store *store)
{
    close_store_within(store, 60000);
}

static const struct cacher_tier_counters *counters(struct cacher_store *store)
{
    return store->tier.class->counters(&store->tier);
}

/* ---- records: everything follows from a number ---- */

static void key_of(unsigned number, uint8_t key[PROTO_DIGEST_BYTES])
{
    uint64_t x = number * 0x9e3779b97f4a7c15ull + 1;

    for (unsigned i = 0; i < PROTO_DIGEST_BYTES; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        key[i] = (uint8_t)(x >> 24);
    }
}

static uint8_t byte_of(unsigned number, size_t at)
{
    return (uint8_t)(number + at * 31 + (at >> 8));
}

struct given {
    unsigned number;
    size_t payload_bytes;
    const char *tags; /* or NULL */
    uint64_t created_s, ttl_s;
};

static int put(struct cacher_store *store, const struct given *given)
{
    uint8_t params[5] = {1, 2, 3, 4, (uint8_t)given->number};
    uint8_t *bytes = malloc(given->payload_bytes + 1);
    const char *tags = given->tags;
    assert_non_null(bytes);
    for (size_t i = 0; i < given->payload_bytes; i++)
        bytes[i] = byte_of(given->number, i);
    struct hotcache_value *value = hotcache_value_new(bytes, given->payload_bytes);
    assert_non_null(value);
    struct cacher_record record = {
        .created_s = given->created_s != 0 ? given->created_s : clock_s,
        .width_px = 100 + given->number,
        .height_px = 4000000000,
        .cost_us = given->number,
        .params = params,
        .params_bytes = given->number % 2 == 0 ? sizeof params : 0,
        .tags = tags,
        .tags_bytes = (uint16_t)(tags == NULL ? 0 : strlen(tags)),
        .payload = value->bytes,
        .payload_bytes = (uint32_t)given->payload_bytes};
    key_of(given->number, record.key);
    int err = store->tier.class->put(&store->tier, &record, value, given->ttl_s);
    hotcache_value_unref(value);
    return err;
}

static void put_many(struct cacher_store *store, unsigned first, unsigned count)
{
    uint64_t before = counters(store)->puts;

    for (unsigned i = 0; i < count; i++)
        assert_int_equal(
            put(store, &(struct given){.number = first + i, .payload_bytes = 50}), 0);
    WAIT(counters(store)->puts == before + count);
}

/* ---- calls that wait ---- */

struct got {
    unsigned calls;
    enum cacher_found found;
    struct cacher_record record; /* numbers only */
    size_t payload_bytes;
    char tags[PROTO_TAGS_BYTES_MAX + 1];
    bool as_put; /* all of it */
    unsigned number;
};

static bool is_as_put(const struct cacher_record *record, unsigned number)
{
    uint8_t key[PROTO_DIGEST_BYTES];

    key_of(number, key);
    bool same = memcmp(key, record->key, sizeof key) == 0 &&
                record->width_px == 100 + number && record->height_px == 4000000000 &&
                record->cost_us == number &&
                record->params_bytes == (number % 2 == 0 ? 5 : 0) &&
                (record->params_bytes == 0 || record->params[4] == (uint8_t)number);
    for (size_t i = 0; i < record->payload_bytes && same; i++)
        same = record->payload[i] == byte_of(number, i);
    return same;
}

static void on_got(enum cacher_found found, const struct cacher_record *record, void *arg)
{
    struct got *got = arg;

    got->calls++;
    got->found = found;
    assert_int_equal(record != NULL, found == CACHER_FOUND);
    if (record == NULL)
        return;
    got->record = *record;
    got->payload_bytes = record->payload_bytes;
    memcpy(got->tags, record->tags, record->tags_bytes);
    got->tags[record->tags_bytes] = '\0';
    got->as_put = is_as_put(record, got->number);
}

static int ask(struct cacher_store *store, unsigned number, struct got *got)
{
    uint8_t key[PROTO_DIGEST_BYTES];

    *got = (struct got){.number = number};
    key_of(number, key);
    int err = store->tier.class->get(&store->tier, key, on_got, got);
    assert_int_equal(got->calls, 0); /* never from inside */
    return err;
}

static struct got get(struct cacher_store *store, unsigned number)
{
    struct got got;

    assert_int_equal(ask(store, number, &got), 0);
    WAIT(got.calls == 1);
    return got;
}

static bool has(struct cacher_store *store, unsigned number)
{
    struct got got = get(store, number);

    assert_int_not_equal(got.found, CACHER_FAILED);
    if (got.found == CACHER_FOUND)
        assert_true(got.as_put);
    return got.found == CACHER_FOUND;
}

struct purged {
    bool done;
    int err;
    uint64_t matched, removed;
    unsigned steps;
    char cursor[CACHER_CURSOR_BYTES_MAX];
};

static void on_purged(int err, uint64_t matched, uint64_t removed, const char *cursor,
                      void *arg)
{
    struct purged *purged = arg;

    purged->done = true;
    purged->err = err;
    purged->matched += matched;
    purged->removed += removed;
    purged->steps++;
    snprintf(purged->cursor, sizeof purged->cursor, "%s", cursor);
}

static struct purged purge(struct cacher_store *store, const struct cacher_filter *filter)
{
    struct purged purged = {0};

    do {
        char cursor[CACHER_CURSOR_BYTES_MAX];
        memcpy(cursor, purged.cursor, sizeof cursor);
        purged.done = false;
        assert_int_equal(
            store->tier.class->purge(&store->tier, filter, cursor, on_purged, &purged),
            0);
        assert_false(purged.done);
        WAIT(purged.done);
        assert_int_equal(purged.err, 0);
    } while (purged.cursor[0] != '\0');
    return purged;
}

struct page {
    unsigned count, most; /* most: then enough; 0: never */
    unsigned numbers[4096];
    bool done;
    int err;
    char cursor[CACHER_CURSOR_BYTES_MAX];
};

static bool on_each(const struct cacher_record *record, void *arg)
{
    struct page *page = arg;
    unsigned number = record->width_px - 100;

    assert_true(is_as_put(record, number));
    page->numbers[page->count++] = number;
    return page->most == 0 || page->count < page->most;
}

static void on_page(int err, const char *cursor, void *arg)
{
    struct page *page = arg;

    page->done = true;
    page->err = err;
    snprintf(page->cursor, sizeof page->cursor, "%s", cursor);
}

/* Goes on where `page` ended; its count goes on too. */
static void recent(struct cacher_store *store, unsigned most, struct page *page)
{
    char cursor[CACHER_CURSOR_BYTES_MAX];

    memcpy(cursor, page->cursor, sizeof cursor);
    page->done = false;
    assert_int_equal(
        store->tier.class->recent(&store->tier, most, cursor, on_each, on_page, page), 0);
    assert_false(page->done);
    WAIT(page->done);
    assert_int_equal(page->err, 0);
}

static bool last_error_has(struct cacher_store *store, const char *text)
{
    return strstr(store->last_error, text) != NULL;
}

/* All that describe() says, as text; the caller frees it. */
static char *description(struct cacher_store *store)
{
    json_t *object = json_object();

    store->tier.class->describe(&store->tier, object);
    char *text = json_dumps(object, 0);
    json_decref(object);
    assert_non_null(text);
    return text;
}

#endif
