/*
 * up.c - `siftmesh up`: the whole mesh in the foreground, for one host.
 *
 * Starts the five services as children in a process group each, so that Ctrl-C reaches
 * only this program, which then ends them in the order that loses nothing: the gateway
 * first, while what it waits for still runs, and the broker last. A service that dies is
 * started again, later each time it dies young. A service that never became ready ends
 * the whole, with its exit code: a wrong option does not get better by repeating it.
 */
#include "client/command/command.h"
#include "runtime/service.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>
#include <uv.h>

#define RESTART_FIRST_MS 100
#define RESTART_MAX_MS   5000
#define YOUNG_MS         10000 /* a service that lived longer restarts at once */
#define STOP_TIMEOUT_MS  35000 /* for one service, beyond its own drain_timeout */
#define ARGUMENTS_MAX    16

/* In the order of starting; ended from the last to the first. */
static const char *const names[] = {"broker", "cacher", "extractor", "monitor",
                                    "gateway"};
enum { SERVICES = 5, BROKER = 0, CACHER, EXTRACTOR, MONITOR, GATEWAY };

struct child {
    pid_t pid; /* 0: not running */
    bool ready, was_ready;
    uint64_t started_ms, restart_ms;
    uv_timer_t restart;
    struct up *up;
    int index;
};

struct up {
    uv_loop_t loop;
    uv_signal_t sigchld, sigterm, sigint;
    uv_poll_t notify;
    uv_timer_t stop_timeout;
    int notify_fd;
    char notify_name[COMMAND_NOTIFY_BYTES];
    struct child children[SERVICES];
    const char *listen, *monitor_listen, *slots, *config, *log_level, *redis, *store;
    char store_url[400];
    char runtime_dir[256], listen_fixed[2][300];
    bool stopping, hurried, announced;
    int exit_code;
};

/* ---- starting ---- */

static void add(char **argv, int *argc, const char *flag, const char *value)
{
    if (value == NULL || *argc + 2 >= ARGUMENTS_MAX)
        return;
    argv[(*argc)++] = (char *)flag;
    argv[(*argc)++] = (char *)value;
}

static void run_child(const struct up *up, int index, pid_t parent)
{
    char path[512], program[64];
    char *argv[ARGUMENTS_MAX] = {path};
    int argc = 1;
    sigset_t none;

    snprintf(program, sizeof program, "siftmesh-%s", names[index]);
    if (!command_beside(program, path, sizeof path))
        _exit(EX_OSERR);
    add(argv, &argc, "--runtime-dir", up->runtime_dir);
    add(argv, &argc, "--config", up->config);
    add(argv, &argc, "--log-level", up->log_level);
    if (index == GATEWAY)
        add(argv, &argc, "--listen", up->listen);
    if (index == MONITOR)
        add(argv, &argc, "--listen", up->monitor_listen);
    if (index == EXTRACTOR)
        add(argv, &argc, "--slots", up->slots);

    /* Not as flags, which every user of the host can read: a URL may have a password. */
    if (index == CACHER && up->redis != NULL)
        setenv("SIFTMESH_CACHER_REDIS", up->redis, 1);
    if (index == CACHER && up->store != NULL)
        setenv("SIFTMESH_CACHER_STORE", up->store, 1);

    setenv("NOTIFY_SOCKET", up->notify_name, 1);
    setpgid(0, 0);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent)
        _exit(EX_TEMPFAIL); /* the parent died before prctl */
    execvp(path, argv);
    fprintf(stderr, "siftmesh up: cannot run %s: %s\n", path, strerror(errno));
    _exit(EX_UNAVAILABLE);
}

static void begin_stop(struct up *up);

static void start_child(struct child *child)
{
    struct up *up = child->up;
    pid_t parent = getpid(), pid = fork();

    if (pid == 0)
        run_child(up, child->index, parent);
    if (pid < 0) {
        fprintf(stderr, "siftmesh up: fork: %s\n", strerror(errno));
        up->exit_code = EX_OSERR;
        begin_stop(up);
        return;
    }
    child->pid = pid;
    child->ready = false;
    child->started_ms = uv_hrtime() / 1000000;
}

