#include "runtime/service.h"

#include "runtime/curve.h"
#include "runtime/descriptors.h"
#include "runtime/folder.h"
#include "runtime/process.h"

#include <errno.h>
#include <malloc.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sysexits.h>
#include <unistd.h>
#include <zmq.h>

/* Blocks above this come from mmap and go back to the system when freed, so that a
 * burst of large pictures leaves no larger process behind. */
#define MMAP_THRESHOLD_BYTES (1 << 20)
#define TRIM_THRESHOLD_BYTES (4 << 20)

/* How often lines of the log that wait for their reader are tried again. */
#define LOG_RETRY_MS 50
/* The drain of a service whose `siftmesh up` was killed: it ends beside the others, not
 * after them, and the next mesh waits for it. */
#define ORPHAN_DRAIN_MS 3000

struct service {
    const struct service_spec *spec;
    struct mesh_options mesh;
    void *options, *metrics, *data, *zmq;
    struct curve *curve; /* NULL: no curve_key */
    uv_loop_t loop;
    struct process_parent parent;
    uv_signal_t sigterm, sigint, sighup;
    uv_timer_t hurry, log_retry;
    uv_prepare_t log_watch;
    uv_timer_t look; /* after what is in the runtime folder */
    struct folder_file port_file;
    struct log_limit look_limit;
    uint64_t touched_us;
    char instance[128];
    char doubt[512]; /* an option to warn of */
    char *endpoints[3];
    bool draining, hurried;
    int signal; /* that began the drain */
    int err;
};

static const struct option_spec mesh_option_specs[] = {
#define OPTIONS_OF struct mesh_options
#include "runtime/options_spec.h"

#include "runtime/service.tbl"

#include "runtime/options_end.h"
    {0}};

/* ---- what the program sees ---- */

void service_set_data(struct service *service, void *data)
{
    service->data = data;
}

void *service_data(const struct service *service)
{
    return service->data;
}

uv_loop_t *service_loop(struct service *service)
{
    return &service->loop;
}

void *service_zmq(struct service *service)
{
    if (service->zmq == NULL)
        service->zmq = zmq_ctx_new();
    return service->zmq;
}

struct curve *service_curve(const struct service *service)
{
    return service->curve;
}

const struct mesh_options *service_mesh(const struct service *service)
{
    return &service->mesh;
}

const void *service_options(const struct service *service)
{
    return service->options;
}

void *service_metrics(struct service *service)
{
    return service->metrics;
}

const struct metrics_spec *service_metrics_spec(const struct service *service)
{
    return service->spec->metrics;
}

const char *service_name(const struct service *service)
{
    return service->spec->name;
}

const char *service_instance(const struct service *service)
{
    return service->instance;
}

uint64_t service_now_us(const struct service *service)
{
    (void)service;
    return uv_hrtime() / 1000;
}

void service_hide_memory(void)
{
    const struct rlimit none = {0, 0};

    /* Neither fails for a process's own. */
    (void)setrlimit(RLIMIT_CORE, &none);
    (void)prctl(PR_SET_DUMPABLE, 0);
}

void service_random(void *bytes, size_t size)
{
    /* Up to 256 bytes never fail or come short once the pool is seeded, getrandom(2). */
    if (getrandom(bytes, size, 0) != (ssize_t)size)
        abort();
}

bool service_draining(const struct service *service)
{
    return service->draining;
}

int service_signal(const struct service *service)
{
    return service->signal;
}

void service_stop(struct service *service, int err)
{
    if (service->err == 0)
        service->err = err;
    uv_stop(&service->loop);
}

const char *service_endpoint(const struct service *service, const char *name)
{
    static const char *const names[] = {"front", "back", "events"};
    for (int i = 0; i < 3; i++)
        if (strcmp(names[i], name) == 0)
            return service->endpoints[i];
    return NULL;
}

char *service_path(const struct service *service, const char *name)
{
    char *path;
    return asprintf(&path, "%s/%s", service->mesh.runtime_dir, name) < 0 ? NULL : path;
}

