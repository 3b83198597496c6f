/*
 * status.c - `siftmesh status`, `scale` and `drain`: an operator's view and hand.
 */
#include "client/command/command.h"

#include <getopt.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <time.h>

#define CONTROL_TIMEOUT_MS 5000
#define SLOTS_MAX          4096
#define HOLD_DEFAULT_S     3600
#define HOLD_MAX_S         (7 * 86400)

struct control {
    struct command_mesh mesh;
    bool json;
    long hold_s;
    const char *word; /* the one argument, or NULL */
};

static bool parse_number(const char *word, long min, long max, long *out)
{
    char *end;

    if (word == NULL || *word == '\0')
        return false;
    *out = strtol(word, &end, 10);
    return *end == '\0' && *out >= min && *out <= max;
}

/* A number below 0 is no option, but a wrong argument: out of getopt's sight, unless it
 * is the value of --for. */
static const char *take_negative(int *argc, char **argv)
{
    for (int i = 1; i < *argc; i++) {
        bool is_number = argv[i][0] == '-' && argv[i][1] >= '0' && argv[i][1] <= '9';
        if (!is_number || strcmp(argv[i - 1], "--for") == 0)
            continue;
        const char *word = argv[i];
        memmove(&argv[i], &argv[i + 1], (size_t)(*argc - i) * sizeof argv[0]);
        --*argc;
        return word;
    }
    return NULL;
}

/* Options that the three commands share; `takes` names the one argument, NULL: none is
 * taken. 0, an exit code, or -1 for --help. */
static int parse(struct control *control, const char *takes, int argc, char **argv)
{
    static const struct option options[] = {COMMAND_MESH_OPTIONS,
                                            {"json", no_argument, NULL, 'j'},
                                            {"for", required_argument, NULL, 'f'},
                                            {"help", no_argument, NULL, 'h'},
                                            {0}};
    const char *word = take_negative(&argc, argv), *hold = NULL;
    int c, which = 0;

    control->hold_s = HOLD_DEFAULT_S;
    while ((c = getopt_long(argc, argv, "h", options, &which)) != -1) {
        if (c == 'm')
            (void)command_mesh_option(&control->mesh, options[which].name, optarg);
        else if (c == 'j')
            control->json = true;
        else if (c == 'f')
            hold = optarg;
        else
            return c == 'h' ? -1 : EX_USAGE;
    }
    if (hold != NULL && !parse_number(hold, 1, HOLD_MAX_S, &control->hold_s)) {
        fprintf(stderr, "siftmesh %s: --for is %s, must be 1 to %d seconds\n", argv[0],
                command_shown(hold), HOLD_MAX_S);
        return EX_USAGE;
    }
    if (word == NULL && takes != NULL && optind < argc)
        word = argv[optind++];
    const char *extra = optind < argc ? argv[optind] : takes == NULL ? word : NULL;
    if (extra != NULL) {
        fprintf(stderr, "siftmesh %s: unknown argument '%s'; it takes %s%s\n", argv[0],
                command_shown(extra), takes != NULL ? "one " : "options alone",
                takes != NULL ? takes : "");
        return EX_USAGE;
    }
    control->word = word;
    return command_mesh_find(&control->mesh);
}

static int report(const char *what, int err, const struct siftmesh_result *result)
{
    if (err < 0) {
        fprintf(stderr, "siftmesh %s: no answer: %s\n", what, strerror(-err));
        return EX_TEMPFAIL;
    }
    if (result->status != PROTO_STATUS_OK) {
        fprintf(stderr, "siftmesh %s: %s: %s\n", what, proto_status_code(result->status),
                result->outcome.detail);
        return command_exit_code(result->status);
    }
    return EX_OK;
}

/* ---- status ---- */

static double number(const json_t *object, const char *name)
{
    return json_number_value(json_object_get(object, name));
}

static const char *text(const json_t *object, const char *name)
{
    const char *value = json_string_value(json_object_get(object, name));
    return value != NULL ? command_shown(value) : "-";
}

