/*
 * STATS: the whole state as one JSON object. Names are read by the monitor and by
 * `siftmesh status`; docs/OPERATIONS.md shows them.
 */
#include "broker/broker.h"
#include "runtime/descriptors.h"

#include <inttypes.h>
#include <string.h>

static json_t *integer(uint64_t value)
{
    return json_integer((json_int_t)value);
}

static json_t *queues(const struct broker_core_service_view *view)
{
    json_t *array = json_array();

    for (int i = 0; i < PROTO_PRIORITIES; i++)
        json_array_append_new(array, json_pack("{s:o, s:o}", "jobs",
                                               integer(view->lanes[i].jobs), "bytes",
                                               integer(view->lanes[i].bytes)));
    return array;
}

/* Live targets by source. */
static json_t *targets(const struct broker_core_service_view *view)
{
    json_t *object = json_object();

    for (int i = 0; i < BROKER_CORE_SOURCES; i++)
        if (view->sources[i].live && view->sources[i].target > 0)
            json_object_set_new(object, view->sources[i].name,
                                integer(view->sources[i].target));
    return object;
}

static json_t *services(const struct broker *broker)
{
    json_t *object = json_object();
    struct broker_core_service_view v;

    for (uint32_t i = 0; i < BROKER_CORE_SERVICES_MAX; i++) {
        if (!broker_core_service(broker->core, i, &v))
            continue;
        json_object_set_new(
            object, v.name,
            json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:s, s:o, s:o, s:o}", "target",
                      integer(v.target), "slots", integer(v.slots), "slots_default",
                      integer(v.slots_default), "slots_max", integer(v.slots_max),
                      "workers", integer(v.workers), "running", integer(v.running),
                      "aborting", integer(v.aborting), "reason", v.reason,
                      "job_interval_us", integer(v.job_interval_us), "targets",
                      targets(&v), "queues", queues(&v)));
    }
    return object;
}

/* What the peer said of itself; bytes of a peer, so they are parsed only here. */
static void add_stats(json_t *object, const struct broker_peer *peer)
{
    json_t *stats =
        peer->stats != NULL ? json_loadb(peer->stats, peer->stats_bytes, 0, NULL) : NULL;

    if (json_is_object(stats))
        json_object_set(object, "stats", stats);
    json_decref(stats);
}

static json_t *identity(const struct broker *broker, const struct broker_peer *peer)
{
    uint64_t up_us = broker_now_us(broker) - peer->since_us;

    /* The body's decoder has cleaned them; json_pack() fails on what is no UTF-8. */
    return json_pack("{s:s, s:s, s:o}", "name", peer->name, "version", peer->version,
                     "session_s", integer(up_us / 1000000));
}

static json_t *worker(const struct broker *broker, const struct broker_peer *peer)
{
    struct broker_core_worker_view v;
    json_t *object = identity(broker, peer);

    if (object == NULL || !broker_core_worker(broker->core, peer->index, &v))
        return object;
    json_t *more = json_pack(
        "{s:s, s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:b}", "service", peer->role,
        "host", peer->host, "pid", integer(peer->pid), "credit", integer(v.credit),
        "slots", integer(v.slots), "slots_max", integer(v.slots_max), "share",
        integer(v.share), "jobs", integer(v.jobs), "bytes", integer(v.bytes), "aborting",
        integer(v.aborting), "leaving", v.leaving);
    json_object_update(object, more);
    json_decref(more);
    if (v.number != BROKER_CORE_NONE)
        json_object_set_new(object, "slot_base",
                            integer((uint64_t)v.number * BROKER_CORE_SLOTS_PER));
    add_stats(object, peer);
    return object;
}

static json_t *client(const struct broker *broker, const struct broker_peer *peer)
{
    struct broker_core_client_view v;
    json_t *object = identity(broker, peer);

    if (object == NULL || !broker_core_client(broker->core, peer->index, &v))
        return object;
    json_object_set_new(object, "role", json_string(peer->role));
    json_object_set_new(object, "jobs", integer(v.jobs));
    json_object_set_new(object, "bytes", integer(v.bytes));
    add_stats(object, peer);
    return object;
}

/* Numbers that follow each other as "1 to 3". */
static void add_slot(FILE *out, uint64_t slot, uint64_t *first, uint64_t *last)
{
    if (*last != 0 && slot == *last + 1) {
        *last = slot;
        return;
    }
    if (*last > *first)
        fprintf(out, " to %" PRIu64, *last);
    if (slot != 0)
        fprintf(out, "%s%" PRIu64, *last != 0 ? ", " : "", slot);
    *first = *last = slot;
}

/* The slots that a worker has told of in its statistics, a new reference; NULL: of none.
 */
static json_t *slot_list(const struct broker_peer *peer)
{
    json_t *object = json_object();

    add_stats(object, peer);
    json_t *list = json_object_get(json_object_get(object, "stats"), "slot_list");
    json_incref(list);
    json_decref(object);
    return list;
}

