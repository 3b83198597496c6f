/* Events of workers. */
#include "broker/core/state.h"

#include <assert.h>
#include <errno.h>

static uint64_t at_most(uint64_t value, uint64_t limit)
{
    return value < limit ? value : limit;
}

static void arm(struct broker_core *core, struct broker_core_worker *worker)
{
    uint64_t due_us = worker->heard_us + core->limits.silence_us;

    if (worker->aborting > 0)
        due_us = at_most(worker->aborting_until_us, due_us);
    broker_core_heap_set(&core->heap, &worker->timer, due_us);
}

int broker_core_worker_heard(struct broker_core *core, uint32_t index, uint64_t now_us)
{
    assert(index < core->limits.workers_max);
    struct broker_core_worker *worker = &core->workers[index];

    if (!worker->open)
        return -ENOTCONN;
    worker->heard_us = now_us;
    if (!worker->told && !worker->leaving &&
        now_us >= worker->share_us + core->limits.resend_us)
        broker_core_slots_tell(core, index, now_us);
    return 0;
}

static void join_service(struct broker_core *core, uint32_t index, uint32_t named,
                         uint64_t now_us)
{
    struct broker_core_service *service = &core->services[named];

    broker_core_list_insert(&service->workers, &core->workers[index].of_service);
    service->workers_open++;
    broker_core_service_watch(core, named);
    struct broker_core_action *action =
        broker_core_act(core, BROKER_CORE_WORKER_UP, index);
    action->service = named;
    broker_core_slots_update(core, named, "a worker joined", now_us);
}

int broker_core_register(struct broker_core *core, uint32_t index,
                         const struct broker_core_offer *offer, uint64_t now_us)
{
    if (broker_core_worker_heard(core, index, now_us) == 0)
        return -EALREADY;
    int named = broker_core_service_named(core, offer->service, true, now_us);
    if (named < 0)
        return named;

    struct broker_core_worker *worker = &core->workers[index];
    uint64_t slots_max = at_most(offer->slots_max, BROKER_CORE_SLOTS_MAX);
    uint64_t slots = at_most(offer->slots, slots_max);
    uint32_t number = slots_max > 0 ? broker_core_slots_number(core) : BROKER_CORE_NONE;
    *worker = (struct broker_core_worker){
        .open = true,
        .told = true,
        .service = (uint32_t)named,
        .number = number,
        .session = ++core->sessions,
        .slots_offered = slots,
        .slots_max = slots_max,
        .share = slots,
        .credit_bytes = offer->credit_bytes,
        .heard_us = now_us,
        .timer = {.kind = BROKER_CORE_TIMER_WORKER, .owner = index},
    };
    broker_core_list_init(&worker->all);
    arm(core, worker);
    join_service(core, index, (uint32_t)named, now_us);
    /* It has no credit yet, but it may have raised the target for the others. */
    broker_core_dispatch(core, now_us);
    return 0;
}

static void forget_aborting(struct broker_core *core, struct broker_core_worker *worker,
                            uint64_t keep)
{
    if (worker->aborting <= keep)
        return;
    core->services[worker->service].aborting -= worker->aborting - (uint32_t)keep;
    worker->aborting = (uint32_t)keep;
    /* Which of them have ended, nobody says. */
    if (keep > 0)
        return;
    core->cost -= worker->aborting_cost;
    worker->aborting_cost = 0;
}

int broker_core_ready(struct broker_core *core, uint32_t index, uint64_t credit,
                      uint64_t slots, uint64_t now_us)
{
    if (broker_core_worker_heard(core, index, now_us) < 0)
        return -ENOTCONN;
    struct broker_core_worker *worker = &core->workers[index];

    worker->credit = at_most(credit, UINT32_MAX);
    worker->slots = at_most(slots, BROKER_CORE_SLOTS_MAX);
    /* Slots that are neither free nor at a job of ours are the aborted ones. */
    uint64_t known = worker->credit + worker->jobs;
    forget_aborting(core, worker, worker->slots > known ? worker->slots - known : 0);
    broker_core_dispatch(core, now_us);
    return 0;
}

static bool has(const struct broker_core_job *job, uint32_t worker)
{
    return job->worker == worker &&
           (job->state == BROKER_CORE_JOB_SENT || job->state == BROKER_CORE_JOB_RUNNING);
}

