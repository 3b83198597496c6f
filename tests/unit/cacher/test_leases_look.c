/* Looking behind memory: the cacher holds the lease itself meanwhile. */
#include "tests/unit/cacher/leases_fixture.h"

static enum cacher_turn look(struct fixture *f, uint8_t k, uint64_t request, bool peek,
                             uint64_t now_us, uint64_t *lease)
{
    struct cacher_ticket made = ticket(request, UINT64_MAX);
    made.peek = peek;
    return cacher_leases_get(f->leases, key(k), &made, true, now_us, lease);
}

static void one_look_up_serves_all_who_ask_meanwhile(void **state)
{
    (void)state;
    struct fixture f;
    uint64_t mine;
    open_with(&f, 4, 8, 8);
    assert_int_equal(look(&f, 1, 1, false, 0, &mine), CACHER_TURN_LOOK);
    assert_int_equal(look(&f, 1, 2, false, 0, NULL), CACHER_TURN_PARKED);
    assert_int_equal(look(&f, 1, 3, true, 0, NULL), CACHER_TURN_PARKED);

    assert_true(cacher_leases_fulfil(f.leases, key(1), mine));
    assert_int_equal(f.count, 3);
    for (unsigned i = 0; i < 3; i++)
        assert_told(&f, i, i + 1, CACHER_ANSWER_RESULT, 0);
    const struct cacher_leases_counters *c = cacher_leases_counters(f.leases);
    assert_int_equal(c->looks, 1);
    assert_int_equal(c->shared, 2);
    assert_int_equal(c->granted + c->fulfilled + c->parked + c->coalesced, 0);
    assert_int_equal(c->leases_now + c->parked_now, 0);
    cacher_leases_free(f.leases);
}

static void nothing_found_gives_the_lease_to_the_first_from_then_on(void **state)
{
    (void)state;
    struct fixture f;
    uint64_t mine;
    open_with(&f, 4, 8, 8);
    assert_int_equal(look(&f, 1, 1, false, 0, &mine), CACHER_TURN_LOOK);
    assert_int_equal(look(&f, 1, 2, false, 0, NULL), CACHER_TURN_PARKED);
    uint64_t end_us = 3 * SECOND;
    assert_true(cacher_leases_drop(f.leases, key(1), mine, end_us));
    assert_int_equal(f.count, 1);
    assert_told(&f, 0, 1, CACHER_ANSWER_LEASE, mine + 1);

    cacher_leases_tick(f.leases, end_us + LEASE_US - 1); /* its whole time */
    assert_int_equal(f.count, 1);
    cacher_leases_tick(f.leases, end_us + LEASE_US);
    assert_told(&f, 1, 2, CACHER_ANSWER_LEASE, mine + 2);
    const struct cacher_leases_counters *c = cacher_leases_counters(f.leases);
    assert_int_equal(c->granted, 2);
    assert_int_equal(c->dropped, 0); /* a look-up is nobody's failure */
    assert_int_equal(c->expired, 1);
    cacher_leases_free(f.leases);
}

static void a_peek_waits_for_a_look_up_and_never_computes(void **state)
{
    (void)state;
    struct fixture f;
    uint64_t mine, lease;
    open_with(&f, 4, 8, 8);
    assert_int_equal(look(&f, 1, 1, true, 0, &mine), CACHER_TURN_LOOK);
    assert_int_equal(look(&f, 1, 2, true, 0, NULL), CACHER_TURN_PARKED);
    assert_int_equal(look(&f, 1, 3, false, 0, NULL), CACHER_TURN_PARKED);
    assert_int_equal(look(&f, 1, 4, true, 0, NULL), CACHER_TURN_PARKED);
    assert_true(cacher_leases_drop(f.leases, key(1), mine, 0));
    assert_int_equal(f.count, 4);
    assert_told(&f, 0, 1, CACHER_ANSWER_LEASE, 0);
    assert_told(&f, 1, 2, CACHER_ANSWER_LEASE, 0);
    assert_told(&f, 2, 4, CACHER_ANSWER_LEASE, 0);
    assert_told(&f, 3, 3, CACHER_ANSWER_LEASE, mine + 1);
    /* Now somebody computes: that is nothing to wait for. */
    assert_int_equal(look(&f, 1, 5, true, 0, NULL), CACHER_TURN_MISS);

    /* Peeks alone leave nothing behind. */
    assert_int_equal(look(&f, 2, 6, true, 0, &mine), CACHER_TURN_LOOK);
    assert_true(cacher_leases_drop(f.leases, key(2), mine, 0));
    assert_int_equal(cacher_leases_counters(f.leases)->leases_now, 1);
    assert_int_equal(get(&f, 2, 7, UINT64_MAX, 0, &lease), CACHER_TURN_LEASE);
    cacher_leases_free(f.leases);
}

