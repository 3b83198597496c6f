#include "core_fixture.h"

#define KEY   0xaa
#define OTHER 0xbb

static void open_with(struct fixture *f, uint32_t keys)
{
    prepare(f);
    f->limits.quarantine_keys = keys;
    f->limits.quarantine_us = 60 * SECOND;
    f->limits.jobs_max = 1024;
    open_with_worker(f, 4);
    ready(f, 0, 4, 4);
}

static struct broker_core_action job_for(struct fixture *f, unsigned n, uint8_t key)
{
    clear(f);
    ready(f, 0, 4, 4);
    assert_int_equal(submit_key(f, n, key), 0);
    return *nth(f, BROKER_CORE_JOB, 0);
}

/* One request about `key` that kills a slot and is not tried again. */
static void kill_with(struct fixture *f, unsigned n, uint8_t key)
{
    struct broker_core_action job = job_for(f, n, key);
    fail_job(f, &job, false);
}

static void assert_refused(struct fixture *f, uint8_t key)
{
    clear(f);
    assert_int_not_equal(submit_key(f, 900, key), 0);
    assert_int_equal(nth(f, BROKER_CORE_REJECT, 0)->status, PROTO_STATUS_POISON_INPUT);
}

static void assert_served(struct fixture *f, uint8_t key)
{
    struct broker_core_action job = job_for(f, 901, key);
    assert_int_equal(done(f, &job), 0);
}

static void a_request_that_kills_two_slots_ends_as_poison_and_so_do_later_ones(void **s)
{
    struct fixture f;
    (void)s;
    open_with(&f, 8);
    struct broker_core_action job = job_for(&f, 1, KEY);
    fail_job(&f, &job, true);
    assert_int_equal(count_of(&f, BROKER_CORE_QUARANTINE), 0);
    job = *nth(&f, BROKER_CORE_JOB, 1);
    fail_job(&f, &job, true);
    assert_int_equal(count_of(&f, BROKER_CORE_QUARANTINE), 1);
    assert_ptr_equal(nth(&f, BROKER_CORE_QUARANTINE, 0)->payload, job.payload);
    assert_int_equal(nth(&f, BROKER_CORE_FINAL, 0)->status, PROTO_STATUS_POISON_INPUT);
    assert_refused(&f, KEY);
    assert_served(&f, OTHER);
    close_core(&f);
}

static void kills_count_across_requests_and_spare_the_second_attempt(void **state)
{
    struct fixture f;
    (void)state;
    open_with(&f, 8);
    kill_with(&f, 1, KEY);
    assert_int_equal(nth(&f, BROKER_CORE_FINAL, 0)->status, PROTO_STATUS_WORKER_LOST);
    struct broker_core_action job = job_for(&f, 2, KEY);
    fail_job(&f, &job, true);
    assert_int_equal(count_of(&f, BROKER_CORE_JOB), 1); /* no further slot dies of it */
    assert_int_equal(nth(&f, BROKER_CORE_FINAL, 0)->status, PROTO_STATUS_POISON_INPUT);
    assert_int_equal(broker_core_counters(f.core)->keys_quarantined, 1);
    close_core(&f);
}

static void a_good_end_between_two_kills_clears_the_key(void **state)
{
    struct fixture f;
    (void)state;
    open_with(&f, 8);
    kill_with(&f, 1, KEY);
    assert_served(&f, KEY);
    kill_with(&f, 2, KEY);
    assert_served(&f, KEY);
    close_core(&f);
}

static void quarantine_ends_with_its_time(void **state)
{
    struct fixture f;
    (void)state;
    open_with(&f, 8);
    kill_with(&f, 1, KEY);
    live(&f, 59 * SECOND);
    kill_with(&f, 2, KEY);
    live(&f, 60 * SECOND - 1);
    assert_refused(&f, KEY);
    live(&f, 1);
    assert_served(&f, KEY);
    close_core(&f);
}

