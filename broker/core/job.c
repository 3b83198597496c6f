/*
 * A job's way through its states, and its one end.
 *
 *   begin -> QUEUED -> SENT -> RUNNING -> end
 *               ^        |        |
 *               +--------+--------+   requeue: second attempt, or could not be begun
 *
 * Every arrow passes through broker_core_job_loosen(), which keeps the sums of the place
 * that the job leaves; the function of the new place keeps the sums of that one.
 */
#include "broker/core/state.h"

#include <assert.h>
#include <string.h>

/* The sum of as many as there can be does not overflow. */
#define COST_MAX (1ull << 39)

static uint64_t mix(uint64_t x)
{
    x ^= x >> 30;
    x *= 0xbf58476d1ce4e5b9ull;
    x ^= x >> 27;
    x *= 0x94d049bb133111ebull;
    return x ^ (x >> 31);
}

static struct broker_core_job **bucket(struct broker_core *core, uint32_t client,
                                       const struct proto_id *id)
{
    uint64_t half[2];

    memcpy(half, id->bytes, sizeof(half));
    uint64_t hash = mix(core->limits.hash_seed ^ half[0]);
    hash = mix(hash ^ half[1]);
    hash = mix(hash ^ client);
    return &core->buckets[hash & core->bucket_mask];
}

struct broker_core_job *broker_core_job_find(struct broker_core *core, uint32_t client,
                                             const struct proto_id *id)
{
    struct broker_core_job *job = *bucket(core, client, id);

    while (job != NULL && (job->client != client ||
                           memcmp(&job->request, id, sizeof(job->request)) != 0))
        job = job->same_hash;
    return job;
}

static void unhash(struct broker_core *core, struct broker_core_job *job)
{
    struct broker_core_job **at = bucket(core, job->client, &job->request);

    while (*at != job)
        at = &(*at)->same_hash;
    *at = job->same_hash;
}

static void put_le64(uint8_t *to, uint64_t value)
{
    for (int i = 0; i < 8; i++)
        to[i] = (uint8_t)(value >> (8 * i));
}

static uint64_t get_le64(const uint8_t *from)
{
    uint64_t value = 0;
    for (int i = 0; i < 8; i++)
        value |= (uint64_t)from[i] << (8 * i);
    return value;
}

struct proto_id broker_core_job_id(const struct broker_core *core,
                                   const struct broker_core_job *job)
{
    struct proto_id id;

    put_le64(id.bytes, job->number);
    put_le64(id.bytes + 8, core->limits.epoch);
    return id;
}

struct broker_core_job *broker_core_job_numbered(struct broker_core *core,
                                                 const struct proto_id *id)
{
    uint64_t number = get_le64(id->bytes);

    if (number == 0 || get_le64(id->bytes + 8) != core->limits.epoch)
        return NULL;
    struct broker_core_job *job = &core->jobs[number % core->limits.jobs_max];
    return job->number == number ? job : NULL;
}

static struct broker_core_job *take_free(struct broker_core *core)
{
    struct broker_core_job *job = core->free_jobs;

    if (job != NULL)
        core->free_jobs = job->same_hash;
    else if (core->jobs_touched < core->limits.jobs_max)
        job = &core->jobs[core->jobs_touched++];
    return job;
}

static void enter_lane(struct broker_core *core, struct broker_core_job *job,
                       struct broker_core_link *before)
{
    struct broker_core_lane *lane = &core->services[job->service].lanes[job->priority];

    job->state = BROKER_CORE_JOB_QUEUED;
    broker_core_list_insert(before, &job->line);
    lane->jobs++;
    lane->bytes += job->bytes;
    broker_core_job_arm(core, job);
    broker_core_service_watch(core, job->service);
}

static void join_client(struct broker_core *core, struct broker_core_job *job)
{
    struct broker_core_client *client = &core->clients[job->client];
    struct broker_core_job **at = bucket(core, job->client, &job->request);

    job->same_hash = *at;
    *at = job;
    broker_core_list_insert(&client->all, &job->of_client);
    client->jobs++;
    client->bytes += job->bytes;
}

static void keep_for_high(struct broker_core *core, uint32_t index, uint64_t now_us)
{
    struct broker_core_service *service = &core->services[index];

    service->high_until_us = now_us + BROKER_CORE_HIGH_HOLD_US;
    broker_core_heap_set(&core->heap, &service->high, service->high_until_us);
}

uint64_t broker_core_job_budget_us(const struct broker_core *core, uint32_t budget_ms)
{
    const struct broker_core_limits *limits = &core->limits;
    uint64_t us = budget_ms == 0 ? limits->request_us : 1000ull * budget_ms;
    return us < limits->request_max_us ? us : limits->request_max_us;
}

