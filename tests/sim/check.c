/*
 * What must hold between two events, and at the end: the shadow's books against what the
 * core shows of itself.
 */
#include "tests/sim/rules.h"

#include <string.h>

struct lane_sum {
    uint32_t jobs, fresh;
    uint64_t bytes, fresh_bytes;
};

static void sum_lanes(const struct sim_shadow *shadow, uint32_t service,
                      struct lane_sum sums[PROTO_PRIORITIES])
{
    memset(sums, 0, PROTO_PRIORITIES * sizeof(sums[0]));
    for (uint32_t i = 0; i < shadow->opened; i++) {
        const struct sim_record *record = &shadow->records[shadow->open[i]];
        if (record->place != SIM_QUEUED || record->service != service)
            continue;
        struct lane_sum *sum = &sums[record->priority];
        sum->jobs++;
        sum->bytes += record->bytes;
        sum->fresh += !record->taken_back;
        sum->fresh_bytes += record->taken_back ? 0 : record->bytes;
    }
}

static void check_lanes(const struct sim_shadow *shadow, uint32_t service,
                        const struct broker_core_service_view *view)
{
    struct lane_sum sums[PROTO_PRIORITIES];

    sum_lanes(shadow, service, sums);
    for (int p = 0; p < PROTO_PRIORITIES; p++) {
        MUST(view->lanes[p].jobs == sums[p].jobs, "lane %d of %s: %u jobs, not %u", p,
             view->name, view->lanes[p].jobs, sums[p].jobs);
        MUST(view->lanes[p].bytes == sums[p].bytes, "lane %d of %s: wrong bytes", p,
             view->name);
        MUST(sums[p].fresh <= shadow->limits.lane_jobs, "lane %d: too many jobs", p);
        MUST(sums[p].fresh_bytes <= shadow->limits.lane_bytes, "lane %d: too large", p);
    }
}

static void check_target(const struct sim_shadow *shadow, uint32_t service,
                         const struct broker_core_service_view *view)
{
    uint64_t shares = 0, slotted = 0, offered = 0;
    bool targeted = false;

    MUST(view->target == sim_rule_target(shadow, service), "%s: target %lu, not %lu",
         view->name, view->target, sim_rule_target(shadow, service));
    for (uint32_t i = 0; i < SIM_WORKERS; i++) {
        struct broker_core_worker_view worker;
        if (!shadow->workers[i].open || shadow->workers[i].service != service ||
            shadow->workers[i].leaving || shadow->workers[i].slots_max == 0)
            continue;
        MUST(broker_core_worker(shadow->core, i, &worker), "worker %u is unknown", i);
        MUST(worker.share <= worker.slots_max, "worker %u: share above its most", i);
        shares += worker.share;
        offered += shadow->workers[i].slots_offered;
        slotted++;
    }
    for (int i = 0; i < BROKER_CORE_SOURCES; i++)
        targeted |= view->sources[i].live && view->sources[i].target > 0;
    uint64_t want = targeted ? view->target : offered;
    MUST(slotted == 0 || shares == want, "%s: shares of %lu, not %lu", view->name, shares,
         want);
}

/* Nobody waits while there is a slot that may do the work. */
static void check_idle(const struct sim_shadow *shadow, uint32_t service,
                       const struct broker_core_service_view *view)
{
    bool kept = sim_rule_high_only(shadow, service, shadow->ticked_us);
    /* Places are kept no longer, but the clock's turn, which acts on it, is late. */
    if (kept != sim_rule_high_only(shadow, service, shadow->now_us))
        return;
    const struct sim_record *next = sim_rule_next(shadow, service, kept);

    if (next == NULL)
        return;
    /* Time alone turns a lane round; the next event acts on it. */
    struct sim_ends ends = sim_rule_ends(shadow, service, next->priority);
    if (next == ends.newest && next != ends.fresh)
        return;
    for (uint32_t i = 0; i < SIM_WORKERS; i++) {
        const struct sim_worker *worker = &shadow->workers[i];
        if (!sim_rule_could_take(shadow, i, next))
            continue;
        MUST(worker->slots_max > 0 && (view->running + view->aborting >= view->target ||
                                       !sim_rule_fits(shadow, next)),
             "request %u waits for %s and worker %u is idle", next->index, view->name, i);
    }
}

static void check_aborting(struct sim_worker *worker,
                           const struct broker_core_worker_view *view)
{
    if (view->aborting == 0)
        worker->aborted_cost = worker->last_cost = 0;
    MUST(view->aborting_cost >= worker->last_cost &&
             view->aborting_cost <= worker->aborted_cost,
         "aborted jobs need %lu, not %lu to %lu", view->aborting_cost, worker->last_cost,
         worker->aborted_cost);
}

static void check_workers(struct sim_shadow *shadow)
{
    for (uint32_t i = 0; i < SIM_WORKERS; i++) {
        struct sim_worker *worker = &shadow->workers[i];
        struct broker_core_worker_view view;
        bool open = broker_core_worker(shadow->core, i, &view);
        MUST(open == worker->open, "worker %u: open %d, not %d", i, open, worker->open);
        if (!open)
            continue;
        MUST(view.credit == worker->credit, "worker %u: credit %lu, not %lu", i,
             view.credit, worker->credit);
        MUST(view.jobs == worker->jobs, "worker %u: %u jobs, not %u", i, view.jobs,
             worker->jobs);
        MUST(view.bytes == worker->bytes, "worker %u: wrong bytes", i);
        check_aborting(worker, &view);
        MUST(worker->aborted_us == 0 || view.aborting > 0 ||
                 shadow->now_us >= worker->aborted_us + shadow->limits.lease_us,
             "worker %u: an aborted job is forgotten too soon", i);
    }
}

