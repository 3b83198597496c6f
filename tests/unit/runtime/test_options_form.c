/*
 * Forms of text options: what fits them, and how they are told.
 */
#include "runtime/options_form.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void a_url_begins_with_one_of_its_schemes(void **state)
{
    const char *form = "redis://...|unix://...";
    (void)state;
    assert_true(options_form_fits(form, "redis://h"));
    assert_true(options_form_fits(form, "unix:///path"));
    assert_false(options_form_fits(form, "http://h"));
    assert_false(options_form_fits(form, "redis:/h"));
    assert_false(options_form_fits(form, "redis://...x" + 1));
}

static void a_word_is_one_of_them(void **state)
{
    const char *form = "auto|logfmt|json";
    char text[64];
    (void)state;
    assert_true(options_form_fits(form, "json"));
    assert_false(options_form_fits(form, "jso"));
    assert_false(options_form_fits(form, "auto|logfmt"));
    assert_string_equal(options_form_text(form, text, sizeof text),
                        "auto, logfmt or json");
    assert_string_equal(options_form_text("a|b", text, sizeof text), "a or b");
    assert_true(options_form_is_address("HOST:PORT"));
    assert_string_equal(options_form_text("HOST:PORT", text, sizeof text), "HOST:PORT");
}

static void a_file_is_any_path(void **state)
{
    (void)state;
    assert_true(options_form_fits("FILE", "/none"));
    assert_true(options_form_is_file("FILE"));
    assert_false(options_form_is_file("auto"));
    assert_false(options_form_is_file(NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_url_begins_with_one_of_its_schemes),
        cmocka_unit_test(a_word_is_one_of_them),
        cmocka_unit_test(a_file_is_any_path),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