struct broker_core_job *broker_core_job_begin(struct broker_core *core, uint32_t client,
                                              uint32_t service,
                                              const struct broker_core_request *request,
                                              uint64_t now_us)
{
    struct broker_core_job *job = take_free(core);
    if (job == NULL)
        return NULL;

    uint32_t index = (uint32_t)(job - core->jobs);
    *job = (struct broker_core_job){
        .number = ++core->jobs_begun * core->limits.jobs_max + index,
        .request = request->id,
        .payload = request->payload,
        .bytes = request->bytes,
        .cost = request->cost_bytes < COST_MAX ? request->cost_bytes : COST_MAX,
        .has_key = request->key != NULL,
        .priority = request->priority,
        .client = client,
        .service = service,
        .worker = BROKER_CORE_NONE,
        .accepted_us = now_us,
        .deadline_us = now_us + broker_core_job_budget_us(core, request->budget_ms),
        .timer = {.kind = BROKER_CORE_TIMER_JOB, .owner = index},
    };
    if (job->has_key)
        memcpy(job->key, request->key, sizeof(job->key));
    join_client(core, job);
    broker_core_service_earn_retry(core, service);
    if (job->priority == PROTO_PRIORITY_HIGH)
        keep_for_high(core, service, now_us);
    core->jobs_open++;
    core->bytes += job->bytes;
    core->counters.requests_accepted++;
    struct broker_core_action *action = broker_core_act(core, BROKER_CORE_ACCEPT, client);
    action->request = job->request;
    action->payload = job->payload;
    enter_lane(core, job, &core->services[service].lanes[job->priority].line);
    return job;
}

void broker_core_job_send(struct broker_core *core, struct broker_core_job *job,
                          uint32_t index, uint64_t now_us)
{
    struct broker_core_worker *worker = &core->workers[index];
    struct broker_core_service *service = &core->services[job->service];

    assert(job->state == BROKER_CORE_JOB_LOOSE && worker->credit > 0);
    job->state = BROKER_CORE_JOB_SENT;
    job->worker = index;
    job->attempt++;
    job->dispatched_us = now_us;
    broker_core_list_insert(&worker->all, &job->line);
    worker->credit--;
    worker->jobs++;
    worker->bytes += job->bytes;
    worker->used = ++core->uses;
    if (service->running++ == 0)
        service->busy_us = now_us;
    if (worker->slots_max > 0)
        core->cost += job->cost;
    core->counters.jobs_dispatched++;
    core->counters.jobs_retried += job->attempt > 1;
    broker_core_job_arm(core, job);

    struct broker_core_action *action = broker_core_act(core, BROKER_CORE_JOB, index);
    uint64_t left_ms = (job->deadline_us - now_us) / 1000;
    action->request = broker_core_job_id(core, job);
    action->service = job->service;
    action->attempt = job->attempt;
    action->priority = job->priority;
    action->budget_ms = left_ms == 0 ? 1 : (uint32_t)left_ms;
    action->payload = job->payload;
}

/* Until the worker says otherwise, an aborted job still uses its slot and its memory. */
static void abort_attempt(struct broker_core *core, struct broker_core_job *job,
                          uint64_t now_us)
{
    struct broker_core_worker *worker = &core->workers[job->worker];
    struct broker_core_action *action =
        broker_core_act(core, BROKER_CORE_ABORT, job->worker);

    action->request = broker_core_job_id(core, job);
    action->attempt = job->attempt;
    core->counters.jobs_aborted++;
    if (worker->slots_max == 0)
        return;
    worker->aborting++;
    worker->aborting_cost += job->cost;
    core->cost += job->cost;
    core->services[job->service].aborting++;
    worker->aborting_until_us = now_us + core->limits.lease_us;
    if (worker->timer.due_us > worker->aborting_until_us)
        broker_core_heap_set(&core->heap, &worker->timer, worker->aborting_until_us);
}

static void leave_lane(struct broker_core *core, struct broker_core_job *job)
{
    struct broker_core_lane *lane = &core->services[job->service].lanes[job->priority];

    lane->jobs--;
    lane->bytes -= job->bytes;
}

static void leave_worker(struct broker_core *core, struct broker_core_job *job)
{
    struct broker_core_worker *worker = &core->workers[job->worker];

    worker->jobs--;
    worker->bytes -= job->bytes;
    core->services[job->service].running--;
    if (worker->slots_max > 0)
        core->cost -= job->cost;
    job->tried = worker->session;
    job->worker = BROKER_CORE_NONE;
}

void broker_core_job_loosen(struct broker_core *core, struct broker_core_job *job,
                            bool abort, uint64_t now_us)
{
    assert(job->state != BROKER_CORE_JOB_FREE && job->state != BROKER_CORE_JOB_LOOSE);
    broker_core_list_remove(&job->line);
    if (job->state == BROKER_CORE_JOB_QUEUED) {
        leave_lane(core, job);
    } else {
        if (abort)
            abort_attempt(core, job, now_us);
        leave_worker(core, job);
    }
    job->state = BROKER_CORE_JOB_LOOSE;
    broker_core_heap_clear(&core->heap, &job->timer);
}

void broker_core_job_requeue(struct broker_core *core, struct broker_core_job *job,
                             uint64_t now_us)
{
    struct broker_core_link *head =
        &core->services[job->service].lanes[job->priority].again;
    struct broker_core_link *at = head->next;

    assert(job->state == BROKER_CORE_JOB_LOOSE);
    (void)now_us;
    while (at != head &&
           BROKER_CORE_OF(struct broker_core_job, line, at)->number < job->number)
        at = at->next;
    enter_lane(core, job, at);
}

