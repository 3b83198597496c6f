#include "monitor/series.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static char *written(struct monitor_series *series)
{
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    monitor_series_write(series, out);
    fclose(out);
    return text;
}

static void lines_of_one_name_stand_together_and_once(void **state)
{
    (void)state;
    struct monitor_series series = {.max = 10};
    monitor_series_add(&series, "b", "i=\"2\"", 1);
    monitor_series_add(&series, "a", "", 0.5);
    monitor_series_add(&series, "b", "i=\"1\"", 12345678901.0);
    monitor_series_add(&series, "b", "i=\"2\"", 9);
    char *text = written(&series);
    assert_string_equal(text, "# TYPE a untyped\na 0.5\n"
                              "# TYPE b untyped\nb{i=\"1\"} 12345678901\nb{i=\"2\"} 1\n");
    free(text);
    monitor_series_free(&series);
    monitor_series_free(&series);
}

static void names_and_labels_of_peers_can_do_no_harm(void **state)
{
    (void)state;
    struct monitor_series series = {.max = 10};
    char labels[MONITOR_SERIES_LABELS_BYTES] = "", huge[600];

    memset(huge, '"', sizeof huge - 1);
    huge[sizeof huge - 1] = '\0';
    monitor_series_label(labels, "x", "a\"} 1\nevil 2\\");
    monitor_series_label(labels, "huge", huge); /* does not fit: left out whole */
    monitor_series_add(&series, "a b{c}\n\xc3\xa4", labels, 1);
    char *text = written(&series);
    assert_string_equal(text, "# TYPE a_b_c____ untyped\n"
                              "a_b_c____{x=\"a\\\"} 1?evil 2\\\\\"} 1\n");
    free(text);
    monitor_series_free(&series);
}

static void labels_that_just_fit_are_whole(void **state)
{
    (void)state;
    for (size_t length = 0; length < 300; length++) {
        char labels[MONITOR_SERIES_LABELS_BYTES] = "k=\"v\"", value[301] = "";
        memset(value, 'y', length);
        monitor_series_label(labels, "z", value);
        size_t got = strlen(labels);
        assert_true(got < MONITOR_SERIES_LABELS_BYTES);
        assert_int_equal(labels[got - 1], '"');
        assert_true(got == 5 || got == 5 + 5 + length);
        assert_true(got != 5 || length > 200);
    }
}

static void what_is_beyond_the_bound_is_counted(void **state)
{
    (void)state;
    struct monitor_series series = {.max = 300};
    for (int i = 0; i < 310; i++)
        monitor_series_add(&series, "a", "", i);
    assert_int_equal(series.count, 300);
    assert_int_equal(series.left_out, 10);
    monitor_series_free(&series);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_of_one_name_stand_together_and_once),
        cmocka_unit_test(names_and_labels_of_peers_can_do_no_harm),
        cmocka_unit_test(labels_that_just_fit_are_whole),
        cmocka_unit_test(what_is_beyond_the_bound_is_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
