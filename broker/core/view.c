/* What there is to see: for STATS, the metrics and the simulator. */
#include "broker/core/state.h"

static const char *const source_names[BROKER_CORE_SOURCES] = {"monitor", "operator"};

const struct broker_core_counters *broker_core_counters(const struct broker_core *core)
{
    return &core->counters;
}

static void sum_slots(const struct broker_core *core, uint32_t service,
                      struct broker_core_service_view *out)
{
    for (uint32_t i = 0; i < core->limits.workers_max; i++) {
        const struct broker_core_worker *worker = &core->workers[i];
        if (!worker->open || worker->service != service)
            continue;
        out->slots += worker->slots;
        out->slots_default += worker->leaving ? 0 : worker->slots_offered;
    }
}

bool broker_core_service(const struct broker_core *core, uint32_t index,
                         struct broker_core_service_view *out)
{
    const struct broker_core_service *service = &core->services[index];

    if (service->name[0] == '\0')
        return false;
    *out = (struct broker_core_service_view){
        .name = service->name,
        .reason = service->decider != NULL ? service->decider->reason : "",
        .target = service->target,
        .slots_max = service->slots_max,
        .workers = service->workers_open,
        .running = service->running,
        .aborting = service->aborting,
        .job_interval_us =
            service->ends < BROKER_CORE_ENDS_MIN ? 0 : service->interval_us,
    };
    sum_slots(core, index, out);
    for (int i = 0; i < PROTO_PRIORITIES; i++)
        out->lanes[i] = (struct broker_core_lane_view){service->lanes[i].jobs,
                                                       service->lanes[i].bytes};
    for (int i = 0; i < BROKER_CORE_SOURCES; i++) {
        const struct broker_core_target *source = &service->sources[i];
        out->sources[i] = (struct broker_core_source_view){
            .name = source_names[i],
            .live = source->live,
            .target = source->target,
            .seq = source->seq,
            .until_us = source->timer.due_us,
        };
    }
    return true;
}

bool broker_core_worker(const struct broker_core *core, uint32_t index,
                        struct broker_core_worker_view *out)
{
    const struct broker_core_worker *worker = &core->workers[index];

    if (!worker->open)
        return false;
    *out = (struct broker_core_worker_view){
        .service = worker->service,
        .number = worker->number,
        .credit = worker->credit,
        .credit_bytes = worker->credit_bytes,
        .slots = worker->slots,
        .slots_max = worker->slots_max,
        .share = worker->share,
        .jobs = worker->jobs,
        .aborting = worker->aborting,
        .aborting_cost = worker->aborting_cost,
        .bytes = worker->bytes,
        .leaving = worker->leaving,
    };
    return true;
}

bool broker_core_client(const struct broker_core *core, uint32_t index,
                        struct broker_core_client_view *out)
{
    const struct broker_core_client *client = &core->clients[index];

    if (!client->open)
        return false;
    *out = (struct broker_core_client_view){.jobs = client->jobs, .bytes = client->bytes};
    return true;
}

void broker_core_look(const struct broker_core *core, struct broker_core_view *out)
{
    *out = (struct broker_core_view){
        .jobs = core->jobs_open,
        .bytes = core->bytes,
        .cost = core->cost,
        .quarantined = core->quarantine.refused,
        .draining = core->draining,
        .level = core->level,
        .level_reason = core->level_reason,
        .level_until_us =
            core->level == BROKER_CORE_NORMAL ? 0 : core->level_timer.due_us,
    };
}
