/*
 * contract.h - what both homes of the store promise. A home's test program fills in
 * `home`, with how to get at the database behind the store's back, and runs
 * CONTRACT_TESTS.
 */
#ifndef TESTS_STORE_CONTRACT_H
#define TESTS_STORE_CONTRACT_H

#include "tests/unit/cacher/store/fixture.h"

static struct {
    const char *url;                                        /* of an empty database */
    const char *damage_payload, *cut_payload, *long_params; /* SQL that does so */
    void (*sql)(const char *text); /* tables are `results` and `tags` */
    long long (*number)(const char *text);
    void (*refuse_width)(unsigned width); /* the database refuses such a result */
    void (*accept_all)(void);
    void (*empty)(void); /* all of the schema is removed */
} home;

static void what_was_put_is_got_with_all_of_it(void **state)
{
    (void)state;
    struct cacher_store_options options = quick_options();
    struct cacher_store *store = open_with(home.url, &options);
    size_t sizes[] = {0, 1, 2000, 150000, 5000000};

    assert_false(has(store, 0));
    for (unsigned i = 0; i < 5; i++)
        assert_int_equal(put(store, &(struct given){.number = i,
                                                    .payload_bytes = sizes[i],
                                                    .tags = i == 2 ? "a,b:c" : NULL}),
                         0);
    WAIT(counters(store)->puts == 5);
    for (unsigned i = 0; i < 5; i++) {
        struct got got = get(store, i);
        assert_int_equal(got.found, CACHER_FOUND);
        assert_true(got.as_put);
        assert_int_equal(got.payload_bytes, sizes[i]);
        assert_int_equal(got.record.created_s, clock_s);
        assert_string_equal(got.tags, i == 2 ? "a,b:c" : "");
    }
    assert_int_equal(counters(store)->hits, 5);
    assert_int_equal(counters(store)->misses, 1);
    assert_int_equal(counters(store)->get_time.count, 6);
    assert_int_equal(counters(store)->put_time.count, 5);
    assert_int_equal(counters(store)->queued_puts, 0);
    assert_int_equal(counters(store)->queued_bytes, 0);
    close_it(store);
}

static void results_outlive_the_store(void **state)
{
    (void)state;
    struct cacher_store_options options = quick_options();
    struct cacher_store *store = open_with(home.url, &options);

    /* Not waited for: closing writes what is queued. */
    for (unsigned i = 0; i < 300; i++)
        assert_int_equal(put(store, &(struct given){.number = i, .payload_bytes = 2000}),
                         0);
    close_it(store);
    store = open_with(home.url, &options);
    for (unsigned i = 0; i < 300; i++)
        assert_true(has(store, i));
    close_it(store);
}

static void a_second_put_replaces_the_first_with_its_tags(void **state)
{
    (void)state;
    struct cacher_store_options options = quick_options();
    struct cacher_store *store = open_with(home.url, &options);
    struct cacher_filter filter = {.kind = CACHER_FILTER_TAG, .tag = "old"};

    assert_int_equal(put(store, &(struct given){1, 50, "old", 7, 0}), 0);
    WAIT(counters(store)->puts == 1);
    assert_int_equal(put(store, &(struct given){1, 70, "new,new,newer", 8, 0}), 0);
    WAIT(counters(store)->puts == 2);
    struct got got = get(store, 1);
    assert_true(got.as_put);
    assert_int_equal(got.payload_bytes, 70);
    assert_int_equal(got.record.created_s, 8);
    assert_int_equal(purge(store, &filter).matched, 0);
    strcpy(filter.tag, "newer");
    assert_int_equal(purge(store, &filter).removed, 1);
    assert_false(has(store, 1));
    assert_int_equal(home.number("SELECT count(*) FROM tags"), 0);
    close_it(store);
}

/* ---- bounds ---- */