static void print_services(const json_t *services)
{
    const char *name;
    json_t *service, *queue;
    size_t i;

    printf("\n%-9s %7s %7s %8s %8s  %s\n", "service", "slots", "target", "running",
           "workers", "queued high/normal/batch, MiB");
    json_object_foreach ((json_t *)services, name, service) {
        double jobs[3] = {0}, bytes = 0;
        json_array_foreach (json_object_get(service, "queues"), i, queue) {
            if (i < 3)
                jobs[i] = number(queue, "jobs");
            bytes += number(queue, "bytes");
        }
        char slots[16] = "-", target[16] = "-"; /* a service without slots */
        if (number(service, "target") > 0) {
            snprintf(slots, sizeof slots, "%.0f", number(service, "slots"));
            snprintf(target, sizeof target, "%.0f", number(service, "target"));
        }
        printf("%-9s %7s %7s %8.0f %8.0f  %.0f/%.0f/%.0f, %.1f\n", command_shown(name),
               slots, target, number(service, "running"), number(service, "workers"),
               jobs[0], jobs[1], jobs[2], bytes / 1048576);
    }
}

static void print_slots(const json_t *worker)
{
    json_t *slots = json_object_get(json_object_get(worker, "stats"), "slot_list"), *slot;
    size_t i;

    json_array_foreach (slots, i, slot) {
        printf("    slot %-4.0f %-9s pid %-8.0f %6.0f jobs %8.1f MiB\n",
               number(worker, "slot_base") + number(slot, "slot"), text(slot, "state"),
               number(slot, "pid"), number(slot, "jobs"),
               number(slot, "rss_bytes") / 1048576);
    }
}

/* How often `siftmesh up` started it again, where it did: the end of a line. */
static void print_restarts(const json_t *stats)
{
    double restarts = number(stats, "restarts_total");

    if (restarts > 0)
        printf(", restarts %.0f", restarts);
    printf("\n");
}

static void print_peers(const json_t *stats)
{
    json_t *peer;
    size_t i;

    printf("\nworkers\n");
    json_array_foreach (json_object_get(stats, "workers"), i, peer) {
        printf("  %-34s %-8s credit %.0f", text(peer, "name"), text(peer, "service"),
               number(peer, "credit"));
        print_restarts(json_object_get(peer, "stats"));
        print_slots(peer);
    }
    printf("clients\n");
    json_array_foreach (json_object_get(stats, "clients"), i, peer) {
        printf("  %-34s %-8s open %.0f", text(peer, "name"), text(peer, "role"),
               number(peer, "jobs"));
        print_restarts(json_object_get(peer, "stats"));
    }
}

static void print_cache(const json_t *stats)
{
    json_t *peer;
    size_t i;

    json_array_foreach (json_object_get(stats, "workers"), i, peer) {
        json_t *s = json_object_get(peer, "stats");
        if (strcmp(text(peer, "service"), "cache") != 0)
            continue;
        double hits = number(s, "hits_total"), misses = number(s, "misses_total");
        printf("\ncache     %.0f results, %.1f MiB; hits %.0f, misses %.0f (%.0f %%)\n",
               number(s, "entries"), number(s, "bytes") / 1048576, hits, misses,
               hits + misses > 0 ? 100 * hits / (hits + misses) : 0.0);
    }
}

static void print_status(const json_t *stats, const char *front)
{
    printf("mesh      %s\n", command_shown(front));
    printf("broker    epoch %.0f, up %.0f s, mode %s, open jobs %.0f, %.1f MiB",
           number(stats, "epoch"), number(stats, "uptime_s"), text(stats, "mode"),
           number(stats, "jobs"), number(stats, "bytes") / 1048576);
    print_restarts(json_object_get(stats, "counters"));
    print_services(json_object_get(stats, "services"));
    print_peers(stats);
    print_cache(stats);
}

int command_status(int argc, char **argv)
{
    struct control control = {0};
    struct siftmesh_result result = {0};
    int code = parse(&control, NULL, argc, argv);

    if (code != 0) {
        if (code < 0)
            printf("Usage: siftmesh status [--json] [OPTION...]\n"
                   "Show services, slots, queues and cache on one "
                   "screen.\n\n" COMMAND_MESH_HELP);
        return code < 0 ? EX_OK : code;
    }
    struct siftmesh *mesh = command_connect(&control.mesh);
    command_mesh_wipe(&control.mesh);
    if (mesh == NULL)
        return EX_UNAVAILABLE;
    int err = siftmesh_control(mesh, PROTO_STATS, NULL, PROTO_STATS, NULL,
                               CONTROL_TIMEOUT_MS, &result);
    code = report("status", err, &result);
    json_t *stats = result.bytes != NULL
                        ? json_loadb((char *)result.bytes, result.size, 0, NULL)
                        : NULL;
    if (code == EX_OK && stats == NULL)
        code = EX_PROTOCOL;
    else if (code == EX_OK && control.json)
        command_print_json(stats, JSON_COMPACT);
    else if (code == EX_OK)
        print_status(stats, control.mesh.front);
    json_decref(stats);
    siftmesh_result_free(&result);
    siftmesh_close(mesh);
    return code;
}