static void on_restart(uv_timer_t *timer)
{
    struct child *child = timer->data;
    if (!child->up->stopping)
        start_child(child);
}

/* ---- ready ---- */

/* A port of 0 was given away by the kernel: a restart must get the same one. */
static void fix_port(struct up *up, int index)
{
    char path[512], text[16] = "";
    const char **listen = index == GATEWAY ? &up->listen : &up->monitor_listen;
    char *fixed = up->listen_fixed[index == GATEWAY];
    const char *colon = *listen != NULL ? strrchr(*listen, ':') : NULL;

    if (colon == NULL || strcmp(colon, ":0") != 0)
        return;
    snprintf(path, sizeof path, "%s/%s.port", up->runtime_dir, names[index]);
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return;
    if (fgets(text, sizeof text, file) != NULL && atoi(text) > 0) {
        snprintf(fixed, sizeof up->listen_fixed[0], "%.*s:%d", (int)(colon - *listen),
                 *listen, atoi(text));
        *listen = fixed;
    }
    fclose(file);
}

static void announce(struct up *up)
{
    int ready = 0;

    for (int i = 0; i < SERVICES; i++)
        ready += up->children[i].ready;
    if (up->announced || ready < SERVICES)
        return;
    up->announced = true;
    printf("mesh ready; Ctrl-C stops it\n");
    fflush(stdout);
    service_notify("READY=1\nSTATUS=all services are ready\n");
}

static void on_ready(struct child *child, const char *status)
{
    child->ready = child->was_ready = true;
    printf("%-9s ready  pid %-7d %s\n", names[child->index], (int)child->pid, status);
    fflush(stdout);
    if (child->index == GATEWAY || child->index == MONITOR)
        fix_port(child->up, child->index);
    announce(child->up);
}

static void on_notify(uv_poll_t *poll, int status, int events)
{
    struct up *up = poll->data;
    char text[1024], value[256];
    pid_t pid;
    (void)status;
    (void)events;

    while ((pid = command_notify_read(up->notify_fd, text, sizeof text)) > 0)
        for (int i = 0; i < SERVICES; i++)
            if (up->children[i].pid == pid && !up->children[i].ready &&
                command_notify_value(text, "READY", value, sizeof value)) {
                if (!command_notify_value(text, "STATUS", value, sizeof value))
                    value[0] = '\0';
                on_ready(&up->children[i], value);
            }
}

/* ---- stopping ---- */

static void on_stop_timeout(uv_timer_t *timer);

static void stop_next(struct up *up)
{
    for (int i = SERVICES - 1; i >= 0; i--) {
        if (up->children[i].pid > 0) {
            kill(up->children[i].pid, SIGTERM);
            uv_timer_start(&up->stop_timeout, on_stop_timeout, STOP_TIMEOUT_MS, 0);
            return;
        }
    }
    uv_stop(&up->loop);
}

static void begin_stop(struct up *up)
{
    if (up->stopping)
        return;
    up->stopping = true;
    for (int i = 0; i < SERVICES; i++)
        uv_timer_stop(&up->children[i].restart);
    stop_next(up);
}

static void on_stop_timeout(uv_timer_t *timer)
{
    struct up *up = timer->data;
    for (int i = SERVICES - 1; i >= 0; i--) {
        if (up->children[i].pid > 0) {
            fprintf(stderr, "siftmesh up: %s does not stop, killing it\n", names[i]);
            kill(up->children[i].pid, SIGKILL);
            return;
        }
    }
}

static void on_terminate(uv_signal_t *handle, int number)
{
    struct up *up = handle->data;
    (void)number;

    if (!up->stopping) {
        printf("stopping; once more hurries\n");
        fflush(stdout);
        service_notify("STOPPING=1\n");
        begin_stop(up);
        return;
    }
    /* Hurry: the second SIGTERM of each service; the third time, no more patience. */
    for (int i = 0; i < SERVICES; i++) {
        if (up->children[i].pid > 0 && up->hurried)
            kill(up->children[i].pid, SIGKILL);
        else if (up->children[i].pid > 0)
            kill(up->children[i].pid, SIGTERM);
    }
    up->hurried = true;
}

/* ---- deaths ---- */

