#include "monitor/stats.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* As broker/stats.c makes it, shortened. */
static const char whole[] =
    "{\"epoch\":77,\"uptime_s\":9,\"mode\":\"normal\",\"draining\":false,\"jobs\":3,"
    "\"services\":{\"extract\":{\"target\":2,\"slots\":4,\"slots_default\":4,"
    "\"slots_max\":8,\"running\":2,\"reason\":\"all\",\"targets\":{\"monitor\":2},"
    "\"queues\":[{\"jobs\":1,\"bytes\":10},{\"jobs\":5,\"bytes\":50},{\"jobs\":0,"
    "\"bytes\":0}]}},"
    "\"workers\":[{\"name\":\"cacher@h:1\",\"service\":\"cache\",\"pid\":1,\"credit\":9,"
    "\"leaving\":false,\"stats\":{\"hits_total\":6,\"ended_total\":{\"status\":{\"a\":1,"
    "\"b\":2}},"
    "\"wait\":{\"count\":4,\"sum_us\":1500000,\"p50_us\":100,\"p99_us\":2000}}}],"
    "\"clients\":[{\"name\":\"gateway@h:2\",\"role\":\"gateway\",\"jobs\":2,"
    "\"stats\":{\"in_flight\":17}},{\"name\":\"monitor@h:3\",\"jobs\":0,"
    "\"stats\":{\"samples\":5}},{\"name\":\"tool@h:4\",\"jobs\":2}],"
    "\"counters\":{\"requests_accepted\":12,\"requests_ended\":{\"ok\":11}}}";

static json_t *parse(const char *text)
{
    return monitor_stats_parse(text, strlen(text));
}

static char *prometheus(const char *text)
{
    char *out = NULL;
    size_t size;
    json_t *stats = parse(text);
    FILE *file = open_memstream(&out, &size);
    assert_non_null(stats);
    assert_int_equal(monitor_stats_prometheus(stats, file), 0);
    fclose(file);
    json_decref(stats);
    return out;
}

static void the_policy_gets_the_default_slots_and_the_active_clients(void **state)
{
    (void)state;
    json_t *stats = parse(whole);
    struct monitor_load load = monitor_stats_load(stats, "extract");
    assert_true(load.known);
    assert_int_equal(load.slots_default, 4);
    assert_int_equal(load.clients, 17 + 1); /* the gateway's, and the tool */

    load = monitor_stats_load(stats, "another");
    assert_true(load.known);
    assert_int_equal(load.slots_default, 0);
    json_decref(stats);
}

static void what_is_not_a_state_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"", "[]", "5", "{", "{} x", "{\"a\":1,\"a\":2}"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_null(parse(bad[i]));
    assert_null(monitor_stats_parse("{}", MONITOR_STATS_BYTES_MAX + 1));
}

static void members_of_wrong_types_are_unknown_or_zero(void **state)
{
    (void)state;
    static const char *const odd[] = {"{}", "{\"services\":5}",
                                      "{\"services\":[],\"clients\":{},\"workers\":7}"};
    for (size_t i = 0; i < sizeof odd / sizeof odd[0]; i++) {
        json_t *stats = parse(odd[i]);
        assert_false(monitor_stats_load(stats, "extract").known);
        json_decref(stats);
        free(prometheus(odd[i]));
    }
    json_t *stats = parse("{\"services\":{\"extract\":{\"slots_default\":-4}},"
                          "\"clients\":[5,{\"stats\":{\"in_flight\":1e300}}]}");
    struct monitor_load load = monitor_stats_load(stats, "extract");
    assert_true(load.known);
    assert_int_equal(load.slots_default, 0);
    assert_int_equal(load.clients, 0);
    json_decref(stats);
    free(prometheus("{\"workers\":[5,null,{\"name\":6},{\"name\":\"\",\"stats\":"
                    "{\"x\":[1],\"y\":{\"z\":{}}}}]}"));
}

static void every_number_becomes_a_line_with_its_owner(void **state)
{
    (void)state;
    static const char *const lines[] = {
        "\nsiftmesh_broker_uptime_s 9\n",
        "\nsiftmesh_broker_draining 0\n",
        "\nsiftmesh_broker_requests_accepted 12\n",
        "\nsiftmesh_broker_requests_ended{kind=\"ok\"} 11\n",
        "\nsiftmesh_broker_service_target{service=\"extract\"} 2\n",
        "\nsiftmesh_broker_service_targets{service=\"extract\",kind=\"monitor\"} 2\n",
        "\nsiftmesh_broker_queue_jobs{service=\"extract\",priority=\"normal\"} 5\n",
        "\nsiftmesh_broker_worker_credit{instance=\"cacher@h:1\"} 9\n",
        "\nsiftmesh_cacher_hits_total{instance=\"cacher@h:1\"} 6\n",
        "\nsiftmesh_cacher_ended_total{instance=\"cacher@h:1\",status=\"b\"} 2\n",
        "\nsiftmesh_cacher_wait_seconds_count{instance=\"cacher@h:1\"} 4\n",
        "\nsiftmesh_cacher_wait_seconds_sum{instance=\"cacher@h:1\"} 1.5\n",
        "\nsiftmesh_gateway_in_flight{instance=\"gateway@h:2\"} 17\n",
        "\nsiftmesh_monitor_series_left_out 0\n"};
    char *text = prometheus(whole);
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++)
        if (strstr(text, lines[i]) == NULL)
            fail_msg("no line %s in\n%s", lines[i], text);
    /* Shown by the monitor itself, with types; and what is a name is no measure. */
    assert_null(strstr(text, "siftmesh_monitor_samples"));
    assert_null(strstr(text, "epoch"));
    assert_null(strstr(text, "_pid"));
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_policy_gets_the_default_slots_and_the_active_clients),
        cmocka_unit_test(what_is_not_a_state_is_refused),
        cmocka_unit_test(members_of_wrong_types_are_unknown_or_zero),
        cmocka_unit_test(every_number_becomes_a_line_with_its_owner),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
