/*
 * Which job next, and to whom.
 *
 * broker_core_dispatch() ends every event that may have freed a slot, credit or a place
 * under the target, or brought a job: so no job waits while a slot that may run it is
 * idle, and no event has to know which of these it caused.
 */
#include "broker/core/state.h"

#include <string.h>

static struct broker_core_job *job_of(struct broker_core_link *link)
{
    return BROKER_CORE_OF(struct broker_core_job, line, link);
}

/*
 * Overload: then a job that is served in its turn has little of its time left, and the
 * work may come to nothing, as would all the work after it. The newest has all of its
 * time. The old ones are served when the newer ones are done, or else expire, which
 * costs no work.
 */
static bool waited_long(const struct broker_core *core, const struct broker_core_job *job,
                        uint64_t now_us)
{
    uint64_t waited_us = now_us - job->accepted_us;
    uint64_t budget_us = job->deadline_us - job->accepted_us;

    return waited_us * 100 > budget_us * core->limits.newest_first_percent;
}

/* The first job of a line, from one end or the other, but for those of clients for whom
 * results wait. A look at each of these is what a client that reads nothing costs. */
static struct broker_core_job *first_of(const struct broker_core *core,
                                        struct broker_core_link *line, bool newest)
{
    struct broker_core_link *at = newest ? line->prev : line->next;

    while (at != line && core->clients[job_of(at)->client].held)
        at = newest ? at->prev : at->next;
    return at != line ? job_of(at) : NULL;
}

static struct broker_core_job *next_of(const struct broker_core *core,
                                       struct broker_core_lane *lane, uint64_t now_us)
{
    if (lane->jobs == 0)
        return NULL;
    struct broker_core_job *again = first_of(core, &lane->again, false);
    if (again != NULL)
        return again;
    struct broker_core_job *oldest = first_of(core, &lane->line, false);
    return oldest != NULL && waited_long(core, oldest, now_us)
               ? first_of(core, &lane->line, true)
               : oldest;
}

/*
 * Whether only the places are left that are kept for the high lane. A high job then finds
 * a slot at once instead of waiting for another's end, which no order of lanes can do for
 * it. A third of the target at most: with as many slots as processors and one, the
 * default, the processors are busy without the place that is kept.
 */
static bool is_high_only(const struct broker_core *core,
                         const struct broker_core_service *service, uint64_t now_us)
{
    uint64_t kept = service->target / 3;

    if (kept > core->limits.high_slots)
        kept = core->limits.high_slots;
    return kept > 0 && now_us < service->high_until_us &&
           service->running + service->aborting + kept >= service->target;
}

/* None is larger than the whole budget: that is refused on arrival. */
static bool fits_memory(const struct broker_core *core, const struct broker_core_job *job)
{
    uint64_t budget = core->limits.memory_budget;

    return budget == 0 || core->cost + job->cost <= budget;
}

static bool may_take(const struct broker_core *core,
                     const struct broker_core_service *service,
                     const struct broker_core_worker *worker,
                     const struct broker_core_job *job)
{
    if (worker->leaving || worker->credit == 0 || (worker->doubted && worker->jobs > 0))
        return false;
    if (worker->slots_max > 0) {
        if (service->running + service->aborting >= service->target ||
            !fits_memory(core, job))
            return false;
        /* A READY that crossed a JOB overstates the credit; its slots do not. */
        if (worker->jobs + worker->aborting >= worker->slots)
            return false;
    }
    /* A worker that holds nothing takes any payload, else a large one would wait in
     * vain and keep the lane behind it. */
    return worker->credit_bytes == 0 || worker->jobs == 0 ||
           worker->bytes + job->bytes <= worker->credit_bytes;
}

/* Rendezvous hashing (Thaler and Ravishankar, 1998): every job of a key goes to the same
 * worker while it lives and has credit, and when a worker comes or goes only its keys
 * move. Keys are digests, and the hash is no secret: whoever aims at one worker could as
 * well send it as much. */
static uint64_t affinity(const struct broker_core_worker *worker,
                         const struct broker_core_job *job)
{
    uint64_t mixed;

    memcpy(&mixed, job->key, sizeof mixed);
    mixed = (mixed ^ worker->session) * UINT64_C(0x9e3779b97f4a7c15);
    mixed = (mixed ^ mixed >> 32) * UINT64_C(0xd6e8feb86659fd93);
    return mixed ^ mixed >> 32;
}

