/*
 * HOST:PORT as people write it, and the sentences where it is wrong.
 */
#include "runtime/http_listen.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static void hosts_and_ports_are_told_apart(void **state)
{
    static const struct {
        const char *text, *host;
        uint16_t port;
    } good[] = {{"127.0.0.1:8080", "127.0.0.1", 8080},
                {"0.0.0.0:0", "0.0.0.0", 0},
                {":8080", "0.0.0.0", 8080},
                {"[::1]:65535", "::1", 65535},
                {"localhost:1", "127.0.0.1", 1}};
    struct http_listen at;
    (void)state;

    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_null(http_listen_parse(good[i].text, &at));
        assert_string_equal(at.host, good[i].host);
        assert_int_equal(at.port, good[i].port);
    }
}

static void what_is_no_address_says_why(void **state)
{
    static const struct {
        const char *text, *why;
    } bad[] = {{"", "HOST:PORT"},
               {"8080", "HOST:PORT"},
               {"127.0.0.1", "HOST:PORT"},
               {"127.0.0.1:", "HOST:PORT"},
               {"127.0.0.1:-1", "HOST:PORT"},
               {"127.0.0.1:+1", "HOST:PORT"},
               {"127.0.0.1:80x", "HOST:PORT"},
               {"127.0.0.1:65536", "65535"},
               {"127.0.0.1:99999999999999999999", "65535"},
               {"::1:80", "[ADDRESS]:PORT"},
               {"[::1:80", "[ADDRESS]:PORT"},
               {"[]:80", "brackets"},
               {"[127.0.0.1]:80", "brackets"}};
    struct http_listen at;
    (void)state;

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        const char *why = http_listen_parse(bad[i].text, &at);
        assert_non_null(why);
        assert_non_null(strstr(why, bad[i].why));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(hosts_and_ports_are_told_apart),
                                       cmocka_unit_test(what_is_no_address_says_why)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