/* One datagram to the socket that $NOTIFY_SOCKET names. */
void service_notify(const char *text)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t length = path != NULL ? strlen(path) : 0;

    if (length == 0 || length >= sizeof address.sun_path)
        return;
    memcpy(address.sun_path, path, length);
    if (path[0] == '@')
        address.sun_path[0] = '\0';
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return;
    /* Best effort: who started us may have stopped listening. */
    (void)sendto(fd, text, strlen(text), MSG_NOSIGNAL, (struct sockaddr *)&address,
                 (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length));
    close(fd);
}

void service_ready(struct service *service, const char *what, ...)
{
    char status[256], text[512];
    va_list args;

    va_start(args, what);
    vsnprintf(status, sizeof status, what, args);
    va_end(args);
    log_event(LOG_NOTICE, "ready", "status=\"%s\"", status);
    snprintf(text, sizeof text, "READY=1\nSTATUS=%s\nX_SIFTMESH_SERVICE=%s\n", status,
             service->spec->name);
    service_notify(text);
}

int service_listening(struct service *service, const char *listen, uint16_t port)
{
    char name[64], text[16];
    const char *colon = strrchr(listen, ':');
    int host_bytes = colon != NULL ? (int)(colon - listen) : 0;

    snprintf(name, sizeof name, "%s.port", service->spec->name);
    snprintf(text, sizeof text, "%u\n", port);
    char *path = service_path(service, name);
    int err = path != NULL ? folder_take(&service->port_file, path, text) : -ENOMEM;
    if (err == -EADDRINUSE)
        log_event(LOG_NOTICE, "port file is another process's", "path=\"%s\" port=%d",
                  path, folder_number(path));
    else if (err < 0)
        log_event(LOG_ERROR, "cannot write port file", "path=\"%s\" error=\"%s\"", path,
                  strerror(-err));
    free(path);
    if (err < 0 && err != -EADDRINUSE)
        return err;
    service_ready(service, "listening on http://%.*s:%u",
                  host_bytes > 0 ? host_bytes : (int)strlen("0.0.0.0"),
                  host_bytes > 0 ? listen : "0.0.0.0", port);
    return 0;
}

/* ---- looking after the runtime folder ---- */

static void look_after_port_file(struct service *service)
{
    struct folder_file *file = &service->port_file;
    bool held = file->fd >= 0;

    if (file->path == NULL)
        return;
    int err = folder_look(file);
    if (err == 1 && held)
        log_event(LOG_WARNING, "port file was removed, written again", "path=\"%s\"",
                  file->path);
    if (err < 0 && (err != -EADDRINUSE || held))
        log_limited(LOG_ERROR, &service->look_limit, service_now_us(service),
                    "port file was removed", "path=\"%s\" error=\"%s\"", file->path,
                    strerror(-err));
}

static void on_look(uv_timer_t *timer)
{
    struct service *service = timer->data;
    const char *dir = service->mesh.runtime_dir;
    uint64_t now_us = service_now_us(service);

    int err = folder_make(dir);
    if (err < 0) {
        /* Nothing of ours is put where others can write. */
        log_limited(LOG_ERROR, &service->look_limit, now_us,
                    "runtime folder was removed, and is not ours now",
                    "path=\"%s\" error=\"%s\"", dir, strerror(-err));
        return;
    }
    if (err == 1)
        log_event(LOG_WARNING, "runtime folder was removed, made again", "path=\"%s\"",
                  dir);
    look_after_port_file(service);
    bool touch = now_us - service->touched_us >= FOLDER_TOUCH_MS * UINT64_C(1000);
    if (service->spec->look != NULL)
        service->spec->look(service, touch);
    if (!touch)
        return;
    service->touched_us = now_us;
    folder_touch(dir);
    if (service->port_file.path != NULL)
        folder_touch(service->port_file.path);
}

/* ---- starting ---- */