/* Not where it was tried, then not who let a START time pass, whatever credit it claims;
 * then, where there are no slots, the one that knows the key: a cacher holds its lease
 * and has it in memory. Then most credit, then longest unused. */
static bool better(const struct broker_core_worker *a, const struct broker_core_worker *b,
                   const struct broker_core_job *job)
{
    bool a_tried = a->session == job->tried, b_tried = b->session == job->tried;

    if (a_tried != b_tried)
        return b_tried;
    if (a->doubted != b->doubted)
        return b->doubted;
    if (a->slots_max == 0 && b->slots_max == 0 && job->has_key)
        return affinity(a, job) > affinity(b, job);
    if (a->credit != b->credit)
        return a->credit > b->credit;
    return a->used < b->used;
}

static struct broker_core_worker *choose_worker(const struct broker_core *core,
                                                struct broker_core_service *service,
                                                const struct broker_core_job *job)
{
    struct broker_core_worker *best = NULL;

    for (struct broker_core_link *at = service->workers.next; at != &service->workers;
         at = at->next) {
        struct broker_core_worker *worker =
            BROKER_CORE_OF(struct broker_core_worker, of_service, at);
        if (may_take(core, service, worker, job) &&
            (best == NULL || better(worker, best, job)))
            best = worker;
    }
    return best;
}

static void count_share(const struct broker_core *core,
                        struct broker_core_service *service,
                        const struct broker_core_job *job, uint64_t now_us)
{
    if (job->priority == PROTO_PRIORITY_BATCH)
        service->since_batch = 0;
    else if (next_of(core, &service->lanes[PROTO_PRIORITY_BATCH], now_us) != NULL)
        service->since_batch++;
}

static void count_order(struct broker_core *core, struct broker_core_lane *lane,
                        const struct broker_core_job *job)
{
    if (first_of(core, &lane->again, false) == NULL &&
        job != first_of(core, &lane->line, false))
        core->counters.jobs_newest_first++;
}

enum given { GIVEN, NO_JOB, MUST_WAIT };

/* Give out the next job of a lane, or end it where that is due. */
static enum given give_next(struct broker_core *core, struct broker_core_service *service,
                            unsigned priority, bool high_only, uint64_t now_us)
{
    struct broker_core_job *job = next_of(core, &service->lanes[priority], now_us);
    if (job == NULL)
        return NO_JOB;

    if (job->deadline_us <= now_us) {
        broker_core_job_due(core, job, now_us);
        return GIVEN;
    }
    if (broker_core_job_poisoned(core, job, now_us)) {
        broker_core_job_loosen(core, job, false, now_us);
        broker_core_job_retry(core, job, PROTO_STATUS_POISON_INPUT, "", now_us);
        return GIVEN;
    }
    struct broker_core_worker *worker = choose_worker(core, service, job);
    if (worker == NULL)
        return MUST_WAIT;
    if (!high_only) /* the share is of the places that are for all */
        count_share(core, service, job, now_us);
    count_order(core, &service->lanes[job->priority], job);
    broker_core_job_loosen(core, job, false, now_us);
    broker_core_job_send(core, job, (uint32_t)(worker - core->workers), now_us);
    return GIVEN;
}

/*
 * Highest first, but one dispatch in batch_share is the batch lane's while it waits. A
 * job may wait though a slot is free: for memory, or for a worker that holds so many
 * bytes. Nothing of a lower lane overtakes it then; the higher lanes do, also when it is
 * the batch lane's turn, which it has as soon as its job fits.
 */
static bool dispatch_one(struct broker_core *core, struct broker_core_service *service,
                         uint64_t now_us)
{
    bool high_only = is_high_only(core, service, now_us);

    if (!high_only && service->since_batch + 1 >= core->limits.batch_share &&
        give_next(core, service, PROTO_PRIORITY_BATCH, false, now_us) == GIVEN)
        return true;
    for (unsigned i = 0; i < PROTO_PRIORITIES; i++) {
        enum given given = give_next(core, service, i, high_only, now_us);
        if (given != NO_JOB || high_only)
            return given == GIVEN;
    }
    return false;
}

void broker_core_dispatch(struct broker_core *core, uint64_t now_us)
{
    for (int i = 0; i < BROKER_CORE_SERVICES_MAX; i++) {
        struct broker_core_service *service = &core->services[i];
        if (service->name[0] == '\0' || service->workers_open == 0)
            continue;
        while (dispatch_one(core, service, now_us))
            continue;
    }
}