static void too_large_and_too_many_are_refused_and_counted(void **state)
{
    (void)state;
    struct cacher_store_options options = quick_options();
    options.store_value_bytes_max = 1000;
    options.store_queue_records_max = 4;
    options.store_batch_ms = 10000;
    struct cacher_store *store = open_with(home.url, &options);

    assert_int_equal(put(store, &(struct given){.payload_bytes = 1001}), -E2BIG);
    assert_int_equal(counters(store)->puts_large, 1);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(put(store, &(struct given){.number = i, .payload_bytes = 1000}),
                         0);
    assert_int_equal(put(store, &(struct given){.number = 5}), -ENOBUFS);
    assert_int_equal(counters(store)->puts_lost, 2);
    assert_int_equal(counters(store)->queued_puts, 4);
    close_it(store);

    options.store_queue_records_max = 100;
    options.store_queue_bytes_max = 5000;
    options.store_value_bytes_max = 100000;
    store = open_with(home.url, &options);
    assert_int_equal(put(store, &(struct given){.number = 6, .payload_bytes = 90000}), 0);
    assert_int_equal(put(store, &(struct given){.number = 7}), -ENOBUFS);
    assert_true(counters(store)->queued_bytes > 90000);
    close_it(store);
    store = open_with(home.url, &options);
    assert_true(has(store, 6));
    assert_true(has(store, 3));
    assert_false(has(store, 7));
    close_it(store);
}

static void as_many_gets_as_there_may_be(void **state)
{
    (void)state;
    struct cacher_store_options options = quick_options();
    options.store_gets_max = 2;
    struct cacher_store *store = open_with(home.url, &options);
    struct got got[3];

    assert_int_equal(ask(store, 1, &got[0]), 0);
    assert_int_equal(ask(store, 2, &got[1]), 0);
    assert_int_equal(ask(store, 3, &got[2]), -EBUSY);
    WAIT(got[0].calls == 1 && got[1].calls == 1);
    assert_int_equal(got[2].calls, 0);
    assert_false(has(store, 3));
    close_it(store);
}

/* ---- purges ---- */

static void hex_prefix(unsigned number, unsigned digits, char *out)
{
    uint8_t key[PROTO_DIGEST_BYTES];

    key_of(number, key);
    for (unsigned i = 0; i < digits; i++)
        out[i] = "0123456789abcdef"[i % 2 == 0 ? key[i / 2] >> 4 : key[i / 2] & 15];
    out[digits] = '\0';
}

static unsigned with_prefix(unsigned count, const char *prefix)
{
    unsigned found = 0;
    char own[65];

    for (unsigned i = 0; i < count; i++) {
        hex_prefix(i, (unsigned)strlen(prefix), own);
        found += strcmp(own, prefix) == 0;
    }
    return found;
}