bool broker_stats_has_slot(const struct broker *broker, uint64_t slot, char *why,
                           size_t why_bytes)
{
    struct broker_core_worker_view v;
    uint64_t first = 0, last = 0;
    bool has = false;
    FILE *out = fmemopen(why, why_bytes, "w");

    if (out == NULL)
        return true;
    fputs("no worker has this slot; there are: ", out);
    for (uint32_t i = 0; i < broker->workers.max && !has; i++) {
        const struct broker_peer *peer = &broker->workers.all[i];
        if (!peer->used || !broker_core_worker(broker->core, peer->index, &v) ||
            v.number == BROKER_CORE_NONE)
            continue;
        uint64_t base = (uint64_t)v.number * BROKER_CORE_SLOTS_PER;
        json_t *list = slot_list(peer), *one;
        size_t n;
        json_array_foreach (list, n, one) {
            json_t *number = json_object_get(one, "slot");
            has = has || base + (uint64_t)json_integer_value(number) == slot;
            add_slot(out, base + (uint64_t)json_integer_value(number), &first, &last);
        }
        /* One that has not told yet may have it. */
        has = has || (list == NULL && slot / BROKER_CORE_SLOTS_PER == v.number);
        json_decref(list);
    }
    add_slot(out, 0, &first, &last);
    fclose(out);
    why[why_bytes - 1] = '\0';
    return has;
}

static json_t *peers(const struct broker *broker, const struct broker_peers *all,
                     json_t *(*one)(const struct broker *, const struct broker_peer *))
{
    json_t *array = json_array();

    for (uint32_t i = 0; i < all->max; i++)
        if (all->all[i].used)
            json_array_append_new(array, one(broker, &all->all[i]));
    return array;
}

static void count_connections(struct broker_metrics *m, const struct endpoint *const *all,
                              int count)
{
    m->connections = m->connections_ended = 0;
    memset(m->handshakes_failed, 0, sizeof m->handshakes_failed);
    for (int i = 0; i < count; i++) {
        const struct handshake_counters *c = endpoint_handshakes(all[i]);
        m->connections += c->accepted;
        m->connections_ended += c->ended;
        for (int why = 0; why < HANDSHAKE_FAILURES; why++)
            m->handshakes_failed[why] += c->failed[why];
    }
}

static void note_refused(struct broker *broker)
{
    uint64_t refused = descriptors_refused();

    if (refused > broker->metrics->connections_refused)
        log_limited(LOG_WARNING, &broker->refused_quiet, broker_now_us(broker),
                    "connections refused", "descriptors=all but the reserve refused=%llu",
                    (unsigned long long)refused);
    broker->metrics->connections_refused = refused;
}

static void update_metrics(struct broker *broker, const struct broker_core_view *view)
{
    const struct broker_core_counters *c = broker_core_counters(broker->core);
    const struct endpoint_counters *front = endpoint_counters(broker->front);
    const struct endpoint_counters *back = endpoint_counters(broker->back);
    const struct endpoint *all[] = {broker->front, broker->back, broker->events};
    struct broker_metrics *m = broker->metrics;

#define COUNTER(field, help) m->field = c->field;
#include "broker/core/counters.tbl"
#undef COUNTER
    for (int i = 0; i < PROTO_STATUS_COUNT; i++) {
        m->requests_ended[i] = c->ended[i];
        m->requests_rejected[i] = c->rejected[i];
    }
    m->messages_received = front->received + back->received;
    m->messages_sent = front->sent + back->sent;
    m->messages_dropped = front->dropped + back->dropped;
    count_connections(m, all, 3);
    note_refused(broker);
    m->clients = broker->clients.count;
    m->workers = broker->workers.count;
    m->requests_open = view->jobs;
    m->requests_open_bytes = view->bytes;
    m->jobs_cost_bytes = view->cost;
    m->memory_budget_bytes = broker->memory_budget;
    m->level = view->level;
    m->finals_held_bytes = broker->held_bytes;
}

json_t *broker_stats(struct broker *broker)
{
    struct broker_core_view view;
    uint64_t up_us = broker_now_us(broker) - broker->started_us;

    broker_core_look(broker->core, &view);
    update_metrics(broker, &view);
    return json_pack(
        "{s:o, s:o, s:o, s:o, s:o, s:s, s:s, s:s, s:b, s:o, s:o, s:o, s:o, s:o, s:o}",
        "epoch", integer(broker->epoch), "cost", integer(view.cost), "memory_budget",
        integer(broker->memory_budget), "quarantined", integer(view.quarantined),
        "uptime_s", integer(up_us / 1000000), "version", SIFTMESH_VERSION, "mode",
        broker_core_level_name(view.level), "mode_reason", view.level_reason, "draining",
        view.draining, "jobs", integer(view.jobs), "bytes", integer(view.bytes),
        "services", services(broker), "workers", peers(broker, &broker->workers, worker),
        "clients", peers(broker, &broker->clients, client), "counters",
        metrics_json(service_metrics_spec(broker->service), broker->metrics));
}
