/*
 * up.c - `siftmesh up`: the whole mesh in the foreground, for one host.
 *
 * Starts the five services as children in a process group each, so that Ctrl-C reaches
 * only this program, which then ends them in the order that loses nothing: the gateway
 * first, while what it waits for still runs, and the broker last. A service that dies, or
 * that the system has no process for, is started again, later each time it dies young. A
 * service that never became ready ends the whole, with its exit code: a wrong option does
 * not get better by repeating it.
 */
#include "client/command/up.h"
#include "runtime/folder.h"
#include "runtime/log_sink.h"
#include "runtime/options_form.h"
#include "runtime/process.h"
#include "runtime/service.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

#define TICK_MS       1000
#define PRINT_BYTES   1024
#define PRINT_LAST_MS 200   /* for who reads what is printed, at the end */
#define LOCK_WAIT_MS  10000 /* for a mesh in the same folder that is ending */
#define LOCK_RETRY_MS 50

/* ---- printing ---- */

static char say_bytes[LOG_SINK_BYTES], complain_bytes[LOG_SINK_BYTES];
static struct log_sink say_sink = LOG_SINK_INIT(STDOUT_FILENO, say_bytes, NULL);
static struct log_sink complain_sink = LOG_SINK_INIT(STDERR_FILENO, complain_bytes, NULL);

static void print(struct log_sink *sink, const char *prefix, const char *format,
                  va_list args)
{
    char line[PRINT_BYTES];
    int used = snprintf(line, sizeof line, "%s", prefix);
    int more = vsnprintf(line + used, sizeof line - (size_t)used, format, args);

    used = used + more < (int)sizeof line ? used + more : (int)sizeof line - 1;
    line[used] = '\n'; /* in the place of the NUL */
    log_sink_write(sink, line, (size_t)used + 1);
}

void up_say(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    print(&say_sink, "", format, args);
    va_end(args);
}

void up_complain(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    print(&complain_sink, "siftmesh up: ", format, args);
    va_end(args);
}

uint64_t up_now_ms(void)
{
    return uv_hrtime() / 1000000;
}

/* ---- events ---- */

static void on_notify(uv_poll_t *poll, int status, int events)
{
    struct up *up = poll->data;
    char text[1024], value[256];
    pid_t pid;
    (void)status;
    (void)events;

    while ((pid = command_notify_read(up->notify_fd, text, sizeof text)) > 0)
        if (command_notify_value(text, "READY", value, sizeof value)) {
            if (!command_notify_value(text, "STATUS", value, sizeof value))
                value[0] = '\0';
            up_child_ready(up, pid, value);
        }
}

static void on_sigchld(uv_signal_t *handle, int number)
{
    (void)number;
    up_child_reap(handle->data);
}

static void on_terminate(uv_signal_t *handle, int number)
{
    struct up *up = handle->data;

    if (up->stopping) {
        up_stop_hurry(up);
        return;
    }
    up_say("stopping; once more hurries");
    service_notify("STOPPING=1\n");
    /* Only who asks by SIGTERM, like systemd, waits for proxies to turn away. */
    up_stop_begin(up, number == SIGTERM ? SIGTERM : SIGINT);
}

/* Our lock, or the folder, was removed: it is taken again, unless another mesh was
 * quicker.
 */
static void look_after_lock(struct up *up)
{
    int err = folder_make(up->runtime_dir);

    if (err >= 0)
        err = folder_look(&up->lock);
    if (err == 1)
        up_complain("%s was removed, taken again", up->lock.path);
    if (err < 0 && err != up->lock_err)
        up_complain("%s was removed: %s", up->lock.path, strerror(-err));
    up->lock_err = err < 0 ? err : 0;
    up->lock_fd = up->lock.fd;
    if (err == 0 && ++up->ticks % (FOLDER_TOUCH_MS / TICK_MS) == 0)
        folder_touch(up->lock.path);
}

static void on_tick(uv_timer_t *timer)
{
    look_after_lock(timer->data);
    log_sink_flush(&say_sink);
    log_sink_flush(&complain_sink);
}

/* ---- one mesh a folder ---- */

/* Waits a moment for another mesh in the folder, which may be ending. 0 or -errno, said.
 */
