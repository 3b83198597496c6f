/*
 * The shadow keeps its own books from what the world said to the core and what the core
 * answered, never from the core's counters, and compares the two.
 */
#include "tests/sim/rules.h"

#include <string.h>

const char *const sim_service_names[SIM_SERVICES] = {"extract", "cache"};

void sim_shadow_restart(struct sim_shadow *shadow, struct broker_core *core)
{
    shadow->core = core;
    while (shadow->opened > 0) {
        struct sim_record *record = &shadow->records[shadow->open[--shadow->opened]];
        MUST(!record->final, "request %u ended and was open", record->index);
        record->place = SIM_LOST;
    }
    memset(shadow->client_open, 0, sizeof(shadow->client_open));
    memset(shadow->client_held, 0, sizeof(shadow->client_held));
    memset(shadow->workers, 0, sizeof(shadow->workers));
    memset(shadow->sources, 0, sizeof(shadow->sources));
    memset(shadow->workerless_us, 0, sizeof(shadow->workerless_us));
    memset(shadow->since_batch, 0, sizeof(shadow->since_batch));
    memset(shadow->high_until_us, 0, sizeof(shadow->high_until_us));
    memset(shadow->keys, 0, sizeof(shadow->keys));
    memset(shadow->budgets, 0, sizeof(shadow->budgets));
    shadow->restarts++;
}

void sim_shadow_hello(struct sim_shadow *shadow, uint32_t client)
{
    shadow->client_open[client] = true;
    shadow->client_held[client] = false;
    shadow->client_session[client] = ++shadow->sessions;
}

void sim_shadow_client_gone(struct sim_shadow *shadow, uint32_t client)
{
    shadow->client_open[client] = false;
}

void sim_shadow_ready(struct sim_shadow *shadow, uint32_t worker, uint64_t credit,
                      uint64_t slots)
{
    shadow->workers[worker].credit = credit;
    shadow->workers[worker].slots = slots;
    shadow->workers[worker].aborted_us = 0;
}

void sim_shadow_leaving(struct sim_shadow *shadow, uint32_t worker)
{
    uint32_t service = shadow->workers[worker].service;

    shadow->workers[worker].leaving = true;
    if (sim_rule_workers_open(shadow, service) == 0)
        shadow->workerless_us[service] = shadow->now_us;
}

void sim_shadow_scale(struct sim_shadow *shadow, uint32_t service, uint32_t source,
                      uint64_t target, uint64_t seq, uint64_t until_us)
{
    shadow->sources[service][source] = (struct sim_source){true, target, seq, until_us};
}

struct sim_record *sim_shadow_current(struct sim_shadow *shadow, uint32_t worker,
                                      const struct proto_id *id, uint32_t attempt)
{
    for (uint32_t i = 0; i < shadow->opened; i++) {
        struct sim_record *record = &shadow->records[shadow->open[i]];
        if ((record->place == SIM_SENT || record->place == SIM_RUNNING) &&
            record->worker == worker && record->attempt == attempt &&
            memcmp(&record->job, id, sizeof(*id)) == 0)
            return record;
    }
    return NULL;
}

void sim_shadow_give_back(struct sim_shadow *shadow, struct sim_record *record)
{
    shadow->workers[record->worker].credit = 0;
    if (record->returned++ >= BROKER_CORE_RETURNS_MAX)
        return;
    sim_shadow_off_worker(shadow, record);
    record->attempt--;
}

void sim_shadow_off_worker(struct sim_shadow *shadow, struct sim_record *record)
{
    struct sim_worker *worker = &shadow->workers[record->worker];

    MUST(record->place == SIM_SENT || record->place == SIM_RUNNING,
         "request %u leaves a worker but was at none", record->index);
    worker->jobs--;
    worker->bytes -= record->bytes;
    record->tried = record->worker_session;
    record->place = SIM_QUEUED;
    record->taken_back = true;
    record->back_us = shadow->now_us;
}

void sim_shadow_lost(struct sim_shadow *shadow, struct sim_record *record, bool retryable)
{
    record->retryable = retryable;
    shadow->lost[shadow->losts++] = record->index;
}

