#include "cacher/redis/slot.h"

#include "tests/harness/harness.h"

#include <string.h>

static unsigned slot(const char *key)
{
    return redis_slot(key, strlen(key));
}

static void the_checksum_is_the_one_of_the_specification(void **state)
{
    (void)state;
    assert_int_equal(redis_slot_crc16("123456789", 9), 0x31c3);
    assert_int_equal(redis_slot_crc16("", 0), 0);
}

/* As `redis-cli cluster keyslot` says of 7.0. */
static void slots_are_those_that_redis_says(void **state)
{
    (void)state;
    assert_int_equal(slot("foo"), 12182);
    assert_int_equal(slot("somekey"), 11058);
    assert_int_equal(slot("foo{hash_tag}"), 2515);
    assert_int_equal(slot("bar{hash_tag}"), 2515);
}

static void only_the_first_braces_with_something_between_them_count(void **state)
{
    (void)state;
    assert_int_equal(slot("{user1000}.following"), slot("{user1000}.followers"));
    assert_int_equal(slot("foo{{bar}}zap"), slot("{bar"));
    assert_int_equal(slot("foo{bar}{zap}"), slot("bar"));
    assert_int_equal(slot("foo{}{bar}"), redis_slot_crc16("foo{}{bar}", 10) % 16384);
    assert_int_equal(slot("foo{bar"), redis_slot_crc16("foo{bar", 7) % 16384);
    assert_int_equal(slot("}foo{"), redis_slot_crc16("}foo{", 5) % 16384);
    assert_int_equal(redis_slot("", 0), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_checksum_is_the_one_of_the_specification),
        cmocka_unit_test(slots_are_those_that_redis_says),
        cmocka_unit_test(only_the_first_braces_with_something_between_them_count),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
