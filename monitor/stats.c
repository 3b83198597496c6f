#include "monitor/stats.h"

#include "monitor/series.h"

#include <errno.h>
#include <string.h>

json_t *monitor_stats_parse(const void *bytes, size_t size)
{
    if (size == 0 || size > MONITOR_STATS_BYTES_MAX)
        return NULL;
    json_t *stats = json_loadb(bytes, size, JSON_REJECT_DUPLICATES, NULL);
    if (stats != NULL && !json_is_object(stats)) {
        json_decref(stats);
        return NULL;
    }
    return stats;
}

/* A count; 0 for what is missing, no number or negative. */
static uint64_t count_of(const json_t *object, const char *name)
{
    double value = json_number_value(json_object_get(object, name));
    return value > 0 && value < 1e15 ? (uint64_t)value : 0;
}

/* ---- what the policy needs ---- */

/* Requests that people wait for: those that gateways hold, and other clients' own. */
static uint64_t active_clients(const json_t *stats)
{
    json_t *clients = json_object_get(stats, "clients"), *client;
    uint64_t active = 0;
    size_t i;

    json_array_foreach (clients, i, client) {
        json_t *own = json_object_get(client, "stats");
        if (json_object_get(own, "in_flight") != NULL)
            active += count_of(own, "in_flight");
        else
            active += count_of(client, "jobs") > 0;
    }
    return active;
}

struct monitor_load monitor_stats_load(const json_t *stats, const char *service)
{
    json_t *services = json_object_get(stats, "services");
    json_t *ours = json_object_get(services, service);

    if (!json_is_object(ours))
        return (struct monitor_load){.known = json_is_object(services),
                                     .clients = active_clients(stats)};
    return (struct monitor_load){
        .known = true,
        .slots_default = count_of(ours, "slots_default"),
        .clients = active_clients(stats),
        .operator_slots = count_of(json_object_get(ours, "targets"), "operator")};
}

/* ---- Prometheus ---- */

struct place {
    struct monitor_series *series;
    char prefix[64];
    char labels[MONITOR_SERIES_LABELS_BYTES];
};

static void add(const struct place *place, const char *name, const char *suffix,
                double value)
{
    char full[MONITOR_SERIES_NAME_BYTES];

    snprintf(full, sizeof full, "%s_%.56s%s", place->prefix, name, suffix);
    monitor_series_add(place->series, full, place->labels, value);
}

static bool is_number(const json_t *value)
{
    return json_is_number(value) || json_is_boolean(value);
}

static double number_of(const json_t *value)
{
    return json_is_boolean(value) ? json_is_true(value) : json_number_value(value);
}

/* {count, sum_us, p50_us, p99_us}: as Prometheus writes a summary. */
static void add_times(const struct place *place, const char *name, json_t *times)
{
    static const char *const keys[] = {"p50_us", "p99_us"};
    static const char *const quantiles[] = {"0.5", "0.99"};

    add(place, name, "_seconds_count",
        json_number_value(json_object_get(times, "count")));
    add(place, name, "_seconds_sum",
        json_number_value(json_object_get(times, "sum_us")) / 1e6);
    for (int i = 0; i < 2; i++) {
        struct place at = *place;
        json_t *value = json_object_get(times, keys[i]);
        if (!json_is_number(value))
            continue;
        monitor_series_label(at.labels, "quantile", quantiles[i]);
        add(&at, name, "_seconds", json_number_value(value) / 1e6);
    }
}

static void add_members(const struct place *place, const char *name, const char *label,
                        json_t *members)
{
    const char *member;
    json_t *value;

    json_object_foreach (members, member, value) {
        struct place at = *place;
        if (!is_number(value))
            continue;
        monitor_series_label(at.labels, label, member);
        add(&at, name, "", number_of(value));
    }
}

