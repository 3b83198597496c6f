/* The rules of docs/PROTOCOL.md, said once more from what the shadow knows. */
#include "tests/sim/rules.h"

#include <math.h>
#include <string.h>

int sim_rule_view(const struct sim_shadow *shadow, uint32_t service,
                  struct broker_core_service_view *view)
{
    for (uint32_t i = 0; i < BROKER_CORE_SERVICES_MAX; i++)
        if (broker_core_service(shadow->core, i, view) &&
            strcmp(view->name, sim_service_names[service]) == 0)
            return (int)i;
    return -1;
}

uint64_t sim_rule_target(const struct sim_shadow *shadow, uint32_t service)
{
    uint64_t offered = 0, most = 0, target = UINT64_MAX;

    for (int i = 0; i < SIM_WORKERS; i++) {
        const struct sim_worker *worker = &shadow->workers[i];
        if (!worker->open || worker->leaving || worker->service != service)
            continue;
        offered += worker->slots_offered;
        most += worker->slots_max;
    }
    for (int i = 0; i < BROKER_CORE_SOURCES; i++) {
        const struct sim_source *source = &shadow->sources[service][i];
        if (source->live && source->until_us > shadow->ticked_us && source->target > 0 &&
            source->target < target)
            target = source->target;
    }
    if (target == UINT64_MAX)
        target = offered;
    target = target < most ? target : most;
    return target > 0 || most == 0 ? target : 1;
}

static struct sim_key *key_of(struct sim_shadow *shadow, const struct sim_record *record)
{
    struct sim_key *key = &shadow->keys[record->key];

    if (record->key == SIM_KEYS || record->service != 0)
        return NULL;
    if (key->until_us <= shadow->now_us)
        key->kills = 0;
    return key;
}

void sim_shadow_killed(struct sim_shadow *shadow, const struct sim_record *record)
{
    struct sim_key *key = key_of(shadow, record);

    if (key == NULL || shadow->limits.quarantine_us == 0 ||
        shadow->workers[record->worker].slots_max == 0)
        return;
    key->kills++;
    key->until_us = shadow->now_us + shadow->limits.quarantine_us;
}

void sim_shadow_good_end(struct sim_shadow *shadow, const struct sim_record *record)
{
    struct sim_key *key = key_of(shadow, record);

    if (key != NULL)
        key->kills = 0;
}

bool sim_rule_poison(struct sim_shadow *shadow, const struct sim_record *record)
{
    const struct sim_key *key = key_of(shadow, record);
    return key != NULL && key->kills >= 2;
}

void sim_rule_earn(struct sim_shadow *shadow, uint32_t service, uint64_t micros)
{
    struct sim_budget *budget = &shadow->budgets[service];
    uint64_t full = 1000000ull * shadow->limits.retry_burst;

    if (budget->at_us == 0)
        *budget = (struct sim_budget){full, full, shadow->now_us};
    micros += (shadow->now_us - budget->at_us) * shadow->limits.retry_per_s;
    budget->at_us = shadow->now_us;
    budget->least = budget->least + micros < full ? budget->least + micros : full;
    budget->most = budget->most + micros < full ? budget->most + micros : full;
}

/* Of those whose attempt was lost just now, how many may be tried again, and were. */
static void check_retries(struct sim_shadow *shadow, uint32_t service)
{
    struct sim_budget *budget = &shadow->budgets[service];
    uint64_t granted = 0, unsure = 0, denied = 0;

    for (uint32_t i = 0; i < shadow->losts; i++) {
        const struct sim_record *record = &shadow->records[shadow->lost[i]];
        if (record->service != service)
            continue;
        if (record->place != SIM_ENDED) {
            MUST(record->retryable, "request %u is tried again", record->index);
            granted++;
        } else if (record->attempt == 1) {
            denied += record->status == PROTO_STATUS_WORKER_LOST && record->retryable;
            unsure += !record->final || record->status == PROTO_STATUS_POISON_INPUT ||
                      record->status == PROTO_STATUS_UNAVAILABLE;
        }
    }
    if (granted + unsure + denied == 0)
        return;
    sim_rule_earn(shadow, service, 0);
    MUST(budget->most >= 1000000 * granted, "%lu second attempts, budget %lu", granted,
         budget->most);
    budget->most -= 1000000 * granted;
    MUST(denied == 0 || budget->least < 1000000 * (granted + unsure + 1),
         "no second attempt, but %lu of budget", budget->least);
    uint64_t spent = 1000000 * (granted + unsure);
    budget->least = budget->least > spent ? budget->least - spent : 0;
    shadow->unretried += denied;
}