/* The job that an answer is about, when it is about the attempt in hand. */
static int current(struct broker_core *core, uint32_t index, const struct proto_id *id,
                   uint8_t attempt, struct broker_core_job **out, uint64_t now_us)
{
    if (broker_core_worker_heard(core, index, now_us) < 0)
        return -ENOTCONN;
    struct broker_core_job *job = broker_core_job_numbered(core, id);
    if (job != NULL && has(job, index) && job->attempt == attempt) {
        *out = job;
        return 0;
    }
    /* Only the last worker is remembered; for the rest the attempt must speak. */
    if (job == NULL || job->tried == core->workers[index].session ||
        (has(job, index) && attempt < job->attempt)) {
        core->counters.frames_late++;
        return -ESTALE;
    }
    core->counters.frames_forged++;
    return -EPERM;
}

static void begun(struct broker_core *core, struct broker_core_job *job, uint64_t now_us)
{
    core->workers[job->worker].doubted = false;
    if (job->state == BROKER_CORE_JOB_SENT) {
        job->state = BROKER_CORE_JOB_RUNNING;
        job->started_us = now_us;
    }
    job->alive_us = now_us;
}

int broker_core_progress(struct broker_core *core, uint32_t worker,
                         const struct proto_id *id, uint8_t attempt, uint64_t now_us)
{
    struct broker_core_job *job;
    int err = current(core, worker, id, attempt, &job, now_us);

    if (err < 0)
        return err;
    bool doubted = core->workers[worker].doubted;
    begun(core, job, now_us);
    broker_core_job_arm(core, job);
    if (doubted)
        broker_core_dispatch(core, now_us); /* it may have more than one job again */
    return 0;
}

int broker_core_start(struct broker_core *core, uint32_t worker,
                      const struct proto_id *id, uint8_t attempt, uint64_t now_us)
{
    return broker_core_progress(core, worker, id, attempt, now_us);
}

int broker_core_done(struct broker_core *core, uint32_t worker, const struct proto_id *id,
                     uint8_t attempt, unsigned status, uint64_t now_us)
{
    struct broker_core_job *job;
    int err = current(core, worker, id, attempt, &job, now_us);

    if (err < 0)
        return err;
    /* That the broker stops is its own word: who hears it asks it for nothing more. */
    if (status >= PROTO_STATUS_COUNT || status == PROTO_STATUS_DRAINING)
        status = PROTO_STATUS_INTERNAL;
    begun(core, job, now_us);
    broker_core_quarantine_clear(core, job);
    broker_core_service_learn(&core->services[job->service], now_us);
    broker_core_job_loosen(core, job, false, now_us);
    broker_core_job_end(core, job, (enum proto_status)status, "", true, now_us);
    broker_core_dispatch(core, now_us);
    return 0;
}

/* The job goes back as if it had not been sent, and the worker's credit is not what we
 * think. False when it came back too often for that. */
static bool give_back(struct broker_core *core, struct broker_core_job *job,
                      uint64_t now_us)
{
    core->workers[job->worker].credit = 0;
    if (job->returned >= BROKER_CORE_RETURNS_MAX)
        return false;
    job->returned++;
    job->attempt--;
    core->counters.jobs_returned++;
    broker_core_job_loosen(core, job, false, now_us);
    broker_core_job_requeue(core, job, now_us);
    return true;
}

void broker_core_unsent(struct broker_core *core, const struct proto_id *id,
                        uint64_t now_us)
{
    struct broker_core_job *job = broker_core_job_numbered(core, id);

    /* Too often: it is left to its START time, like a frame lost on the way. */
    if (job != NULL && job->state == BROKER_CORE_JOB_SENT && give_back(core, job, now_us))
        broker_core_dispatch(core, now_us);
}

/* It died of a signal, or was killed for hanging, with the job in hand. Any other failure
 * says that the host or the worker lacks something, which no input is to blame for. */
static bool slot_lost(const struct broker_core_failure *failure)
{
    return failure->status == PROTO_STATUS_WORKER_LOST ||
           failure->status == PROTO_STATUS_EXPIRED;
}

static bool is_kill(const struct broker_core_worker *worker,
                    const struct broker_core_failure *failure)
{
    return worker->slots_max > 0 && failure->of_worker && slot_lost(failure);
}

