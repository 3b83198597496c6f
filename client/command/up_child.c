/*
 * up_child.c - the services of `siftmesh up` as processes: started, known to be ready,
 * reaped, started again.
 *
 * Called from up.c's loop. It never ends a service: that is up_stop.c's.
 */
#include "client/command/up.h"
#include "runtime/process.h"
#include "runtime/service.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

#define RETRY_FIRST_MS 100
#define RETRY_MAX_MS   5000
#define YOUNG_MS       10000 /* a service that lived longer is started again at once */
#define ARGUMENTS_MAX  16

const char *const up_names[UP_SERVICES] = {"broker", "cacher", "extractor", "monitor",
                                           "gateway"};

/* ---- starting ---- */

static void add(char **argv, int *argc, const char *flag, const char *value)
{
    if (value == NULL || *argc + 2 >= ARGUMENTS_MAX)
        return;
    argv[(*argc)++] = (char *)flag;
    argv[(*argc)++] = (char *)value;
}

static void make_arguments(const struct up *up, int index, char **argv)
{
    int argc = 1;

    add(argv, &argc, "--runtime-dir", up->runtime_dir);
    add(argv, &argc, "--config", up->config);
    add(argv, &argc, "--log-level", up->log_level);
    if (index == UP_GATEWAY)
        add(argv, &argc, "--listen", up->listen);
    if (index == UP_MONITOR)
        add(argv, &argc, "--listen", up->monitor_listen);
    if (index == UP_EXTRACTOR)
        add(argv, &argc, "--slots", up->slots);
}

static void make_environment(const struct up_child *child, pid_t parent)
{
    const struct up *up = child->up;
    const struct process_parent told = {
        .pid = parent, .lock_fd = up->lock_fd, .restarts = child->starts};

    /* Not as flags, which every user of the host can read: a URL may have a password. */
    if (child->index == UP_CACHER && up->redis != NULL)
        setenv("SIFTMESH_CACHER_REDIS", up->redis, 1);
    if (child->index == UP_CACHER && up->store != NULL)
        setenv("SIFTMESH_CACHER_STORE", up->store, 1);
    setenv("NOTIFY_SOCKET", up->notify_name, 1);
    process_tell_child(&told);
    /* The mesh's lock is held until the last of its services has ended. */
    if (up->lock_fd >= 0)
        (void)fcntl(up->lock_fd, F_SETFD, 0);
}

/* Short of something that may be there again in a moment. */
static bool is_passing(int error)
{
    return error == EAGAIN || error == ENOMEM || error == EMFILE || error == ENFILE ||
           error == ETXTBSY;
}

static void run_child(const struct up_child *child, pid_t parent)
{
    char path[512], program[64];
    char *argv[ARGUMENTS_MAX] = {path};
    sigset_t none;

    snprintf(program, sizeof program, "siftmesh-%s", up_names[child->index]);
    if (!command_beside(program, path, sizeof path))
        _exit(EX_OSERR);
    make_arguments(child->up, child->index, argv);
    make_environment(child, parent);
    setpgid(0, 0);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent)
        _exit(EX_TEMPFAIL); /* the parent died before prctl */
    execvp(path, argv);
    int error = errno;
    up_complain("cannot run %s: %s", path, strerror(error));
    _exit(is_passing(error) ? EX_TEMPFAIL : EX_UNAVAILABLE);
}

static void on_retry(uv_timer_t *timer)
{
    struct up_child *child = timer->data;
    if (!child->up->stopping)
        up_child_start(child);
}

static void retry_later(struct up_child *child, const char *why)
{
    uint64_t ms = child->retry_ms;

    up_complain("%s %s; again in %" PRIu64 " ms", up_names[child->index], why, ms);
    uv_timer_start(&child->retry, on_retry, ms, 0);
    child->retry_ms = ms * 2 < RETRY_MAX_MS ? ms * 2 : RETRY_MAX_MS;
}

