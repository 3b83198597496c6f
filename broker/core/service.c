/* Services: known by name, made on demand, few. */
#include "broker/core/state.h"

#include <errno.h>
#include <string.h>

/* Places that only workers may fill, so that clients asking for names that nobody
 * offers cannot keep a worker out. */
#define FOR_WORKERS 4

#define RETRY_MIN_MS     100
#define RETRY_MAX_MS     30000
#define RETRY_DEFAULT_MS 1000 /* while no job has ended yet */

/* Second attempts are counted in millionths, so that a percent and a microsecond's part
 * of retry_per_s are whole numbers. */
#define ONE_RETRY 1000000ull

static bool good_name(const char *name)
{
    size_t length = strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-_");
    return length > 0 && length <= BROKER_CORE_NAME_BYTES && name[length] == '\0';
}

static bool idle(const struct broker_core_service *service)
{
    if (!broker_core_list_empty(&service->workers))
        return false;
    for (int i = 0; i < PROTO_PRIORITIES; i++)
        if (service->lanes[i].jobs > 0)
            return false;
    for (int i = 0; i < BROKER_CORE_SOURCES; i++)
        if (service->sources[i].live)
            return false;
    return true;
}

static uint64_t full_budget(const struct broker_core *core)
{
    return core->limits.retry_burst * ONE_RETRY;
}

static void make_lane(struct broker_core_lane *lane)
{
    broker_core_list_init(&lane->again);
    broker_core_list_init(&lane->line);
}

static void make(struct broker_core *core, uint32_t index, const char *name,
                 uint64_t now_us)
{
    struct broker_core_service *service = &core->services[index];

    if (service->name[0] != '\0') {
        broker_core_heap_clear(&core->heap, &service->wait);
        broker_core_heap_clear(&core->heap, &service->high);
    }
    broker_core_quarantine_drop(core, index);
    memset(service, 0, sizeof(*service));
    memcpy(service->name, name, strlen(name) + 1);
    broker_core_list_init(&service->workers);
    for (int i = 0; i < PROTO_PRIORITIES; i++)
        make_lane(&service->lanes[i]);
    for (uint32_t i = 0; i < BROKER_CORE_SOURCES; i++) {
        service->sources[i].timer.kind = BROKER_CORE_TIMER_TARGET;
        service->sources[i].timer.owner = index * BROKER_CORE_SOURCES + i;
    }
    service->high.kind = BROKER_CORE_TIMER_HIGH;
    service->high.owner = index;
    service->wait.kind = BROKER_CORE_TIMER_WAIT;
    service->wait.owner = index;
    service->workerless_us = now_us;
    service->retry_micros = full_budget(core);
    service->retry_us = now_us;
}

int broker_core_service_named(struct broker_core *core, const char *name, bool by_worker,
                              uint64_t now_us)
{
    int place = -1, unused = 0;

    if (!good_name(name))
        return -EINVAL;
    for (int i = 0; i < BROKER_CORE_SERVICES_MAX; i++) {
        const struct broker_core_service *service = &core->services[i];
        if (strcmp(service->name, name) == 0)
            return i;
        if (service->name[0] != '\0' && !idle(service))
            continue;
        unused++;
        /* A never used place before one that somebody may come back to. */
        if (place < 0 || (core->services[place].name[0] != '\0' && service->name[0] == 0))
            place = i;
    }
    if (unused == 0 || (!by_worker && unused <= FOR_WORKERS))
        return -ENOSPC;
    make(core, (uint32_t)place, name, now_us);
    return place;
}

static struct broker_core_job *first(const struct broker_core_link *line)
{
    return broker_core_list_empty(line)
               ? NULL
               : BROKER_CORE_OF(struct broker_core_job, line, line->next);
}

/* What was at a worker was accepted before the last worker left: nobody waits longer. */
static struct broker_core_job *longest(const struct broker_core_lane *lane)
{
    struct broker_core_job *again = first(&lane->again);
    return again != NULL ? again : first(&lane->line);
}

/* When the first job of a lane has waited long enough for a first worker. */
static uint64_t waited_us(const struct broker_core *core,
                          const struct broker_core_service *service,
                          const struct broker_core_lane *lane)
{
    const struct broker_core_job *job = longest(lane);
    if (job == NULL)
        return BROKER_CORE_NEVER;
    uint64_t since_us = job->accepted_us > service->workerless_us
                            ? job->accepted_us
                            : service->workerless_us;
    return since_us + core->limits.worker_wait_us;
}