static int fail_usage(const struct service_spec *spec, const char *why)
{
    fprintf(stderr, "siftmesh-%s: %s\nTry siftmesh-%s --help.\n", spec->name, why,
            spec->name);
    return EX_USAGE;
}

int service_runtime_dir(char *out, size_t capacity)
{
    const char *base = getenv("XDG_RUNTIME_DIR");
    int n = 0;

    if (base != NULL && base[0] == '/')
        n = snprintf(out, capacity, "%s/siftmesh", base);
    else
        n = snprintf(out, capacity, "/tmp/siftmesh-%u", (unsigned)getuid());
    return n < (int)capacity ? 0 : -ENAMETOOLONG;
}

int service_make_runtime_dir(const char *path)
{
    int err = folder_make(path);

    if (err == -EPERM)
        log_event(LOG_ERROR, "runtime_dir is not a folder of mode 0700 of this user",
                  "path=\"%s\" uid=%u", path, (unsigned)geteuid());
    else if (err < 0)
        log_event(LOG_ERROR, "cannot make runtime_dir", "path=\"%s\" error=\"%s\"", path,
                  strerror(-err));
    return err < 0 ? err : 0;
}

static int make_endpoints(struct service *service)
{
    static const char *const names[] = {"front", "back", "events"};
    const char *set[] = {service->mesh.front, service->mesh.back, service->mesh.events};
    struct sockaddr_un address;

    for (int i = 0; i < 3; i++) {
        char *made = NULL;
        if (set[i][0] != '\0')
            made = strdup(set[i]);
        else if (asprintf(&made, "ipc://%s/%s.sock", service->mesh.runtime_dir,
                          names[i]) < 0)
            made = NULL;
        if (made == NULL)
            return -ENOMEM;
        service->endpoints[i] = made;
        if (strncmp(made, "ipc://", 6) == 0 &&
            strlen(made + 6) >= sizeof address.sun_path) {
            log_event(LOG_ERROR, "path of a socket is too long",
                      "path=\"%s\" bytes=%zu limit=%zu", made + 6, strlen(made + 6),
                      sizeof address.sun_path - 1);
            return -ENAMETOOLONG;
        }
    }
    return 0;
}

static void begin_hurry(uv_timer_t *timer)
{
    struct service *service = timer->data;
    service->hurried = true;
    log_event(LOG_WARNING, "hurrying", "drain_timeout_ms=%llu",
              (unsigned long long)service->mesh.drain_timeout_ms);
    service->spec->drain(service, true);
}

static uint64_t drain_ms(const struct service *service)
{
    uint64_t ms = service->mesh.drain_timeout_ms;
    bool orphan = service->parent.pid > 0 && getppid() != service->parent.pid;

    return orphan && ms > ORPHAN_DRAIN_MS ? ORPHAN_DRAIN_MS : ms;
}

static void on_signal(uv_signal_t *handle, int number)
{
    struct service *service = handle->data;

    if (!service->draining) {
        service->draining = true;
        service->signal = number;
        log_event(LOG_NOTICE, "draining", "signal=%s", strsignal(number));
        service_notify("STOPPING=1\n");
        uv_timer_start(&service->hurry, begin_hurry, drain_ms(service), 0);
        service->spec->drain(service, false);
    } else if (!service->hurried) {
        begin_hurry(&service->hurry);
    } else {
        service_stop(service, 0);
    }
}

static void on_log_retry(uv_timer_t *timer)
{
    if (log_flush())
        uv_timer_stop(timer);
}

/* Before the loop sleeps, as any thread may have logged. */
static void on_log_watch(uv_prepare_t *prepare)
{
    struct service *service = prepare->data;
    uint64_t *dropped =
        metrics_value(service->spec->metrics, service->metrics, "log_lines_dropped");

    if (!log_flush() && !uv_is_active((uv_handle_t *)&service->log_retry))
        uv_timer_start(&service->log_retry, on_log_retry, LOG_RETRY_MS, LOG_RETRY_MS);
    if (dropped != NULL)
        *dropped = log_dropped();
}

