#include "tests/unit/cacher/leases_fixture.h"

static void bounds_that_make_no_sense_are_refused(void **state)
{
    (void)state;
    struct cacher_leases_limits limits = {1, 1, 1, 1, 0, 0};
    struct cacher_leases_limits bad[] = {limits, limits, limits, limits, limits};
    bad[0].leases_max = 0;
    bad[1].parked_max = 0;
    bad[2].parked_key_max = 0;
    bad[3].lease_us = 0;
    bad[4].parked_max = UINT32_MAX;
    for (size_t i = 0; i < 5; i++)
        assert_null(cacher_leases_new(&bad[i], tell, NULL));
    cacher_leases_free(NULL);
}

static void the_first_get_computes_and_a_put_answers_the_parked_in_order(void **state)
{
    (void)state;
    struct fixture f;
    open_with(&f, 4, 8, 8);
    uint64_t lease = lease_and_park(&f, 1, 3, 0);
    assert_int_equal(lease, FIRST);

    assert_true(cacher_leases_fulfil(f.leases, key(1), lease));
    assert_int_equal(f.count, 3);
    for (unsigned i = 0; i < 3; i++)
        assert_told(&f, i, i + 1, CACHER_ANSWER_RESULT, 0);

    const struct cacher_leases_counters *c = cacher_leases_counters(f.leases);
    assert_int_equal(c->granted, 1);
    assert_int_equal(c->fulfilled, 1);
    assert_int_equal(c->parked, 3);
    assert_int_equal(c->coalesced, 3);
    assert_int_equal(c->parked_now, 0);
    assert_int_equal(c->leases_now, 0);
    cacher_leases_free(f.leases);
}

static void a_thousand_gets_of_one_key_make_one_lease(void **state)
{
    (void)state;
    struct fixture f;
    uint64_t lease;
    open_with(&f, 4, 2000, 2000);
    lease_and_park(&f, 1, 999, 0);
    assert_int_equal(cacher_leases_counters(f.leases)->granted, 1);
    assert_int_equal(cacher_leases_counters(f.leases)->parked_now, 999);
    /* Another key is nobody's business. */
    assert_int_equal(get(&f, 2, 5000, UINT64_MAX, 0, &lease), CACHER_TURN_LEASE);
    cacher_leases_free(f.leases);
}

static void a_lease_that_runs_out_goes_to_the_one_that_waited_longest(void **state)
{
    (void)state;
    struct fixture f;
    open_with(&f, 4, 8, 8);
    lease_and_park(&f, 1, 2, 0);

    cacher_leases_tick(f.leases, LEASE_US - 1);
    assert_int_equal(f.count, 0);
    cacher_leases_tick(f.leases, LEASE_US);
    assert_int_equal(f.count, 1);
    assert_told(&f, 0, 1, CACHER_ANSWER_LEASE, FIRST + 1);

    cacher_leases_tick(f.leases, 2 * LEASE_US);
    assert_told(&f, 1, 2, CACHER_ANSWER_LEASE, FIRST + 2);
    cacher_leases_tick(f.leases, 3 * LEASE_US);
    assert_int_equal(f.count, 2);
    assert_int_equal(cacher_leases_counters(f.leases)->expired, 3);
    assert_int_equal(cacher_leases_counters(f.leases)->leases_now, 0);
    cacher_leases_free(f.leases);
}

static void a_get_that_finds_a_lease_run_out_needs_no_tick(void **state)
{
    (void)state;
    struct fixture f;
    uint64_t lease = 0;
    open_with(&f, 4, 8, 8);
    lease_and_park(&f, 1, 0, 0);
    assert_int_equal(get(&f, 1, 7, UINT64_MAX, LEASE_US, &lease), CACHER_TURN_LEASE);
    assert_int_equal(lease, FIRST + 1);

    /* With somebody parked it is their turn, and the new one waits. */
    assert_int_equal(get(&f, 1, 8, UINT64_MAX, LEASE_US, NULL), CACHER_TURN_PARKED);
    assert_int_equal(get(&f, 1, 9, UINT64_MAX, 2 * LEASE_US, NULL), CACHER_TURN_PARKED);
    assert_told(&f, 0, 8, CACHER_ANSWER_LEASE, FIRST + 2);
    cacher_leases_free(f.leases);
}

