/* The tier against a real redis-server that is well. */
#include "fixture.h"

static struct server server;

static int begin(void **state)
{
    need_program("redis-server");
    if (fixture_begin(state) < 0)
        return -1;
    server_start(&server, "");
    return 0;
}

static int end(void **state)
{
    server_kill(&server, SIGTERM);
    return fixture_end(state);
}

static int flush(void **state)
{
    (void)state;
    ask(&server, "FLUSHALL");
    return 0;
}

static void what_was_put_is_found_and_expires(void **state)
{
    (void)state;
    struct rig rig;

    rig_open_to(&rig, &server);
    assert_int_equal(get(&rig, 1).found, CACHER_MISSING);
    put_all(&rig, 1, 2, 150000, "");
    assert_int_equal(get(&rig, 1).found, CACHER_FOUND);
    assert_int_equal(get(&rig, 1).bytes, 150000);
    assert_in_range(ask(&server, "PTTL %s", name_of(1)), 3600000 / 10 * 9 - 60000,
                    3600000 / 10 * 11);
    assert_int_equal(put_at(&rig, 2, 10, "", 7, 0), 0);
    UNTIL(&rig, counters_of(&rig)->queued_bytes == 0);
    assert_in_range(ask(&server, "PTTL %s", name_of(2)), 1, 7000);
    ask(&server, "PEXPIRE %s 1", name_of(1));
    UNTIL(&rig, get(&rig, 1).found == CACHER_MISSING);

    const struct cacher_tier_counters *c = counters_of(&rig);
    assert_int_equal(c->puts, 2);
    assert_int_equal(c->puts_lost, 0);
    assert_int_equal(c->errors, 0);
    assert_true(c->hits >= 2 && c->misses >= 2);
    assert_int_equal(c->damaged, 0);
    assert_int_equal(c->connects, 4);
    assert_int_equal(c->breaker, BREAKER_CLOSED);
    assert_int_equal(c->get_time.count, c->hits + c->misses);
    assert_int_equal(c->put_time.count, 2);
    rig_close(&rig, 1000);
}

static void sizes_from_none_to_the_bound_come_back_whole(void **state)
{
    (void)state;
    static const size_t sizes[] = {0, 1, 16383, 16384, 65536, 1048577, 8000001};
    struct rig rig;

    rig_open_to(&rig, &server);
    for (unsigned i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        put_all(&rig, i, i + 1, sizes[i], "a,b");
        struct got got = get(&rig, i);
        assert_int_equal(got.found, CACHER_FOUND);
        assert_int_equal(got.bytes, sizes[i]);
    }
    size_t most = (32u << 20) - CACHER_RECORD_HEAD_BYTES - 3;
    put_all(&rig, 100, 101, most, "");
    assert_int_equal(get(&rig, 100).bytes, most);
    assert_int_equal(put(&rig, 101, most + 1, ""), -E2BIG);
    assert_int_equal(counters_of(&rig)->puts_large, 1);
    assert_int_equal(counters_of(&rig)->puts_lost, 1);
    rig_close(&rig, 1000);
}

static void damaged_values_are_misses_and_counted(void **state)
{
    (void)state;
    struct rig rig;
    char from[96];

    rig_open_to(&rig, &server);
    put_all(&rig, 1, 2, 1000, "");
    ask(&server, "SET %s garbage", name_of(2));
    ask(&server, "RPUSH %s a", name_of(3));
    snprintf(from, sizeof from, "%s", name_of(1));
    ask(&server, "COPY %s %s", from, name_of(4)); /* a record, but of another key */
    ask(&server, "COPY %s %s", from, name_of(5));
    ask(&server, "SETRANGE %s 500 x", name_of(5));
    ask(&server, "COPY %s %s", from, name_of(6));
    ask(&server, "APPEND %s x", name_of(6));
    ask(&server, "SETRANGE %s %d x", name_of(7), 40 << 20); /* above the bound */
    for (unsigned n = 2; n < 8; n++)
        assert_int_equal(get(&rig, n).found, CACHER_MISSING);
    assert_int_equal(counters_of(&rig)->damaged, 6);
    assert_int_equal(counters_of(&rig)->misses, 6);
    assert_int_equal(counters_of(&rig)->errors, 0);
    assert_int_equal(get(&rig, 1).found, CACHER_FOUND);
    rig_close(&rig, 1000);
}

