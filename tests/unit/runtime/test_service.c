/*
 * The skeleton from outside: a child runs service_main, the test signals it and looks at
 * its exit code, its readiness and what it printed.
 */
#include "runtime/service.h"
#include "tests/harness/harness.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

#define DEADLINE_MS 10000

struct played_options {
    uint64_t start_error, hold;
};

static const struct option_spec specs[] = {
    {"start_error", OPTION_INT, "errno", "Error of start().", 0, 0, 200, NULL,
     offsetof(struct played_options, start_error), NULL},
    {"hold", OPTION_INT, "drains", "Calls of drain() before it ends.", 1, 1, 2, NULL,
     offsetof(struct played_options, hold), NULL},
    {0}};

static int start(struct service *service)
{
    const struct played_options *options = service_options(service);
    if (options->start_error != 0)
        return -(int)options->start_error;
    service_ready(service, "playing on %s", service_endpoint(service, "front"));
    return 0;
}

static void drain(struct service *service, bool hurry)
{
    const struct played_options *options = service_options(service);
    if (options->hold == 1 || hurry)
        service_stop(service, 0);
}

static void stop(struct service *service)
{
    (void)service;
}

static const struct service_spec spec = {.name = "played",
                                         .summary = "A test.",
                                         .options = specs,
                                         .options_bytes = sizeof(struct played_options),
                                         .start = start,
                                         .drain = drain,
                                         .stop = stop};

static char dir[32];
static int notify_fd;

static int set_up(void **state)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    (void)state;

    strcpy(dir, "/tmp/service-XXXXXX");
    assert_non_null(mkdtemp(dir));
    notify_fd = socket(AF_UNIX, SOCK_DGRAM, 0);
    snprintf(address.sun_path, sizeof address.sun_path, "%s/notify", dir);
    assert_int_equal(bind(notify_fd, (struct sockaddr *)&address, sizeof address), 0);
    setenv("NOTIFY_SOCKET", address.sun_path, 1);
    return 0;
}

static int tear_down(void **state)
{
    char path[64];
    (void)state;
    close(notify_fd);
    snprintf(path, sizeof path, "%s/notify", dir);
    unlink(path);
    snprintf(path, sizeof path, "%s/run", dir);
    rmdir(path);
    return rmdir(dir);
}

/* A child with its output in `out`. */
static pid_t launch(int *out, const char *const words[])
{
    const char *argv[12] = {"played"};
    int pipe_fds[2], argc = 1;

    while (*words != NULL)
        argv[argc++] = *words++;
    assert_int_equal(pipe(pipe_fds), 0);
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        dup2(pipe_fds[1], STDOUT_FILENO);
        dup2(pipe_fds[1], STDERR_FILENO);
        close(pipe_fds[0]);
        close(pipe_fds[1]);
        exit(service_main(&spec, argc, (char **)argv));
    }
    close(pipe_fds[1]);
    *out = pipe_fds[0];
    return pid;
}

static int finish(pid_t pid, int out, char *text, size_t capacity)
{
    size_t used = 0;
    ssize_t n;
    int wait_status;

    while (used + 1 < capacity && (n = read(out, text + used, capacity - 1 - used)) > 0)
        used += (size_t)n;
    text[used] = '\0';
    close(out);
    assert_int_equal(waitpid(pid, &wait_status, 0), pid);
    assert_true(WIFEXITED(wait_status));
    return WEXITSTATUS(wait_status);
}

static int run(char *text, size_t capacity, const char *const words[])
{
    int out;
    pid_t pid = launch(&out, words);
    return finish(pid, out, text, capacity);
}

static void await_notify(const char *word)
{
    char text[512];
    for (;;) {
        struct pollfd item = {.fd = notify_fd, .events = POLLIN};
        assert_int_equal(poll(&item, 1, DEADLINE_MS), 1);
        ssize_t n = recv(notify_fd, text, sizeof text - 1, 0);
        assert_true(n > 0);
        text[n] = '\0';
        if (strstr(text, word) != NULL)
            return;
    }
}

static char text[16384];

static void help_version_and_wrong_words_have_their_exit_codes(void **state)
{
    (void)state;
    assert_int_equal(run(text, sizeof text, (const char *[]){"--help", NULL}), EX_OK);
    assert_non_null(strstr(text, "--start-error"));
    assert_non_null(strstr(text, "--runtime-dir"));
    assert_int_equal(run(text, sizeof text, (const char *[]){"--version", NULL}), EX_OK);
    assert_non_null(strstr(text, SIFTMESH_VERSION));
    assert_int_equal(run(text, sizeof text, (const char *[]){"--nonsense", NULL}),
                     EX_USAGE);
    assert_non_null(strstr(text, "--nonsense"));
    assert_int_equal(run(text, sizeof text, (const char *[]){"--hold", "3", NULL}),
                     EX_USAGE);
    assert_non_null(strstr(text, "hold is 3, must be 1 to 2 drains"));
}