static int lock_folder(struct up *up)
{
    uint64_t end_ms = up_now_ms() + LOCK_WAIT_MS;
    struct timespec pause = {.tv_nsec = LOCK_RETRY_MS * 1000000L};
    bool said = false;
    char path[300], pid[16];
    int err;

    snprintf(path, sizeof path, "%s/up.lock", up->runtime_dir);
    snprintf(pid, sizeof pid, "%d\n", (int)getpid());
    while ((err = folder_take(&up->lock, path, pid)) == -EADDRINUSE &&
           up_now_ms() < end_ms) {
        if (!said)
            up_complain("another mesh (siftmesh up, pid %d) is in %s; waiting %d s for "
                        "its end",
                        folder_number(path), up->runtime_dir, LOCK_WAIT_MS / 1000);
        said = true;
        nanosleep(&pause, NULL);
    }
    if (err == -EADDRINUSE)
        up_complain("the mesh in %s (siftmesh up, pid %d) goes on; --runtime-dir names "
                    "another folder",
                    up->runtime_dir, folder_number(path));
    else if (err < 0)
        up_complain("%s: %s", path, strerror(-err));
    else
        up->lock_fd = up->lock.fd;
    return err;
}

/* ---- where results last ---- */

/* $XDG_DATA_HOME/siftmesh or ~/.local/share/siftmesh, made where it is missing. Why not,
 * or NULL. */
static const char *make_data_dir(char *out, size_t capacity)
{
    const char *base = getenv("XDG_DATA_HOME"), *home = getenv("HOME");
    bool own = base != NULL && base[0] == '/';

    if (!own && (home == NULL || home[0] != '/'))
        return "neither XDG_DATA_HOME nor HOME names a folder";
    int size = own ? snprintf(out, capacity, "%s/siftmesh", base)
                   : snprintf(out, capacity, "%s/.local/share/siftmesh", home);
    if ((size_t)size >= capacity)
        return strerror(ENAMETOOLONG);
    for (char *slash = strchr(out + 1, '/'); slash != NULL;
         slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        (void)mkdir(out, 0700); /* the last one tells */
        *slash = '/';
    }
    return mkdir(out, 0700) == 0 || errno == EEXIST ? NULL : strerror(errno);
}

/* Unless an option, the environment or a file says another store or none, results are
 * kept in one SQLite file of this user's, so that a restart keeps them. */
static void choose_store(struct up *up)
{
    char dir[300];
    bool said = up->store != NULL || getenv("SIFTMESH_CACHER_STORE") != NULL ||
                up->config != NULL || getenv("SIFTMESH_CONFIG") != NULL;

    if (up->store != NULL && strcmp(up->store, "none") == 0)
        up->store[0] = '\0';
    if (said)
        return;
    const char *why = make_data_dir(dir, sizeof dir);
    if (why != NULL) {
        up_complain("results are kept in memory only: %s (--store says where)", why);
        return;
    }
    if (asprintf(&up->store, "sqlite://%s/results.db", dir) < 0)
        up->store = NULL;
    else
        up_say("results are kept in %s/results.db", dir);
}

/* ---- the command ---- */

static void start_signals(struct up *up)
{
    uv_signal_init(&up->loop, &up->sigchld);
    uv_signal_init(&up->loop, &up->sigterm);
    uv_signal_init(&up->loop, &up->sigint);
    uv_signal_init(&up->loop, &up->sighup);
    up->sigchld.data = up->sigterm.data = up->sigint.data = up->sighup.data = up;
    uv_signal_start(&up->sigchld, on_sigchld, SIGCHLD);
    uv_signal_start(&up->sigterm, on_terminate, SIGTERM);
    uv_signal_start(&up->sigint, on_terminate, SIGINT);
    if (process_hangup_ends())
        uv_signal_start(&up->sighup, on_terminate, SIGHUP);
    else
        signal(SIGHUP, SIG_IGN); /* nothing is read again on it */
}

