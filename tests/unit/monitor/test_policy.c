#include "monitor/policy.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define SECOND 1000000u

static const struct monitor_rules rules = {.shrink_permille = 800,
                                           .restore_permille = 700,
                                           .cpu_permille = 900,
                                           .stall_permille = 100,
                                           .level_permille = {0, 600, 750, 850},
                                           .hysteresis_permille = 50,
                                           .hold_us = 10 * SECOND,
                                           .shrink_wait_us = 3 * SECOND,
                                           .flap_us = 60 * SECOND,
                                           .blind_us = 10 * SECOND,
                                           .cooldown_us = 120 * SECOND,
                                           .busy_clients = 20};

struct fixture {
    struct monitor_policy policy;
    struct monitor_sample sample;
    struct monitor_load load;
    uint64_t now_us;
    struct monitor_decision decisions[MONITOR_DECISIONS_MAX];
    unsigned count;
};

static void begin(struct fixture *f, uint64_t slots)
{
    *f = (struct fixture){.sample = {.memory_known = true, .cpu_known = true},
                          .load = {.known = true, .slots_default = slots},
                          .now_us = 1000 * SECOND};
    monitor_policy_init(&f->policy, &rules, f->now_us);
}

/* After `wait_us`, a sample with so much memory in use. */
static void at(struct fixture *f, uint64_t wait_us, uint32_t memory_permille)
{
    f->now_us += wait_us;
    f->sample.at_us = f->now_us;
    f->sample.memory_permille = memory_permille;
    f->count =
        monitor_policy_step(&f->policy, &f->sample, &f->load, f->now_us, f->decisions);
}

static uint64_t slots(const struct fixture *f)
{
    return monitor_policy_slots(&f->policy, &f->load);
}

/* The text of the only decision of its kind in this step; "" for none. */
static const char *said(const struct fixture *f, enum monitor_decision_kind kind)
{
    static char text[256];
    text[0] = '\0';
    for (unsigned i = 0; i < f->count; i++) {
        if (f->decisions[i].kind != kind)
            continue;
        assert_int_equal(text[0], 0);
        monitor_decision_text(&f->decisions[i], text, sizeof text);
    }
    return text;
}

#define assert_slots(f, text) assert_string_equal(said(f, MONITOR_DECIDED_SLOTS), text)
#define assert_level(f, text) assert_string_equal(said(f, MONITOR_DECIDED_LEVEL), text)
#define assert_held(f, text)  assert_string_equal(said(f, MONITOR_DECIDED_HOLD), text)
#define assert_sight(f, text) assert_string_equal(said(f, MONITOR_DECIDED_SIGHT), text)

static void four_slots_become_two_then_one_then_two_then_four(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f, 4);
    at(&f, SECOND, 800); /* on the bound is not above it */
    assert_slots(&f, "");
    at(&f, SECOND, 813);
    assert_slots(&f, "slots 4 -> 2: memory 81.3 % > 80 %");
    assert_int_equal(f.policy.target, 2);
    at(&f, SECOND, 813); /* memory takes time to come back */
    assert_slots(&f, "");
    at(&f, 2 * SECOND, 813);
    assert_slots(&f, "slots 2 -> 1: memory 81.3 % > 80 %");
    at(&f, 9 * SECOND, 990);
    assert_slots(&f, ""); /* never none */
    assert_int_equal(slots(&f), 1);

    at(&f, SECOND, 699);
    at(&f, 9 * SECOND, 699);
    assert_slots(&f, "");
    at(&f, SECOND, 699);
    assert_slots(&f, "slots 1 -> 2: memory 69.9 % < 70 % for 10.0 s");
    at(&f, 9 * SECOND, 500);
    assert_slots(&f, "");
    at(&f, SECOND, 500);
    assert_slots(&f, ""); /* the ten seconds begin after the step */
    at(&f, 9 * SECOND, 500);
    assert_slots(&f, "slots 2 -> 4: memory 50 % < 70 % for 10.0 s");
    assert_int_equal(f.policy.target, 0); /* nothing is asked for any more */
    at(&f, 60 * SECOND, 500);
    assert_slots(&f, "");
}