static void describe_death(int wait_status, char *out, size_t capacity)
{
    if (WIFSIGNALED(wait_status))
        snprintf(out, capacity, "signal %d (%s)", WTERMSIG(wait_status),
                 strsignal(WTERMSIG(wait_status)));
    else
        snprintf(out, capacity, "exit code %d", WEXITSTATUS(wait_status));
}

static void on_death(struct child *child, int wait_status)
{
    struct up *up = child->up;
    uint64_t lived_ms = uv_hrtime() / 1000000 - child->started_ms;
    char how[80];

    child->pid = 0;
    child->ready = false;
    if (up->stopping) {
        stop_next(up);
        return;
    }
    describe_death(wait_status, how, sizeof how);
    if (!child->was_ready) {
        fprintf(stderr, "siftmesh up: %s did not start: %s\n", names[child->index], how);
        up->exit_code = WIFEXITED(wait_status) && WEXITSTATUS(wait_status) != 0
                            ? WEXITSTATUS(wait_status)
                            : EX_SOFTWARE;
        begin_stop(up);
        return;
    }
    if (lived_ms > YOUNG_MS)
        child->restart_ms = RESTART_FIRST_MS;
    fprintf(stderr, "siftmesh up: %s died: %s; again in %llu ms\n", names[child->index],
            how, (unsigned long long)child->restart_ms);
    uv_timer_start(&child->restart, on_restart, child->restart_ms, 0);
    child->restart_ms =
        child->restart_ms * 2 < RESTART_MAX_MS ? child->restart_ms * 2 : RESTART_MAX_MS;
}

static void on_sigchld(uv_signal_t *handle, int number)
{
    struct up *up = handle->data;
    int wait_status;
    (void)number;

    for (int i = 0; i < SERVICES; i++)
        if (up->children[i].pid > 0 &&
            waitpid(up->children[i].pid, &wait_status, WNOHANG) == up->children[i].pid)
            on_death(&up->children[i], wait_status);
}

/* ---- where results last ---- */

/* $XDG_DATA_HOME/siftmesh, made where it is missing; false: there is none. */
static bool data_dir(char *out, size_t capacity)
{
    const char *base = getenv("XDG_DATA_HOME"), *home = getenv("HOME");
    bool own = base != NULL && base[0] == '/';
    int size = own ? snprintf(out, capacity, "%s/siftmesh", base)
                   : snprintf(out, capacity, "%s/.local/share/siftmesh",
                              home != NULL ? home : "");

    if ((!own && (home == NULL || home[0] != '/')) || (size_t)size >= capacity)
        return false;
    for (char *slash = strchr(out + 1, '/'); slash != NULL;
         slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        (void)mkdir(out, 0700); /* the last one tells */
        *slash = '/';
    }
    return mkdir(out, 0700) == 0 || errno == EEXIST;
}

/* Unless an option, the environment or a file says another store or none, results are
 * kept in one SQLite file of this user's, so that a restart keeps them. */
static void choose_store(struct up *up)
{
    char dir[300];
    bool said = up->store != NULL || getenv("SIFTMESH_CACHER_STORE") != NULL ||
                up->config != NULL || getenv("SIFTMESH_CONFIG") != NULL;

    if (up->store != NULL && strcmp(up->store, "none") == 0)
        up->store = "";
    if (said)
        return;
    if (!data_dir(dir, sizeof dir)) {
        fprintf(stderr, "siftmesh up: no folder for results that last: %s\n",
                strerror(errno));
        return;
    }
    snprintf(up->store_url, sizeof up->store_url, "sqlite://%s/results.db", dir);
    up->store = up->store_url;
    printf("results are kept in %s/results.db\n", dir);
}

/* ---- the command ---- */