static unsigned calls(const struct got *got, unsigned count)
{
    unsigned sum = 0;

    for (unsigned n = 0; n < count; n++)
        sum += got[n].calls;
    return sum;
}

static void many_are_pipelined_and_each_ends_once(void **state)
{
    (void)state;
    enum { MANY = 3000 };
    struct rig rig;
    struct got *got = calloc(MANY, sizeof *got);
    unsigned found = 0;

    rig_open_to(&rig, &server);
    put_all(&rig, 0, MANY / 2, 2000, "");
    for (unsigned n = 0; n < MANY; n++)
        assert_int_equal(begin_get(&rig, &got[n], n), 0);
    UNTIL(&rig, calls(got, MANY) == MANY);
    for (unsigned n = 0; n < MANY; n++) {
        assert_int_equal(got[n].calls, 1);
        found += got[n].found == CACHER_FOUND && got[n].right ? 1 : 0;
    }
    assert_int_equal(found, MANY / 2);
    free(got);
    rig_close(&rig, 1000);
}

struct busy {
    struct rig *rig;
    unsigned under_way;
    bool stop;
};

static void get_again(enum cacher_found found, const struct cacher_record *record,
                      void *arg)
{
    struct busy *busy = arg;

    (void)record;
    assert_int_not_equal(found, CACHER_FAILED);
    if (busy->stop ||
        busy->rig->tier->class->get(busy->rig->tier, key_of(1), get_again, busy) < 0)
        busy->under_way--;
}

static void gets_without_a_pause_do_not_hold_puts_back(void **state)
{
    (void)state;
    struct rig rig;

    rig_open_to(&rig, &server);
    put_all(&rig, 1, 2, 1000, "");
    struct busy busy = {.rig = &rig, .under_way = 1000};
    for (unsigned i = 0; i < 1000; i++)
        assert_int_equal(rig.tier->class->get(rig.tier, key_of(1), get_again, &busy), 0);
    put_all(&rig, 2, 100, 100000, "t");
    put_all(&rig, 100, 101, 3000000, "t"); /* above the pipeline's bound */
    assert_int_equal(busy.under_way, 1000);
    assert_int_equal(counters_of(&rig)->puts_lost, 0);
    busy.stop = true;
    UNTIL(&rig, busy.under_way == 0);
    rig_close(&rig, 1000);
}

static void what_is_above_a_bound_is_refused(void **state)
{
    (void)state;
    struct rig rig;
    struct got got[5];

    rig_open(&rig, &(struct cacher_redis_options){.url = url_of(&server),
                                                  .gets_max = 4,
                                                  .puts_max = 3,
                                                  .value_bytes_max = 1000,
                                                  .queue_bytes_max = 2000,
                                                  .timeout_ms = 10000,
                                                  .connect_timeout_ms = 10000});
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(begin_get(&rig, &got[i], i), 0);
    assert_int_equal(begin_get(&rig, &got[4], 4), -EBUSY);
    assert_int_equal(put(&rig, 1, 900, ""), 0);
    assert_int_equal(put(&rig, 2, 900, ""), -EBUSY); /* bytes */
    assert_int_equal(put(&rig, 3, 1, ""), 0);
    assert_int_equal(put(&rig, 4, 1, ""), 0);
    assert_int_equal(put(&rig, 5, 1, ""), -EBUSY); /* puts */
    assert_int_equal(put(&rig, 6, 1000, ""), -E2BIG);
    assert_int_equal(counters_of(&rig)->puts_lost, 3);
    UNTIL(&rig, counters_of(&rig)->queued_bytes == 0);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(got[i].calls, 1);
    assert_int_equal(counters_of(&rig)->queued_bytes, 0);
    assert_int_equal(begin_get(&rig, &got[4], 4), 0);
    UNTIL(&rig, got[4].calls == 1);
    rig_close(&rig, 1000);
}