static int run_up(struct up *up)
{
    uv_loop_init(&up->loop);
    start_signals(up);
    uv_timer_init(&up->loop, &up->stop_timer);
    uv_timer_init(&up->loop, &up->tick);
    uv_poll_init(&up->loop, &up->notify, up->notify_fd);
    up->notify.data = up->stop_timer.data = up->tick.data = up;
    uv_poll_start(&up->notify, UV_READABLE, on_notify);
    uv_timer_start(&up->tick, on_tick, TICK_MS, TICK_MS);
    for (int i = 0; i < UP_SERVICES; i++)
        up_child_init(up, i);
    for (int i = 0; i < UP_SERVICES; i++)
        up_child_start(&up->children[i]);
    uv_run(&up->loop, UV_RUN_DEFAULT);
    log_sink_finish(&say_sink, PRINT_LAST_MS);
    log_sink_finish(&complain_sink, PRINT_LAST_MS);
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

/* Told here by the flag's name: the service gets it by another way. */
static bool is_wrong(const char *flag, const char *form, const char *text)
{
    char allowed[128];

    if (text == NULL || options_form_fits(form, text))
        return false;
    if (strncmp(text, "rediss://", 9) == 0)
        up_complain("%s: TLS to Redis is not spoken, use redis:// and stunnel "
                    "(docs/OPERATIONS.md, Redis)",
                    flag);
    else
        up_complain("%s must be %s", flag,
                    options_form_text(form, allowed, sizeof allowed));
    return true;
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
        else if (c == 'r')
            up->runtime_dir = optarg;
        else if (c == 's')
            up->slots = optarg;
        else if (c == 'd')
            up->redis = strdup(optarg);
        else if (c == 'o')
            up->store = strdup(optarg);
        else if (c == 'c')
            up->config = optarg;
        else if (c == 'v')
            up->log_level = optarg;
        else
            return c == 'h' ? -1 : EX_USAGE;
    }
    process_hide_secrets(argc, argv);
    if (optind < argc) {
        fprintf(stderr, "siftmesh up: unknown argument '%s'\n", argv[optind]);
        return EX_USAGE;
    }
    if (is_wrong("--redis", "redis://...|unix://...", up->redis) ||
        is_wrong("--store", "sqlite:///...|postgres://...|postgresql://...|none",
                 up->store))
        return EX_USAGE;
    return 0;
}

/* The folder, and the level of the log: a flag given to a service would win over the
 * environment and the file. 0, or the exit code, said. */
static int choose_folder(struct up *up)
{
    static char folder[COMMAND_FOLDER_BYTES];
    struct sockaddr_un address;
    bool log_level_is_set;
    int code = command_mesh_own(up->config, folder, &log_level_is_set);

    if (code != EX_OK)
        return code;
    if (up->log_level == NULL && !log_level_is_set)
        up->log_level = "warning";
    up->runtime_dir = up->runtime_dir != NULL ? up->runtime_dir : folder;
    size_t bytes = strlen(up->runtime_dir) + strlen("/events.sock");
    if (bytes >= sizeof address.sun_path) {
        up_complain("runtime folder %s: paths of sockets would have %zu bytes, at most "
                    "%zu work",
                    up->runtime_dir, bytes, sizeof address.sun_path - 1);
        return EX_CONFIG;
    }
    if (service_make_runtime_dir(up->runtime_dir) < 0) /* logged there */
        return EX_NOPERM;
    int err = lock_folder(up);
    return err == 0 ? EX_OK : err == -EADDRINUSE ? EX_UNAVAILABLE : EX_OSERR;
}

int command_up(int argc, char **argv)
{
    static struct up up = {.lock_fd = -1};
    int code = parse(&up, argc, argv);

    if (code != 0) {
        if (code < 0)
            print_usage();
        return code < 0 ? EX_OK : code;
    }
    signal(SIGPIPE, SIG_IGN); /* who reads what we print may go */
    code = choose_folder(&up);
    if (code != EX_OK)
        return code;
    up.notify_fd = command_notify_open(up.notify_name, sizeof up.notify_name);
    if (up.notify_fd < 0) {
        up_complain("notify socket: %s", strerror(-up.notify_fd));
        return EX_OSERR;
    }
    choose_store(&up);
    code = run_up(&up);
    folder_release(&up.lock, false); /* its file stays: another may wait for it */
    free(up.redis);
    free(up.store);
    return code;
}