static void purges_take_what_they_name_in_steps(void **state)
{
    (void)state;
    struct cacher_store_options options = quick_options();
    struct cacher_store *store = open_with(home.url, &options);
    const unsigned all = 2500;

    for (unsigned i = 0; i < all; i++)
        assert_int_equal(put(store, &(struct given){.number = i,
                                                    .payload_bytes = 10,
                                                    .tags = i % 2 ? "odd" : "even,all",
                                                    .created_s = 1000 + i / 2}),
                         0);
    WAIT(counters(store)->puts == all);

    struct cacher_filter filter = {.kind = CACHER_FILTER_ALL, .dry_run = true};
    struct purged purged = purge(store, &filter);
    assert_int_equal(purged.matched, all);
    assert_int_equal(purged.removed, 0);
    assert_in_range(purged.steps, 3, 4);

    filter = (struct cacher_filter){.kind = CACHER_FILTER_PREFIX};
    hex_prefix(5, 3, filter.prefix);
    purged = purge(store, &filter);
    unsigned prefixed = with_prefix(all, filter.prefix);
    assert_true(prefixed >= 1);
    assert_int_equal(purged.removed, prefixed);
    assert_int_equal(purge(store, &filter).matched, 0);
    assert_false(has(store, 5));

    filter = (struct cacher_filter){.kind = CACHER_FILTER_KEY};
    for (unsigned i = 10; has(store, i) == false; i++)
        ;
    key_of(11, filter.key);
    bool there = has(store, 11);
    assert_int_equal(purge(store, &filter).removed, there ? 1 : 0);

    uint64_t left = (uint64_t)home.number("SELECT count(*) FROM results");
    filter = (struct cacher_filter){.kind = CACHER_FILTER_OLDER, .before_s = 1100};
    filter.dry_run = true;
    uint64_t old = purge(store, &filter).matched;
    assert_in_range(old, 150, 200);
    filter.dry_run = false;
    assert_int_equal(purge(store, &filter).removed, old);
    left -= old;
    assert_false(has(store, 199));

    filter = (struct cacher_filter){.kind = CACHER_FILTER_TAG, .tag = "odd"};
    filter.dry_run = true;
    uint64_t odd = purge(store, &filter).matched;
    filter.dry_run = false;
    purged = purge(store, &filter);
    assert_int_equal(purged.removed, odd);
    assert_true(odd > 1000 && purged.steps >= 2);
    left -= odd;
    assert_int_equal(home.number("SELECT count(*) FROM results"), left);
    assert_int_equal(home.number("SELECT count(*) FROM tags"), 2 * left);

    filter = (struct cacher_filter){.kind = CACHER_FILTER_ALL};
    assert_int_equal(purge(store, &filter).removed, left);
    assert_int_equal(home.number("SELECT count(*) FROM results"), 0);
    assert_int_equal(home.number("SELECT count(*) FROM tags"), 0);
    close_it(store);
}

static void a_purge_takes_what_is_not_written_yet(void **state)
{
    (void)state;
    struct cacher_store_options options = quick_options();
    struct cacher_store *store = open_with(home.url, &options);
    struct cacher_filter filter = {.kind = CACHER_FILTER_TAG, .tag = "t"};
    struct got first = get(store, 0); /* PostgreSQL: a connection */
    (void)first;

    /* A batch under way, and some behind it. */
    for (unsigned i = 0; i < 600; i++)
        assert_int_equal(put(store, &(struct given){.number = i,
                                                    .payload_bytes = 5000,
                                                    .tags = i % 3 == 0 ? "t" : NULL}),
                         0);
    WAIT(store->batch != NULL || counters(store)->puts > 0);
    assert_int_equal(purge(store, &filter).removed, 200);
    WAIT(counters(store)->queued_puts == 0);
    for (unsigned i = 0; i < 600; i++)
        assert_int_equal(has(store, i), i % 3 != 0);
    close_it(store);
}

static void a_cursor_of_nobody_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "x",
        "1",
        ":",
        "-1:",
        "1:00",
        "99999999999999999999:",
        ("9223372036854775808:"
         "0000000000000000000000000000000000000000000000000000000000000000"),
        "1:000000000000000000000000000000000000000000000000000000000000000g"};
    struct cacher_store_options options = quick_options();
    struct cacher_store *store = open_with(home.url, &options);
    struct cacher_filter filter = {.kind = CACHER_FILTER_ALL};

    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(
            store->tier.class->purge(&store->tier, &filter, bad[i], on_purged, NULL),
            -EINVAL);
        assert_int_equal(
            store->tier.class->recent(&store->tier, 5, bad[i], on_each, on_page, NULL),
            -EINVAL);
    }
    close_it(store);
}

/* ---- last use ---- */

