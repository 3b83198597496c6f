/* The limit on descriptors, and the reserve that connections leave alone. */
#include "runtime/descriptors.h"
#include "tests/harness/harness.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zmq.h>

#define LIMIT   96u
#define CALLERS 200

static void set_soft(rlim_t soft)
{
    struct rlimit limit;

    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = soft;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

static void the_soft_limit_becomes_the_hard_one(void **state)
{
    struct rlimit limit;

    (void)state;
    set_soft(LIMIT);
    descriptors_raise();
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    assert_true(limit.rlim_cur == limit.rlim_max || limit.rlim_cur == DESCRIPTORS_MAX);
}

/* Connects many times, and stays until it is killed: descriptors of its own. */
static pid_t call_often(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    pid_t pid = fork();

    if (pid != 0)
        return pid;
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* with this process, should libzmq end it */
    strcpy(address.sun_path, path);
    descriptors_raise();
    for (int i = 0; i < CALLERS; i++)
        if (connect(socket(AF_UNIX, SOCK_STREAM, 0), (struct sockaddr *)&address,
                    sizeof address) < 0)
            _exit(1);
    for (;;)
        pause();
}

static void connections_leave_the_reserve_to_others(void **state)
{
    char dir[] = "/tmp/smXXXXXX", path[64], address[80];
    void *zmq = zmq_ctx_new(), *router = zmq_socket(zmq, ZMQ_ROUTER);
    int status;

    (void)state;
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/s", dir);
    snprintf(address, sizeof address, "ipc://%s", path);
    assert_int_equal(zmq_setsockopt(router, ZMQ_BACKLOG, &(int){CALLERS}, sizeof(int)),
                     0);
    assert_int_equal(zmq_bind(router, address), 0);
    set_soft(LIMIT);
    pid_t pid = call_often(path);
    /* libzmq's thread would have ended this process at the first one too many. */
    for (int ms = 0; descriptors_refused() < CALLERS - LIMIT && ms < 10000; ms++)
        usleep(1000);
    assert_true(descriptors_refused() >= CALLERS - LIMIT);
    for (unsigned i = 0; i < DESCRIPTORS_RESERVE / 2; i++)
        assert_true(open("/dev/null", O_RDONLY) >= 0);
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    zmq_close(router);
    zmq_ctx_term(zmq);
    unlink(path);
    rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_soft_limit_becomes_the_hard_one),
        cmocka_unit_test(connections_leave_the_reserve_to_others),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
