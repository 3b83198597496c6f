/* Events of clients. */
#include "broker/core/state.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

int broker_core_hello(struct broker_core *core, uint32_t index, uint64_t now_us)
{
    assert(index < core->limits.clients_max);
    struct broker_core_client *client = &core->clients[index];

    if (client->open) {
        client->heard_us = now_us;
        return -EALREADY;
    }
    *client = (struct broker_core_client){
        .open = true,
        .heard_us = now_us,
        .timer = {.kind = BROKER_CORE_TIMER_CLIENT, .owner = index},
    };
    broker_core_list_init(&client->all);
    broker_core_heap_set(&core->heap, &client->timer, now_us + core->limits.silence_us);
    return 0;
}

int broker_core_client_heard(struct broker_core *core, uint32_t index, uint64_t now_us)
{
    assert(index < core->limits.clients_max);
    if (!core->clients[index].open)
        return -ENOTCONN;
    core->clients[index].heard_us = now_us;
    return 0;
}

void broker_core_client_hold(struct broker_core *core, uint32_t index, bool held,
                             uint64_t now_us)
{
    assert(index < core->limits.clients_max);
    struct broker_core_client *client = &core->clients[index];

    if (!client->open || client->held == held)
        return;
    client->held = held;
    /* Also when it is held: its first job may have had to wait, and others behind it. */
    broker_core_dispatch(core, now_us);
}

struct refusal {
    enum proto_status status;
    const char *detail;
    uint64_t limit, actual;
};

static bool over(struct refusal *refusal, const char *detail, uint64_t limit,
                 uint64_t actual)
{
    if (actual <= limit)
        return false;
    *refusal = (struct refusal){PROTO_STATUS_FULL, detail, limit, actual};
    return true;
}

/* Of a bound that all priorities share. What adds nothing to it passes. */
static bool over_part(struct refusal *refusal, const char *detail, uint64_t limit,
                      uint64_t used, uint64_t more, unsigned priority)
{
    return more > 0 && over(refusal, detail, proto_priority_limit(limit, used, priority),
                            used + more);
}

/* No sum can overflow: a payload's bytes are bounded before they are added. */
static bool no_room(const struct broker_core *core, const struct broker_core_client *c,
                    const struct broker_core_lane *lane,
                    const struct broker_core_request *request, struct refusal *refusal)
{
    const struct broker_core_limits *l = &core->limits;
    unsigned priority = request->priority;
    uint64_t bytes = request->bytes;

    return over_part(refusal, "the client has too many open requests", l->client_jobs,
                     c->jobs, 1, priority) ||
           over_part(refusal, "the client's open requests are too large", l->client_bytes,
                     c->bytes, bytes, priority) ||
           over(refusal, "the lane has too many jobs", l->lane_jobs, lane->jobs + 1ull) ||
           over(refusal, "the lane's jobs are too large", l->lane_bytes,
                lane->bytes + bytes) ||
           over_part(refusal, "the jobs of all services are too large", l->total_bytes,
                     core->bytes, bytes, priority) ||
           over_part(refusal, "the broker has too many jobs", l->jobs_max,
                     core->jobs_open, 1, priority);
}

/* It could never be dispatched; and nobody would see why it waits. */
static bool too_costly(const struct broker_core *core,
                       const struct broker_core_request *request)
{
    uint64_t budget = core->limits.memory_budget;

    return budget > 0 && request->cost_bytes > budget;
}

static bool unfit(struct broker_core *core, uint32_t client,
                  const struct broker_core_request *request, struct refusal *refusal)
{
    static const struct proto_id none;
    uint64_t largest = core->limits.payload_bytes_max;

    if (core->draining)
        *refusal = (struct refusal){PROTO_STATUS_DRAINING, "the broker stops", 0, 0};
    else if (memcmp(&request->id, &none, sizeof(none)) == 0)
        *refusal = (struct refusal){PROTO_STATUS_BAD_REQUEST, "the id is zero", 0, 0};
    else if (request->priority >= PROTO_PRIORITIES)
        *refusal = (struct refusal){PROTO_STATUS_BAD_REQUEST, "no such priority",
                                    PROTO_PRIORITIES - 1, request->priority};
    else if (broker_core_job_find(core, client, &request->id) != NULL)
        *refusal = (struct refusal){PROTO_STATUS_BAD_REQUEST, "the id is open", 0, 0};
    else if (request->bytes > largest)
        *refusal = (struct refusal){PROTO_STATUS_TOO_LARGE, "the payload is too large",
                                    largest, request->bytes};
    else if (too_costly(core, request))
        *refusal = (struct refusal){PROTO_STATUS_TOO_MANY_PIXELS,
                                    "the work needs more memory than memory_budget, "
                                    "the bytes of all jobs together",
                                    core->limits.memory_budget, request->cost_bytes};
    else
        return false;
    return true;
}

