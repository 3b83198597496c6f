#include "proto/purge.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void one_kind_or_none_is_a_purge(void **state)
{
    (void)state;
    struct proto_purge key = {.key_bytes = 32}, all = {0}, older = {.older_s = 1};
    struct proto_purge prefix = {.prefix = "09af"}, tag = {.tag = "album-7"};

    assert_null(proto_purge_check(&all));
    assert_null(proto_purge_check(&key));
    assert_null(proto_purge_check(&older));
    assert_null(proto_purge_check(&prefix));
    assert_null(proto_purge_check(&tag));
}

static void two_kinds_are_refused(void **state)
{
    (void)state;
    struct proto_purge purge = {.key_bytes = 32, .older_s = 1};

    assert_non_null(proto_purge_check(&purge));
    purge = (struct proto_purge){.tag = "a", .prefix = "0"};
    assert_non_null(proto_purge_check(&purge));
}

static void a_malformed_kind_is_refused(void **state)
{
    (void)state;
    struct proto_purge key = {.key_bytes = 31}, upper = {.prefix = "0A"};
    struct proto_purge two = {.tag = "a,b"}, blank = {.tag = "a b"};

    assert_non_null(proto_purge_check(&key));
    assert_non_null(proto_purge_check(&upper));
    assert_non_null(proto_purge_check(&two));
    assert_non_null(proto_purge_check(&blank));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_kind_or_none_is_a_purge),
        cmocka_unit_test(two_kinds_are_refused),
        cmocka_unit_test(a_malformed_kind_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