static void start_log(struct service *service)
{
    uv_timer_init(&service->loop, &service->log_retry);
    uv_prepare_init(&service->loop, &service->log_watch);
    service->log_watch.data = service;
    uv_prepare_start(&service->log_watch, on_log_watch);
}

static int start_loop(struct service *service)
{
    int err = uv_loop_init(&service->loop);
    if (err < 0)
        return err;
    uv_signal_init(&service->loop, &service->sigterm);
    uv_signal_init(&service->loop, &service->sigint);
    uv_signal_init(&service->loop, &service->sighup);
    uv_timer_init(&service->loop, &service->hurry);
    service->sigterm.data = service->sigint.data = service;
    service->sighup.data = service->hurry.data = service;
    uv_signal_start(&service->sigterm, on_signal, SIGTERM);
    uv_signal_start(&service->sigint, on_signal, SIGINT);
    if (process_hangup_ends())
        uv_signal_start(&service->sighup, on_signal, SIGHUP);
    else
        signal(SIGHUP, SIG_IGN); /* nothing is read again on it */
    start_log(service);
    uv_timer_init(&service->loop, &service->look);
    service->look.data = service;
    uv_timer_start(&service->look, on_look, FOLDER_LOOK_MS, FOLDER_LOOK_MS);
    return 0;
}

static void block_signals(void)
{
    sigset_t ours;
    sigemptyset(&ours);
    sigaddset(&ours, SIGTERM);
    sigaddset(&ours, SIGINT);
    sigaddset(&ours, SIGHUP);
    sigprocmask(SIG_BLOCK, &ours, NULL);
}

static int play(struct service *service)
{
    int err = service->spec->start(service);
    if (err == 0) {
        uv_run(&service->loop, UV_RUN_DEFAULT);
        err = service->err;
    }
    service->spec->stop(service);
    return err;
}

static int run(struct service *service)
{
    int err = service_make_runtime_dir(service->mesh.runtime_dir);
    if (err == 0)
        err = make_endpoints(service);
    if (err < 0)
        return err;
    err = start_loop(service);
    if (err < 0)
        return err;

    if (service->mesh.curve_key[0] != '\0')
        err = curve_open(service->mesh.curve_key, service->mesh.curve_server,
                         &service->curve);
    if (service->curve != NULL)
        service_hide_memory();
    if (err == 0)
        err = play(service);
    folder_release(&service->port_file, true);
    block_signals(); /* one that comes now must not end us before the rest is done */
    curve_close(service->curve);
    uv_close((uv_handle_t *)&service->sigterm, NULL);
    uv_close((uv_handle_t *)&service->sigint, NULL);
    uv_close((uv_handle_t *)&service->sighup, NULL);
    uv_close((uv_handle_t *)&service->hurry, NULL);
    uv_close((uv_handle_t *)&service->log_retry, NULL);
    uv_close((uv_handle_t *)&service->log_watch, NULL);
    uv_close((uv_handle_t *)&service->look, NULL);
    uv_run(&service->loop, UV_RUN_DEFAULT); /* for the close callbacks */
    if (uv_loop_close(&service->loop) == UV_EBUSY)
        log_event(LOG_ERROR, "a libuv handle was left open", "service=%s",
                  service->spec->name);
    if (service->zmq != NULL)
        zmq_ctx_term(service->zmq);
    log_event(LOG_NOTICE, "stopped", "error=%d", -err);
    return err;
}

static int exit_code(int err)
{
    switch (-err) {
    case 0:
        return EX_OK;
    case EADDRINUSE:
    case EADDRNOTAVAIL:
        return EX_UNAVAILABLE;
    case EACCES:
    case EPERM:
        return EX_NOPERM;
    case ENOMEM:
    case EMFILE:
        return EX_OSERR;
    case EINVAL:
    case ENAMETOOLONG:
        return EX_CONFIG;
    default:
        return EX_SOFTWARE;
    }
}

/* ---- the command line ---- */

