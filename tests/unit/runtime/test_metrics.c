#include "runtime/metrics.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct counters {
    uint64_t jobs_done, slots;
    uint64_t ended[4];
    struct metrics_histogram request;
};

static const char *reason(unsigned index)
{
    static const char *const names[] = {"ok", "a \"b\"\\c\nd", NULL, "full"};
    return names[index];
}

static const struct metrics_spec specs[] = {
#define METRICS_OF struct counters
#include "runtime/metrics_spec.h"
    COUNTER(jobs_done, "Jobs | done\\made.") GAUGE(slots, "Slots\nthat run.")
        FAMILY(ended, 4, "reason", reason, "Requests by their end.")
            HISTOGRAM(request, "Time of a request.")
#include "runtime/metrics_end.h"
                {0}};

static char *prometheus(const struct counters *counters)
{
    static char text[16384];
    FILE *out = fmemopen(text, sizeof text, "w");
    assert_non_null(out);
    metrics_prometheus("broker", specs, counters, out);
    fclose(out);
    return text;
}

/* The value of the line that begins with `name`. */
static const char *sample(const char *text, const char *name)
{
    static char value[64];
    size_t bytes = strlen(name);
    for (const char *line = text; *line != '\0'; line += strcspn(line, "\n") + 1)
        if (strncmp(line, name, bytes) == 0 && line[bytes] == ' ') {
            snprintf(value, sizeof value, "%.*s", (int)strcspn(line + bytes + 1, "\n"),
                     line + bytes + 1);
            return value;
        }
    fail_msg("no sample %s in:\n%s", name, text);
    return NULL;
}

static void prometheus_gets_names_types_and_escaped_help(void **state)
{
    (void)state;
    const struct counters counters = {.jobs_done = UINT64_MAX, .slots = 4};
    const char *want = "# HELP siftmesh_broker_jobs_done_total Jobs | done\\\\made.\n"
                       "# TYPE siftmesh_broker_jobs_done_total counter\n"
                       "siftmesh_broker_jobs_done_total 18446744073709551615\n"
                       "# HELP siftmesh_broker_slots Slots\\nthat run.\n"
                       "# TYPE siftmesh_broker_slots gauge\n"
                       "siftmesh_broker_slots 4\n"
                       "# HELP siftmesh_broker_ended_total Requests by their end.\n"
                       "# TYPE siftmesh_broker_ended_total counter\n"
                       "# HELP siftmesh_broker_request_seconds Time of a request.\n"
                       "# TYPE siftmesh_broker_request_seconds histogram\n"
                       "siftmesh_broker_request_seconds_bucket{le=\"0.0001\"} 0\n";
    assert_int_equal(strncmp(prometheus(&counters), want, strlen(want)), 0);
}

static void a_family_has_its_nonzero_members_with_escaped_labels(void **state)
{
    (void)state;
    const struct counters counters = {.ended = {0, 2, 3, 4}};
    const char *text = prometheus(&counters);
    assert_null(strstr(text, "{reason=\"ok\"}"));
    assert_string_equal(
        sample(text, "siftmesh_broker_ended_total{reason=\"a \\\"b\\\"\\\\c\\nd\"}"),
        "2");
    assert_string_equal(sample(text, "siftmesh_broker_ended_total{reason=\"2\"}"), "3");
    assert_string_equal(sample(text, "siftmesh_broker_ended_total{reason=\"full\"}"),
                        "4");
}

static void a_bucket_holds_its_upper_bound_and_the_last_one_the_rest(void **state)
{
    (void)state;
    struct metrics_histogram h = {0};
    metrics_observe(&h, 0);
    metrics_observe(&h, 100);
    assert_int_equal(h.bucket[0], 2);
    for (unsigned i = 1; i < METRICS_BUCKETS; i++) {
        metrics_observe(&h, (UINT64_C(100) << (i - 1)) + 1);
        assert_int_equal(h.bucket[i], 1);
        if (i < METRICS_BUCKETS - 1)
            metrics_observe(&h, UINT64_C(100) << i);
        else
            metrics_observe(&h, UINT64_MAX / 4);
        assert_int_equal(h.bucket[i], 2);
    }
    assert_int_equal(h.count, 2 * METRICS_BUCKETS);
}

static void prometheus_buckets_add_up_and_are_in_seconds(void **state)
{
    (void)state;
    struct counters counters = {0};
    metrics_observe(&counters.request, 50);
    metrics_observe(&counters.request, 150);
    metrics_observe(&counters.request, 20000000);
    metrics_observe(&counters.request, 60000000);
    const char *text = prometheus(&counters);

    assert_string_equal(
        sample(text, "siftmesh_broker_request_seconds_bucket{le=\"0.0001\"}"), "1");
    assert_string_equal(
        sample(text, "siftmesh_broker_request_seconds_bucket{le=\"0.0002\"}"), "2");
    assert_string_equal(
        sample(text, "siftmesh_broker_request_seconds_bucket{le=\"13.1072\"}"), "2");
    assert_string_equal(
        sample(text, "siftmesh_broker_request_seconds_bucket{le=\"26.2144\"}"), "3");
    assert_string_equal(
        sample(text, "siftmesh_broker_request_seconds_bucket{le=\"+Inf\"}"), "4");
    assert_string_equal(sample(text, "siftmesh_broker_request_seconds_count"), "4");
    assert_string_equal(sample(text, "siftmesh_broker_request_seconds_sum"), "80.000200");
}