/* ---- scale and drain ---- */

static int scale(struct control *control, long target)
{
    struct siftmesh_result result = {0};
    struct proto_scaled scaled = {0};
    struct timespec now;
    struct siftmesh *mesh = command_connect(&control->mesh);

    command_mesh_wipe(&control->mesh);
    if (mesh == NULL)
        return EX_UNAVAILABLE;
    clock_gettime(CLOCK_REALTIME, &now);
    struct proto_scale body = {.service = "extract",
                               .target = (uint64_t)target,
                               .seq = (uint64_t)now.tv_sec * 1000 +
                                      (uint64_t)now.tv_nsec / 1000000,
                               .ttl_ms = (uint64_t)control->hold_s * 1000,
                               .source = "operator",
                               .reason = "siftmesh scale"};
    int err = siftmesh_control(mesh, PROTO_SCALE, &body, PROTO_SCALED, &scaled,
                               CONTROL_TIMEOUT_MS, &result);
    int code = report("scale", err, &result);
    if (code == EX_OK)
        printf("target %llu, slots now %llu of at most %llu, running %llu%s%s\n",
               (unsigned long long)scaled.target, (unsigned long long)scaled.slots,
               (unsigned long long)scaled.slots_max, (unsigned long long)scaled.running,
               scaled.reason[0] ? ": " : "", scaled.reason);
    if (code == EX_OK && scaled.slots_max > 0 && (uint64_t)target > scaled.slots_max)
        fprintf(stderr, "siftmesh scale: %ld asked, slots_max is %llu\n", target,
                (unsigned long long)scaled.slots_max);
    siftmesh_result_free(&result);
    siftmesh_close(mesh);
    return code;
}

int command_scale(int argc, char **argv)
{
    struct control control = {0};
    long target;
    int code = parse(&control, "N", argc, argv);

    if (code < 0) {
        printf(
            "Usage: siftmesh scale N [--for SECONDS] [OPTION...]\n"
            "Set the target to N slots, up to slots_max, for an hour unless --for says\n"
            "otherwise; 0 takes the number back. The monitor may still ask for "
            "fewer.\n\n" COMMAND_MESH_HELP);
        return EX_OK;
    }
    if (code != 0)
        return code;
    if (!parse_number(control.word, 0, SLOTS_MAX, &target)) {
        fprintf(stderr, "siftmesh scale: N is %s, must be 0 to %d slots\n",
                control.word ? command_shown(control.word) : "missing", SLOTS_MAX);
        return EX_USAGE;
    }
    return scale(&control, target);
}

int command_drain(int argc, char **argv)
{
    struct control control = {0};
    struct siftmesh_result result = {0};
    struct proto_drain answer = {0};
    long slot;
    int code = parse(&control, "SLOT", argc, argv);

    if (code < 0) {
        printf(
            "Usage: siftmesh drain SLOT [OPTION...]\n"
            "Let a slot finish the job in hand and be replaced by a new one; `siftmesh\n"
            "status` shows the numbers.\n\n" COMMAND_MESH_HELP);
        return EX_OK;
    }
    if (code != 0)
        return code;
    if (!parse_number(control.word, 1, 1000000, &slot)) {
        fprintf(stderr, "siftmesh drain: SLOT is %s, must be 1 or more\n",
                control.word ? command_shown(control.word) : "missing");
        return EX_USAGE;
    }
    struct siftmesh *mesh = command_connect(&control.mesh);
    command_mesh_wipe(&control.mesh);
    if (mesh == NULL)
        return EX_UNAVAILABLE;
    struct proto_drain body = {.slot = (uint64_t)slot};
    int err = siftmesh_control(mesh, PROTO_DRAIN, &body, PROTO_DRAIN, &answer,
                               CONTROL_TIMEOUT_MS, &result);
    code = report("drain", err, &result);
    if (code == EX_OK)
        printf("slot %ld drains\n", slot);
    siftmesh_result_free(&result);
    siftmesh_close(mesh);
    return code;
}