void up_child_init(struct up *up, int index)
{
    struct up_child *child = &up->children[index];

    *child = (struct up_child){.up = up, .index = index, .retry_ms = RETRY_FIRST_MS};
    uv_timer_init(&up->loop, &child->retry);
    child->retry.data = child;
}

void up_child_start(struct up_child *child)
{
    pid_t parent = getpid(), pid = fork();
    char why[120];

    if (pid == 0)
        run_child(child, parent);
    if (pid < 0) {
        snprintf(why, sizeof why, "cannot be started: fork: %s", strerror(errno));
        retry_later(child, why);
        return;
    }
    child->pid = pid;
    child->ready = false;
    child->starts++;
    child->started_ms = up_now_ms();
}

/* ---- ready ---- */

/* A port of 0 was given away by the kernel: a restart must get the same one. `status`
 * ends with it, "listening on http://HOST:PORT". */
static void fix_port(struct up *up, int index, const char *status)
{
    const char **listen = index == UP_GATEWAY ? &up->listen : &up->monitor_listen;
    char *fixed = up->listen_fixed[index == UP_GATEWAY];
    const char *colon = *listen != NULL ? strrchr(*listen, ':') : NULL;
    const char *given = strrchr(status, ':');

    if (colon == NULL || strcmp(colon, ":0") != 0 || given == NULL ||
        atoi(given + 1) <= 0)
        return;
    snprintf(fixed, sizeof up->listen_fixed[0], "%.*s:%d", (int)(colon - *listen),
             *listen, atoi(given + 1));
    *listen = fixed;
}

static void announce(struct up *up)
{
    int ready = 0;

    for (int i = 0; i < UP_SERVICES; i++)
        ready += up->children[i].ready;
    if (up->announced || ready < UP_SERVICES)
        return;
    up->announced = true;
    up_say("mesh ready; Ctrl-C stops it");
    service_notify("READY=1\nSTATUS=all services are ready\n");
}

void up_child_ready(struct up *up, pid_t pid, const char *status)
{
    for (int i = 0; i < UP_SERVICES; i++) {
        struct up_child *child = &up->children[i];
        if (child->pid != pid || child->ready)
            continue;
        child->ready = child->was_ready = true;
        up_say("%-9s ready  pid %-7d %s", up_names[i], (int)pid, status);
        if (i == UP_GATEWAY || i == UP_MONITOR)
            fix_port(up, i, status);
        announce(up);
    }
}

/* ---- deaths ---- */

static void describe_death(int wait_status, char *out, size_t capacity)
{
    if (WIFSIGNALED(wait_status))
        snprintf(out, capacity, "died: signal %d (%s)", WTERMSIG(wait_status),
                 strsignal(WTERMSIG(wait_status)));
    else
        snprintf(out, capacity, "died: exit code %d", WEXITSTATUS(wait_status));
}

static void on_death(struct up_child *child, int wait_status)
{
    struct up *up = child->up;
    int code = WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) : EX_SOFTWARE;
    char how[80];

    child->pid = 0;
    child->ready = false;
    if (up->stopping) {
        up_stop_next(up);
        return;
    }
    describe_death(wait_status, how, sizeof how);
    /* A wrong option does not get better by repeating it; a moment without memory does.
     */
    bool passes = code == EX_TEMPFAIL || WTERMSIG(wait_status) == SIGKILL;
    if (!child->was_ready && !passes) {
        up_complain("%s did not start: %s", up_names[child->index],
                    how + strlen("died: "));
        up->exit_code = code != 0 ? code : EX_SOFTWARE;
        up_stop_begin(up, SIGINT);
        return;
    }
    if (up_now_ms() - child->started_ms > YOUNG_MS)
        child->retry_ms = RETRY_FIRST_MS;
    retry_later(child, how);
}

void up_child_reap(struct up *up)
{
    int wait_status;
    pid_t pid;

    while ((pid = waitpid(-1, &wait_status, WNOHANG)) > 0)
        for (int i = 0; i < UP_SERVICES; i++)
            if (up->children[i].pid == pid) {
                on_death(&up->children[i], wait_status);
                break;
            }
}