void sim_shadow_settle(struct sim_shadow *shadow)
{
    for (uint32_t s = 0; s < SIM_SERVICES; s++)
        check_retries(shadow, s);
    shadow->losts = 0;
}

/* How long a new request would be with us, by the rate that the core has measured. */
static uint64_t forecast_us(const struct sim_shadow *shadow,
                            const struct sim_record *record)
{
    struct broker_core_service_view view;
    double ahead = 0, batch, share = shadow->limits.batch_share;

    if (sim_rule_view(shadow, record->service, &view) < 0 || view.job_interval_us == 0)
        return 0;
    batch = view.lanes[PROTO_PRIORITY_BATCH].jobs;
    for (uint32_t p = 0; p <= record->priority; p++)
        ahead += view.lanes[p].jobs;
    if (record->priority == PROTO_PRIORITY_BATCH)
        ahead = ahead < batch * share ? ahead : batch * share;
    else
        ahead += share > 1 && floor(ahead / (share - 1)) < batch
                     ? floor(ahead / (share - 1))
                     : batch;
    return ahead == 0 ? 0 : (uint64_t)(ahead + 1) * view.job_interval_us;
}

void sim_shadow_forecast(const struct sim_shadow *shadow, struct sim_record *record)
{
    record->forecast_ms = (forecast_us(shadow, record) + 999) / 1000;
    record->too_late =
        record->forecast_ms > (record->deadline_us - record->accepted_us) / 1000;
}

struct sim_ends sim_rule_ends(const struct sim_shadow *shadow, uint32_t service,
                              uint32_t priority)
{
    struct sim_ends ends = {NULL, NULL, NULL};

    for (uint32_t i = 0; i < shadow->opened; i++) {
        const struct sim_record *record = &shadow->records[shadow->open[i]];
        if (record->place != SIM_QUEUED || record->service != service ||
            record->priority != priority || shadow->client_held[record->client])
            continue;
        const struct sim_record **oldest = record->taken_back ? &ends.again : &ends.fresh;
        if (*oldest == NULL || (*oldest)->order > record->order)
            *oldest = record;
        if (!record->taken_back &&
            (ends.newest == NULL || ends.newest->order < record->order))
            ends.newest = record;
    }
    return ends;
}

static bool overloaded(const struct sim_shadow *shadow, const struct sim_record *oldest)
{
    double waited = (double)(shadow->now_us - oldest->accepted_us);
    double budget = (double)(oldest->deadline_us - oldest->accepted_us);
    return waited > budget * shadow->limits.newest_first_percent / 100;
}

static const struct sim_record *next_in_lane(const struct sim_shadow *shadow,
                                             uint32_t service, uint32_t priority)
{
    struct sim_ends ends = sim_rule_ends(shadow, service, priority);

    if (ends.again != NULL || ends.fresh == NULL)
        return ends.again;
    return overloaded(shadow, ends.fresh) ? ends.newest : ends.fresh;
}

bool sim_rule_high_only(const struct sim_shadow *shadow, uint32_t service, uint64_t at_us)
{
    uint64_t target = sim_rule_target(shadow, service), kept = target / 3;

    kept = kept < shadow->limits.high_slots ? kept : shadow->limits.high_slots;
    return kept > 0 && at_us < shadow->high_until_us[service] &&
           target - kept <=
               sim_rule_running(shadow, service) + sim_rule_aborting(shadow, service);
}

bool sim_rule_could_go(const struct sim_shadow *shadow, const struct sim_record *record)
{
    bool below = sim_rule_running(shadow, record->service) +
                     sim_rule_aborting(shadow, record->service) <
                 sim_rule_target(shadow, record->service);

    for (uint32_t i = 0; i < SIM_WORKERS; i++)
        if (sim_rule_could_take(shadow, i, record) &&
            (shadow->workers[i].slots_max == 0 ||
             (below && sim_rule_fits(shadow, record))))
            return true;
    return false;
}

