/* Jobs at slots and the memory they need together. */
#include "core_fixture.h"

#include <errno.h>

static int submit_cost(struct fixture *f, unsigned n, uint8_t priority, uint64_t cost)
{
    struct broker_core_request request = {.id = id_of(n),
                                          .service = "extract",
                                          .priority = priority,
                                          .cost_bytes = cost,
                                          .payload = &marks[n]};
    return broker_core_submit(f->core, 0, &request, f->now_us);
}

static uint64_t cost_now(struct fixture *f)
{
    struct broker_core_view view;
    broker_core_look(f->core, &view);
    return view.cost;
}

static void open_with_memory(struct fixture *f, uint64_t budget)
{
    prepare(f);
    f->limits.memory_budget = budget;
    open_with_worker(f, 8);
    ready(f, 0, 8, 8);
}

static void jobs_at_slots_stay_inside_the_memory_budget(void **state)
{
    struct fixture f;
    (void)state;
    open_with_memory(&f, 1000);
    assert_int_equal(submit_cost(&f, 1, NORMAL, 600), 0);
    assert_int_equal(submit_cost(&f, 2, NORMAL, 400), 0); /* just fits */
    assert_int_equal(submit_cost(&f, 3, NORMAL, 1), 0);
    assert_int_equal(submit_cost(&f, 4, NORMAL, 0), 0);
    assert_int_equal(count_of(&f, BROKER_CORE_JOB), 2);
    assert_int_equal(cost_now(&f), 1000);
    done(&f, nth(&f, BROKER_CORE_JOB, 1));
    assert_int_equal(count_of(&f, BROKER_CORE_JOB), 4);
    assert_int_equal(cost_now(&f), 601);
    fail_job(&f, nth(&f, BROKER_CORE_JOB, 0), false);
    done(&f, nth(&f, BROKER_CORE_JOB, 2));
    done(&f, nth(&f, BROKER_CORE_JOB, 3));
    assert_int_equal(cost_now(&f), 0);
    close_core(&f);
}

static void a_job_larger_than_the_budget_is_refused(void **state)
{
    static const uint64_t costs[] = {1001, 1ull << 40, UINT64_MAX};
    struct fixture f;
    (void)state;
    open_with_memory(&f, 1000);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(submit_cost(&f, 1, NORMAL, costs[i]), -EAGAIN);
        const struct broker_core_action *action = nth(&f, BROKER_CORE_REJECT, i);
        assert_int_equal(action->status, PROTO_STATUS_TOO_MANY_PIXELS);
        assert_int_equal(action->limit, 1000);
        assert_int_equal(action->actual, costs[i]);
    }
    assert_int_equal(submit_cost(&f, 1, NORMAL, 1000), 0);
    assert_int_equal(submit_cost(&f, 2, NORMAL, 0), 0); /* nobody can say */
    assert_int_equal(count_of(&f, BROKER_CORE_JOB), 2);
    close_core(&f);
}

static void without_a_budget_nothing_is_too_costly(void **state)
{
    struct fixture f;
    (void)state;
    open_with_memory(&f, 0);
    assert_int_equal(submit_cost(&f, 1, NORMAL, UINT64_MAX), 0);
    assert_int_equal(submit_cost(&f, 2, NORMAL, UINT64_MAX), 0);
    assert_int_equal(count_of(&f, BROKER_CORE_JOB), 2);
    close_core(&f);
}

static void an_aborted_job_keeps_its_memory_until_its_slot_is_accounted_for(void **state)
{
    struct fixture f;
    (void)state;
    open_with_memory(&f, 1000);
    assert_int_equal(submit_cost(&f, 1, NORMAL, 900), 0);
    assert_int_equal(submit_cost(&f, 2, NORMAL, 200), 0);
    struct proto_id first = id_of(1);
    assert_int_equal(broker_core_cancel(f.core, 0, &first, f.now_us), 0);
    assert_int_equal(cost_now(&f), 900);
    assert_int_equal(count_of(&f, BROKER_CORE_JOB), 1);
    ready(&f, 0, 8, 8);
    assert_int_equal(count_of(&f, BROKER_CORE_JOB), 2);
    assert_int_equal(cost_now(&f), 200);
    struct proto_id second = id_of(2);
    assert_int_equal(broker_core_cancel(f.core, 0, &second, f.now_us), 0);
    broker_core_worker_bye(f.core, 0, f.now_us);
    assert_int_equal(cost_now(&f), 0);
    close_core(&f);
}

