/*
 * Which owners and modes of files with secrets, and of lists that decide, are taken.
 */
#include "proto/secret.h"
#include "tests/harness/harness.h"

static struct stat file_of(uid_t user, mode_t mode)
{
    return (struct stat){.st_uid = user, .st_mode = S_IFREG | mode};
}

static void a_secret_is_readable_by_its_owner_alone(void **state)
{
    static const struct {
        uid_t owner, user;
        mode_t mode;
        bool ok;
    } cases[] = {{7, 7, 0600, true},  {7, 7, 0400, true},  {7, 7, 0640, false},
                 {7, 7, 0604, false}, {0, 7, 0440, true},  {0, 7, 0444, false},
                 {0, 7, 0660, false}, {0, 0, 0640, false}, {8, 7, 0600, false},
                 {8, 0, 0600, true}};

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct stat file = file_of(cases[i].owner, cases[i].mode);
        assert_int_equal(proto_secret_wrong(&file, cases[i].user) == NULL, cases[i].ok);
    }
}

static void what_decides_is_written_by_its_owner_alone(void **state)
{
    static const struct {
        uid_t owner;
        mode_t mode;
        bool ok;
    } cases[] = {{7, 0644, true},  {0, 0444, true},  {7, 0664, false},
                 {7, 0646, false}, {0, 0666, false}, {8, 0644, false}};

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct stat file = file_of(cases[i].owner, cases[i].mode);
        assert_int_equal(proto_trusted_wrong(&file, 7) == NULL, cases[i].ok);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_secret_is_readable_by_its_owner_alone),
        cmocka_unit_test(what_decides_is_written_by_its_owner_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