static void tags_are_sorted_sets_that_end_by_themselves(void **state)
{
    (void)state;
    struct rig rig;
    long long now = time(NULL);

    rig_open_to(&rig, &server);
    ask(&server, "ZADD siftmesh:tag:red %lld stale %lld fresh", now - 5, now + 500);
    put_all(&rig, 1, 2, 10, "red,blue");
    assert_int_equal(ask(&server, "ZSCORE siftmesh:tag:red stale"), -1);
    assert_int_equal(ask(&server, "ZCARD siftmesh:tag:red"), 2);
    assert_int_equal(ask(&server, "ZCARD siftmesh:tag:blue"), 1);
    assert_int_equal(ask(&server, "ZCOUNT siftmesh:tag:blue %lld %lld", now + 3200,
                         now + 3600 / 10 * 11 + 60),
                     1);
    assert_int_equal(ask(&server, "ZRANK siftmesh:tag:blue %s", name_of(1) + 14), 0);
    assert_in_range(ask(&server, "TTL siftmesh:tag:red"), 3600 / 10 * 11, 7200);
    /* A life longer than any before makes the set's longer too. */
    assert_int_equal(put_at(&rig, 2, 10, "red", 100000, 0), 0);
    UNTIL(&rig, counters_of(&rig)->queued_bytes == 0);
    assert_in_range(ask(&server, "TTL siftmesh:tag:red"), 99000, 100001);
    rig_close(&rig, 1000);
}

/* ---- purges ---- */

static void put_others(void)
{
    static const char *const names[] = {
        "other:1",
        "siftmesh:other",
        "siftmesh:feat:",
        "siftmesh:feat:0123",
        "siftmesh:feat:zz23456789012345678901234567890123456789012345678901234567890123",
        "siftmesh:feat:ABCDEF6789012345678901234567890123456789012345678901234567890123",
        "siftmesh:tag:",
        "siftmesh:tag:a b",
        "xsiftmesh:feat:1",
        "Siftmesh:tag:red",
    };

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        ask(&server, "SET %b 1", names[i], strlen(names[i]));
    for (unsigned i = 0; i < 2000; i++)
        ask(&server, "SET other:%u 1", 100 + i);
}

#define OTHERS 2010

static void a_purge_of_all_leaves_what_is_not_ours(void **state)
{
    (void)state;
    struct rig rig;
    struct cacher_filter all = {.kind = CACHER_FILTER_ALL, .dry_run = true};

    rig_open_to(&rig, &server);
    put_others();
    put_all(&rig, 0, 1500, 100, "red");
    struct purged purged = purge(&rig, &all);
    assert_int_equal(purged.matched, 1500);
    assert_int_equal(purged.removed, 0);
    assert_int_equal(ask(&server, "DBSIZE"), OTHERS + 1501);
    all.dry_run = false;
    purged = purge(&rig, &all);
    assert_int_equal(purged.matched, 1500);
    assert_true(purged.removed >= 1500); /* the tag's set is ours, too */
    assert_true(purged.calls > 1);       /* in steps */
    assert_int_equal(ask(&server, "DBSIZE"), OTHERS);
    assert_int_equal(ask(&server, "EXISTS siftmesh:tag:red"), 0);
    assert_int_equal(get(&rig, 3).found, CACHER_MISSING);
    assert_int_equal(counters_of(&rig)->removed, purged.removed);
    rig_close(&rig, 1000);
}

