#include "monitor/ring.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void the_last_decisions_are_kept_newest_first(void **state)
{
    (void)state;
    static struct monitor_ring ring;
    struct monitor_decision decision = {.kind = MONITOR_DECIDED_SLOTS};

    assert_null(monitor_ring_last(&ring, 0));
    for (uint64_t i = 1; i <= MONITOR_RING_DECISIONS + 10; i++) {
        decision.to = i;
        monitor_ring_add(&ring, &decision, 1000 + i);
    }
    for (uint64_t back = 0; back < MONITOR_RING_DECISIONS; back++) {
        const struct monitor_ring_entry *entry = monitor_ring_last(&ring, back);
        assert_int_equal(entry->number, MONITOR_RING_DECISIONS + 10 - back);
        assert_int_equal(entry->decision.to, entry->number);
        assert_int_equal(entry->wall_ms, 1000 + entry->number);
    }
    assert_null(monitor_ring_last(&ring, MONITOR_RING_DECISIONS));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_last_decisions_are_kept_newest_first),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