static void recent_gives_what_was_used_last_first(void **state)
{
    (void)state;
    struct cacher_store_options options = quick_options();
    struct cacher_store *store = open_with(home.url, &options);
    uint8_t key[PROTO_DIGEST_BYTES];
    uint64_t start_s = clock_s;

    for (unsigned i = 0; i < 10; i++) {
        clock_s++;
        put_many(store, i, 1);
    }
    clock_s += 1000;
    key_of(3, key);
    store->tier.class->touch(&store->tier, key);
    char query[200];
    snprintf(query, sizeof query, "SELECT count(*) FROM results  WHERE last_use = %llu",
             (unsigned long long)clock_s);
    WAIT(home.number(query) == 1);
    clock_s += STORE_TOUCH_S - 1; /* so soon it is not worth a write */
    store->tier.class->touch(&store->tier, key);
    WAIT(store->touches->count == 0 && store->batch == NULL);
    assert_int_equal(home.number(query), 1);

    static const unsigned want[] = {3, 9, 8, 7, 6, 5, 4, 2, 1, 0};
    struct page page = {0};
    recent(store, 4, &page);
    assert_int_equal(page.count, 4);
    page.most = 6; /* enough in the middle of a page */
    recent(store, 4, &page);
    assert_int_equal(page.count, 6);
    page.most = 0;
    do
        recent(store, 3, &page);
    while (page.cursor[0] != '\0');
    assert_int_equal(page.count, 10);
    for (unsigned i = 0; i < 10; i++)
        assert_int_equal(page.numbers[i], want[i]);
    assert_int_equal(home.number(query), 1); /* reading a page uses nothing */
    close_it(store);
    clock_s = start_s;
}

static void a_page_is_bounded_in_bytes(void **state)
{
    (void)state;
    struct cacher_store_options options = quick_options();
    struct cacher_store *store = open_with(home.url, &options);
    struct page page = {0};

    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(
            put(store, &(struct given){.number = i, .payload_bytes = 5000000}), 0);
    WAIT(counters(store)->puts == 4);
    recent(store, 100, &page);
    assert_int_equal(page.count, 2);
    assert_string_not_equal(page.cursor, "");
    recent(store, 100, &page);
    assert_int_equal(page.count, 4);
    while (page.cursor[0] != '\0')
        recent(store, 100, &page);
    assert_int_equal(page.count, 4);
    close_it(store);
}

/* ---- damage ---- */

static void a_damaged_row_is_a_miss_and_is_removed(void **state)
{
    (void)state;
    const char *const damage[] = {
        "UPDATE results  SET width = width + 1",
        "UPDATE results  SET created = -1",
        "UPDATE results  SET crc = crc + 4294967296",
        "UPDATE results  SET tags = 'a,,b'",
        home.damage_payload,
        home.cut_payload,
        home.long_params,
    };
    struct cacher_store_options options = quick_options();
    struct cacher_store *store = open_with(home.url, &options);

    for (unsigned i = 0; i < sizeof damage / sizeof damage[0]; i++) {
        put_many(store, 4, 1);
        home.sql(damage[i]);
        assert_false(has(store, 4));
        assert_int_equal(counters(store)->damaged, i + 1);
        WAIT(home.number("SELECT count(*) FROM results") == 0);
    }
    put_many(store, 1, 3);
    home.sql(home.damage_payload);
    struct page page = {0};
    recent(store, 10, &page);
    assert_int_equal(page.count, 0);
    WAIT(home.number("SELECT count(*) FROM results") == 0);
    close_it(store);
}

static void one_result_that_is_refused_does_not_hold_up_others(void **state)
{
    (void)state;
    struct cacher_store_options options = quick_options();
    options.store_batch_ms = 10000;
    options.store_batch_records_max = 7;
    struct cacher_store *store = open_with(home.url, &options);

    put_many(store, 100, 7);
    home.refuse_width(100 + 3);
    for (unsigned i = 0; i < 7; i++)
        assert_int_equal(put(store, &(struct given){.number = i}), 0);
    WAIT(counters(store)->queued_puts == 0);
    assert_int_equal(counters(store)->puts, 13);
    assert_int_equal(counters(store)->puts_lost, 1);
    for (unsigned i = 0; i < 7; i++)
        assert_int_equal(has(store, i), i != 3);
    home.accept_all();
    close_it(store);
}

/* ---- retention ---- */