enum ask {
    ASK_NOTHING,
    ASK_CONFIG,
    ASK_OWN_CONFIG,
    ASK_CHECK,
    ASK_OPTIONS,
    ASK_MESH_OPTIONS,
    ASK_COUNTERS
};

static void print_help(const struct service_spec *spec,
                       const struct option_section *sections)
{
    printf("Usage: siftmesh-%s [OPTION...]\n%s\n\n", spec->name, spec->summary);
    for (int i = 1; i >= 0; i--)
        options_help(&sections[i], stdout);
    printf("\n"
           "  --config FILE         read options from an INI file ($SIFTMESH_CONFIG)\n"
           "  --show-config         print every option, its value and its origin\n"
           "  --options-markdown    print the options as a Markdown table\n"
           "  --counters-markdown   print the counters as a Markdown table\n"
           "  --version             print the version\n"
           "  --help                print this\n");
}

/* Takes the words that are not options of a table out of argv. */
static void take_words(int *argc, char **argv, const char **config, enum ask *ask,
                       bool *help, bool *version)
{
    int kept = 1;

    for (int i = 1; i < *argc; i++) {
        if (strcmp(argv[i], "--config") == 0 && i + 1 < *argc)
            *config = argv[++i];
        else if (strncmp(argv[i], "--config=", 9) == 0)
            *config = argv[i] + 9;
        else if (strcmp(argv[i], "--show-config") == 0)
            *ask = ASK_CONFIG;
        else if (strcmp(argv[i], "--show-own-config") == 0) /* without [mesh] */
            *ask = ASK_OWN_CONFIG;
        else if (strcmp(argv[i], "--check-config") == 0)
            *ask = ASK_CHECK;
        else if (strcmp(argv[i], "--options-markdown") == 0)
            *ask = ASK_OPTIONS;
        else if (strcmp(argv[i], "--mesh-options-markdown") == 0)
            *ask = ASK_MESH_OPTIONS;
        else if (strcmp(argv[i], "--counters-markdown") == 0)
            *ask = ASK_COUNTERS;
        else if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
            *help = true;
        else if (strcmp(argv[i], "--version") == 0)
            *version = true;
        else
            argv[kept++] = argv[i];
    }
    *argc = kept;
}

static void answer(struct service *service, enum ask ask,
                   const struct option_section *sections,
                   const struct option_origins *origins)
{
    if (ask == ASK_CONFIG)
        options_show(sections, 2, origins, stdout);
    if (ask == ASK_OWN_CONFIG) {
        struct option_origins own = {0};
        memcpy(own.of[0], origins->of[1], sizeof own.of[0]);
        options_show(&sections[1], 1, &own, stdout);
    }
    if (ask == ASK_OPTIONS)
        options_markdown(&sections[1], stdout);
    if (ask == ASK_MESH_OPTIONS)
        options_markdown(&sections[0], stdout);
    if (ask == ASK_COUNTERS && service->spec->metrics != NULL)
        metrics_markdown(service->spec->name, service->spec->metrics, stdout);
}

/* 0, or an exit code, said. */
static int check_options(struct service *service, const struct option_section *sections,
                         const char *config, const struct option_origins *origins,
                         bool asked)
{
    const struct service_spec *spec = service->spec;
    struct service_wrong wrong = {0};
    char error[512];

    if (asked && options_check(sections, 2, config, origins, error, sizeof error) < 0)
        return fail_usage(spec, error);
    if (spec->is_wrong == NULL ||
        !spec->is_wrong(service->options, &service->mesh, &wrong))
        return 0;
    options_refuse(sections, 2, config, origins, wrong.name, wrong.why, error,
                   sizeof error);
    if (asked || !wrong.works) {
        (void)fail_usage(spec, error);
        return EX_CONFIG;
    }
    snprintf(service->doubt, sizeof service->doubt, "%s", error);
    return 0;
}