static void a_purge_by_prefix_or_key_takes_those_alone(void **state)
{
    (void)state;
    struct rig rig;
    struct cacher_filter prefix = {.kind = CACHER_FILTER_PREFIX};
    struct cacher_filter one = {.kind = CACHER_FILTER_KEY, .dry_run = true};
    unsigned fitting = 0;

    rig_open_to(&rig, &server);
    put_others();
    put_all(&rig, 0, 300, 100, "");
    prefix.prefix[0] = name_of(0)[14];
    for (unsigned n = 0; n < 300; n++)
        fitting += name_of(n)[14] == prefix.prefix[0] ? 1 : 0;
    assert_in_range(fitting, 1, 299);
    struct purged purged = purge(&rig, &prefix);
    assert_int_equal(purged.matched, fitting);
    assert_int_equal(purged.removed, fitting);
    assert_int_equal(ask(&server, "DBSIZE"), OTHERS + 300 - fitting);

    unsigned n = 1;
    while (name_of(n)[14] == prefix.prefix[0])
        n++;
    memcpy(one.key, key_of(n), sizeof one.key);
    purged = purge(&rig, &one);
    assert_int_equal(purged.matched, 1);
    assert_int_equal(purged.removed, 0);
    one.dry_run = false;
    purged = purge(&rig, &one);
    assert_int_equal(purged.removed, 1);
    purged = purge(&rig, &one);
    assert_int_equal(purged.matched, 0);
    assert_int_equal(ask(&server, "DBSIZE"), OTHERS + 299 - fitting);
    rig_close(&rig, 1000);
}

static void a_purge_by_tag_takes_what_has_it(void **state)
{
    (void)state;
    struct rig rig;
    struct cacher_filter red = {.kind = CACHER_FILTER_TAG, .tag = "red", .dry_run = true};

    rig_open_to(&rig, &server);
    put_others();
    ask(&server, "ZADD siftmesh:tag:red 9999999999999 %s", "no-key-at-all");
    put_all(&rig, 0, 1400, 10, "blue,red");
    put_all(&rig, 1400, 1500, 10, "blue,redder");
    ask(&server, "DEL %s", name_of(7)); /* gone before: not counted */
    struct purged purged = purge(&rig, &red);
    assert_int_equal(purged.matched, 1399);
    assert_int_equal(purged.removed, 0);
    red.dry_run = false;
    purged = purge(&rig, &red);
    assert_int_equal(purged.matched, 1399);
    assert_int_equal(purged.removed, 1399);
    assert_int_equal(ask(&server, "ZCARD siftmesh:tag:red"), 1);
    assert_int_equal(ask(&server, "DBSIZE"), OTHERS + 100 + 3);
    purged = purge(&rig, &red);
    assert_int_equal(purged.matched, 0);
    rig_close(&rig, 1000);
}

static void a_purge_by_age_reads_when_each_was_made(void **state)
{
    (void)state;
    struct rig rig;
    struct cacher_filter older = {
        .kind = CACHER_FILTER_OLDER, .before_s = 1000100, .dry_run = true};

    rig_open_to(&rig, &server);
    put_others();
    put_all(&rig, 0, 250, 10, "");
    ask(&server, "SET %s garbage", name_of(1000));
    struct purged purged = purge(&rig, &older);
    assert_int_equal(purged.matched, 100);
    assert_int_equal(purged.removed, 0);
    older.dry_run = false;
    purged = purge(&rig, &older);
    assert_int_equal(purged.removed, 100);
    assert_int_equal(ask(&server, "DBSIZE"), OTHERS + 150 + 1);
    assert_int_equal(get(&rig, 99).found, CACHER_MISSING);
    assert_int_equal(get(&rig, 100).found, CACHER_FOUND);
    rig_close(&rig, 1000);
}