static void kills_that_are_far_apart_do_not_add_up(void **state)
{
    struct fixture f;
    (void)state;
    open_with(&f, 8);
    kill_with(&f, 1, KEY);
    live(&f, 60 * SECOND);
    kill_with(&f, 2, KEY);
    kill_with(&f, 3, OTHER);
    assert_served(&f, KEY);
    close_core(&f);
}

static void a_waiting_job_of_a_quarantined_key_ends_before_it_kills(void **state)
{
    struct fixture f;
    (void)state;
    open_with(&f, 8);
    struct broker_core_action first = job_for(&f, 1, KEY), second = job_for(&f, 2, KEY);
    ready(&f, 0, 0, 2);
    assert_int_equal(submit_key(&f, 3, KEY), 0);
    clear(&f);
    fail_job(&f, &first, false);
    fail_job(&f, &second, false);
    assert_int_equal(count_of(&f, BROKER_CORE_FINAL), 3);
    assert_int_equal(nth(&f, BROKER_CORE_FINAL, 0)->status, PROTO_STATUS_WORKER_LOST);
    assert_int_equal(nth(&f, BROKER_CORE_FINAL, 1)->status, PROTO_STATUS_POISON_INPUT);
    assert_int_equal(nth(&f, BROKER_CORE_FINAL, 2)->status, PROTO_STATUS_POISON_INPUT);
    ready(&f, 0, 4, 4);
    assert_int_equal(count_of(&f, BROKER_CORE_JOB), 0);
    assert_int_equal(open_jobs(&f), 0);
    close_core(&f);
}

static void a_lost_worker_is_no_inputs_doing(void **state)
{
    struct fixture f;
    (void)state;
    open_with(&f, 8);
    for (unsigned n = 0; n < 3; n++) {
        struct broker_core_action begun = job_for(&f, 1, KEY);
        start(&f, &begun);
        broker_core_worker_bye(f.core, 0, f.now_us);
        (void)broker_core_cancel(f.core, 0, &(struct proto_id){{1, 0, 1}}, f.now_us);
        enlist(&f, 0, 4, 4);
    }
    assert_served(&f, KEY);
    close_core(&f);
}

static void fail_with(struct fixture *f, unsigned n, unsigned status, bool of_worker)
{
    struct broker_core_failure failure = {status, true, of_worker};
    struct broker_core_action job = job_for(f, n, KEY);

    start(f, &job);
    broker_core_fail(f->core, job.peer, &job.request, 1, &failure, f->now_us);
    ready(f, 0, 4, 4);
    job = *nth(f, BROKER_CORE_JOB, 1);
    start(f, &job);
    broker_core_fail(f->core, job.peer, &job.request, 2, &failure, f->now_us);
}

static void only_a_slots_own_death_counts(void **state)
{
    static const unsigned shortages[] = {PROTO_STATUS_INTERNAL, PROTO_STATUS_FULL,
                                         PROTO_STATUS_DRAINING, PROTO_STATUS_UNAVAILABLE,
                                         PROTO_STATUS_COUNT + 7};
    struct fixture f;
    (void)state;
    open_with(&f, 8);
    for (unsigned i = 0; i < 5; i++) {
        fail_with(&f, 1 + i, shortages[i], true);
        /* Our own shortage: not now, but soon. */
        const struct broker_core_action *end = nth(&f, BROKER_CORE_FINAL, 0);
        assert_int_equal(end->status, PROTO_STATUS_UNAVAILABLE);
        assert_true(end->retry_after_ms > 0);
    }
    fail_with(&f, 10, PROTO_STATUS_WORKER_LOST, false);
    assert_served(&f, KEY);
    fail_with(&f, 11, PROTO_STATUS_EXPIRED, true); /* hung, and was killed, twice */
    assert_refused(&f, KEY);
    close_core(&f);
}

static void where_there_are_no_slots_none_is_killed(void **state)
{
    struct fixture f;
    (void)state;
    open_with(&f, 8);
    enlist(&f, 1, 0, 0); /* as a cacher */
    broker_core_worker_bye(f.core, 0, f.now_us);
    for (unsigned n = 1; n <= 3; n++) {
        clear(&f);
        ready(&f, 1, 1, 0);
        assert_int_equal(submit_key(&f, n, KEY), 0);
        fail_job(&f, nth(&f, BROKER_CORE_JOB, 0), false);
    }
    assert_int_equal(broker_core_counters(f.core)->keys_quarantined, 0);
    close_core(&f);
}