static int configure(struct service *service, int argc, char **argv)
{
    const struct service_spec *spec = service->spec;
    const struct option_section sections[2] = {
        {"mesh", mesh_option_specs, &service->mesh},
        {spec->name, spec->options, service->options}};
    const char *config = getenv("SIFTMESH_CONFIG");
    struct option_origins origins = {0};
    enum ask ask = ASK_NOTHING;
    bool help = false, version = false;
    char error[512];
    int left = 0;

    take_words(&argc, argv, &config, &ask, &help, &version);
    if (help || version) {
        if (help)
            print_help(spec, sections);
        else
            printf("siftmesh-%s %s\n", spec->name, SIFTMESH_VERSION);
        return 1;
    }
    if (options_load(sections, 2, config, argc, argv, &left, &origins, error,
                     sizeof error) < 0) {
        service->err = fail_usage(spec, error);
        return -1;
    }
    if (left < argc) {
        snprintf(error, sizeof error, "unknown argument '%s'", argv[left]);
        service->err = fail_usage(spec, error);
        return -1;
    }
    if (ask == ASK_NOTHING || ask == ASK_CHECK)
        service->err =
            check_options(service, sections, config, &origins, ask != ASK_NOTHING);
    if (service->err != 0)
        return -1;
    if (ask != ASK_NOTHING) {
        answer(service, ask, sections, &origins);
        return 1;
    }
    return 0;
}

static int prepare(struct service *service)
{
    char host[64] = "localhost";
    int err =
        log_init(service->spec->name, service->mesh.log_level, service->mesh.log_format);

    if (err < 0) {
        service->err = fail_usage(service->spec, "log_level or log_format is not known");
        return -1;
    }
    if (service->doubt[0] != '\0')
        log_event(LOG_WARNING, "an option is doubtful", "why=\"%s\"", service->doubt);
    if (service->mesh.runtime_dir[0] == '\0' &&
        service_runtime_dir(service->mesh.runtime_dir, OPTION_STR_BYTES) < 0) {
        service->err = fail_usage(service->spec, "runtime_dir is too long");
        return -1;
    }
    uv_os_gethostname(host, &(size_t){sizeof host});
    snprintf(service->instance, sizeof service->instance, "%s@%s:%d", service->spec->name,
             host, (int)getpid());
    uint64_t *restarts =
        metrics_value(service->spec->metrics, service->metrics, "restarts");
    if (restarts != NULL)
        *restarts = service->parent.restarts;
    uint64_t descriptors = descriptors_raise();
    if (descriptors < DESCRIPTORS_MIN) {
        log_event(LOG_ERROR, "the limit of open files is too low",
                  "descriptors=%llu least=%u", (unsigned long long)descriptors,
                  DESCRIPTORS_MIN);
        service->err = EX_CONFIG;
        return -1;
    }
    mallopt(M_ARENA_MAX, 2);
    mallopt(M_MMAP_THRESHOLD, MMAP_THRESHOLD_BYTES);
    mallopt(M_TRIM_THRESHOLD, TRIM_THRESHOLD_BYTES);
    return 0;
}

int service_main(const struct service_spec *spec, int argc, char **argv)
{
    struct service *service = calloc(1, sizeof *service);
    int code = EX_OSERR;

    process_open_standard();
    signal(SIGPIPE, SIG_IGN);
    if (service == NULL)
        return EX_OSERR;
    service->spec = spec;
    service->port_file.fd = -1;
    service->parent = process_told();
    service->options = calloc(1, spec->options_bytes);
    service->metrics = calloc(1, spec->metrics_bytes > 0 ? spec->metrics_bytes : 1);
    if (service->options != NULL && service->metrics != NULL) {
        int done = configure(service, argc, argv);
        process_hide_secrets(argc, argv);
        if (done == 0)
            done = prepare(service);
        code = done == 0 ? exit_code(run(service)) : done < 0 ? service->err : EX_OK;
        if (done > 0 && (fflush(stdout) != 0 || ferror(stdout)))
            code = EX_IOERR; /* what was asked for did not arrive */
    }
    log_finish();
    for (int i = 0; i < 3; i++)
        free(service->endpoints[i]);
    free(service->options);
    free(service->metrics);
    free(service);
    return code;
}