static void an_error_of_start_becomes_the_exit_code(void **state)
{
    static const struct {
        int err, code;
    } rows[] = {{EADDRINUSE, EX_UNAVAILABLE},
                {EACCES, EX_NOPERM},
                {ENOMEM, EX_OSERR},
                {EIO, EX_SOFTWARE}};
    char number[8], run_dir[64];
    (void)state;

    snprintf(run_dir, sizeof run_dir, "%s/run", dir);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        snprintf(number, sizeof number, "%d", rows[i].err);
        assert_int_equal(run(text, sizeof text,
                             (const char *[]){"--runtime-dir", run_dir, "--start-error",
                                              number, NULL}),
                         rows[i].code);
    }
}

static void sigterm_drains_and_a_second_one_hurries(void **state)
{
    char run_dir[64];
    int out;
    (void)state;

    snprintf(run_dir, sizeof run_dir, "%s/run", dir);
    pid_t pid = launch(&out, (const char *[]){"--runtime-dir", run_dir, NULL});
    await_notify("READY=1");
    kill(pid, SIGTERM);
    await_notify("STOPPING=1");
    assert_int_equal(finish(pid, out, text, sizeof text), EX_OK);

    pid = launch(&out, (const char *[]){"--runtime-dir", run_dir, "--hold", "2", NULL});
    await_notify("READY=1");
    kill(pid, SIGTERM);
    await_notify("STOPPING=1"); /* it holds on to its work */
    kill(pid, SIGTERM);
    assert_int_equal(finish(pid, out, text, sizeof text), EX_OK);
    assert_non_null(strstr(text, "hurrying"));
}

static void drain_timeout_hurries_by_itself(void **state)
{
    char run_dir[64];
    int out;
    (void)state;

    snprintf(run_dir, sizeof run_dir, "%s/run", dir);
    pid_t pid = launch(&out, (const char *[]){"--runtime-dir", run_dir, "--hold", "2",
                                              "--drain-timeout-ms", "100", NULL});
    await_notify("READY=1");
    kill(pid, SIGINT);
    assert_int_equal(finish(pid, out, text, sizeof text), EX_OK);
    assert_non_null(strstr(text, "hurrying"));
}

static void a_runtime_folder_that_others_can_enter_is_refused(void **state)
{
    char run_dir[64];
    (void)state;

    snprintf(run_dir, sizeof run_dir, "%s/run", dir);
    assert_int_equal(mkdir(run_dir, 0700), 0);
    assert_int_equal(chmod(run_dir, 0755), 0);
    assert_int_equal(
        run(text, sizeof text, (const char *[]){"--runtime-dir", run_dir, NULL}),
        EX_NOPERM);
    assert_non_null(strstr(text, "0700"));
}

static void a_path_too_long_for_a_socket_is_a_clear_error(void **state)
{
    char long_front[200];
    char run_dir[64];
    (void)state;

    snprintf(run_dir, sizeof run_dir, "%s/run", dir);
    snprintf(long_front, sizeof long_front, "ipc://%s/%0130d", dir, 7);
    assert_int_equal(
        run(text, sizeof text,
            (const char *[]){"--runtime-dir", run_dir, "--front", long_front, NULL}),
        EX_CONFIG);
    assert_non_null(strstr(text, "limit"));
}

static void show_config_tells_where_a_value_comes_from(void **state)
{
    (void)state;
    setenv("SIFTMESH_PLAYED_HOLD", "2", 1);
    assert_int_equal(run(text, sizeof text,
                         (const char *[]){"--show-config", "--start-error=7", NULL}),
                     EX_OK);
    unsetenv("SIFTMESH_PLAYED_HOLD");
    assert_non_null(strstr(text, "start_error = 7   # flag"));
    assert_non_null(strstr(text, "hold = 2   # environment"));
    assert_non_null(strstr(text, "log_level = info   # default"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(
            help_version_and_wrong_words_have_their_exit_codes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_error_of_start_becomes_the_exit_code, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(sigterm_drains_and_a_second_one_hurries, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(drain_timeout_hurries_by_itself, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_runtime_folder_that_others_can_enter_is_refused,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_path_too_long_for_a_socket_is_a_clear_error,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(show_config_tells_where_a_value_comes_from,
                                        set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