static void check_times(const struct sim_shadow *shadow, const struct sim_record *record)
{
    const struct broker_core_limits *l = &shadow->limits;
    uint64_t now_us = shadow->ticked_us;

    MUST(record->deadline_us > now_us, "request %u outlived its time", record->index);
    if (record->place == SIM_SENT)
        MUST(record->sent_us + l->start_us > now_us, "request %u waits for START",
             record->index);
    if (record->place == SIM_RUNNING) {
        MUST(record->alive_us + l->lease_us > now_us, "request %u stands still",
             record->index);
        MUST(record->started_us + l->job_us > now_us, "request %u takes too long",
             record->index);
    }
    if (record->place == SIM_QUEUED &&
        sim_rule_workers_open(shadow, record->service) == 0) {
        uint64_t since_us = shadow->workerless_us[record->service];
        since_us = record->accepted_us > since_us ? record->accepted_us : since_us;
        /* Unless it came back only now: then it ends when the clock has its turn. */
        MUST(since_us + l->worker_wait_us > now_us || record->back_us > now_us,
             "request %u waits for a worker", record->index);
    }
}

static void check_clients(const struct sim_shadow *shadow)
{
    uint64_t jobs[SIM_CLIENTS] = {0}, bytes[SIM_CLIENTS] = {0};

    for (uint32_t i = 0; i < shadow->opened; i++) {
        const struct sim_record *record = &shadow->records[shadow->open[i]];
        jobs[record->client]++;
        bytes[record->client] += record->bytes;
    }
    for (uint32_t i = 0; i < SIM_CLIENTS; i++) {
        struct broker_core_client_view view = {0, 0};
        bool open = broker_core_client(shadow->core, i, &view);
        MUST(open == shadow->client_open[i], "client %u: open %d", i, open);
        MUST(view.jobs == jobs[i] && view.bytes == bytes[i], "client %u: wrong sums", i);
        MUST(jobs[i] <= shadow->limits.client_jobs, "client %u: too many jobs", i);
        MUST(bytes[i] <= shadow->limits.client_bytes, "client %u: too large", i);
    }
}

static void check_memory(struct sim_shadow *shadow, const struct broker_core_view *all)
{
    uint64_t budget = shadow->limits.memory_budget;
    uint64_t cost = sim_rule_cost(shadow);

    MUST(all->cost == cost, "jobs need %lu, not %lu", all->cost, cost);
    MUST(budget == 0 || cost <= budget, "%lu needed of %lu", cost, budget);
}

void sim_shadow_check(struct sim_shadow *shadow)
{
    struct broker_core_view all;
    uint64_t bytes = 0;

    shadow->checks++;
    for (uint32_t i = 0; i < shadow->opened; i++) {
        const struct sim_record *record = &shadow->records[shadow->open[i]];
        bytes += record->bytes;
        check_times(shadow, record);
        MUST(!record->final, "request %u ended, but its payload is kept", record->index);
    }
    broker_core_look(shadow->core, &all);
    MUST(all.jobs == shadow->opened, "%u open jobs, not %u", all.jobs, shadow->opened);
    MUST(all.bytes == bytes, "%lu bytes, not %lu", all.bytes, bytes);
    MUST(bytes <= shadow->limits.total_bytes, "too many bytes");
    check_memory(shadow, &all);
    check_clients(shadow);
    check_workers(shadow);
    for (uint32_t s = 0; s < SIM_SERVICES; s++) {
        struct broker_core_service_view view;
        if (sim_rule_view(shadow, s, &view) < 0)
            continue;
        MUST(view.running == sim_rule_running(shadow, s), "%s: %u running", view.name,
             view.running);
        check_lanes(shadow, s, &view);
        check_target(shadow, s, &view);
        check_idle(shadow, s, &view);
    }
}

void sim_shadow_check_end(struct sim_shadow *shadow, bool at_rest)
{
    struct broker_core_view all;

    broker_core_look(shadow->core, &all);
    MUST(all.jobs == 0 && all.bytes == 0, "%u jobs never ended", all.jobs);
    for (uint32_t i = 0; i < shadow->count; i++) {
        const struct sim_record *record = &shadow->records[i];
        MUST(record->place == SIM_ENDED || record->place == SIM_REFUSED ||
                 record->place == SIM_LOST ||
                 (record->place == SIM_NEW && !record->arrived),
             "request %u is left in place %d", i, record->place);
        MUST(record->view != SIM_VIEW_WAITING || !at_rest,
             "the client of request %u waits", i);
        MUST(record->view != SIM_VIEW_HEARD || record->place != SIM_LOST,
             "request %u was lost with the broker, and answered", i);
        /* Once lost with the broker, it cannot end as itself any more. */
        MUST(record->place != SIM_LOST || (!record->final && !record->released),
             "request %u was lost with the broker and ended", i);
        MUST(record->place != SIM_ENDED || record->released, "payload %u leaked", i);
    }
}
