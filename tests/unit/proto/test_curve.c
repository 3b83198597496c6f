#include "proto/curve.h"
#include "tests/harness/harness.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Any 40 characters of the alphabet will do: no cryptography here. */
#define KEY_A "0123456789abcdefghijklmnopqrstuvwxyzABCD"
#define KEY_B "EFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{"
#define KEY_C "}@%$#0123456789abcdefghijklmnopqrstuvwxy"

static char dir[32], key_path[64], list_path[64];
static char error[256];

static int set_up(void **state)
{
    (void)state;
    strcpy(dir, "/tmp/curve-XXXXXX");
    assert_non_null(mkdtemp(dir));
    snprintf(key_path, sizeof key_path, "%s/a.key", dir);
    snprintf(list_path, sizeof list_path, "%s/a.pub", dir);
    error[0] = '\0';
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    unlink(key_path);
    unlink(list_path);
    return rmdir(dir);
}

static void write_file(const char *path, const char *text, size_t size, mode_t mode)
{
    unlink(path);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL, mode);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, size), (ssize_t)size);
    close(fd);
}

static int load_pair(const char *text, const char *server, struct proto_curve *out)
{
    write_file(key_path, text, strlen(text), 0600);
    if (server != NULL)
        write_file(list_path, server, strlen(server), 0644);
    return proto_curve_load(key_path, server != NULL ? list_path : "", out, error,
                            sizeof error);
}

static int load_list(const char *text, struct proto_curve_keys *out)
{
    write_file(list_path, text, strlen(text), 0644);
    return proto_curve_keys_load(list_path, out, error, sizeof error);
}

static void a_pair_and_the_brokers_key_are_read(void **state)
{
    struct proto_curve curve;
    (void)state;

    assert_int_equal(load_pair("# me\r\n\npublic " KEY_A "\r\nsecret " KEY_B,
                               "# it\n" KEY_C " broker\n", &curve),
                     0);
    assert_string_equal(curve.public_key.text, KEY_A);
    assert_string_equal(curve.secret_key.text, KEY_B);
    assert_string_equal(curve.server.text, KEY_C);
    assert_int_equal(load_pair("secret " KEY_B "\npublic " KEY_A "\n", NULL, &curve), 0);
    assert_string_equal(curve.server.text, "");
    proto_curve_wipe(&curve);
    assert_string_equal(curve.secret_key.text, "");
}

static void what_is_no_pair_is_refused_with_its_place(void **state)
{
    static const struct {
        const char *text, *complaint;
    } cases[] = {
        {"", "lacks the public or the secret key"},
        {"public " KEY_A "\n", "lacks the public or the secret key"},
        {"secret " KEY_A "\n", "lacks the public or the secret key"},
        {"public " KEY_A "\npublic " KEY_B "\n", "a.key:2: must be one line"},
        {"public " KEY_A "\nsecret " KEY_B "0\n", "a.key:2: must be one line"},
        {"public 1" KEY_A "\nsecret " KEY_B "\n", "a.key:1: must be one line"},
        {"public short\nsecret " KEY_B "\n", "a.key:1: must be one line"},
        {KEY_A " me\n", "a.key:1: must be one line"},
        {"public\t" KEY_A "\nsecret " KEY_B "\n", "a.key:1: must be one line"},
    };
    struct proto_curve curve = {.server = {"untouched"}};
    (void)state;

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(load_pair(cases[i].text, NULL, &curve), -EINVAL);
        assert_non_null(strstr(error, cases[i].complaint));
        assert_string_equal(curve.server.text, "untouched");
    }
}

static void a_secret_that_others_may_read_is_refused(void **state)
{
    static const mode_t modes[] = {0640, 0604, 0660, 0622};
    const char *text = "public " KEY_A "\nsecret " KEY_B "\n";
    struct proto_curve curve;
    (void)state;

    for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++) {
        write_file(key_path, text, strlen(text), 0600);
        assert_int_equal(chmod(key_path, modes[i]), 0);
        assert_int_equal(proto_curve_load(key_path, NULL, &curve, error, sizeof error),
                         -EPERM);
        assert_non_null(strstr(error, "chmod 600"));
    }
    assert_int_equal(proto_curve_load(dir, NULL, &curve, error, sizeof error), -EINVAL);
    assert_int_equal(mkfifo(list_path, 0600), 0); /* must not be waited for */
    assert_int_equal(proto_curve_load(list_path, NULL, &curve, error, sizeof error),
                     -EINVAL);
    assert_int_equal(proto_curve_load("/none/k", NULL, &curve, error, sizeof error),
                     -ENOENT);
    assert_string_equal(error, "/none/k: No such file or directory");
}