static int reject(struct broker_core *core, uint32_t client,
                  const struct broker_core_request *request,
                  const struct refusal *refusal,
                  const struct broker_core_service *service)
{
    struct broker_core_action *action = broker_core_act(core, BROKER_CORE_REJECT, client);

    action->request = request->id;
    action->status = (uint16_t)refusal->status;
    action->limit = refusal->limit;
    action->actual = refusal->actual;
    action->text = refusal->detail;
    if (service != NULL)
        action->retry_after_ms = broker_core_service_retry_ms(service);
    core->counters.rejected[refusal->status]++;
    return -EAGAIN;
}

/* Better refused now than after its whole time, and without work for nothing. */
static bool too_late(const struct broker_core *core, uint32_t service,
                     const struct broker_core_request *request, struct refusal *refusal)
{
    uint64_t wait_us = broker_core_service_wait_us(core, service, request->priority);
    uint64_t budget_us = broker_core_job_budget_us(core, request->budget_ms);

    return over(refusal, "the queue is longer than the request's time, in ms",
                budget_us / 1000, (wait_us + 999) / 1000);
}

static bool poisoned(struct broker_core *core, uint32_t service,
                     const struct broker_core_request *request, uint64_t now_us)
{
    return request->key != NULL &&
           broker_core_quarantine_left_us(core, service, request->key, now_us) > 0;
}

int broker_core_submit(struct broker_core *core, uint32_t index,
                       const struct broker_core_request *request, uint64_t now_us)
{
    struct refusal refusal;

    if (broker_core_client_heard(core, index, now_us) < 0)
        return -ENOTCONN;
    if (unfit(core, index, request, &refusal))
        return reject(core, index, request, &refusal, NULL);

    int named = broker_core_service_named(core, request->service, false, now_us);
    if (named < 0) {
        refusal = (struct refusal){
            named == -EINVAL ? PROTO_STATUS_BAD_REQUEST : PROTO_STATUS_UNAVAILABLE,
            named == -EINVAL ? "not the name of a service" : "no such service", 0, 0};
        return reject(core, index, request, &refusal, NULL);
    }
    struct broker_core_service *service = &core->services[named];
    if (poisoned(core, (uint32_t)named, request, now_us)) {
        refusal = (struct refusal){PROTO_STATUS_POISON_INPUT,
                                   "this input killed the slots that worked on it", 0, 0};
        return reject(core, index, request, &refusal, NULL);
    }
    if (no_room(core, &core->clients[index], &service->lanes[request->priority], request,
                &refusal) ||
        too_late(core, (uint32_t)named, request, &refusal))
        return reject(core, index, request, &refusal, service);

    broker_core_job_begin(core, index, (uint32_t)named, request, now_us);
    broker_core_dispatch(core, now_us);
    return 0;
}

static int cancel(struct broker_core *core, uint32_t index, const struct proto_id *id,
                  bool only_fresh, uint64_t now_us)
{
    if (broker_core_client_heard(core, index, now_us) < 0)
        return -ENOTCONN;
    struct broker_core_job *job = broker_core_job_find(core, index, id);
    if (job == NULL)
        return -ENOENT;
    if (only_fresh && (job->state != BROKER_CORE_JOB_QUEUED || job->dispatched_us > 0))
        return -EBUSY;
    broker_core_job_loosen(core, job, true, now_us);
    broker_core_job_end(core, job, PROTO_STATUS_CANCELLED, "cancelled by the client",
                        false, now_us);
    broker_core_dispatch(core, now_us);
    return 0;
}

int broker_core_cancel(struct broker_core *core, uint32_t index,
                       const struct proto_id *id, uint64_t now_us)
{
    return cancel(core, index, id, false, now_us);
}

int broker_core_recall(struct broker_core *core, uint32_t index,
                       const struct proto_id *id, uint64_t now_us)
{
    return cancel(core, index, id, true, now_us);
}

static void close_session(struct broker_core *core, struct broker_core_client *client,
                          uint64_t now_us)
{
    client->open = false; /* first: nobody is there for a FINAL */
    while (!broker_core_list_empty(&client->all)) {
        struct broker_core_job *job =
            BROKER_CORE_OF(struct broker_core_job, of_client, client->all.next);
        broker_core_job_loosen(core, job, true, now_us);
        broker_core_job_end(core, job, PROTO_STATUS_CANCELLED, "", false, now_us);
    }
    broker_core_heap_clear(&core->heap, &client->timer);
}

void broker_core_client_bye(struct broker_core *core, uint32_t index, uint64_t now_us)
{
    assert(index < core->limits.clients_max);
    if (!core->clients[index].open)
        return;
    close_session(core, &core->clients[index], now_us);
    broker_core_dispatch(core, now_us);
}

void broker_core_client_due(struct broker_core *core, uint32_t index, uint64_t now_us)
{
    struct broker_core_client *client = &core->clients[index];
    uint64_t due_us = client->heard_us + core->limits.silence_us;

    /* Frames only note the time; the timer looks whether it was moved meanwhile. */
    if (due_us > now_us) {
        broker_core_heap_set(&core->heap, &client->timer, due_us);
        return;
    }
    core->counters.clients_silent++;
    broker_core_act(core, BROKER_CORE_CLIENT_BYE, index);
    close_session(core, client, now_us);
}