static void a_late_put_serves_the_parked_and_ends_the_lease_of_another(void **state)
{
    (void)state;
    struct fixture f;
    open_with(&f, 4, 8, 8);
    uint64_t lease = lease_and_park(&f, 1, 2, 0);
    cacher_leases_tick(f.leases, LEASE_US); /* request 1 computes now, 2 waits */

    assert_false(cacher_leases_fulfil(f.leases, key(1), lease));
    assert_int_equal(f.count, 2);
    assert_told(&f, 1, 2, CACHER_ANSWER_RESULT, 0);
    /* The second holder's put finds nothing to do. */
    assert_false(cacher_leases_fulfil(f.leases, key(1), FIRST + 1));
    assert_int_equal(f.count, 2);
    assert_int_equal(cacher_leases_counters(f.leases)->fulfilled, 0);
    cacher_leases_free(f.leases);
}

static void only_the_holder_can_drop_a_lease(void **state)
{
    (void)state;
    struct fixture f;
    open_with(&f, 4, 8, 8);
    uint64_t lease = lease_and_park(&f, 1, 1, 0);

    assert_false(cacher_leases_drop(f.leases, key(1), lease + 1, 5));
    assert_false(cacher_leases_drop(f.leases, key(1), 0, 5));
    assert_false(cacher_leases_drop(f.leases, key(2), lease, 5));
    assert_int_equal(f.count, 0);

    assert_true(cacher_leases_drop(f.leases, key(1), lease, 5));
    assert_told(&f, 0, 1, CACHER_ANSWER_LEASE, FIRST + 1);
    assert_false(cacher_leases_drop(f.leases, key(1), lease, 6));
    assert_true(cacher_leases_drop(f.leases, key(1), FIRST + 1, 6));
    assert_int_equal(cacher_leases_counters(f.leases)->leases_now, 0);
    cacher_leases_free(f.leases);
}

static void a_dropped_lease_begins_anew_for_the_next(void **state)
{
    (void)state;
    struct fixture f;
    open_with(&f, 4, 8, 8);
    uint64_t lease = lease_and_park(&f, 1, 1, 0);
    lease_and_park(&f, 2, 0, 10); /* granted after it, ends before the new one */

    cacher_leases_drop(f.leases, key(1), lease, 15 * SECOND);
    cacher_leases_tick(f.leases, LEASE_US + 10);
    assert_int_equal(cacher_leases_counters(f.leases)->leases_now, 1);
    cacher_leases_tick(f.leases, LEASE_US + 15 * SECOND);
    assert_int_equal(cacher_leases_counters(f.leases)->leases_now, 0);
    cacher_leases_free(f.leases);
}

static void a_holder_that_asks_again_is_not_parked_behind_itself(void **state)
{
    (void)state;
    struct fixture f;
    open_with(&f, 4, 8, 8);
    struct cacher_ticket one = ticket(1, UINT64_MAX), other = ticket(2, UINT64_MAX);
    uint64_t first = 0, second = 0;
    one.trace.bytes[3] = 7;
    other.trace.bytes[3] = 8;

    assert_int_equal(cacher_leases_get(f.leases, key(1), &one, false, 0, &first),
                     CACHER_TURN_LEASE);
    assert_int_equal(cacher_leases_get(f.leases, key(1), &other, false, 1, NULL),
                     CACHER_TURN_PARKED);
    /* The broker died with the answer; the lease lasts from now on. */
    one.request.bytes[0] = 3;
    assert_int_equal(
        cacher_leases_get(f.leases, key(1), &one, false, 5 * SECOND, &second),
        CACHER_TURN_LEASE);
    assert_int_not_equal(first, second);
    assert_false(cacher_leases_drop(f.leases, key(1), first, 5 * SECOND));
    cacher_leases_tick(f.leases, LEASE_US + SECOND);
    assert_int_equal(f.count, 0);

    /* Who waited holds it next, and is known as well. */
    assert_true(cacher_leases_drop(f.leases, key(1), second, 6 * SECOND));
    assert_int_equal(f.told[0].answer, CACHER_ANSWER_LEASE);
    assert_int_equal(
        cacher_leases_get(f.leases, key(1), &other, false, 7 * SECOND, &first),
        CACHER_TURN_LEASE);
    assert_int_equal(cacher_leases_get(f.leases, key(1), &one, false, 7 * SECOND, NULL),
                     CACHER_TURN_PARKED);
    assert_int_equal(cacher_leases_counters(f.leases)->leases_now, 1);
    cacher_leases_free(f.leases);
}