static void a_service_without_slots_needs_no_memory_budget(void **state)
{
    struct fixture f;
    struct broker_core_offer offer = {.service = "cache"};
    struct broker_core_request request = {
        .id = id_of(9), .service = "cache", .cost_bytes = 1000};
    (void)state;
    open_with_memory(&f, 1000);
    assert_int_equal(broker_core_register(f.core, 1, &offer, f.now_us), 0);
    ready(&f, 1, 4, 0);
    assert_int_equal(submit_cost(&f, 1, NORMAL, 1000), 0);
    assert_int_equal(broker_core_submit(f.core, 0, &request, f.now_us), 0);
    assert_int_equal(count_of(&f, BROKER_CORE_JOB), 2);
    assert_int_equal(cost_now(&f), 1000);
    done(&f, nth(&f, BROKER_CORE_JOB, 1));
    assert_int_equal(cost_now(&f), 1000);
    close_core(&f);
}

/* Always the batch lane's turn. */
static void open_for_batch(struct fixture *f)
{
    prepare(f);
    f->limits.memory_budget = 1000;
    f->limits.batch_share = 1;
    open_with_worker(f, 8);
    ready(f, 0, 8, 8);
}

static void a_batch_job_that_does_not_fit_holds_up_its_own_lane_only(void **state)
{
    struct fixture f;
    (void)state;
    open_for_batch(&f);
    assert_int_equal(submit_cost(&f, 1, NORMAL, 600), 0);
    assert_int_equal(submit_cost(&f, 2, BATCH, 500), 0);
    assert_int_equal(submit_cost(&f, 3, BATCH, 10), 0);
    assert_int_equal(submit_cost(&f, 4, NORMAL, 300), 0);
    assert_int_equal(submit_cost(&f, 5, HIGH, 100), 0);
    assert_int_equal(count_of(&f, BROKER_CORE_JOB), 3);
    assert_int_equal(mark_of(nth(&f, BROKER_CORE_JOB, 1)), 4);
    assert_int_equal(mark_of(nth(&f, BROKER_CORE_JOB, 2)), 5);
    done(&f, nth(&f, BROKER_CORE_JOB, 0));
    assert_int_equal(mark_of(nth(&f, BROKER_CORE_JOB, 3)), 2);
    assert_int_equal(mark_of(nth(&f, BROKER_CORE_JOB, 4)), 3);
    close_core(&f);
}

static void what_does_not_fit_is_overtaken_by_no_lower_lane(void **state)
{
    struct fixture f;
    (void)state;
    open_for_batch(&f);
    assert_int_equal(submit_cost(&f, 1, NORMAL, 600), 0);
    assert_int_equal(submit_cost(&f, 2, NORMAL, 500), 0);
    assert_int_equal(submit_cost(&f, 3, HIGH, 450), 0);
    assert_int_equal(submit_cost(&f, 4, NORMAL, 10), 0);
    assert_int_equal(count_of(&f, BROKER_CORE_JOB), 1);
    done(&f, nth(&f, BROKER_CORE_JOB, 0));
    assert_int_equal(mark_of(nth(&f, BROKER_CORE_JOB, 1)), 3);
    assert_int_equal(mark_of(nth(&f, BROKER_CORE_JOB, 2)), 2);
    assert_int_equal(mark_of(nth(&f, BROKER_CORE_JOB, 3)), 4);
    close_core(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(jobs_at_slots_stay_inside_the_memory_budget),
        cmocka_unit_test(a_batch_job_that_does_not_fit_holds_up_its_own_lane_only),
        cmocka_unit_test(what_does_not_fit_is_overtaken_by_no_lower_lane),
        cmocka_unit_test(a_job_larger_than_the_budget_is_refused),
        cmocka_unit_test(without_a_budget_nothing_is_too_costly),
        cmocka_unit_test(an_aborted_job_keeps_its_memory_until_its_slot_is_accounted_for),
        cmocka_unit_test(a_service_without_slots_needs_no_memory_budget),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