static struct sim_record *by_id(struct sim_shadow *shadow, const struct proto_id *id)
{
    uint32_t index;

    memcpy(&index, id->bytes, sizeof(index));
    MUST(index < shadow->count, "an id that nobody used");
    MUST(memcmp(&shadow->records[index].id, id, sizeof(*id)) == 0, "a broken id");
    return &shadow->records[index];
}

static void accepted(struct sim_shadow *shadow, const struct broker_core_action *action)
{
    struct sim_record *record = by_id(shadow, &action->request);

    MUST(record->place == SIM_NEW, "request %u accepted twice", record->index);
    MUST(!shadow->draining, "request %u accepted while draining", record->index);
    MUST(action->peer == record->client, "ACCEPT to another client");
    record->place = SIM_QUEUED;
    MUST(!sim_rule_costly(shadow, record), "request %u needs more than the budget",
         record->index);
    MUST(!record->too_late, "request %u was accepted, but needs %lu ms", record->index,
         record->forecast_ms);
    MUST(!sim_rule_poison(shadow, record), "request %u is poison and was accepted",
         record->index);
    record->order = ++shadow->orders;
    if (record->priority == PROTO_PRIORITY_HIGH)
        shadow->high_until_us[record->service] =
            shadow->now_us + BROKER_CORE_HIGH_HOLD_US;
    sim_rule_earn(shadow, record->service, 10000ull * shadow->limits.retry_percent);
    record->accepted_us = shadow->now_us;
    shadow->open[shadow->opened++] = record->index;
}

static void refused(struct sim_shadow *shadow, const struct broker_core_action *action)
{
    struct sim_record *record = by_id(shadow, &action->request);

    MUST(action->peer == record->client, "REJECT to another client");
    shadow->refusals++;
    if (shadow->expect_refusal) {
        MUST(action->status == PROTO_STATUS_BAD_REQUEST, "wrong reason for a repeat");
        return;
    }
    MUST(record->place == SIM_NEW, "request %u refused after it was accepted",
         record->index);
    MUST(action->status != PROTO_STATUS_POISON_INPUT || sim_rule_poison(shadow, record),
         "request %u was refused as poison", record->index);
    if (action->status == PROTO_STATUS_FULL && strstr(action->text, "time") != NULL) {
        MUST(record->too_late, "request %u was refused, but could end in %lu ms",
             record->index, record->forecast_ms);
        MUST(action->actual == record->forecast_ms, "%lu ms to wait, not %lu",
             action->actual, record->forecast_ms);
        shadow->late_refusals++;
    }
    MUST(action->status != PROTO_STATUS_FULL || action->retry_after_ms > 0,
         "full without retry-after");
    MUST(action->status != PROTO_STATUS_FULL || action->actual > action->limit,
         "full, but %lu is within %lu", action->actual, action->limit);
    MUST(action->status != PROTO_STATUS_TOO_MANY_PIXELS ||
             sim_rule_costly(shadow, record),
         "request %u was refused for a cost of %lu", record->index, record->cost);
    shadow->costly += action->status == PROTO_STATUS_TOO_MANY_PIXELS;
    record->place = SIM_REFUSED;
}

static void final(struct sim_shadow *shadow, const struct broker_core_action *action)
{
    struct sim_record *record = action->payload;

    MUST(memcmp(&record->id, &action->request, sizeof(record->id)) == 0,
         "FINAL with another's id");
    MUST(action->peer == record->client, "FINAL to another client");
    MUST(shadow->client_open[record->client] &&
             shadow->client_session[record->client] == record->session,
         "FINAL into a session that is over");
    MUST(!record->final, "request %u ended twice", record->index);
    MUST(!record->released, "request %u ended after its release", record->index);
    MUST(record->place == SIM_QUEUED, "request %u ended while a worker has it: status %u",
         record->index, action->status);
    MUST(action->status != PROTO_STATUS_EXPIRED ||
             shadow->now_us >= record->deadline_us || record->attempt > 0,
         "request %u expired before its time", record->index);
    MUST(action->status != PROTO_STATUS_UNAVAILABLE || action->pass_on ||
             action->retry_after_ms > 0,
         "request %u ended for a shortage without retry-after", record->index);
    MUST(action->status != PROTO_STATUS_POISON_INPUT || action->pass_on ||
             sim_rule_poison(shadow, record),
         "request %u ended as poison", record->index);
    record->final = true;
    record->status = action->status;
    shadow->finals++;
    shadow->by_status[action->status]++;
}

