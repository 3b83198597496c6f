#include "runtime/procfile.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void numbers_are_digits_up_to_white_space(void **state)
{
    (void)state;
    uint64_t n = 7;
    const char *end;
    const char *text = "123 456\n";

    assert_int_equal(procfile_number(text, &n, &end), 0);
    assert_int_equal(n, 123);
    assert_ptr_equal(end, text + 3);
    assert_int_equal(procfile_number("9223372036854771712\n", &n, NULL), 0);
    assert_int_equal(n, 9223372036854771712u);
    n = 7;
    static const char *const bad[] = {
        "", " 1", "-1", "+1", "1k", "1.5", "18446744073709551616"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(procfile_number(bad[i], &n, NULL), -EINVAL);
    assert_int_equal(n, 7);
}

static void max_is_a_limit_of_its_own(void **state)
{
    (void)state;
    uint64_t n;
    assert_int_equal(procfile_limit("max\n", &n, NULL), 0);
    assert_true(n == PROCFILE_NO_LIMIT);
    assert_int_equal(procfile_limit("maximum", &n, NULL), -EINVAL);
    assert_int_equal(procfile_limit("42", &n, NULL), 0);
    assert_int_equal(n, 42);
}

static void a_line_is_found_by_its_whole_first_word(void **state)
{
    (void)state;
    static const char text[] = "MemTotalX: 1\nMemTotal:       5 kB\nfile 9\nempty\n";
    uint64_t n;
    assert_int_equal(procfile_line(text, "MemTotal", &n), 0);
    assert_int_equal(n, 5);
    assert_int_equal(procfile_line(text, "file", &n), 0);
    assert_int_equal(n, 9);
    assert_int_equal(procfile_line(text, "ile", &n), -ENOENT);
    assert_int_equal(procfile_line(text, "empty", &n), -ENOENT);
    assert_int_equal(procfile_line("file", "file", &n), -ENOENT);
    assert_int_equal(procfile_line("file \nx 3\n", "file", &n), -EINVAL);
}

static void a_controller_is_found_among_others_of_its_line(void **state)
{
    (void)state;
    static const char text[] =
        "12:cpuset:/c\n4:cpu,cpuacct:/a/b\n3:memory:/\n1:name=systemd:/s\n0::/u/v\n";
    char path[PROCFILE_PATH_BYTES];

    assert_int_equal(procfile_cgroup(text, "cpu", path), 0);
    assert_string_equal(path, "/a/b");
    assert_int_equal(procfile_cgroup(text, "cpuacct", path), 0);
    assert_string_equal(path, "/a/b");
    assert_int_equal(procfile_cgroup(text, "cpuset", path), 0);
    assert_string_equal(path, "/c");
    assert_int_equal(procfile_cgroup(text, "memory", path), 0);
    assert_string_equal(path, "");
    assert_int_equal(procfile_cgroup(text, "", path), 0);
    assert_string_equal(path, "/u/v");
    assert_int_equal(procfile_cgroup(text, "blkio", path), -ENOENT);
    assert_int_equal(procfile_cgroup("nonsense", "cpu", path), -ENOENT);
    assert_int_equal(procfile_cgroup("0::/../x\n", "", path), -EINVAL);
    assert_int_equal(procfile_cgroup("0::x\n", "", path), -EINVAL);
}

static void a_missing_file_and_a_long_path_are_told_apart(void **state)
{
    (void)state;
    char text[PROCFILE_BYTES], name[4 * PROCFILE_PATH_BYTES];

    assert_int_equal(procfile_read(text, "/nowhere/%d", 1), -ENOENT);
    assert_int_equal(procfile_read(text, "/dev/null/x"), -ENOENT);
    memset(name, 'a', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    assert_int_equal(procfile_read(text, "/%s", name), -ENAMETOOLONG);
    /* Longer than the buffer: cut, with a NUL. */
    assert_int_equal(procfile_read(text, "/dev/zero"), PROCFILE_BYTES - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_are_digits_up_to_white_space),
        cmocka_unit_test(max_is_a_limit_of_its_own),
        cmocka_unit_test(a_line_is_found_by_its_whole_first_word),
        cmocka_unit_test(a_controller_is_found_among_others_of_its_line),
        cmocka_unit_test(a_missing_file_and_a_long_path_are_told_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