static void a_parked_get_waits_until_its_time_and_not_beyond(void **state)
{
    (void)state;
    struct fixture f;
    open_with(&f, 4, 8, 8);
    lease_and_park(&f, 1, 0, 0);
    assert_int_equal(get(&f, 1, 1, 5 * SECOND, 0, NULL), CACHER_TURN_PARKED);
    assert_int_equal(get(&f, 1, 2, 3 * SECOND, 0, NULL), CACHER_TURN_PARKED);

    cacher_leases_tick(f.leases, 3 * SECOND - 1);
    assert_int_equal(f.count, 0);
    cacher_leases_tick(f.leases, 3 * SECOND);
    assert_told(&f, 0, 2, CACHER_ANSWER_TIMEOUT, 0);
    cacher_leases_tick(f.leases, 9 * SECOND);
    assert_told(&f, 1, 1, CACHER_ANSWER_TIMEOUT, 0);
    assert_int_equal(f.count, 2);
    cacher_leases_free(f.leases);
}

static void a_lease_is_not_handed_to_one_whose_time_is_up(void **state)
{
    (void)state;
    struct fixture f;
    open_with(&f, 4, 8, 8);
    lease_and_park(&f, 1, 0, 0);
    get(&f, 1, 1, LEASE_US, 0, NULL);
    get(&f, 1, 2, LEASE_US + SECOND, 0, NULL);

    cacher_leases_tick(f.leases, LEASE_US);
    assert_int_equal(f.count, 2);
    assert_told(&f, 0, 1, CACHER_ANSWER_TIMEOUT, 0);
    assert_told(&f, 1, 2, CACHER_ANSWER_LEASE, FIRST + 1);
    cacher_leases_free(f.leases);
}

static void an_aborted_get_is_forgotten_wherever_it_stands_in_line(void **state)
{
    (void)state;
    for (uint64_t gone = 1; gone <= 3; gone++) {
        struct fixture f;
        open_with(&f, 4, 8, 8);
        uint64_t lease = lease_and_park(&f, 1, 3, 0);
        struct cacher_ticket t = ticket(gone, 0);

        assert_false(cacher_leases_abort(f.leases, &t.request, 2)); /* other attempt */
        assert_true(cacher_leases_abort(f.leases, &t.request, 1));
        assert_false(cacher_leases_abort(f.leases, &t.request, 1));
        cacher_leases_fulfil(f.leases, key(1), lease);
        assert_int_equal(f.count, 2);
        for (unsigned i = 0; i < 2; i++)
            assert_int_not_equal(f.told[i].request, gone);
        assert_true(f.told[0].request < f.told[1].request);
        cacher_leases_free(f.leases);
    }
}

static void full_tables_refuse_and_freed_places_are_used_again(void **state)
{
    (void)state;
    struct fixture f;
    uint64_t lease = 0;
    open_with(&f, 2, 3, 2);
    uint64_t first = lease_and_park(&f, 1, 2, 0);
    assert_int_equal(get(&f, 1, 50, UINT64_MAX, 0, NULL), CACHER_TURN_CROWDED);
    assert_int_equal(get(&f, 2, 51, UINT64_MAX, 0, &lease), CACHER_TURN_LEASE);
    assert_int_equal(get(&f, 2, 52, UINT64_MAX, 0, NULL), CACHER_TURN_PARKED);
    assert_int_equal(get(&f, 2, 53, UINT64_MAX, 0, NULL), CACHER_TURN_CROWDED);
    assert_int_equal(get(&f, 3, 54, UINT64_MAX, 0, &lease), CACHER_TURN_CROWDED);
    assert_int_equal(cacher_leases_counters(f.leases)->crowded, 3);

    assert_true(cacher_leases_fulfil(f.leases, key(1), first));
    assert_int_equal(get(&f, 3, 54, UINT64_MAX, 0, &lease), CACHER_TURN_LEASE);
    assert_int_equal(get(&f, 3, 55, UINT64_MAX, 0, NULL), CACHER_TURN_PARKED);
    cacher_leases_free(f.leases);
}

