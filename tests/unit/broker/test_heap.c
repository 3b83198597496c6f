#include "broker/core/heap.h"
#include "tests/harness/harness.h"

#define TIMERS 200

static uint64_t random_of(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return *state >> 33;
}

static void timers_come_out_in_the_order_of_their_deadlines(void **state)
{
    struct broker_core_heap heap;
    struct broker_core_timer timers[TIMERS] = {{0}};
    uint64_t seed = 1, last_us = 0;
    (void)state;

    assert_int_equal(broker_core_heap_init(&heap, TIMERS), 0);
    assert_null(broker_core_heap_first(&heap));
    for (int i = 0; i < TIMERS; i++)
        broker_core_heap_set(&heap, &timers[i], random_of(&seed) % 1000);
    for (int i = 0; i < TIMERS; i++) {
        struct broker_core_timer *first = broker_core_heap_first(&heap);
        assert_true(first->due_us >= last_us);
        last_us = first->due_us;
        broker_core_heap_clear(&heap, first);
        assert_int_equal(first->place, 0);
    }
    assert_null(broker_core_heap_first(&heap));
    broker_core_heap_free(&heap);
    broker_core_heap_free(&heap);
}

static struct broker_core_timer *slow_first(struct broker_core_timer *timers)
{
    struct broker_core_timer *first = NULL;

    for (int i = 0; i < TIMERS; i++)
        if (timers[i].place != 0 && (first == NULL || timers[i].due_us < first->due_us))
            first = &timers[i];
    return first;
}

static void moving_and_clearing_any_timer_keeps_the_first_right(void **state)
{
    struct broker_core_heap heap;
    struct broker_core_timer timers[TIMERS] = {{0}};
    uint64_t seed = 7;
    (void)state;

    assert_int_equal(broker_core_heap_init(&heap, TIMERS), 0);
    for (int i = 0; i < 20000; i++) {
        struct broker_core_timer *timer = &timers[random_of(&seed) % TIMERS];
        if (random_of(&seed) % 3 == 0)
            broker_core_heap_clear(&heap, timer);
        else
            broker_core_heap_set(&heap, timer, random_of(&seed) % 100000);

        struct broker_core_timer *want = slow_first(timers);
        struct broker_core_timer *got = broker_core_heap_first(&heap);
        assert_int_equal(want == NULL, got == NULL);
        if (want != NULL)
            assert_int_equal(got->due_us, want->due_us);
    }
    broker_core_heap_free(&heap);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(timers_come_out_in_the_order_of_their_deadlines),
        cmocka_unit_test(moving_and_clearing_any_timer_keeps_the_first_right),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
