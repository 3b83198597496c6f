#include "extractor/pool.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define COUNT 6

/* "I" idle, "B" busy, "S" starting, "E" ending, "." empty, "W" idle and worn, "V" busy
 * and worn; small: leaving. The plan comes back as "=" keep, "+" start, "-" end, "!"
 * leave. */
static void plan(const char *text, unsigned share, const char *want)
{
    struct extractor_pool_slot slots[COUNT];
    enum extractor_pool_verdict verdicts[COUNT];
    char got[COUNT + 1] = {0};

    for (int i = 0; i < COUNT; i++) {
        char c = text[i];
        slots[i].leaving = c >= 'a';
        c = (char)(slots[i].leaving ? c - 'a' + 'A' : c);
        slots[i].worn = c == 'W' || c == 'V';
        slots[i].state = c == 'I' || c == 'W'   ? EXTRACTOR_SLOT_IDLE
                         : c == 'B' || c == 'V' ? EXTRACTOR_SLOT_BUSY
                         : c == 'S'             ? EXTRACTOR_SLOT_STARTING
                         : c == 'E'             ? EXTRACTOR_SLOT_ENDING
                                                : EXTRACTOR_SLOT_EMPTY;
    }
    extractor_pool_plan(slots, COUNT, share, verdicts);
    for (int i = 0; i < COUNT; i++)
        got[i] = "=+-!"[verdicts[i]];
    assert_string_equal(got, want);
}

static void missing_slots_start_at_the_lowest_numbers(void **state)
{
    (void)state;
    plan("......", 3, "+++===");
    plan("I.B...", 4, "=+=+==");
    plan("IISB..", 4, "======");
    plan("......", 0, "======");
}

static void surplus_slots_end_idle_ones_first_and_busy_ones_not_at_all(void **state)
{
    (void)state;
    plan("IIII..", 2, "==--==");
    plan("IBIB..", 2, "-=-===");
    plan("SISI..", 2, "=-=-==");
    plan("SSII..", 1, "=---==");
    plan("BBBB..", 2, "======");
    plan("IIIIII", 0, "------");
}

static void a_leaving_slot_ends_when_it_is_at_rest(void **state)
{
    (void)state;
    plan("iBI...", 3, "-=====");
    plan("bBI...", 3, "======");
    plan("sBI...", 3, "-=====");
}

static void a_leaving_slot_pays_for_a_smaller_share(void **state)
{
    (void)state;
    plan("bII...", 2, "======");
    plan("iIII..", 3, "-=====");
    plan("bIII..", 2, "===-==");
}

static void nothing_starts_before_the_memory_of_ending_ones_is_back(void **state)
{
    (void)state;
    plan("EII...", 3, "======");
    plan("EEE...", 4, "===+==");
    plan(".II...", 3, "+=====");
    plan("EEII..", 1, "===-==");
}

static void a_worn_slot_works_until_its_successor_is_ready(void **state)
{
    (void)state;
    plan("WII...", 3, "===+==");
    plan("VBB...", 3, "===+==");
    plan("WIIS..", 3, "======");
    plan("WIII..", 3, "-=====");
    plan("VIII..", 3, "!=====");
    plan("vIII..", 3, "======");
    plan("W.....", 1, "=+====");
}

static void successors_come_one_at_a_time(void **state)
{
    (void)state;
    plan("WWW...", 3, "===+==");
    plan("WVWS..", 3, "======");
    plan("VWWI..", 3, "=-====");
    plan("EVWI..", 3, "====+=");
    plan("vVWI..", 3, "====+=");
    plan("vvVIII", 4, "======"); /* no number is left: it works on */
}

static void a_worn_slot_is_the_first_to_pay_for_a_smaller_share(void **state)
{
    (void)state;
    plan("WIII..", 2, "-==-==");
    plan("IVII..", 2, "=!=-==");
    plan("WIIS..", 2, "-=-===");
}

static void deaths_in_youth_double_the_delay_up_to_a_bound(void **state)
{
    struct extractor_brake brake = {0};
    uint64_t now = 1000000000, want = EXTRACTOR_BRAKE_FIRST_US;
    (void)state;

    assert_true(extractor_brake_allows(&brake, now));
    for (int i = 0; i < 12; i++) {
        assert_int_equal(extractor_brake_death(&brake, 20000, now), want);
        assert_false(extractor_brake_allows(&brake, now + want - 1));
        now += want;
        assert_true(extractor_brake_allows(&brake, now));
        want = 2 * want < EXTRACTOR_BRAKE_MAX_US ? 2 * want : EXTRACTOR_BRAKE_MAX_US;
    }
    assert_int_equal(want, EXTRACTOR_BRAKE_MAX_US);
}

static void a_death_at_a_good_age_is_replaced_at_once(void **state)
{
    struct extractor_brake brake = {0};
    (void)state;

    assert_int_equal(extractor_brake_death(&brake, EXTRACTOR_BRAKE_YOUNG_US, 7), 0);
    assert_true(extractor_brake_allows(&brake, 7));
}

static void the_brake_forgets_after_a_quiet_minute(void **state)
{
    struct extractor_brake brake = {0};
    uint64_t now = 5;
    (void)state;

    extractor_brake_death(&brake, 0, now);
    extractor_brake_death(&brake, 0, now);
    now += EXTRACTOR_BRAKE_FORGET_US;
    assert_int_equal(extractor_brake_death(&brake, 0, now), 4 * EXTRACTOR_BRAKE_FIRST_US);
    now += EXTRACTOR_BRAKE_FORGET_US + 1;
    assert_int_equal(extractor_brake_death(&brake, 0, now), EXTRACTOR_BRAKE_FIRST_US);
}

static void a_slot_is_worn_at_its_limits_and_zero_is_no_limit(void **state)
{
    const struct extractor_wear limit = {500, 1000, 4096}, none = {0};
    (void)state;

    assert_null(extractor_pool_worn(&(struct extractor_wear){499, 999, 4095}, &limit));
    assert_string_equal(extractor_pool_worn(&(struct extractor_wear){500, 0, 0}, &limit),
                        "jobs");
    assert_string_equal(extractor_pool_worn(&(struct extractor_wear){0, 1000, 0}, &limit),
                        "age");
    assert_string_equal(extractor_pool_worn(&(struct extractor_wear){0, 0, 4096}, &limit),
                        "memory");
    assert_null(extractor_pool_worn(
        &(struct extractor_wear){1u << 30, 1u << 30, 1u << 30}, &none));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(missing_slots_start_at_the_lowest_numbers),
        cmocka_unit_test(surplus_slots_end_idle_ones_first_and_busy_ones_not_at_all),
        cmocka_unit_test(a_leaving_slot_ends_when_it_is_at_rest),
        cmocka_unit_test(a_leaving_slot_pays_for_a_smaller_share),
        cmocka_unit_test(nothing_starts_before_the_memory_of_ending_ones_is_back),
        cmocka_unit_test(a_worn_slot_works_until_its_successor_is_ready),
        cmocka_unit_test(successors_come_one_at_a_time),
        cmocka_unit_test(a_worn_slot_is_the_first_to_pay_for_a_smaller_share),
        cmocka_unit_test(deaths_in_youth_double_the_delay_up_to_a_bound),
        cmocka_unit_test(a_death_at_a_good_age_is_replaced_at_once),
        cmocka_unit_test(the_brake_forgets_after_a_quiet_minute),
        cmocka_unit_test(a_slot_is_worn_at_its_limits_and_zero_is_no_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