static void a_put_during_a_look_up_ends_it(void **state)
{
    (void)state;
    struct fixture f;
    uint64_t mine;
    open_with(&f, 4, 8, 8);
    assert_int_equal(look(&f, 1, 1, false, 0, &mine), CACHER_TURN_LOOK);
    assert_false(cacher_leases_fulfil(f.leases, key(1), 0));
    assert_told(&f, 0, 1, CACHER_ANSWER_RESULT, 0);
    assert_false(cacher_leases_drop(f.leases, key(1), mine, 0)); /* late: nothing */
    assert_int_equal(f.count, 1);
    cacher_leases_free(f.leases);
}

static void a_look_up_without_end_ends_as_a_lease_does(void **state)
{
    (void)state;
    struct fixture f;
    uint64_t mine;
    open_with(&f, 4, 8, 8);
    assert_int_equal(look(&f, 1, 1, false, 0, &mine), CACHER_TURN_LOOK);
    cacher_leases_tick(f.leases, LEASE_US);
    assert_told(&f, 0, 1, CACHER_ANSWER_LEASE, mine + 1);
    assert_int_equal(cacher_leases_counters(f.leases)->expired, 0);
    assert_false(cacher_leases_drop(f.leases, key(1), mine, LEASE_US));
    assert_int_equal(cacher_leases_counters(f.leases)->leases_now, 1);
    cacher_leases_free(f.leases);
}

static void a_look_up_without_a_place_to_wait_is_none(void **state)
{
    (void)state;
    struct fixture f;
    uint64_t mine;
    open_with(&f, 2, 2, 2);
    assert_int_equal(look(&f, 1, 1, false, 0, &mine), CACHER_TURN_LOOK);
    assert_int_equal(look(&f, 1, 2, false, 0, NULL), CACHER_TURN_PARKED);
    assert_int_equal(look(&f, 2, 3, false, 0, &mine), CACHER_TURN_CROWDED);
    assert_int_equal(cacher_leases_counters(f.leases)->leases_now, 1);
    cacher_leases_free(f.leases);

    open_with(&f, 1, 8, 8);
    assert_int_equal(look(&f, 1, 1, false, 0, &mine), CACHER_TURN_LOOK);
    for (uint64_t i = 2; i < 40; i++) /* no place leaks away */
        assert_int_equal(look(&f, 2, i, false, 0, &mine), CACHER_TURN_CROWDED);
    for (uint64_t i = 2; i < 9; i++)
        assert_int_equal(look(&f, 1, i, false, 0, NULL), CACHER_TURN_PARKED);
    cacher_leases_free(f.leases);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_look_up_serves_all_who_ask_meanwhile),
        cmocka_unit_test(nothing_found_gives_the_lease_to_the_first_from_then_on),
        cmocka_unit_test(a_peek_waits_for_a_look_up_and_never_computes),
        cmocka_unit_test(a_put_during_a_look_up_ends_it),
        cmocka_unit_test(a_look_up_without_end_ends_as_a_lease_does),
        cmocka_unit_test(a_look_up_without_a_place_to_wait_is_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