static void what_is_too_old_is_not_served_and_goes(void **state)
{
    (void)state;
    struct cacher_store_options options = quick_options();
    struct cacher_store *store = open_with(home.url, &options);
    for (unsigned i = 0; i < 450; i++)
        assert_int_equal(
            put(store, &(struct given){.number = i,
                                       .payload_bytes = 100,
                                       .created_s = clock_s - (i < 400 ? 5000 : 1)}),
            0);
    assert_int_equal(put(store, &(struct given){.number = 500, .ttl_s = 10}), 0);
    WAIT(counters(store)->puts == 451);
    assert_true(has(store, 500));
    clock_s += 20;
    assert_false(has(store, 500));
    WAIT(counters(store)->expired == 1);
    assert_true(has(store, 0));
    close_it(store);

    options.store_retention_s = 1000;
    options.store_retention_rows = 30;
    store = open_with(home.url, &options);
    /* Not served even before it is gone. */
    struct got got;
    assert_int_equal(ask(store, 399, &got), 0);
    WAIT(got.calls == 1);
    assert_int_equal(got.found, CACHER_MISSING);
    WAIT(counters(store)->expired == 400);
    WAIT(counters(store)->entries == 50);
    assert_int_equal(home.number("SELECT count(*) FROM results"), 50);
    assert_true(has(store, 400));
    assert_int_equal(counters(store)->evicted, 0);
    close_it(store);
    clock_s -= 20;
}

static void the_bound_in_bytes_takes_what_was_not_used_for_longest(void **state)
{
    (void)state;
    struct cacher_store_options options = quick_options();
    struct cacher_store *store = open_with(home.url, &options);
    uint64_t start_s = clock_s;

    for (unsigned i = 0; i < 200; i++) {
        clock_s = start_s + i / 50;
        assert_int_equal(put(store, &(struct given){.number = i, .payload_bytes = 10000}),
                         0);
        if (i % 50 == 49)
            WAIT(counters(store)->queued_puts == 0);
    }
    clock_s += 1000;
    for (unsigned i = 0; i < 10; i++)
        assert_true(has(store, i)); /* used */
    WAIT(store->touches->count == 0 && store->batch == NULL);
    close_it(store);

    options.store_retention_bytes = 100 * 10600;
    options.store_retention_rows = 7;
    store = open_with(home.url, &options);
    WAIT(counters(store)->bytes > 0 &&
         counters(store)->bytes <= options.store_retention_bytes);
    assert_in_range(counters(store)->evicted, 95, 105);
    uint64_t evicted = counters(store)->evicted;
    assert_int_equal(home.number("SELECT count(*) FROM results"), 200 - evicted);
    assert_int_equal(counters(store)->entries, 200 - evicted);
    for (unsigned i = 0; i < 10; i++)
        assert_true(has(store, i));
    assert_false(has(store, 20));
    assert_true(has(store, 199));
    close_it(store);
    clock_s = start_s;
}

static void one_of_two_keeps_the_bounds_and_the_other_takes_over(void **state)
{
    (void)state;
    struct cacher_store_options options = quick_options();
    options.store_retention_s = 1000;
    /* Both at once on nothing: one makes the schema. */
    struct cacher_store *stores[4];
    for (unsigned i = 0; i < 4; i++)
        stores[i] = open_with(home.url, &options);
    for (unsigned i = 0; i < 4; i++)
        put_many(stores[i], i, 1);
    for (unsigned i = 0; i < 16; i++)
        assert_true(has(stores[i / 4], i % 4));
    unsigned keeper = 4;
    WAIT(stores[0]->keeper + stores[1]->keeper + stores[2]->keeper + stores[3]->keeper >
         0);
    for (unsigned i = 0; i < 4; i++)
        WAIT(counters(stores[i])->entries == 4);
    for (unsigned i = 0; i < 4; i++) {
        if (stores[i]->keeper) {
            assert_int_equal(keeper, 4);
            keeper = i;
        }
    }
    struct cacher_store *others[3];
    for (unsigned i = 0, n = 0; i < 4; i++)
        if (i != keeper)
            others[n++] = stores[i];
    close_it(stores[keeper]);
    WAIT(others[0]->keeper + others[1]->keeper + others[2]->keeper == 1);
    assert_int_equal(
        put(others[0], &(struct given){.number = 9, .created_s = clock_s - 2000}), 0);
    WAIT(counters(others[0])->expired + counters(others[1])->expired +
             counters(others[2])->expired ==
         1);
    for (unsigned i = 0; i < 3; i++)
        close_it(others[i]);
}