static void cursors_and_filters_that_are_none_are_refused(void **state)
{
    (void)state;
    static const char *const wrong[] = {
        "x",        "scan:", "scan:1",    "scan:1:",
        "scan:x:h", "tag:0", "scan:-1:h", "scan:99999999999999999999:h"};
    struct rig rig;
    struct purged purged = {0};
    struct cacher_filter filter = {.kind = CACHER_FILTER_ALL};

    rig_open_to(&rig, &server);
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        assert_int_equal(
            rig.tier->class->purge(rig.tier, &filter, wrong[i], on_purged, &purged),
            -EINVAL);
    filter = (struct cacher_filter){.kind = CACHER_FILTER_PREFIX, .prefix = "ab*"};
    assert_int_equal(rig.tier->class->purge(rig.tier, &filter, "", on_purged, &purged),
                     -EINVAL);
    filter = (struct cacher_filter){.kind = CACHER_FILTER_TAG, .tag = "a,b"};
    assert_int_equal(rig.tier->class->purge(rig.tier, &filter, "", on_purged, &purged),
                     -EINVAL);
    /* A server that is not there any more: those after it, which may be none. */
    filter = (struct cacher_filter){.kind = CACHER_FILTER_ALL};
    assert_int_equal(
        rig.tier->class->purge(rig.tier, &filter, "scan:5:zzz", on_purged, &purged), 0);
    assert_int_equal(purged.calls, 0);
    UNTIL(&rig, purged.calls == 1);
    assert_int_equal(purged.err, 0);
    assert_string_equal(purged.cursor, "");
    rig_close(&rig, 1000);
}

/* ---- other ways in, and the end ---- */

static void a_database_and_a_unix_socket_can_be_named(void **state)
{
    (void)state;
    struct rig rig;
    char url[128];

    snprintf(url, sizeof url, "%s/3", url_of(&server));
    rig_open(&rig, &(struct cacher_redis_options){.url = url});
    UNTIL(&rig, ready_of(&rig) == 4);
    put_all(&rig, 1, 2, 10, "");
    rig_close(&rig, 1000);
    assert_int_equal(ask(&server, "EXISTS %s", name_of(1)), 0);
    ask(&server, "SELECT 3");
    assert_int_equal(ask(&server, "EXISTS %s", name_of(1)), 1);
    ask(&server, "SELECT 0");

    snprintf(url, sizeof url, "unix://%s/%s/sock?db=3", fixture_dir, server.name);
    rig_open(&rig, &(struct cacher_redis_options){.url = url, .connections = 1});
    UNTIL(&rig, ready_of(&rig) == 1);
    assert_int_equal(get(&rig, 1).found, CACHER_FOUND);
    rig_close(&rig, 1000);

    snprintf(url, sizeof url, "redis://localhost:%d", server.port);
    rig_open(&rig, &(struct cacher_redis_options){.url = url, .connections = 2});
    UNTIL(&rig, ready_of(&rig) == 2);
    assert_int_equal(get(&rig, 1).found, CACHER_MISSING);
    rig_close(&rig, 1000);
}

static void closing_writes_what_is_queued_and_ends_gets(void **state)
{
    (void)state;
    struct rig rig;
    struct got got[10];
    struct purged purged = {0};
    struct cacher_filter all = {.kind = CACHER_FILTER_ALL, .dry_run = true};

    rig_open_to(&rig, &server);
    for (unsigned n = 0; n < 200; n++)
        assert_int_equal(put(&rig, n, 100000, "t"), 0);
    for (unsigned n = 0; n < 10; n++)
        assert_int_equal(begin_get(&rig, &got[n], n), 0);
    assert_int_equal(rig.tier->class->purge(rig.tier, &all, "", on_purged, &purged), 0);
    rig_close(&rig, 20000);
    for (unsigned n = 0; n < 10; n++)
        assert_int_equal(got[n].calls, 1);
    assert_int_equal(purged.calls, 1);
    assert_true(purged.err < 0);
    assert_int_equal(ask(&server, "DBSIZE"), 201);
}

