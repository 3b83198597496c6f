#include "cacher/tier/ttl.h"

#include "tests/harness/harness.h"

#include <string.h>

static void the_time_to_live_stays_in_its_span_and_uses_all_of_it(void **state)
{
    (void)state;
    uint8_t key[PROTO_DIGEST_BYTES] = {0};
    const uint64_t ttl = 3600000000u;
    uint64_t least = UINT64_MAX, most = 0;

    for (unsigned i = 0; i < 256; i++) {
        key[3] = (uint8_t)i; /* the top byte of the share */
        uint64_t got = cacher_ttl_us(key, ttl, 10);
        least = got < least ? got : least;
        most = got > most ? got : most;
    }
    assert_true(least >= ttl / 10 * 9 && most <= ttl / 10 * 11);
    assert_true(most - least > ttl / 10 * 19 / 10);
    assert_int_equal(cacher_ttl_us(key, ttl, 0), ttl);
    /* The largest that the options allow. */
    memset(key, 0xff, sizeof key);
    assert_in_range(cacher_ttl_us(key, 2592000000000u, 50), 2592000000000u,
                    2592000000000u / 2 * 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_time_to_live_stays_in_its_span_and_uses_all_of_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