static int run_up(struct up *up)
{
    uv_loop_init(&up->loop);
    uv_signal_init(&up->loop, &up->sigchld);
    uv_signal_init(&up->loop, &up->sigterm);
    uv_signal_init(&up->loop, &up->sigint);
    uv_timer_init(&up->loop, &up->stop_timeout);
    uv_poll_init(&up->loop, &up->notify, up->notify_fd);
    up->sigchld.data = up->sigterm.data = up->sigint.data = up;
    up->notify.data = up->stop_timeout.data = up;
    uv_signal_start(&up->sigchld, on_sigchld, SIGCHLD);
    uv_signal_start(&up->sigterm, on_terminate, SIGTERM);
    uv_signal_start(&up->sigint, on_terminate, SIGINT);
    uv_poll_start(&up->notify, UV_READABLE, on_notify);
    for (int i = 0; i < SERVICES; i++) {
        struct child *child = &up->children[i];
        *child = (struct child){.up = up, .index = i, .restart_ms = RESTART_FIRST_MS};
        uv_timer_init(&up->loop, &child->restart);
        child->restart.data = child;
    }
    for (int i = 0; i < SERVICES && !up->stopping; i++)
        start_child(&up->children[i]);
    uv_run(&up->loop, UV_RUN_DEFAULT);
    return up->exit_code;
}

static void print_usage(void)
{
    printf(
        "Usage: siftmesh up [OPTION...]\n"
        "Run the whole mesh on this host in the foreground, until Ctrl-C.\n\n"
        "  --listen HOST:PORT          of the gateway (127.0.0.1:8080); port 0 picks "
        "one\n"
        "  --monitor-listen HOST:PORT  of the monitor (127.0.0.1:8081)\n"
        "  --runtime-dir DIR           folder (0700) of the sockets\n"
        "  --slots N                   extractor slots (cores + 1)\n"
        "  --redis URL                 redis://[:password@]host:port/db behind memory\n"
        "  --store URL                 sqlite:///path, postgres://... or none; without\n"
        "                              this and --config: results.db in\n"
        "                              $XDG_DATA_HOME/siftmesh (~/.local/share)\n"
        "  --config FILE               options of every service, an INI file\n"
        "  --log-level LEVEL           of every service (warning)\n"
        "  --help                      print this\n");
}

static int parse(struct up *up, int argc, char **argv)
{
    static const struct option options[] = {
        {"listen", required_argument, NULL, 'l'},
        {"monitor-listen", required_argument, NULL, 'm'},
        {"runtime-dir", required_argument, NULL, 'r'},
        {"slots", required_argument, NULL, 's'},
        {"redis", required_argument, NULL, 'd'},
        {"store", required_argument, NULL, 'o'},
        {"config", required_argument, NULL, 'c'},
        {"log-level", required_argument, NULL, 'v'},
        {"help", no_argument, NULL, 'h'},
        {0}};
    int c;

    while ((c = getopt_long(argc, argv, "h", options, NULL)) != -1) {
        if (c == 'l')
            up->listen = optarg;
        else if (c == 'm')
            up->monitor_listen = optarg;
        else if (c == 'r' && strlen(optarg) < sizeof up->runtime_dir)
            strcpy(up->runtime_dir, optarg);
        else if (c == 's')
            up->slots = optarg;
        else if (c == 'd')
            up->redis = optarg;
        else if (c == 'o')
            up->store = optarg;
        else if (c == 'c')
            up->config = optarg;
        else if (c == 'v')
            up->log_level = optarg;
        else
            return c == 'h' ? -1 : EX_USAGE;
    }
    if (optind < argc) {
        fprintf(stderr, "siftmesh up: unknown argument '%s'\n", argv[optind]);
        return EX_USAGE;
    }
    return 0;
}

int command_up(int argc, char **argv)
{
    static struct up up = {.log_level = "warning"};
    int code = parse(&up, argc, argv);

    if (code != 0) {
        if (code < 0)
            print_usage();
        return code < 0 ? EX_OK : code;
    }
    if (up.runtime_dir[0] == '\0' &&
        service_runtime_dir(up.runtime_dir, sizeof up.runtime_dir) < 0)
        return EX_CONFIG;
    if (service_make_runtime_dir(up.runtime_dir) < 0) /* logged there */
        return EX_NOPERM;

    up.notify_fd = command_notify_open(up.notify_name, sizeof up.notify_name);
    if (up.notify_fd < 0) {
        fprintf(stderr, "siftmesh up: notify socket: %s\n", strerror(-up.notify_fd));
        return EX_OSERR;
    }
    choose_store(&up);
    return run_up(&up);
}
