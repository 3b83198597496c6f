/*
 * The slot target of a service: the least of the live targets by source, else what the
 * workers offered; and each worker's share of it. docs/PROTOCOL.md section 6.
 */
#include "broker/core/state.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const char *const source_names[BROKER_CORE_SOURCES] = {"monitor", "operator"};

static int source_by_name(const char *name)
{
    for (int i = 0; i < BROKER_CORE_SOURCES; i++)
        if (strcmp(source_names[i], name) == 0)
            return i;
    return -EINVAL;
}

static struct broker_core_worker *worker_of(struct broker_core_link *link)
{
    return BROKER_CORE_OF(struct broker_core_worker, of_service, link);
}

/* What the workers that stay can give: their default and their most. */
static void sum_up(struct broker_core_service *service, uint64_t *offered, uint64_t *most)
{
    struct broker_core_link *head = &service->workers;

    *offered = *most = 0;
    for (struct broker_core_link *at = head->next; at != head; at = at->next) {
        if (worker_of(at)->leaving)
            continue;
        *offered += worker_of(at)->slots_offered;
        *most += worker_of(at)->slots_max;
    }
}

static uint64_t decide(struct broker_core_service *service, uint64_t offered,
                       uint64_t most)
{
    uint64_t target = offered;

    for (int i = 0; i < BROKER_CORE_SOURCES; i++) {
        const struct broker_core_target *source = &service->sources[i];
        if (!source->live || source->target == 0 ||
            (service->decider != NULL && source->target >= target))
            continue;
        service->decider = source;
        target = source->target;
    }
    if (target > most)
        target = most;
    return target == 0 ? 1 : target;
}

void broker_core_slots_tell(struct broker_core *core, uint32_t index, uint64_t now_us)
{
    struct broker_core_worker *worker = &core->workers[index];
    struct broker_core_action *action = broker_core_act(core, BROKER_CORE_SHARE, index);

    action->service = worker->service;
    action->to = worker->share;
    action->seq = ++core->shares;
    action->text = core->services[worker->service].reason;
    worker->share_us = now_us;
    worker->told = false;
}

/*
 * In proportion to slots_max: a worker's share is the difference of two rounded points
 * of the running sum. So the shares add up to the target exactly, none exceeds its
 * worker's slots_max, and no remainder has to be dealt.
 */
static void deal(struct broker_core *core, struct broker_core_service *service,
                 uint64_t now_us)
{
    struct broker_core_link *head = &service->workers;
    uint64_t sum = 0, dealt = 0;

    for (struct broker_core_link *at = head->next; at != head; at = at->next) {
        struct broker_core_worker *worker = worker_of(at);
        if (worker->leaving || worker->slots_max == 0)
            continue;
        sum += worker->slots_max;
        uint64_t point = sum * service->target / service->slots_max;
        uint64_t share = service->decider != NULL ? point - dealt : worker->slots_offered;
        dealt = point;
        if (share == worker->share)
            continue;
        worker->share = share;
        broker_core_slots_tell(core, (uint32_t)(worker - core->workers), now_us);
    }
}

void broker_core_slots_update(struct broker_core *core, uint32_t index,
                              const char *reason, uint64_t now_us)
{
    struct broker_core_service *service = &core->services[index];
    uint64_t offered, before = service->target;

    sum_up(service, &offered, &service->slots_max);
    service->decider = NULL;
    service->target =
        service->slots_max == 0 ? 0 : decide(service, offered, service->slots_max);
    if (service->target != before) {
        (void)snprintf(service->reason, sizeof(service->reason), "%s", reason);
        struct broker_core_action *action =
            broker_core_act(core, BROKER_CORE_SLOTS, BROKER_CORE_NONE);
        action->service = index;
        action->from = before;
        action->to = service->target;
        action->text = service->reason;
    }
    deal(core, service, now_us);
}

static uint64_t ttl_us(const struct broker_core *core, uint64_t ttl_ms)
{
    if (ttl_ms == 0)
        return core->limits.target_ttl_us;
    return ttl_ms < BROKER_CORE_TARGET_MAX_US / 1000 ? ttl_ms * 1000
                                                     : BROKER_CORE_TARGET_MAX_US;
}

int broker_core_scale(struct broker_core *core, const struct broker_core_scale *scale,
                      uint32_t *service, uint64_t now_us)
{
    int source = source_by_name(scale->source);
    if (source < 0)
        return source;
    int named = broker_core_service_named(core, scale->service, false, now_us);
    if (named < 0)
        return named;

    struct broker_core_target *target = &core->services[named].sources[source];
    *service = (uint32_t)named;
    if (target->live && scale->seq < target->seq) {
        core->counters.targets_stale++;
        return -ESTALE;
    }
    target->live = true;
    target->seq = scale->seq;
    target->target = scale->target;
    (void)snprintf(target->reason, sizeof(target->reason), "%s", scale->reason);
    if (target->target == 0 && strcmp(scale->source, "operator") != 0)
        target->target = 1;
    broker_core_heap_set(&core->heap, &target->timer,
                         now_us + ttl_us(core, scale->ttl_ms));
    broker_core_slots_update(core, (uint32_t)named, scale->reason, now_us);
    broker_core_dispatch(core, now_us);
    return 0;
}

void broker_core_slots_expired(struct broker_core *core, uint32_t owner, uint64_t now_us)
{
    uint32_t service = owner / BROKER_CORE_SOURCES, source = owner % BROKER_CORE_SOURCES;
    char reason[BROKER_CORE_REASON_BYTES + 1];

    core->services[service].sources[source].live = false;
    (void)snprintf(reason, sizeof(reason), "the %s's target has expired",
                   source_names[source]);
    broker_core_slots_update(core, service, reason, now_us);
}

uint32_t broker_core_slots_number(const struct broker_core *core)
{
    for (uint32_t number = 0;; number++) {
        uint32_t i = 0;
        while (i < core->limits.workers_max &&
               !(core->workers[i].open && core->workers[i].number == number))
            i++;
        if (i == core->limits.workers_max)
            return number;
    }
}

int broker_core_drain_slot(struct broker_core *core, uint64_t number)
{
    uint64_t slot = number % BROKER_CORE_SLOTS_PER;

    for (uint32_t i = 0; slot > 0 && i < core->limits.workers_max; i++) {
        const struct broker_core_worker *worker = &core->workers[i];
        if (!worker->open || worker->number != number / BROKER_CORE_SLOTS_PER)
            continue;
        broker_core_act(core, BROKER_CORE_DRAIN, i)->to = slot;
        return 0;
    }
    return -ENOENT;
}
