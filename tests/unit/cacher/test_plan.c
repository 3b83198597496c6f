#include "cacher/plan.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define S UINT64_C(1000000)

static const uint8_t *key(unsigned number)
{
    static uint8_t bytes[PROTO_DIGEST_BYTES];
    for (unsigned i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)((number * 2654435761u) >> (i % 4 * 8));
    return bytes;
}

static bool near(double value, double want)
{
    return value > want * 0.98 && value < want * 1.02;
}

static double number(const json_t *json, const char *group, const char *name)
{
    json_t *value = json_object_get(json_object_get(json, group), name);
    assert_true(json_is_number(value));
    return json_number_value(value);
}

static void what_redis_needs_is_what_was_measured_on_it(void **state)
{
    (void)state;
    assert_true(near((double)cacher_plan_redis_bytes(2000), 2260));
    assert_true(near((double)cacher_plan_redis_bytes(29000), 32968));
    assert_true(near((double)cacher_plan_redis_bytes(150000), 164056));
}

/* Ten gets and two new results a second, for `seconds`. */
static void run(struct cacher_plan *plan, unsigned seconds, uint64_t *now_us)
{
    for (unsigned s = 0; s < seconds; s++) {
        for (unsigned i = 0; i < 10; i++)
            cacher_plan_get(plan, key(i), i < 8 ? 3000 : 0);
        for (unsigned i = 0; i < 2; i++)
            cacher_plan_made(plan, key((unsigned)plan->results), 3000, 2000, 2100);
        *now_us += S;
        cacher_plan_tick(plan, *now_us);
    }
}

static void rates_times_the_time_to_live_are_what_redis_holds(void **state)
{
    (void)state;
    struct cacher_plan plan;
    struct cacher_plan_memory memory = {.bytes_max = 1 << 20,
                                        .bytes = 30000,
                                        .entries = 10,
                                        .hits = 8,
                                        .misses = 2,
                                        .ttl_s = 3600};
    uint64_t now_us = 50 * S;
    assert_int_equal(cacher_plan_open(&plan, 3), 0);
    cacher_plan_tick(&plan, now_us);
    run(&plan, 100, &now_us);
    json_t *json = cacher_plan_json(&plan, &memory);
    assert_non_null(json);
    assert_true(near(number(json, "traffic", "window_s"), 100));
    assert_true(near(number(json, "traffic", "gets_per_s"), 10));
    assert_true(near(number(json, "traffic", "new_results_per_s"), 2));
    assert_true(near(number(json, "entry", "mean_bytes"), 2000));
    assert_true(near(number(json, "memory", "hit_ratio"), 0.8));
    assert_true(near(number(json, "redis", "entries"), 7200));
    assert_true(near(number(json, "redis", "bytes"),
                     7200.0 * (double)cacher_plan_redis_bytes(2100)));
    json_t *curve = json_object_get(json, "curve"), *point;
    assert_int_equal(json_array_size(curve), 17);
    double before = 0, ratio = 0;
    size_t i;
    json_array_foreach (curve, i, point) {
        double bytes = json_number_value(json_object_get(point, "bytes"));
        assert_true(bytes > before);
        assert_true(json_number_value(json_object_get(point, "hit_ratio")) >= ratio);
        ratio = json_number_value(json_object_get(point, "hit_ratio"));
        before = bytes;
    }
    assert_true(near(before, 16 << 20));
    json_decref(json);

    /* Silence: the rates fall with the window. */
    for (unsigned s = 0; s < 3000; s++)
        cacher_plan_tick(&plan, now_us += S);
    assert_true(plan.gets_per_s < 0.01);
    cacher_plan_close(&plan);
    cacher_plan_close(&plan);
}

static void nothing_measured_is_an_answer_too(void **state)
{
    (void)state;
    struct cacher_plan plan;
    struct cacher_plan_memory memory = {0};
    assert_int_equal(cacher_plan_open(&plan, 3), 0);
    json_t *json = cacher_plan_json(&plan, &memory);
    assert_non_null(json);
    assert_true(number(json, "redis", "bytes") == 0);
    assert_true(number(json, "memory", "hit_ratio") == 0);
    json_decref(json);
    cacher_plan_close(&plan);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_redis_needs_is_what_was_measured_on_it),
        cmocka_unit_test(rates_times_the_time_to_live_are_what_redis_holds),
        cmocka_unit_test(nothing_measured_is_an_answer_too),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