void broker_core_service_watch(struct broker_core *core, uint32_t index)
{
    struct broker_core_service *service = &core->services[index];
    uint64_t due_us = BROKER_CORE_NEVER;

    for (int i = 0; service->workers_open == 0 && i < PROTO_PRIORITIES; i++) {
        uint64_t lane_us = waited_us(core, service, &service->lanes[i]);
        due_us = lane_us < due_us ? lane_us : due_us;
    }
    if (due_us == BROKER_CORE_NEVER)
        broker_core_heap_clear(&core->heap, &service->wait);
    else
        broker_core_heap_set(&core->heap, &service->wait, due_us);
}

void broker_core_service_waited(struct broker_core *core, uint32_t index, uint64_t now_us)
{
    struct broker_core_service *service = &core->services[index];

    for (int i = 0; i < PROTO_PRIORITIES; i++) {
        struct broker_core_lane *lane = &service->lanes[i];
        while (waited_us(core, service, lane) <= now_us) {
            struct broker_core_job *job = longest(lane);
            broker_core_job_loosen(core, job, false, now_us);
            broker_core_job_end(core, job, PROTO_STATUS_UNAVAILABLE,
                                "no worker offers this service", false, now_us);
        }
    }
    broker_core_service_watch(core, index);
}

static void add_retries(const struct broker_core *core,
                        struct broker_core_service *service, uint64_t micros)
{
    uint64_t room = full_budget(core) - service->retry_micros;
    service->retry_micros += micros < room ? micros : room;
}

void broker_core_service_earn_retry(struct broker_core *core, uint32_t index)
{
    add_retries(core, &core->services[index],
                core->limits.retry_percent * (ONE_RETRY / 100));
}

bool broker_core_service_may_retry(struct broker_core *core, uint32_t index,
                                   uint64_t now_us)
{
    struct broker_core_service *service = &core->services[index];
    uint64_t passed_us = now_us - service->retry_us;

    /* With one a second it would be full by then; more could overflow. */
    if (passed_us > full_budget(core))
        passed_us = full_budget(core);
    add_retries(core, service, passed_us * core->limits.retry_per_s);
    service->retry_us = now_us;
    if (service->retry_micros < ONE_RETRY) {
        core->counters.retries_refused++;
        return false;
    }
    service->retry_micros -= ONE_RETRY;
    return true;
}

void broker_core_service_learn(struct broker_core_service *service, uint64_t now_us)
{
    uint64_t gap_us = now_us - service->busy_us;

    service->busy_us = now_us;
    service->ends += service->ends < BROKER_CORE_ENDS_MIN;
    service->interval_us =
        service->interval_us == 0 ? gap_us : (7 * service->interval_us + gap_us) / 8;
}

/* Jobs that go before a new one of this priority, by their number: high lanes first, but
 * the batch lane has its share of the dispatches. */
static uint64_t ahead_of(const struct broker_core *core,
                         const struct broker_core_service *service, uint8_t priority)
{
    uint64_t share = core->limits.batch_share, ahead = 0;
    uint64_t batch = service->lanes[PROTO_PRIORITY_BATCH].jobs;

    for (int i = 0; i <= priority; i++)
        ahead += service->lanes[i].jobs;
    if (priority == PROTO_PRIORITY_BATCH)
        return batch * share < ahead ? batch * share : ahead;
    uint64_t between = share > 1 ? ahead / (share - 1) : batch;
    return ahead + (between < batch ? between : batch);
}

uint64_t broker_core_service_wait_us(const struct broker_core *core, uint32_t index,
                                     uint8_t priority)
{
    const struct broker_core_service *service = &core->services[index];
    uint64_t ahead = ahead_of(core, service, priority);

    if (ahead == 0 || service->ends < BROKER_CORE_ENDS_MIN)
        return 0;
    return (ahead + 1) * service->interval_us;
}

uint32_t broker_core_service_retry_ms(const struct broker_core_service *service)
{
    uint64_t waiting = 1;

    if (service->interval_us == 0)
        return RETRY_DEFAULT_MS;
    for (int i = 0; i < PROTO_PRIORITIES; i++)
        waiting += service->lanes[i].jobs;
    uint64_t ms = waiting * service->interval_us / 1000;
    if (ms < RETRY_MIN_MS)
        return RETRY_MIN_MS;
    return ms > RETRY_MAX_MS ? RETRY_MAX_MS : (uint32_t)ms;
}
