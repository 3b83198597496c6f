#include "runtime/browser.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void a_host_that_no_request_can_name_is_wrong(void **state)
{
    static const char *const fine[] = {"",         "*",           "a, b.example.org ,c",
                                       "10.0.0.1", "::1",         "under_score",
                                       "a,,b",     "\t*, a-b.org"};
    static const char *const wrong[] = {"a b",   "http://x/", "x/",    "x:80",
                                        "[::1]", "*.example", "x.",    "a,b c,d",
                                        "é.org", "user@x",    "a, ::x"};
    char why[BROWSER_WHY_BYTES];
    (void)state;

    for (size_t i = 0; i < sizeof fine / sizeof fine[0]; i++)
        assert_false(browser_hosts_wrong(fine[i], why));
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        assert_true(browser_hosts_wrong(wrong[i], why));
    assert_true(browser_hosts_wrong("good, b c,d", why));
    assert_int_equal(strncmp(why, "\"b c\" matches no Host", 20), 0);
}

static void an_origin_that_no_page_can_have_is_wrong(void **state)
{
    static const char *const fine[] = {"",
                                       "*",
                                       "null",
                                       "https://app.example.org, http://localhost:3000",
                                       "http://[::1]:8000",
                                       "chrome-extension://abcdefgh",
                                       "https://x:80",
                                       "http://10.0.0.1"};
    static const char *const wrong[] = {
        "example.org",     "https://",           "://x",          "https://x/",
        "https://x:443",   "http://x:80",        "https://x:",    "https://x:70000",
        "https://x:1x",    "https://a b",        "http://[::1",   "http://[x]",
        "https://*.x.org", "https://u@x",        "http://[::1]x", "https://x.",
        "ht tp://x",       "https://a https://b"};
    char why[BROWSER_WHY_BYTES];
    (void)state;

    for (size_t i = 0; i < sizeof fine / sizeof fine[0]; i++)
        assert_false(browser_origins_wrong(fine[i], why));
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        assert_true(browser_origins_wrong(wrong[i], why));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_host_that_no_request_can_name_is_wrong),
        cmocka_unit_test(an_origin_that_no_page_can_have_is_wrong),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
