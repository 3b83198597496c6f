#include "cacher/tiers.h"

#include "tests/unit/cacher/fake_tier.h"

struct bench {
    struct cacher_tiers tiers;
    struct fake_tier *redis, *store;
    unsigned looked, closed;
    bool found;
    enum cacher_role from;
    enum proto_kind kind; /* that is asked for */
    uint64_t lease;
};

static const uint8_t *key(uint8_t number)
{
    static uint8_t bytes[PROTO_DIGEST_BYTES];
    uint8_t image[PROTO_DIGEST_BYTES];
    fake_key(number, bytes, image);
    return bytes;
}

static void on_looked(const uint8_t *of, uint64_t lease, struct hotcache_value *value,
                      enum cacher_role from, void *arg)
{
    struct bench *bench = arg;
    (void)of;
    bench->looked++;
    bench->found = value != NULL;
    bench->from = from;
    bench->lease = lease;
}

static void on_closed(void *arg)
{
    ((struct bench *)arg)->closed++;
}

static void open_bench(struct bench *bench)
{
    *bench = (struct bench){.redis = fake_tier_new(), .store = fake_tier_new()};
    cacher_tiers_add(&bench->tiers, CACHER_ROLE_REDIS, &bench->redis->tier);
    cacher_tiers_add(&bench->tiers, CACHER_ROLE_STORE, &bench->store->tier);
}

static void close_bench(struct bench *bench)
{
    if (!bench->tiers.closing)
        cacher_tiers_close(&bench->tiers, 0, on_closed, bench);
    fake_tier_end(bench->redis);
    fake_tier_end(bench->store);
    assert_int_equal(bench->closed, 1);
    assert_int_equal(bench->tiers.looks, 0);
    free(bench->redis);
    free(bench->store);
}

static int look(struct bench *bench, uint8_t number)
{
    bench->looked = 0;
    return cacher_tiers_look(&bench->tiers, key(number), bench->kind, 77, on_looked,
                             bench);
}

/* Into `fake` alone. */
static void give(struct fake_tier *fake, uint8_t number, uint8_t in_record)
{
    struct hotcache_value *value = fake_result(in_record, 5, 6, "", 0);
    struct cacher_record record;

    cacher_result_record(value, key(number), &record);
    assert_int_equal(fake->tier.class->put(&fake->tier, &record, value, 0), 0);
    hotcache_value_unref(value);
}

static void the_first_that_has_it_ends_the_look_up(void **state)
{
    struct bench bench;
    (void)state;
    open_bench(&bench);
    give(bench.redis, 1, 1);
    assert_int_equal(look(&bench, 1), 0);
    assert_int_equal(bench.looked, 0); /* never from inside the call */
    fake_tier_answer(bench.redis);
    assert_int_equal(bench.looked, 1);
    assert_true(bench.found);
    assert_int_equal(bench.from, CACHER_ROLE_REDIS);
    assert_int_equal(bench.lease, 77);
    assert_int_equal(bench.store->gets, 0);
    close_bench(&bench);
}

static void what_the_store_finds_redis_gets(void **state)
{
    struct bench bench;
    (void)state;
    open_bench(&bench);
    give(bench.store, 1, 1);
    assert_int_equal(look(&bench, 1), 0);
    fake_tier_answer(bench.redis);
    fake_tier_answer(bench.store);
    assert_true(bench.found);
    assert_int_equal(bench.from, CACHER_ROLE_STORE);
    assert_int_equal(bench.redis->puts, 1);
    assert_int_equal(bench.store->puts, 1); /* the one that it was given */
    assert_int_equal(bench.redis->records[1].created_s, 5);
    assert_int_equal(bench.redis->records[1].cost_us, 6);
    close_bench(&bench);
}

static void nothing_anywhere_is_the_end_too(void **state)
{
    struct bench bench;
    (void)state;
    open_bench(&bench);
    assert_int_equal(look(&bench, 1), 0);
    fake_tier_answer(bench.redis);
    assert_int_equal(bench.looked, 0);
    fake_tier_answer(bench.store);
    assert_int_equal(bench.looked, 1);
    assert_false(bench.found);
    assert_int_equal(bench.lease, 77);
    close_bench(&bench);
}

static void a_tier_that_fails_or_cannot_be_asked_is_passed_by(void **state)
{
    struct bench bench;
    (void)state;
    open_bench(&bench);
    give(bench.store, 1, 1);
    bench.redis->refuse = -EHOSTDOWN;
    assert_int_equal(look(&bench, 1), 0);
    assert_int_equal(bench.store->gets, 1); /* at once */
    fake_tier_answer(bench.store);
    assert_true(bench.found);
    assert_int_equal(bench.tiers.behind[0].passed_by, 1);

    bench.redis->refuse = 0;
    bench.redis->fails = true;
    assert_int_equal(look(&bench, 1), 0);
    fake_tier_answer(bench.redis);
    fake_tier_answer(bench.store);
    assert_true(bench.found);

    bench.redis->refuse = -EHOSTDOWN;
    bench.store->refuse = -EBUSY;
    assert_int_equal(look(&bench, 1), -EHOSTDOWN);
    assert_int_equal(bench.looked, 0);
    assert_int_equal(bench.tiers.looks, 0);
    close_bench(&bench);
}