static void it_can_be_closed_at_once(void **state)
{
    (void)state;
    struct rig rig;
    char url[64];

    rig_open(&rig, &(struct cacher_redis_options){.url = url_of(&server)});
    rig_close(&rig, 0);
    rig_open(&rig, &(struct cacher_redis_options){.url = url_of(&server)});
    uv_run(&rig.loop, UV_RUN_ONCE);
    rig_close(&rig, 0);
    snprintf(url, sizeof url, "redis://127.0.0.1:%d", free_port());
    rig_open(&rig, &(struct cacher_redis_options){.url = url});
    assert_int_equal(put(&rig, 1, 10, "a"), 0);
    rig_close(&rig, 100000);
}

static void options_that_cannot_be_are_refused(void **state)
{
    (void)state;
    struct cacher_tier *tier = NULL;
    uv_loop_t loop;
    struct cacher_redis_options wrong[] = {
        {.url = "redis://:geheim@host:x"},
        {.url = "redis://h", .connections = 65},
        {.url = "redis://h", .ttl_jitter_percent = 51},
        {.url = "redis://h", .queue_bytes_max = 1000},
        {.url = "redis://h", .value_bytes_max = (size_t)1 << 30},
    };

    assert_int_equal(uv_loop_init(&loop), 0);
    log_capture();
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        assert_int_equal(cacher_redis_open(&loop, &wrong[i], &tier), -EINVAL);
    assert_null(tier);
    assert_int_equal(log_count("redis cannot be used"), 5);
    assert_int_equal(log_count("geheim"), 0);
    assert_int_equal(uv_loop_close(&loop), 0);
}

static void it_says_what_it_is_connected_to(void **state)
{
    (void)state;
    struct rig rig;
    json_t *object = json_object();
    const char *version;

    rig_open_to(&rig, &server);
    rig.tier->class->describe(rig.tier, object);
    version = json_string_value(json_object_get(object, "version"));
    assert_non_null(version);
    assert_true(version[0] >= '1' && version[0] <= '9');
    assert_true(json_is_false(json_object_get(object, "cluster")));
    assert_int_equal(json_array_size(json_object_get(object, "nodes")), 1);
    assert_string_equal(json_string_value(json_object_get(object, "server")),
                        url_of(&server) + 8);
    json_decref(object);
    rig_close(&rig, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(what_was_put_is_found_and_expires, flush),
        cmocka_unit_test_setup(sizes_from_none_to_the_bound_come_back_whole, flush),
        cmocka_unit_test_setup(damaged_values_are_misses_and_counted, flush),
        cmocka_unit_test_setup(many_are_pipelined_and_each_ends_once, flush),
        cmocka_unit_test_setup(gets_without_a_pause_do_not_hold_puts_back, flush),
        cmocka_unit_test_setup(what_is_above_a_bound_is_refused, flush),
        cmocka_unit_test_setup(tags_are_sorted_sets_that_end_by_themselves, flush),
        cmocka_unit_test_setup(a_purge_of_all_leaves_what_is_not_ours, flush),
        cmocka_unit_test_setup(a_purge_by_prefix_or_key_takes_those_alone, flush),
        cmocka_unit_test_setup(a_purge_by_tag_takes_what_has_it, flush),
        cmocka_unit_test_setup(a_purge_by_age_reads_when_each_was_made, flush),
        cmocka_unit_test_setup(cursors_and_filters_that_are_none_are_refused, flush),
        cmocka_unit_test_setup(a_database_and_a_unix_socket_can_be_named, flush),
        cmocka_unit_test_setup(closing_writes_what_is_queued_and_ends_gets, flush),
        cmocka_unit_test_setup(it_can_be_closed_at_once, flush),
        cmocka_unit_test_teardown(options_that_cannot_be_are_refused, log_release),
        cmocka_unit_test_setup(it_says_what_it_is_connected_to, flush),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
