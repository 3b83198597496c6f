#include "cacher/redis/redis.h"
#include "cacher/redis/url.h"

#include "tests/harness/harness.h"

#include <string.h>

static void what_is_left_out_has_its_default(void **state)
{
    (void)state;
    struct redis_url url;

    assert_null(redis_url_parse("redis://cache.local", &url));
    assert_string_equal(url.host, "cache.local");
    assert_int_equal(url.port, 6379);
    assert_int_equal(url.db, 0);
    assert_string_equal(url.user, "");
    assert_string_equal(url.password, "");
    assert_false(url.local);
    assert_null(redis_url_parse("redis://127.0.0.1/", &url));
    assert_int_equal(url.db, 0);
}

static void all_of_it_is_read(void **state)
{
    (void)state;
    struct redis_url url;

    assert_null(redis_url_parse("redis://ann:a%40b%3ac%2F@10.0.0.7:7000/15", &url));
    assert_string_equal(url.host, "10.0.0.7");
    assert_int_equal(url.port, 7000);
    assert_int_equal(url.db, 15);
    assert_string_equal(url.user, "ann");
    assert_string_equal(url.password, "a@b:c/");
    /* An @ that was not encoded still belongs to the password: the last one ends it. */
    assert_null(redis_url_parse("redis://:p@ss@h", &url));
    assert_string_equal(url.user, "");
    assert_string_equal(url.password, "p@ss");
    assert_string_equal(url.host, "h");
}

static void ipv6_addresses_stand_in_brackets(void **state)
{
    (void)state;
    struct redis_url url;

    assert_null(redis_url_parse("redis://[::1]", &url));
    assert_string_equal(url.host, "::1");
    assert_int_equal(url.port, 6379);
    assert_null(redis_url_parse("redis://[fe80::1%eth0]:1/2", &url));
    assert_string_equal(url.host, "fe80::1%eth0");
    assert_int_equal(url.port, 1);
    assert_int_equal(url.db, 2);
}

static void unix_sockets_are_paths(void **state)
{
    (void)state;
    struct redis_url url;

    assert_null(redis_url_parse("unix:///run/redis.sock?db=3", &url));
    assert_true(url.local);
    assert_string_equal(url.host, "/run/redis.sock");
    assert_int_equal(url.db, 3);
}

static void what_is_not_understood_is_refused_and_nothing_written(void **state)
{
    (void)state;
    static const char *const wrong[] = {
        "",
        "redis",
        "http://h",
        "rediss://h",
        "redis://",
        "redis://:6379",
        "redis://h:",
        "redis://h:0",
        "redis://h:65536",
        "redis://h:6379x",
        "redis://h: 6379",
        "redis://h:-1",
        "redis://h/x",
        "redis://h/-1",
        "redis://h/0/1",
        "redis://h/65536",
        "redis://h/4294967296",
        "redis://h/1?timeout=5",
        "redis://h?db=1",
        "redis://h#1",
        "redis://h h",
        "redis://h\n",
        "redis://h1,h2",
        "redis://secret@h",
        "redis://user:@h",
        "redis://:@h",
        "redis://:%zz@h",
        "redis://:%4@h",
        "redis://:%00@h",
        "redis://[::1",
        "redis://[::1]x",
        "redis://::1",
        "redis://[]",
        "redis://[::1 ]",
        "unix://run/redis.sock",
        "unix:///run/redis.sock?x=1",
        "unix:///run/redis.sock?db=",
        "unix:///run/re dis.sock",
    };

    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct redis_url url = {.port = 1};
        const char *why = redis_url_parse(wrong[i], &url);
        if (why == NULL)
            fail_msg("taken: %s", wrong[i]);
        assert_int_equal(url.port, 1);
        assert_null(strstr(why, "secret"));
        assert_ptr_equal(cacher_redis_url_check(wrong[i]), why);
    }
}

static void what_is_too_long_is_refused(void **state)
{
    (void)state;
    char text[1024];
    struct redis_url url;

    for (unsigned bytes = 1; bytes < 400; bytes++) {
        snprintf(text, sizeof text, "redis://:%0*d@h", (int)bytes, 1);
        assert_true((redis_url_parse(text, &url) == NULL) == (bytes < 256));
        snprintf(text, sizeof text, "redis://%0*d", (int)bytes, 1);
        assert_true((redis_url_parse(text, &url) == NULL) == (bytes < 128));
        snprintf(text, sizeof text, "unix:///%0*d", (int)bytes, 1);
        assert_true((redis_url_parse(text, &url) == NULL) == (bytes < 107));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_left_out_has_its_default),
        cmocka_unit_test(all_of_it_is_read),
        cmocka_unit_test(ipv6_addresses_stand_in_brackets),
        cmocka_unit_test(unix_sockets_are_paths),
        cmocka_unit_test(what_is_not_understood_is_refused_and_nothing_written),
        cmocka_unit_test(what_is_too_long_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