/* {label: {value: number}}, as metrics_json writes it, or just {kind: number}. */
static void add_family(const struct place *place, const char *name, json_t *family)
{
    const char *label;
    json_t *members;

    json_object_foreach (family, label, members)
        if (json_is_object(members))
            add_members(place, name, label, members);
    add_members(place, name, "kind", family);
}

/* Numbers, families and times of one object; nothing deeper. */
static void add_object(const struct place *place, json_t *object)
{
    const char *name;
    json_t *value;

    json_object_foreach (object, name, value) {
        if (is_number(value))
            add(place, name, "", number_of(value));
        else if (json_is_object(value) && json_object_get(value, "sum_us") != NULL)
            add_times(place, name, value);
        else if (json_is_object(value))
            add_family(place, name, value);
    }
}

static void add_queues(const struct place *place, json_t *queues)
{
    static const char *const priorities[] = {"high", "normal", "batch"};
    json_t *queue;
    size_t i;

    json_array_foreach (queues, i, queue) {
        struct place at = *place;
        if (i >= 3)
            break;
        snprintf(at.prefix, sizeof at.prefix, "siftmesh_broker_queue");
        monitor_series_label(at.labels, "priority", priorities[i]);
        add_object(&at, queue);
    }
}

static void add_services(struct monitor_series *series, json_t *services)
{
    const char *name;
    json_t *service;

    json_object_foreach (services, name, service) {
        struct place place = {.series = series, .prefix = "siftmesh_broker_service"};
        monitor_series_label(place.labels, "service", name);
        add_object(&place, service);
        add_queues(&place, json_object_get(service, "queues"));
    }
}

/* What the broker knows of a peer, and what the peer says of itself. Its name is
 * "process@host:pid", and the process is the part of its metrics' names. */
static void add_peers(struct monitor_series *series, const char *kind, json_t *peers)
{
    json_t *peer;
    size_t i;

    json_array_foreach (peers, i, peer) {
        struct place place = {.series = series};
        const char *name = json_string_value(json_object_get(peer, "name"));
        if (name == NULL)
            continue;
        monitor_series_label(place.labels, "instance", name);
        snprintf(place.prefix, sizeof place.prefix, "siftmesh_%.*s",
                 (int)(strcspn(name, "@") < 32 ? strcspn(name, "@") : 32), name);
        /* A monitor shows its own with their types; a name cannot have two. */
        if (strncmp(name, "monitor", strlen("monitor")) != 0)
            add_object(&place, json_object_get(peer, "stats"));
        snprintf(place.prefix, sizeof place.prefix, "siftmesh_broker_%s", kind);
        json_t *known = json_copy(peer);
        json_object_del(known, "stats");
        json_object_del(known, "pid"); /* names, not measures */
        json_object_del(known, "slot_base");
        add_object(&place, known);
        json_decref(known);
    }
}

int monitor_stats_prometheus(const json_t *stats, FILE *out)
{
    struct monitor_series series = {.max = MONITOR_SERIES_MAX};
    struct place broker = {.series = &series, .prefix = "siftmesh_broker"};
    json_t *own = json_copy((json_t *)stats);

    if (own == NULL)
        return -ENOMEM;
    json_object_del(own, "epoch"); /* a name, not a measure */
    json_object_del(own, "services");
    json_object_del(own, "workers");
    json_object_del(own, "clients");
    add_object(&broker, json_object_get(own, "counters"));
    json_object_del(own, "counters");
    add_object(&broker, own);
    add_services(&series, json_object_get(stats, "services"));
    add_peers(&series, "worker", json_object_get(stats, "workers"));
    add_peers(&series, "client", json_object_get(stats, "clients"));
    json_decref(own);
    monitor_series_write(&series, out);
    fprintf(out,
            "# TYPE siftmesh_monitor_series_left_out gauge\n"
            "siftmesh_monitor_series_left_out %zu\n",
            series.left_out);
    monitor_series_free(&series);
    return 0;
}