/* ---- closing ---- */

static void closing_answers_who_waits(void **state)
{
    (void)state;
    struct cacher_store_options options = quick_options();
    struct cacher_store *store = open_with(home.url, &options);
    struct cacher_filter filter = {.kind = CACHER_FILTER_KEY}; /* of nothing */
    struct got got[20];
    struct purged purged = {0};
    struct page page = {0};
    bool closed = false;

    for (unsigned i = 0; i < 50; i++)
        assert_int_equal(put(store, &(struct given){.number = i, .payload_bytes = 1000}),
                         0);
    for (unsigned i = 0; i < 20; i++)
        assert_int_equal(ask(store, i, &got[i]), 0);
    assert_int_equal(
        store->tier.class->purge(&store->tier, &filter, "", on_purged, &purged), 0);
    assert_int_equal(
        store->tier.class->recent(&store->tier, 5, "", on_each, on_page, &page), 0);
    store->tier.class->close(&store->tier, 60000, on_closed, &closed);
    for (unsigned i = 0; i < 20; i++)
        assert_int_equal(got[i].calls, 1);
    assert_true(purged.done && purged.err < 0);
    assert_true(page.done && page.err < 0);
    assert_int_equal(ask(store, 1, &got[0]), -ESHUTDOWN);
    assert_int_equal(put(store, &(struct given){.number = 1}), -ESHUTDOWN);
    WAIT(closed);
    store = open_with(home.url, &options);
    for (unsigned i = 0; i < 50; i++)
        assert_true(has(store, i));
    close_it(store);
}

static void closing_at_once_is_fine(void **state)
{
    (void)state;
    struct cacher_store_options options = quick_options();

    for (unsigned i = 0; i < 10; i++) {
        struct cacher_store *store = open_with(home.url, &options);
        if (i % 2 == 0)
            assert_int_equal(put(store, &(struct given){.number = i}), 0);
        for (unsigned turn = 0; turn < i; turn++)
            uv_run(&loop, UV_RUN_NOWAIT);
        close_store_within(store, i < 5 ? 0 : 60000);
    }
}

static int clean(void **state)
{
    (void)state;
    home.empty();
    return 0;
}

#define CONTRACT(test) cmocka_unit_test_setup(test, clean)
#define CONTRACT_TESTS                                                                   \
    CONTRACT(what_was_put_is_got_with_all_of_it), CONTRACT(results_outlive_the_store),   \
        CONTRACT(a_second_put_replaces_the_first_with_its_tags),                         \
        CONTRACT(too_large_and_too_many_are_refused_and_counted),                        \
        CONTRACT(as_many_gets_as_there_may_be),                                          \
        CONTRACT(purges_take_what_they_name_in_steps),                                   \
        CONTRACT(a_purge_takes_what_is_not_written_yet),                                 \
        CONTRACT(a_cursor_of_nobody_is_refused),                                         \
        CONTRACT(recent_gives_what_was_used_last_first),                                 \
        CONTRACT(a_page_is_bounded_in_bytes),                                            \
        CONTRACT(a_damaged_row_is_a_miss_and_is_removed),                                \
        CONTRACT(one_result_that_is_refused_does_not_hold_up_others),                    \
        CONTRACT(what_is_too_old_is_not_served_and_goes),                                \
        CONTRACT(the_bound_in_bytes_takes_what_was_not_used_for_longest),                \
        CONTRACT(one_of_two_keeps_the_bounds_and_the_other_takes_over),                  \
        CONTRACT(closing_answers_who_waits), CONTRACT(closing_at_once_is_fine)

#endif