static void between_the_two_bounds_nothing_changes(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f, 4);
    at(&f, SECOND, 900);
    for (int i = 0; i < 100; i++) {
        at(&f, SECOND, i % 2 ? 700 : 800);
        assert_slots(&f, "");
    }
    assert_int_equal(slots(&f), 2);
}

static void one_sample_above_begins_the_hold_anew(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f, 4);
    at(&f, SECOND, 900);
    at(&f, SECOND, 500);
    at(&f, 9 * SECOND, 710);
    at(&f, SECOND, 500);
    at(&f, 9 * SECOND, 500);
    assert_slots(&f, "");
    at(&f, SECOND, 500);
    assert_slots(&f, "slots 2 -> 4: memory 50 % < 70 % for 10.0 s");
}

static void an_odd_number_of_slots_comes_back_to_itself(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f, 5);
    at(&f, SECOND, 900);
    assert_slots(&f, "slots 5 -> 2: memory 90 % > 80 %");
    at(&f, SECOND, 100);
    at(&f, 10 * SECOND, 100);
    assert_int_equal(slots(&f), 4);
    at(&f, SECOND, 100);
    at(&f, 10 * SECOND, 100);
    assert_slots(&f, "slots 4 -> 5: memory 10 % < 70 % for 10.0 s");
}

static void a_flap_doubles_the_hold_up_to_a_bound_and_calm_ends_that(void **state)
{
    (void)state;
    struct fixture f;
    uint64_t hold_s = 10;
    begin(&f, 2);
    at(&f, SECOND, 900);
    for (int flap = 0; flap < 6; flap++) {
        at(&f, SECOND, 500);
        at(&f, (hold_s - 1) * SECOND, 500);
        assert_slots(&f, "");
        at(&f, SECOND, 500);
        assert_int_equal(slots(&f), 2);
        at(&f, 5 * SECOND, 900);
        assert_int_equal(slots(&f), 1);
        hold_s = hold_s < 80 ? hold_s * 2 : 80;
    }
    at(&f, SECOND, 500);
    at(&f, 80 * SECOND, 500);
    assert_int_equal(slots(&f), 2);
    at(&f, 300 * SECOND, 500); /* five times flap_us without a step down */
    at(&f, SECOND, 900);
    at(&f, SECOND, 500);
    at(&f, 10 * SECOND, 500);
    assert_slots(&f, "slots 1 -> 2: memory 50 % < 70 % for 10.0 s");
}

static void cpu_forbids_growth_says_so_once_and_never_shrinking(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f, 4);
    f.sample.cpu_permille = 987;
    at(&f, SECOND, 900);
    assert_slots(&f, "slots 4 -> 2: memory 90 % > 80 %");
    at(&f, SECOND, 500);
    at(&f, 10 * SECOND, 500);
    assert_slots(&f, "");
    assert_held(&f, "slots stay at 2: CPU 98.7 % > 90 %");
    at(&f, SECOND, 500);
    assert_held(&f, "");
    f.sample.cpu_permille = 900; /* on the bound is not above it */
    at(&f, SECOND, 500);
    assert_slots(&f, "slots 2 -> 4: memory 50 % < 70 % for 12.0 s");
}

static void stalls_and_an_unknown_cpu_forbid_growth_too(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f, 4);
    at(&f, SECOND, 900);
    at(&f, SECOND, 500);
    f.sample.stall_known = true;
    f.sample.stall_permille = 125;
    at(&f, 10 * SECOND, 500);
    assert_held(&f, "slots stay at 2: memory stalls 12.5 % > 10 %");

    begin(&f, 4);
    at(&f, SECOND, 900);
    at(&f, SECOND, 500);
    f.sample.cpu_known = false;
    strcpy(f.sample.why_cpu, "stat cannot be read");
    at(&f, 10 * SECOND, 500);
    assert_held(&f, "slots stay at 2: CPU is unknown: stat cannot be read");
    assert_int_equal(slots(&f), 2);
}