static void the_oldest_suspect_gives_way_when_the_table_is_full(void **state)
{
    struct fixture f;
    (void)state;
    open_with(&f, 3);
    kill_with(&f, 1, 1);
    kill_with(&f, 2, 1); /* in quarantine */
    kill_with(&f, 3, 2);
    kill_with(&f, 4, 3);
    assert_refused(&f, 1);
    kill_with(&f, 5, 4); /* the fourth key: 1 is the one that killed longest ago */
    assert_served(&f, 1);
    kill_with(&f, 6, 2);
    assert_refused(&f, 2);
    for (unsigned n = 0; n < 200; n++) /* places are used again and again */
        kill_with(&f, 100 + n, (uint8_t)(10 + n % 200));
    close_core(&f);
}

static void a_pardon_releases_one_key_or_all(void **state)
{
    struct fixture f;
    uint8_t key[BROKER_CORE_KEY_BYTES];
    struct broker_core_view view;
    (void)state;
    open_with(&f, 8);
    for (uint8_t k = 1; k <= 3; k++) {
        kill_with(&f, k, k);
        kill_with(&f, k, k);
    }
    broker_core_look(f.core, &view);
    assert_int_equal(view.quarantined, 3);
    memset(key, 2, sizeof key);
    broker_core_pardon(f.core, key);
    assert_served(&f, 2);
    assert_refused(&f, 1);
    broker_core_pardon(f.core, NULL);
    broker_core_look(f.core, &view);
    assert_int_equal(view.quarantined, 0);
    assert_served(&f, 1);
    assert_served(&f, 3);
    close_core(&f);
}

static void a_key_is_refused_by_the_service_whose_slots_it_killed_only(void **state)
{
    struct fixture f;
    struct broker_core_offer offer = {.service = "cache"};
    uint8_t key[BROKER_CORE_KEY_BYTES];
    struct broker_core_request request = {.id = id_of(9), .service = "cache", .key = key};
    (void)state;
    open_with(&f, 8);
    assert_int_equal(broker_core_register(f.core, 1, &offer, f.now_us), 0);
    kill_with(&f, 1, KEY);
    kill_with(&f, 2, KEY);
    memset(key, KEY, sizeof key);
    assert_int_equal(broker_core_submit(f.core, 0, &request, f.now_us), 0);
    assert_refused(&f, KEY);
    close_core(&f);
}

static void no_time_means_no_quarantine(void **state)
{
    struct fixture f;
    (void)state;
    prepare(&f);
    f.limits.quarantine_us = 0;
    open_with_worker(&f, 4);
    for (unsigned n = 0; n < 3; n++)
        kill_with(&f, n, KEY);
    assert_served(&f, KEY);
    close_core(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(
            a_request_that_kills_two_slots_ends_as_poison_and_so_do_later_ones),
        cmocka_unit_test(kills_count_across_requests_and_spare_the_second_attempt),
        cmocka_unit_test(a_good_end_between_two_kills_clears_the_key),
        cmocka_unit_test(quarantine_ends_with_its_time),
        cmocka_unit_test(kills_that_are_far_apart_do_not_add_up),
        cmocka_unit_test(a_waiting_job_of_a_quarantined_key_ends_before_it_kills),
        cmocka_unit_test(a_lost_worker_is_no_inputs_doing),
        cmocka_unit_test(only_a_slots_own_death_counts),
        cmocka_unit_test(where_there_are_no_slots_none_is_killed),
        cmocka_unit_test(the_oldest_suspect_gives_way_when_the_table_is_full),
        cmocka_unit_test(a_pardon_releases_one_key_or_all),
        cmocka_unit_test(a_key_is_refused_by_the_service_whose_slots_it_killed_only),
        cmocka_unit_test(no_time_means_no_quarantine),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