/* High before normal before batch, batch's share unless its job must wait; then the
 * lane's order. */
const struct sim_record *sim_rule_next(const struct sim_shadow *shadow, uint32_t service,
                                       bool high_only)
{
    if (high_only)
        return next_in_lane(shadow, service, PROTO_PRIORITY_HIGH);
    const struct sim_record *batch = next_in_lane(shadow, service, PROTO_PRIORITY_BATCH);

    if (batch != NULL && shadow->since_batch[service] + 1 >= shadow->limits.batch_share &&
        sim_rule_could_go(shadow, batch))
        return batch;
    for (uint32_t p = 0; p < PROTO_PRIORITY_BATCH; p++) {
        const struct sim_record *record = next_in_lane(shadow, service, p);
        if (record != NULL)
            return record;
    }
    return batch;
}

uint32_t sim_rule_running(const struct sim_shadow *shadow, uint32_t service)
{
    uint32_t running = 0;

    for (uint32_t i = 0; i < shadow->opened; i++) {
        const struct sim_record *record = &shadow->records[shadow->open[i]];
        running += record->service == service &&
                   (record->place == SIM_SENT || record->place == SIM_RUNNING);
    }
    return running;
}

/* As the core says, which check_workers() holds against the ABORTs. */
uint32_t sim_rule_aborting(const struct sim_shadow *shadow, uint32_t service)
{
    uint32_t aborting = 0;

    for (uint32_t i = 0; i < SIM_WORKERS; i++) {
        struct broker_core_worker_view view;
        if (shadow->workers[i].open && shadow->workers[i].service == service &&
            broker_core_worker(shadow->core, i, &view))
            aborting += view.aborting;
    }
    return aborting;
}

/* What the jobs at slots need, those too that were aborted and may be there yet. */
uint64_t sim_rule_cost(const struct sim_shadow *shadow)
{
    uint64_t cost = 0;

    for (uint32_t i = 0; i < shadow->opened; i++) {
        const struct sim_record *record = &shadow->records[shadow->open[i]];
        bool at_worker = record->place == SIM_SENT || record->place == SIM_RUNNING;
        if (at_worker && shadow->workers[record->worker].slots_max > 0)
            cost += record->cost;
    }
    for (uint32_t i = 0; i < SIM_WORKERS; i++) {
        struct broker_core_worker_view view;
        if (shadow->workers[i].open && broker_core_worker(shadow->core, i, &view))
            cost += view.aborting_cost;
    }
    return cost;
}

bool sim_rule_costly(const struct sim_shadow *shadow, const struct sim_record *record)
{
    uint64_t budget = shadow->limits.memory_budget;
    return budget > 0 && record->cost > budget;
}

bool sim_rule_fits(const struct sim_shadow *shadow, const struct sim_record *record)
{
    uint64_t budget = shadow->limits.memory_budget;
    return budget == 0 || sim_rule_cost(shadow) + record->cost <= budget;
}

uint32_t sim_rule_workers_open(const struct sim_shadow *shadow, uint32_t service)
{
    uint32_t count = 0;

    for (int i = 0; i < SIM_WORKERS; i++) {
        const struct sim_worker *worker = &shadow->workers[i];
        count += worker->open && !worker->leaving && worker->service == service;
    }
    return count;
}

bool sim_rule_could_take(const struct sim_shadow *shadow, uint32_t index,
                         const struct sim_record *record)
{
    const struct sim_worker *worker = &shadow->workers[index];
    struct broker_core_worker_view view;

    if (!worker->open || worker->leaving || worker->service != record->service ||
        worker->credit == 0 || (worker->doubted && worker->jobs > 0) ||
        !broker_core_worker(shadow->core, index, &view))
        return false;
    if (worker->slots_max > 0 && worker->jobs + view.aborting >= worker->slots)
        return false;
    return worker->credit_bytes == 0 || worker->jobs == 0 ||
           worker->bytes + record->bytes <= worker->credit_bytes;
}