void broker_core_job_retry(struct broker_core *core, struct broker_core_job *job,
                           enum proto_status otherwise, const char *detail,
                           uint64_t now_us)
{
    if (now_us >= job->deadline_us)
        broker_core_job_end(core, job, PROTO_STATUS_EXPIRED, "the request's time ran out",
                            false, now_us);
    else if (broker_core_job_poisoned(core, job, now_us))
        broker_core_job_end(core, job, PROTO_STATUS_POISON_INPUT,
                            "this input killed the slots that worked on it", false,
                            now_us);
    else if (job->attempt >= BROKER_CORE_ATTEMPTS_MAX)
        broker_core_job_end(core, job, otherwise, detail, false, now_us);
    else if (!broker_core_service_may_retry(core, job->service, now_us))
        broker_core_job_end(
            core, job,
            otherwise == PROTO_STATUS_UNAVAILABLE ? otherwise : PROTO_STATUS_WORKER_LOST,
            "the job's attempt was lost, and too many jobs are tried again", false,
            now_us);
    else
        broker_core_job_requeue(core, job, now_us);
}

bool broker_core_job_poisoned(struct broker_core *core, const struct broker_core_job *job,
                              uint64_t now_us)
{
    return job->has_key &&
           broker_core_quarantine_left_us(core, job->service, job->key, now_us) > 0;
}

static void forget(struct broker_core *core, struct broker_core_job *job)
{
    struct broker_core_client *client = &core->clients[job->client];

    unhash(core, job);
    broker_core_list_remove(&job->of_client);
    client->jobs--;
    client->bytes -= job->bytes;
    core->jobs_open--;
    core->bytes -= job->bytes;
    job->state = BROKER_CORE_JOB_FREE;
    job->number = 0;
    job->same_hash = core->free_jobs;
    core->free_jobs = job;
}

void broker_core_job_end(struct broker_core *core, struct broker_core_job *job,
                         enum proto_status status, const char *detail, bool pass_on,
                         uint64_t now_us)
{
    assert(job->state == BROKER_CORE_JOB_LOOSE);
    uint64_t until_us = job->dispatched_us != 0 ? job->dispatched_us : now_us;

    if (core->clients[job->client].open) {
        struct broker_core_action *action =
            broker_core_act(core, BROKER_CORE_FINAL, job->client);
        action->request = job->request;
        action->service = job->service;
        action->status = (uint16_t)status;
        action->pass_on = pass_on;
        action->payload = job->payload;
        action->until_us = job->deadline_us;
        action->queue_us = until_us - job->accepted_us;
        action->text = detail;
        if (status == PROTO_STATUS_UNAVAILABLE && !pass_on)
            action->retry_after_ms =
                broker_core_service_retry_ms(&core->services[job->service]);
    }
    broker_core_act(core, BROKER_CORE_RELEASE, job->client)->payload = job->payload;
    core->counters.ended[status]++;
    forget(core, job);
}

static uint64_t sooner(uint64_t a_us, uint64_t b_us)
{
    return a_us < b_us ? a_us : b_us;
}

void broker_core_job_arm(struct broker_core *core, struct broker_core_job *job)
{
    const struct broker_core_limits *limits = &core->limits;
    uint64_t due_us = job->deadline_us;

    if (job->state == BROKER_CORE_JOB_SENT)
        due_us = sooner(due_us, job->dispatched_us + limits->start_us);
    if (job->state == BROKER_CORE_JOB_RUNNING)
        due_us = sooner(due_us, sooner(job->alive_us + limits->lease_us,
                                       job->started_us + limits->job_us));
    broker_core_heap_set(&core->heap, &job->timer, due_us);
}

void broker_core_job_due(struct broker_core *core, struct broker_core_job *job,
                         uint64_t now_us)
{
    enum broker_core_job_state state = job->state;
    uint32_t worker = job->worker;

    broker_core_job_loosen(core, job, true, now_us);
    if (state == BROKER_CORE_JOB_RUNNING)
        broker_core_service_learn(&core->services[job->service], now_us);
    if (now_us >= job->deadline_us) {
        broker_core_job_end(core, job, PROTO_STATUS_EXPIRED,
                            state == BROKER_CORE_JOB_QUEUED
                                ? "the request's time ran out while it waited"
                                : "the request's time ran out while it was worked on",
                            false, now_us);
    } else if (state == BROKER_CORE_JOB_SENT) {
        core->counters.start_timeouts++;
        /* JOB was lost, or the worker hangs: its credit is not what we think. */
        core->workers[worker].credit = 0;
        core->workers[worker].doubted = true;
        broker_core_job_retry(core, job, PROTO_STATUS_WORKER_LOST,
                              "no worker began the job", now_us);
    } else {
        core->counters.lease_timeouts++;
        broker_core_job_retry(core, job, PROTO_STATUS_EXPIRED,
                              "the job stood still or took too long", now_us);
    }
}