static void without_a_service_nothing_is_decided_about_slots(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f, 0);
    at(&f, SECOND, 900);
    assert_slots(&f, "");
    f.load = (struct monitor_load){.known = false, .slots_default = 4};
    at(&f, SECOND, 900);
    assert_slots(&f, "");
    f.load.known = true;
    at(&f, SECOND, 900);
    assert_slots(&f, "slots 4 -> 2: memory 90 % > 80 %");
    f.load.slots_default = 1; /* a worker left: the target asks for nothing */
    assert_int_equal(slots(&f), 1);
}

static void levels_rise_at_once_and_fall_below_their_hysteresis(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f, 4);
    at(&f, SECOND, 600);
    assert_level(&f, "");
    at(&f, SECOND, 601);
    assert_level(&f, "level normal -> soft: memory 60.1 % > 60 %");
    at(&f, SECOND, 900);
    assert_level(&f, "level soft -> critical: memory 90 % > 85 %");
    at(&f, SECOND, 801);
    assert_level(&f, "");
    at(&f, SECOND, 800);
    assert_level(&f, "level critical -> forced: memory 80 % <= 80 %");
    at(&f, SECOND, 690);
    assert_level(&f, "level forced -> soft: memory 69 % <= 70 %");
    at(&f, SECOND, 551);
    assert_level(&f, "");
    at(&f, SECOND, 550);
    assert_level(&f, "level soft -> normal: memory 55 % <= 55 %");
}

static void a_level_does_not_flap_on_its_bound(void **state)
{
    (void)state;
    struct fixture f;
    unsigned changes = 0;
    begin(&f, 4);
    for (uint32_t i = 0; i < 100; i++) {
        at(&f, SECOND, 595 + i % 2 * 10);
        changes += said(&f, MONITOR_DECIDED_LEVEL)[0] != '\0';
    }
    assert_int_equal(changes, 1);
}

static void a_cleanup_is_not_repeated_within_its_cooldown(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f, 1);
    at(&f, SECOND, 760);
    assert_level(&f, "level normal -> forced: memory 76 % > 75 %");
    at(&f, SECOND, 650);
    assert_int_equal(f.policy.level, MONITOR_SOFT);
    at(&f, 100 * SECOND, 760);
    assert_int_equal(f.policy.level, MONITOR_SOFT);
    at(&f, 17 * SECOND, 760); /* 118 s after the cleanup */
    assert_int_equal(f.policy.level, MONITOR_SOFT);
    at(&f, 2 * SECOND, 760);
    assert_level(&f, "level soft -> forced: memory 76 % > 75 %");
    at(&f, SECOND, 650);
    at(&f, SECOND, 860); /* critical waits for nothing */
    assert_level(&f, "level soft -> critical: memory 86 % > 85 %");
}

static void with_many_clients_only_critical_cleans_up(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f, 1);
    f.load.clients = 21;
    at(&f, SECOND, 760);
    assert_level(&f, "level normal -> soft: memory 76 % > 60 %");
    at(&f, SECOND, 860);
    assert_int_equal(f.policy.level, MONITOR_CRITICAL);

    begin(&f, 1);
    f.load.clients = 20;
    at(&f, SECOND, 760);
    assert_int_equal(f.policy.level, MONITOR_FORCED);
}