static void failed(struct broker_core *core, struct broker_core_job *job,
                   const struct broker_core_failure *failure, uint64_t now_us)
{
    bool lost = slot_lost(failure);
    enum proto_status otherwise =
        lost ? (enum proto_status)failure->status : PROTO_STATUS_UNAVAILABLE;
    const char *detail = lost ? "the worker could not finish the job"
                              : "the workers lack what the job needs at present";

    if (failure->status == PROTO_STATUS_FULL && job->state == BROKER_CORE_JOB_SENT &&
        give_back(core, job, now_us))
        return;
    core->counters.worker_fails++;
    broker_core_service_learn(&core->services[job->service], now_us);
    if (is_kill(&core->workers[job->worker], failure))
        broker_core_quarantine_blame(core, job, now_us);
    broker_core_job_loosen(core, job, false, now_us);
    if (failure->retryable || broker_core_job_poisoned(core, job, now_us))
        broker_core_job_retry(core, job, otherwise, detail, now_us);
    else
        broker_core_job_end(core, job, otherwise, detail, false, now_us);
}

int broker_core_fail(struct broker_core *core, uint32_t worker, const struct proto_id *id,
                     uint8_t attempt, const struct broker_core_failure *failure,
                     uint64_t now_us)
{
    struct broker_core_job *job;
    int err = current(core, worker, id, attempt, &job, now_us);

    if (err < 0)
        return err;
    failed(core, job, failure, now_us);
    broker_core_dispatch(core, now_us);
    return 0;
}

int broker_core_scaled(struct broker_core *core, uint32_t index, uint64_t share,
                       uint64_t now_us)
{
    if (broker_core_worker_heard(core, index, now_us) < 0)
        return -ENOTCONN;
    if (share == core->workers[index].share)
        core->workers[index].told = true;
    return 0;
}

static void leave_service(struct broker_core *core, struct broker_core_worker *worker,
                          uint64_t now_us)
{
    struct broker_core_service *service = &core->services[worker->service];

    worker->leaving = true;
    if (--service->workers_open == 0)
        service->workerless_us = now_us;
    broker_core_service_watch(core, worker->service);
    broker_core_slots_update(core, worker->service, "a worker leaves", now_us);
}

int broker_core_leaving(struct broker_core *core, uint32_t index, uint64_t now_us)
{
    if (broker_core_worker_heard(core, index, now_us) < 0)
        return -ENOTCONN;
    if (!core->workers[index].leaving)
        leave_service(core, &core->workers[index], now_us);
    /* A lower target may make the last places those that are kept for the high lane,
     * which then need not wait behind another lane's turn. */
    broker_core_dispatch(core, now_us);
    return 0;
}

static void close_session(struct broker_core *core, uint32_t index, uint64_t now_us)
{
    struct broker_core_worker *worker = &core->workers[index];

    broker_core_act(core, BROKER_CORE_WORKER_DOWN, index)->service = worker->service;
    if (!worker->leaving)
        leave_service(core, worker, now_us);
    /* Also when it was leaving: what it had in hand waits for its successor. */
    if (core->services[worker->service].workers_open == 0)
        core->services[worker->service].workerless_us = now_us;
    while (!broker_core_list_empty(&worker->all)) {
        struct broker_core_job *job =
            BROKER_CORE_OF(struct broker_core_job, line, worker->all.next);
        broker_core_job_loosen(core, job, false, now_us);
        broker_core_job_retry(core, job, PROTO_STATUS_WORKER_LOST,
                              "the workers that had the job went away", now_us);
    }
    forget_aborting(core, worker, 0);
    broker_core_list_remove(&worker->of_service);
    broker_core_heap_clear(&core->heap, &worker->timer);
    broker_core_service_watch(core, worker->service);
    worker->open = false;
}

void broker_core_worker_bye(struct broker_core *core, uint32_t index, uint64_t now_us)
{
    assert(index < core->limits.workers_max);
    if (!core->workers[index].open)
        return;
    close_session(core, index, now_us);
    broker_core_dispatch(core, now_us);
}

void broker_core_worker_due(struct broker_core *core, uint32_t index, uint64_t now_us)
{
    struct broker_core_worker *worker = &core->workers[index];

    if (worker->aborting > 0 && now_us >= worker->aborting_until_us)
        forget_aborting(core, worker, 0);
    if (worker->heard_us + core->limits.silence_us > now_us) {
        arm(core, worker);
        return;
    }
    core->counters.workers_silent++;
    close_session(core, index, now_us);
    broker_core_act(core, BROKER_CORE_WORKER_BYE, index);
}