static void released(struct sim_shadow *shadow, const struct broker_core_action *action)
{
    struct sim_record *record = action->payload;
    uint32_t i = 0;

    MUST(!record->released, "payload %u released twice", record->index);
    MUST(record->place == SIM_QUEUED, "payload %u released in place %d", record->index,
         record->place);
    bool there = shadow->client_open[record->client] &&
                 shadow->client_session[record->client] == record->session;
    MUST(record->final == there, "request %u: final %d, client there %d", record->index,
         record->final, there);
    while (i < shadow->opened && shadow->open[i] != record->index)
        i++;
    MUST(i < shadow->opened, "payload %u released but not open", record->index);
    shadow->open[i] = shadow->open[--shadow->opened];
    record->released = true;
    record->place = SIM_ENDED;
}

static void check_order(struct sim_shadow *shadow, const struct sim_record *record)
{
    bool kept = sim_rule_high_only(shadow, record->service, shadow->now_us);
    const struct sim_record *due = sim_rule_next(shadow, record->service, kept);
    struct sim_ends ends = sim_rule_ends(shadow, record->service, record->priority);
    struct sim_ends batch = sim_rule_ends(shadow, record->service, PROTO_PRIORITY_BATCH);
    bool waits = batch.again != NULL || batch.fresh != NULL;
    uint32_t *since = &shadow->since_batch[record->service];

    MUST(due != NULL, "request %u was sent to a place kept for others", record->index);
    MUST(record == due, "request %u was sent, but %u was next", record->index,
         due->index);
    shadow->newest_first += record == ends.newest && record != ends.fresh;
    shadow->kept_places += kept;
    if (record->priority == PROTO_PRIORITY_BATCH)
        *since = 0;
    else if (!kept)
        *since += waits;
    shadow->overtaken += waits && *since >= shadow->limits.batch_share;
}

static void check_choice(struct sim_shadow *shadow, const struct sim_record *record,
                         uint32_t chosen)
{
    bool again = record->tried == shadow->workers[chosen].session;
    bool doubted = shadow->workers[chosen].doubted;

    for (uint32_t i = 0; i < SIM_WORKERS && (again || doubted); i++) {
        const struct sim_worker *other = &shadow->workers[i];
        if (i == chosen || !sim_rule_could_take(shadow, i, record))
            continue;
        MUST(!again || record->tried == other->session,
             "request %u went back to worker %u, but %u was free", record->index, chosen,
             i);
        MUST(!doubted || other->doubted || (!again && record->tried == other->session),
             "request %u went to worker %u, which is doubted, but %u was free",
             record->index, chosen, i);
    }
}