static void what_is_not_seen_decides_nothing_and_then_leaves_the_default(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f, 4);
    at(&f, SECOND, 900);
    assert_int_equal(f.policy.level, MONITOR_CRITICAL);

    f.sample.memory_known = false;
    strcpy(f.sample.why, "memory.current cannot be read");
    at(&f, 5 * SECOND, 0); /* garbage: would restore, if it were believed */
    assert_int_equal(f.count, 0);
    at(&f, 4 * SECOND, 1000);
    assert_int_equal(f.count, 0);
    assert_int_equal(slots(&f), 2);

    at(&f, SECOND, 0);
    assert_sight(&f, "blind: no memory sample for 10.0 s: memory.current cannot be read");
    assert_slots(&f, "slots 2 -> 4: blind: the default holds");
    assert_level(&f, "level critical -> normal: blind: nothing is known");
    assert_int_equal(f.policy.target, 0);
    at(&f, 50 * SECOND, 0);
    assert_int_equal(f.count, 0); /* said once */

    f.sample.memory_known = true;
    at(&f, SECOND, 500);
    assert_sight(&f, "sees memory again: memory 50 %, after 61.0 s");
    at(&f, SECOND, 900);
    assert_slots(&f, "slots 4 -> 2: memory 90 % > 80 %");
}

static void a_monitor_that_never_saw_anything_says_so(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f, 4);
    f.sample.memory_known = false;
    strcpy(f.sample.why, "meminfo cannot be read");
    at(&f, 9 * SECOND, 0);
    assert_int_equal(f.count, 0);
    at(&f, SECOND, 0);
    assert_int_equal(f.count, 1);
    assert_sight(&f, "blind: no memory sample for 10.0 s: meminfo cannot be read");
}

static void going_blind_without_a_broker_names_the_default_not_a_number(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f, 4);
    at(&f, SECOND, 900);
    f.load.known = false;
    f.sample.memory_known = false;
    at(&f, 10 * SECOND, 0);
    assert_slots(&f, "slots 2 -> default: blind: the default holds");
}

static void rules_that_contradict_each_other_are_refused(void **state)
{
    (void)state;
    const char *name = NULL, *why = NULL;
    struct monitor_rules bad = rules;

    assert_int_equal(monitor_rules_check(&bad, &name, &why), 0);
    bad.restore_permille = 800;
    assert_int_equal(monitor_rules_check(&bad, &name, &why), -EINVAL);
    assert_string_equal(name, "restore_percent");
    bad = rules;
    bad.level_permille[MONITOR_FORCED] = 850;
    assert_int_equal(monitor_rules_check(&bad, &name, &why), -EINVAL);
    bad = rules;
    bad.hysteresis_permille = 600;
    assert_int_equal(monitor_rules_check(&bad, &name, &why), -EINVAL);
    assert_string_equal(name, "hysteresis_percent");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(four_slots_become_two_then_one_then_two_then_four),
        cmocka_unit_test(between_the_two_bounds_nothing_changes),
        cmocka_unit_test(one_sample_above_begins_the_hold_anew),
        cmocka_unit_test(an_odd_number_of_slots_comes_back_to_itself),
        cmocka_unit_test(a_flap_doubles_the_hold_up_to_a_bound_and_calm_ends_that),
        cmocka_unit_test(cpu_forbids_growth_says_so_once_and_never_shrinking),
        cmocka_unit_test(stalls_and_an_unknown_cpu_forbid_growth_too),
        cmocka_unit_test(without_a_service_nothing_is_decided_about_slots),
        cmocka_unit_test(levels_rise_at_once_and_fall_below_their_hysteresis),
        cmocka_unit_test(a_level_does_not_flap_on_its_bound),
        cmocka_unit_test(a_cleanup_is_not_repeated_within_its_cooldown),
        cmocka_unit_test(with_many_clients_only_critical_cleans_up),
        cmocka_unit_test(what_is_not_seen_decides_nothing_and_then_leaves_the_default),
        cmocka_unit_test(a_monitor_that_never_saw_anything_says_so),
        cmocka_unit_test(going_blind_without_a_broker_names_the_default_not_a_number),
        cmocka_unit_test(rules_that_contradict_each_other_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