static void a_quantile_is_interpolated_in_its_bucket(void **state)
{
    (void)state;
    struct metrics_histogram h = {0};
    assert_int_equal(metrics_quantile(&h, 0.5), 0);

    for (int i = 0; i < 100; i++)
        metrics_observe(&h, 150); /* bucket of 100 to 200 us */
    assert_int_equal(metrics_quantile(&h, 0.5), 150);
    assert_int_equal(metrics_quantile(&h, 0.25), 125);
    assert_int_equal(metrics_quantile(&h, 1), 200);
    assert_int_equal(metrics_quantile(&h, 0), 100);

    for (int i = 0; i < 100; i++)
        metrics_observe(&h, 3000); /* 1600 to 3200 us */
    assert_int_equal(metrics_quantile(&h, 0.5), 200);
    assert_int_equal(metrics_quantile(&h, 0.75), 2400);
    assert_int_equal(metrics_quantile(&h, 7), 3200);
    assert_int_equal(metrics_quantile(&h, -1), 100);
    assert_int_equal(metrics_quantile(&h, strtod("nan", NULL)), 100);
}

static void a_quantile_above_the_last_bound_is_that_bound(void **state)
{
    (void)state;
    struct metrics_histogram h = {0};
    metrics_observe(&h, 90000000);
    assert_int_equal(metrics_quantile(&h, 0.5), 26214400);
}

static void quantiles_never_fall_and_are_in_the_bucket_of_the_truth(void **state)
{
    (void)state;
    struct metrics_histogram h = {0};
    for (uint64_t us = 1; us <= 10000; us++)
        metrics_observe(&h, us);

    uint64_t before = 0;
    for (int i = 1; i <= 1000; i++) {
        uint64_t is = metrics_quantile(&h, i / 1000.0), truth = (uint64_t)i * 10;
        assert_true(is >= before);
        assert_true(is <= 2 * truth + 100 && 2 * is + 100 >= truth);
        before = is;
    }
}

static void json_has_numbers_families_and_histograms(void **state)
{
    (void)state;
    struct counters counters = {
        .jobs_done = UINT64_MAX, .slots = 4, .ended = {1, 0, 0, 9}};
    metrics_observe(&counters.request, 150);
    json_t *json = metrics_json(specs, &counters);
    json_int_t jobs, slots, ok, full, count, sum, p50, p99;

    assert_int_equal(
        json_unpack(json, "{s:I, s:I, s:{s:{s:I, s:I !} !}, s:{s:I, s:I, s:I, s:I !} !}",
                    "jobs_done_total", &jobs, "slots", &slots, "ended_total", "reason",
                    "ok", &ok, "full", &full, "request", "count", &count, "sum_us", &sum,
                    "p50_us", &p50, "p99_us", &p99),
        0);
    assert_true(jobs == INT64_MAX); /* JSON's integers are signed */
    assert_int_equal(slots, 4);
    assert_int_equal(ok, 1);
    assert_int_equal(full, 9);
    assert_int_equal(count, 1);
    assert_int_equal(sum, 150);
    assert_int_equal(p50, 150);
    assert_int_equal(p99, 199);
    json_decref(json);
}

static void the_markdown_rows_hold_three_cells(void **state)
{
    (void)state;
    char text[2048];
    FILE *out = fmemopen(text, sizeof text, "w");
    assert_non_null(out);
    metrics_markdown("broker", specs, out);
    fclose(out);
    assert_string_equal(
        text,
        "| `siftmesh_broker_jobs_done_total` | counter | Jobs \\| done\\made. |\n"
        "| `siftmesh_broker_slots` | gauge | Slots that run. |\n"
        "| `siftmesh_broker_ended_total{reason}` | counter | Requests by their end. |\n"
        "| `siftmesh_broker_request_seconds` | histogram | Time of a request. |\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(prometheus_gets_names_types_and_escaped_help),
        cmocka_unit_test(a_family_has_its_nonzero_members_with_escaped_labels),
        cmocka_unit_test(a_bucket_holds_its_upper_bound_and_the_last_one_the_rest),
        cmocka_unit_test(prometheus_buckets_add_up_and_are_in_seconds),
        cmocka_unit_test(a_quantile_is_interpolated_in_its_bucket),
        cmocka_unit_test(a_quantile_above_the_last_bound_is_that_bound),
        cmocka_unit_test(quantiles_never_fall_and_are_in_the_bucket_of_the_truth),
        cmocka_unit_test(json_has_numbers_families_and_histograms),
        cmocka_unit_test(the_markdown_rows_hold_three_cells),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