static void dispatched(struct sim_shadow *shadow, const struct broker_core_action *action)
{
    struct sim_record *record = action->payload;
    struct sim_worker *worker = &shadow->workers[action->peer];

    MUST(record->place == SIM_QUEUED, "request %u sent in place %d", record->index,
         record->place);
    MUST(record->deadline_us > shadow->now_us, "request %u sent too late", record->index);
    MUST(!shadow->client_held[record->client],
         "request %u sent, but results wait for its client", record->index);
    MUST(!sim_rule_poison(shadow, record), "request %u is poison and was sent",
         record->index);
    MUST(sim_rule_could_take(shadow, action->peer, record),
         "worker %u cannot take request %u", action->peer, record->index);
    uint32_t busy = sim_rule_running(shadow, record->service) +
                    sim_rule_aborting(shadow, record->service);
    MUST(worker->slots_max == 0 || busy < sim_rule_target(shadow, record->service),
         "request %u sent above the target", record->index);
    MUST(action->attempt >= 1 && action->attempt <= BROKER_CORE_ATTEMPTS_MAX,
         "attempt %u", action->attempt);
    MUST(!record->known_job ||
             memcmp(&record->job, &action->request, sizeof(record->job)) == 0,
         "the job's id changed");
    MUST(action->attempt == record->attempt + 1, "attempt %u after %u", action->attempt,
         record->attempt);
    uint64_t left_ms = (record->deadline_us - shadow->now_us) / 1000;
    MUST(action->budget_ms == (left_ms == 0 ? 1 : left_ms), "wrong budget");
    MUST(worker->slots_max == 0 || sim_rule_fits(shadow, record),
         "request %u sent beyond the memory budget", record->index);
    check_order(shadow, record);
    check_choice(shadow, record, action->peer);

    record->place = SIM_SENT;
    record->attempt = action->attempt;
    record->known_job = true;
    record->job = action->request;
    record->worker = action->peer;
    record->worker_session = worker->session;
    record->sent_us = shadow->now_us;
    worker->credit--;
    worker->jobs++;
    worker->bytes += record->bytes;
    shadow->dispatches++;
    shadow->second_attempts += action->attempt == 2;
}

static void record_abort(const struct sim_shadow *shadow, struct sim_worker *worker,
                         const struct sim_record *record)
{
    worker->aborted_us = shadow->now_us;
    worker->aborted_cost += record->cost;
    worker->last_cost = record->cost;
}

static void aborted(struct sim_shadow *shadow, const struct broker_core_action *action)
{
    struct sim_record *record =
        sim_shadow_current(shadow, action->peer, &action->request, action->attempt);

    MUST(record != NULL, "ABORT for a job that worker %u does not have", action->peer);
    /* START did not come: the credit is not what was thought. */
    if (shadow->ticking && shadow->client_open[record->client] &&
        record->place == SIM_SENT && shadow->now_us < record->deadline_us &&
        shadow->now_us >= record->sent_us + shadow->limits.start_us) {
        shadow->workers[action->peer].credit = 0;
        shadow->workers[action->peer].doubted = true;
    }
    if (shadow->workers[action->peer].slots_max > 0)
        record_abort(shadow, &shadow->workers[action->peer], record);
    sim_shadow_off_worker(shadow, record);
    sim_shadow_lost(shadow, record, true);
}

static void worker_down(struct sim_shadow *shadow, uint32_t index)
{
    struct sim_worker *worker = &shadow->workers[index];

    MUST(worker->open, "worker %u went down twice", index);
    if (!worker->leaving)
        sim_shadow_leaving(shadow, index);
    for (uint32_t i = 0; i < shadow->opened; i++) {
        struct sim_record *record = &shadow->records[shadow->open[i]];
        if ((record->place != SIM_SENT && record->place != SIM_RUNNING) ||
            record->worker != index)
            continue;
        sim_shadow_off_worker(shadow, record);
        sim_shadow_lost(shadow, record, true);
    }
    worker->open = false;
    if (sim_rule_workers_open(shadow, worker->service) == 0)
        shadow->workerless_us[worker->service] = shadow->now_us;
}

void sim_shadow_act(struct sim_shadow *shadow, const struct broker_core_action *action)
{
    switch (action->type) {
    case BROKER_CORE_ACCEPT:
        accepted(shadow, action);
        break;
    case BROKER_CORE_REJECT:
        refused(shadow, action);
        break;
    case BROKER_CORE_FINAL:
        final(shadow, action);
        break;
    case BROKER_CORE_RELEASE:
        released(shadow, action);
        break;
    case BROKER_CORE_JOB:
        dispatched(shadow, action);
        break;
    case BROKER_CORE_ABORT:
        aborted(shadow, action);
        break;
    case BROKER_CORE_WORKER_DOWN:
        worker_down(shadow, action->peer);
        break;
    default:
        break;
    }
}