static void leaving_answers_everybody_and_forgetting_nobody(void **state)
{
    (void)state;
    struct fixture f;
    open_with(&f, 4, 8, 8);
    uint64_t lease = lease_and_park(&f, 1, 3, 0);
    cacher_leases_leave(f.leases);
    assert_int_equal(f.count, 3);
    assert_int_equal(f.told[0].answer, CACHER_ANSWER_LEAVING);

    assert_int_equal(get(&f, 1, 9, UINT64_MAX, 0, NULL), CACHER_TURN_PARKED);
    cacher_leases_forget(f.leases);
    assert_int_equal(f.count, 3);
    /* The lease outlives both: its holder may still put. */
    assert_true(cacher_leases_fulfil(f.leases, key(1), lease));
    assert_int_equal(f.count, 3);
    cacher_leases_free(f.leases);
}

static void the_lease_after_the_largest_number_is_not_0(void **state)
{
    (void)state;
    struct cacher_leases_limits limits = {2, 2, 2, LEASE_US, UINT64_MAX, 1};
    struct cacher_leases *leases = cacher_leases_new(&limits, tell, NULL);
    struct cacher_ticket t = ticket(1, 1);
    uint64_t lease = 0;
    cacher_leases_get(leases, key(1), &t, false, 0, &lease);
    assert_int_equal(lease, UINT64_MAX);
    cacher_leases_get(leases, key(2), &t, false, 0, &lease);
    assert_int_equal(lease, 1);
    cacher_leases_free(leases);
}

static void count_visit(const struct cacher_ticket *t, void *arg)
{
    assert_int_equal(t->attempt, 1);
    ++*(unsigned *)arg;
}

static void every_parked_get_is_shown_once(void **state)
{
    (void)state;
    struct fixture f;
    unsigned seen = 0;
    open_with(&f, 4, 8, 8);
    lease_and_park(&f, 1, 5, 0);
    cacher_leases_each(f.leases, count_visit, &seen);
    assert_int_equal(seen, 5);
    cacher_leases_free(f.leases);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bounds_that_make_no_sense_are_refused),
        cmocka_unit_test(the_first_get_computes_and_a_put_answers_the_parked_in_order),
        cmocka_unit_test(a_thousand_gets_of_one_key_make_one_lease),
        cmocka_unit_test(a_lease_that_runs_out_goes_to_the_one_that_waited_longest),
        cmocka_unit_test(a_get_that_finds_a_lease_run_out_needs_no_tick),
        cmocka_unit_test(a_late_put_serves_the_parked_and_ends_the_lease_of_another),
        cmocka_unit_test(only_the_holder_can_drop_a_lease),
        cmocka_unit_test(a_dropped_lease_begins_anew_for_the_next),
        cmocka_unit_test(a_holder_that_asks_again_is_not_parked_behind_itself),
        cmocka_unit_test(a_parked_get_waits_until_its_time_and_not_beyond),
        cmocka_unit_test(a_lease_is_not_handed_to_one_whose_time_is_up),
        cmocka_unit_test(an_aborted_get_is_forgotten_wherever_it_stands_in_line),
        cmocka_unit_test(full_tables_refuse_and_freed_places_are_used_again),
        cmocka_unit_test(leaving_answers_everybody_and_forgetting_nobody),
        cmocka_unit_test(the_lease_after_the_largest_number_is_not_0),
        cmocka_unit_test(every_parked_get_is_shown_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