static void the_brokers_key_is_exactly_one(void **state)
{
    const char *pair = "public " KEY_A "\nsecret " KEY_B "\n";
    struct proto_curve curve;
    (void)state;

    assert_int_equal(load_pair(pair, "# none\n", &curve), -EINVAL);
    assert_non_null(strstr(error, "a.pub: holds no public key"));
    assert_int_equal(load_pair(pair, KEY_A "\n" KEY_B "\n", &curve), -EFBIG);
    assert_non_null(strstr(error, "a.pub:2: one public key is enough"));
    assert_int_equal(load_pair(pair, pair, &curve), -EINVAL);
}

static bool has(const struct proto_curve_keys *keys, const char *text)
{
    struct proto_curve_key key;
    snprintf(key.text, sizeof key.text, "%s", text);
    return proto_curve_keys_has(keys, &key);
}

static void a_list_has_keys_and_comments(void **state)
{
    struct proto_curve_keys keys = {0};
    (void)state;

    assert_false(has(&keys, KEY_A));
    assert_int_equal(
        load_list(KEY_C "\tlast\n  " KEY_A " a host # 1\n#" KEY_B "\n", &keys), 0);
    assert_int_equal(keys.count, 2);
    assert_true(has(&keys, KEY_A));
    assert_true(has(&keys, KEY_C));
    assert_false(has(&keys, KEY_B));
    /* What is wrong leaves the list as it was. */
    assert_int_equal(load_list(KEY_B "\n" KEY_A "x\n", &keys), -EINVAL);
    assert_non_null(strstr(error, "a.pub:2: must begin with a public key"));
    assert_int_equal(load_list("nonsense", &keys), -EINVAL);
    assert_true(has(&keys, KEY_A));
    assert_int_equal(load_list("", &keys), 0);
    assert_int_equal(keys.count, 0);
    proto_curve_keys_free(&keys);
    proto_curve_keys_free(&keys);
}

static void lists_and_files_are_bounded(void **state)
{
    static char text[PROTO_CURVE_FILE_BYTES_MAX + 2];
    struct proto_curve_keys keys = {0};
    size_t used = 0;
    (void)state;

    for (int i = 0; i <= PROTO_CURVE_KEYS_MAX; i++)
        used += (size_t)sprintf(text + used, KEY_A "\n");
    write_file(list_path, text, used, 0644);
    assert_int_equal(proto_curve_keys_load(list_path, &keys, error, sizeof error),
                     -EFBIG);
    assert_non_null(strstr(error, ":4097: more than 4096 keys"));
    write_file(list_path, text, used - 41, 0644);
    assert_int_equal(proto_curve_keys_load(list_path, &keys, error, sizeof error), 0);
    assert_int_equal(keys.count, PROTO_CURVE_KEYS_MAX);
    write_file(list_path, text, sizeof text, 0644);
    assert_int_equal(proto_curve_keys_load(list_path, &keys, error, sizeof error),
                     -EFBIG);
    assert_int_equal(keys.count, PROTO_CURVE_KEYS_MAX);
    proto_curve_keys_free(&keys);
}

static void only_what_stays_on_this_host_goes_without(void **state)
{
    static const char *const here[] = {"ipc:///run/x.sock",    "inproc://x",
                                       "tcp://127.0.0.1:5555", "tcp://127.9.9.9:*",
                                       "tcp://localhost:1",    "tcp://[::1]:5555"};
    static const char *const away[] = {"tcp://0.0.0.0:5555",
                                       "tcp://*:5555",
                                       "tcp://[::]:5555",
                                       "tcp://10.0.0.1:5555",
                                       "tcp://host:5555",
                                       "tcp://localhost.example:5555",
                                       "tcp://127.0.0.1",
                                       "tcp://127.1:5555",
                                       "tcp://[::ffff:127.0.0.1]:5555",
                                       "tcp://eth0:5555",
                                       "tcp://127.0.0.1x:5555",
                                       "udp://127.0.0.1:5555",
                                       "tipc://{1,0,0}",
                                       "pgm://eth0;239.0.0.1:1",
                                       "tcp://127.0.0.1:0;10.0.0.1:5555",
                                       "tcp://",
                                       "",
                                       "rubbish"};
    (void)state;

    for (size_t i = 0; i < sizeof here / sizeof here[0]; i++)
        assert_false(proto_curve_required(here[i]));
    for (size_t i = 0; i < sizeof away / sizeof away[0]; i++)
        assert_true(proto_curve_required(away[i]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_pair_and_the_brokers_key_are_read, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(what_is_no_pair_is_refused_with_its_place, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_secret_that_others_may_read_is_refused, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(the_brokers_key_is_exactly_one, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_list_has_keys_and_comments, set_up, tear_down),
        cmocka_unit_test_setup_teardown(lists_and_files_are_bounded, set_up, tear_down),
        cmocka_unit_test(only_what_stays_on_this_host_goes_without),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