static void what_is_no_result_of_the_key_is_a_miss_there(void **state)
{
    struct bench bench;
    (void)state;
    open_bench(&bench);
    give(bench.redis, 1, 2); /* features of another key, under this one */
    give(bench.store, 1, 1);
    assert_int_equal(look(&bench, 1), 0);
    fake_tier_answer(bench.redis);
    fake_tier_answer(bench.store);
    assert_true(bench.found);
    assert_int_equal(bench.from, CACHER_ROLE_STORE);
    assert_int_equal(bench.tiers.behind[0].refused, 1);
    assert_int_equal(bench.redis->puts, 2); /* and is replaced */
    close_bench(&bench);
}

static void what_is_of_the_other_kind_is_a_miss_there(void **state)
{
    struct bench bench;
    (void)state;
    open_bench(&bench);
    give(bench.redis, 1, 1);
    bench.kind = PROTO_KIND_DENOISE;
    assert_int_equal(look(&bench, 1), 0);
    fake_tier_answer(bench.redis);
    fake_tier_answer(bench.store);
    assert_int_equal(bench.looked, 1);
    assert_false(bench.found);
    assert_int_equal(bench.tiers.behind[0].refused, 1);
    bench.kind = PROTO_KIND_FEATURES;
    assert_int_equal(look(&bench, 1), 0);
    fake_tier_answer(bench.redis);
    assert_true(bench.found);
    close_bench(&bench);
}

static void a_put_goes_to_every_tier_and_so_does_a_use(void **state)
{
    struct bench bench;
    (void)state;
    open_bench(&bench);
    struct hotcache_value *value = fake_result(9, 1, 2, "a,b", 3);
    cacher_tiers_put(&bench.tiers, key(9), value);
    bench.redis->refuse = -EHOSTDOWN;
    cacher_tiers_put(&bench.tiers, key(9), value);
    hotcache_value_unref(value);
    assert_int_equal(bench.redis->puts, 1);
    assert_int_equal(bench.store->puts, 2);
    assert_memory_equal(bench.store->records[9].tags, "a,b", 3);
    cacher_tiers_touch(&bench.tiers, key(9));
    assert_int_equal(bench.redis->touches, 1);
    assert_int_equal(bench.store->touches, 1);
    close_bench(&bench);
}

static void closing_ends_look_ups_and_waits_for_every_tier(void **state)
{
    struct bench bench;
    (void)state;
    open_bench(&bench);
    assert_int_equal(look(&bench, 1), 0);
    cacher_tiers_close(&bench.tiers, 1234, on_closed, &bench);
    assert_int_equal(bench.redis->close_ms, 1234);
    assert_false(cacher_tiers_any(&bench.tiers));
    assert_int_equal(look(&bench, 2), -EHOSTDOWN);
    bench.looked = 0;
    fake_tier_end(bench.redis);
    assert_int_equal(bench.looked, 1); /* the store is not asked any more */
    assert_false(bench.found);
    assert_int_equal(bench.closed, 0);
    assert_null(cacher_tiers_by_role(&bench.tiers, CACHER_ROLE_REDIS));
    fake_tier_end(bench.store);
    assert_int_equal(bench.closed, 1);
    free(bench.redis);
    free(bench.store);

    struct cacher_tiers none = {0};
    bench.closed = 0;
    assert_false(cacher_tiers_any(&none));
    assert_int_equal(cacher_tiers_look(&none, key(1), 0, 1, on_looked, &bench),
                     -EHOSTDOWN);
    cacher_tiers_close(&none, 0, on_closed, &bench);
    assert_int_equal(bench.closed, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_that_has_it_ends_the_look_up),
        cmocka_unit_test(what_the_store_finds_redis_gets),
        cmocka_unit_test(nothing_anywhere_is_the_end_too),
        cmocka_unit_test(a_tier_that_fails_or_cannot_be_asked_is_passed_by),
        cmocka_unit_test(what_is_no_result_of_the_key_is_a_miss_there),
        cmocka_unit_test(what_is_of_the_other_kind_is_a_miss_there),
        cmocka_unit_test(a_put_goes_to_every_tier_and_so_does_a_use),
        cmocka_unit_test(closing_ends_look_ups_and_waits_for_every_tier),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
