/*
 * service.h - the skeleton that the five processes share: options, log, loop, signals,
 * drain, readiness, exit codes.
 *
 * A program is a `struct service_spec` and one call:
 *
 *     int main(int argc, char **argv) { return service_main(&broker_spec, argc, argv); }
 *
 * service_main reads the options (section "mesh" of service.tbl beside the program's
 * own), makes the runtime folder (0700), opens the log, makes the libuv loop and the
 * ZeroMQ context, and calls start(). --help, --version, --show-config, --options-markdown
 * and
 * --counters-markdown answer and exit. SIGTERM or SIGINT call drain(hurry = false); a
 * second one, or drain_timeout, calls drain(hurry = true); the program answers, when
 * it is ready to, by service_stop(). After that stop() frees what start() made, and the
 * exit code follows sysexits.h.
 */
#ifndef RUNTIME_SERVICE_H
#define RUNTIME_SERVICE_H

#include "runtime/log.h"
#include "runtime/metrics.h"
#include "runtime/options.h"

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

struct mesh_options {
#include "runtime/options_struct.h"

#include "runtime/service.tbl"

#include "runtime/options_end.h"
};

struct curve;
struct service;

/* An option that has its form and is wrong all the same. */
#define SERVICE_WHY_BYTES 256
struct service_wrong {
    const char *name; /* of the option */
    bool works;       /* the service starts with it, and warns */
    char why[SERVICE_WHY_BYTES];
};

struct service_spec {
    const char *name;                  /* "broker": section, log name, metric prefix */
    const char *summary;               /* one line for --help */
    const struct option_spec *options; /* of section `name` */
    size_t options_bytes;              /* sizeof of the options struct */
    const struct metrics_spec *metrics;
    size_t metrics_bytes;
    /* Before the start, and for --check-config: whether an option is wrong, or wrong
     * beside another one. Opens nothing. NULL: the tables say all. */
    bool (*is_wrong)(const void *options, const struct mesh_options *mesh,
                     struct service_wrong *wrong);
    /* Make and begin everything. 0, or -errno after logging why. */
    int (*start)(struct service *service);
    /* Begin to end: refuse new work, finish what is in hand, then service_stop(). With
     * `hurry`: now. May be called twice, the second time with hurry. */
    void (*drain)(struct service *service, bool hurry);
    /* Once, after the loop ended, also after a failed start(): free everything. libuv
     * handles are closed here; the skeleton runs the loop once more for their callbacks.
     */
    void (*stop)(struct service *service);
    /* Every FOLDER_LOOK_MS: look after files in the runtime folder (runtime/folder.h),
     * and `touch` them. NULL: the program has none. */
    void (*look)(struct service *service, bool touch);
};

/* Returns the process's exit code. */
int service_main(const struct service_spec *spec, int argc, char **argv);

/* The program's own state; set in start(). */
void service_set_data(struct service *service, void *data);
void *service_data(const struct service *service);

uv_loop_t *service_loop(struct service *service);
void *service_zmq(struct service *service); /* the ZeroMQ context; made on first use */
/* The keys of curve_key and curve_server (runtime/curve.h); NULL where there are none. */
struct curve *service_curve(const struct service *service);
const struct mesh_options *service_mesh(const struct service *service);
const void *service_options(const struct service *service);
void *service_metrics(struct service *service); /* the metrics struct, zeroed at start */
const struct metrics_spec *service_metrics_spec(const struct service *service);
const char *service_name(const struct service *service);
const char *service_instance(const struct service *service); /* "broker@host:pid" */
uint64_t service_now_us(const struct service *service); /* monotonic, the loop's time */
void service_random(void *bytes, size_t size);          /* getrandom(2) */

/* This process holds a secret from now on (a key, a password, a token): it leaves no core
 * file, and no other process of its user reads its memory or environment. */
void service_hide_memory(void);

/* Say that the program is ready: a log line, and sd_notify(3)'s READY=1 with
 * STATUS=`what` where $NOTIFY_SOCKET is set (systemd, `siftmesh up`). */
void service_ready(struct service *service, const char *what, ...)
    __attribute__((format(printf, 2, 3)));
/*
 * The same of a service that listens for HTTP at `listen` (HOST:PORT), at this port; who
 * started it with port 0 finds the port in the file NAME.port of the runtime folder, for
 * as long as it lives. Where another process of the same service holds the file, it stays
 * that one's. 0 or -errno, logged.
 */
int service_listening(struct service *service, const char *listen, uint16_t port);
bool service_draining(const struct service *service);
/* The first signal that asked for the end, SIGTERM, SIGINT or SIGHUP; 0: none came. */
int service_signal(const struct service *service);

/* Leave the loop soon; `err` 0, or the -errno that the process ends for. */
void service_stop(struct service *service, int err);

/*
 * The endpoint NAME ("front", "back", "events") of the broker: the option of that name
 * where it is set, else ipc in the runtime folder. Borrowed for ever.
 */
const char *service_endpoint(const struct service *service, const char *name);

/* A path in the runtime folder, malloc'd; NULL: out of memory. */
char *service_path(const struct service *service, const char *name);

/*
 * For programs that are no service: the runtime folder where no option names one; make
 * it, or check that it is ours alone (0700, this user; logged where not); sd_notify(3).
 * 0, -ENAMETOOLONG, -EPERM or another -errno.
 */
int service_runtime_dir(char *out, size_t capacity);
int service_make_runtime_dir(const char *path);
void service_notify(const char *text);

#endif
