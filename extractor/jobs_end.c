#include "extractor/jobs_internal.h"

#include "proto/result.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

/* ---- the end of a job ---- */

void extractor_task_clear(struct extractor_task *job)
{
    zmq_msg_close(&job->image);
    *job = (struct extractor_task){0};
}

static void outcome_init(struct proto_outcome *outcome, enum proto_status status,
                         const char *detail)
{
    memset(outcome, 0, sizeof *outcome);
    snprintf(outcome->code, sizeof outcome->code, "%s", proto_status_code(status));
    snprintf(outcome->detail, sizeof outcome->detail, "%s", detail);
}

static void outcome_init_fail(struct proto_outcome *outcome, enum proto_status status,
                              const char *detail)
{
    outcome_init(outcome, status, detail);
    outcome->retryable = 1;
    snprintf(outcome->blame, sizeof outcome->blame, "worker");
}

static void count_end(struct extractor_metrics *metrics, enum proto_verb verb,
                      enum proto_status status)
{
    if (status == PROTO_STATUS_EXPIRED)
        metrics->jobs_expired++;
    if (status == PROTO_STATUS_FULL)
        metrics->jobs_refused++;
    if (verb == PROTO_DONE)
        metrics->jobs_done++;
    else
        metrics->jobs_failed++;
}

/* Say to the broker how the job of `envelope` ended. */
static void answer(struct extractor *extractor, const struct proto_envelope *envelope,
                   enum proto_verb verb, enum proto_status status,
                   const struct proto_outcome *outcome, zmq_msg_t *payload)
{
    struct proto_envelope reply = {.verb = (uint8_t)verb,
                                   .priority = envelope->priority,
                                   .attempt = envelope->attempt,
                                   .status = (uint16_t)status,
                                   .request = envelope->request,
                                   .trace = envelope->trace};

    count_end(extractor->metrics, verb, status);
    extractor_send(extractor, &reply, outcome, payload);
}

void extractor_jobs_answer_done(struct extractor *extractor,
                                const struct proto_envelope *envelope,
                                enum proto_status status, const char *detail)
{
    struct proto_outcome outcome;

    outcome_init(&outcome, status, detail);
    answer(extractor, envelope, PROTO_DONE, status, &outcome, NULL);
}

void extractor_jobs_answer_fail(struct extractor *extractor,
                                const struct proto_envelope *envelope,
                                enum proto_status status, const char *detail)
{
    struct proto_outcome outcome;

    outcome_init_fail(&outcome, status, detail);
    answer(extractor, envelope, PROTO_FAIL, status, &outcome, NULL);
}

/* The one way out: the job ends here unless its fate says that nobody listens. */
void extractor_task_end(struct extractor *extractor, struct extractor_task *job,
                        enum proto_verb verb, enum proto_status status,
                        const struct proto_outcome *outcome, zmq_msg_t *payload)
{
    if (job->fate == EXTRACTOR_FATE_UNWANTED)
        extractor->metrics->jobs_aborted++;
    else
        answer(extractor, &job->envelope, verb, status, outcome, payload);
    extractor_task_clear(job);
}

void extractor_task_fail(struct extractor *extractor, struct extractor_task *job,
                         enum proto_status status, const char *detail)
{
    struct proto_outcome outcome;

    outcome_init_fail(&outcome, status, detail);
    extractor_task_end(extractor, job, PROTO_FAIL, status, &outcome, NULL);
}

void extractor_task_expire(struct extractor *extractor, struct extractor_task *job,
                           bool killed)
{
    struct proto_outcome outcome;

    if (!job->has_budget) { /* there may be time for another slot */
        outcome_init_fail(&outcome, PROTO_STATUS_EXPIRED, "The slot took too long.");
        /* Only what kills slots is to end in the broker's quarantine. */
        if (!killed)
            snprintf(outcome.blame, sizeof outcome.blame, "input");
        extractor_task_end(extractor, job, PROTO_FAIL, PROTO_STATUS_EXPIRED, &outcome,
                           NULL);
        return;
    }
    outcome_init(&outcome, PROTO_STATUS_EXPIRED, "The time for this picture ran out.");
    outcome.slot = job->slot != NULL ? job->slot->number : 0;
    extractor_task_end(extractor, job, PROTO_DONE, PROTO_STATUS_EXPIRED, &outcome, NULL);
}

/* ---- results ---- */

static void release_mapping(void *bytes, void *size)
{
    munmap(bytes, (size_t)(uintptr_t)size);
}

/* A slot may have been taken over by the picture it read: what it sends has to be what
 * was asked for. */
static bool is_answer_to(const struct extractor_job *work, const uint8_t *bytes,
                         size_t size)
{
    const struct proto_result_known known = {.kind = work->kind,
                                             .key = work->key,
                                             .image_sha256 = work->image_sha256,
                                             .params = &work->params};

    return proto_result_check(bytes, size, &known, NULL) == NULL;
}

/* The slot's memory becomes the message's: no copy is made. */
static int wrap_result(const struct extractor_job *work, int fd, size_t size,
                       zmq_msg_t *out)
{
    void *bytes;
    int err = extractor_payload_map(fd, size, &bytes);

    if (err < 0)
        return err;
    err = is_answer_to(work, bytes, size) ? 0 : -EPROTO;
    if (err == 0)
        err =
            mesh_payload_wrap(out, bytes, size, release_mapping, (void *)(uintptr_t)size);
    if (err < 0)
        munmap(bytes, size);
    return err;
}

static void observe(struct extractor_metrics *metrics,
                    const struct extractor_result *result)
{
    metrics_observe(&metrics->decode, result->decode_us);
    metrics_observe(&metrics->denoise, result->denoise_us);
    metrics_observe(&metrics->sift, result->sift_us);
}

static void job_done(struct extractor *extractor, struct extractor_task *job,
                     const struct extractor_result *result, int fd)
{
    struct proto_outcome outcome;
    zmq_msg_t payload;
    int err = wrap_result(&job->work, fd, result->size, &payload);

    if (err < 0) {
        log_event(LOG_ERROR, "result not usable", "slot=%u error=\"%s\"",
                  job->slot->number, strerror(-err));
        extractor_task_fail(extractor, job, PROTO_STATUS_INTERNAL,
                            "The slot's result is not usable.");
        return;
    }
    outcome_init(&outcome, PROTO_STATUS_OK, "");
    outcome.decode_us = result->decode_us;
    outcome.denoise_us = result->denoise_us;
    outcome.sift_us = result->sift_us;
    outcome.count = result->count;
    outcome.width_px = result->width_px;
    outcome.height_px = result->height_px;
    outcome.slot = job->slot->number;
    observe(extractor->metrics, result);
    extractor_task_end(extractor, job, PROTO_DONE, PROTO_STATUS_OK, &outcome, &payload);
    zmq_msg_close(&payload);
}

static void job_error(struct extractor *extractor, struct extractor_task *job,
                      const struct extractor_error *error)
{
    struct proto_outcome outcome;
    bool ours = error->status == PROTO_STATUS_INTERNAL ||
                error->status == PROTO_STATUS_CANCELLED; /* and nobody asked for that */

    if (ours)
        outcome_init_fail(&outcome, error->status, error->detail);
    else
        outcome_init(&outcome, error->status, error->detail);
    if (proto_status_is_of_input(error->status))
        snprintf(outcome.blame, sizeof outcome.blame, "input");
    outcome.limit = error->limit;
    outcome.actual = error->actual;
    outcome.slot = job->slot->number;
    extractor_task_end(extractor, job, ours ? PROTO_FAIL : PROTO_DONE, error->status,
                       &outcome, NULL);
}

/* ---- what slots say ---- */

void extractor_jobs_on_started(struct extractor_slot *slot, void *arg)
{
    struct extractor_jobs *jobs = arg;
    struct extractor_task *job = slot->job;
    struct proto_start start = {.slot = slot->number, .pid = (uint64_t)slot->process.pid};
    struct proto_envelope envelope = {.verb = PROTO_START,
                                      .priority = job->envelope.priority,
                                      .attempt = job->envelope.attempt,
                                      .request = job->envelope.request,
                                      .trace = job->envelope.trace};

    if (job->started || job->fate == EXTRACTOR_FATE_UNWANTED)
        return;
    job->started = true;
    job->progress_us = service_now_us(jobs->extractor->service);
    jobs->extractor->metrics->jobs_started++;
    metrics_observe(&jobs->extractor->metrics->handover,
                    job->progress_us - job->received_us);
    extractor_send(jobs->extractor, &envelope, &start, NULL);
}

static void observe_stop(struct extractor *extractor, const struct extractor_slot *slot,
                         const struct extractor_task *job)
{
    uint32_t progress = atomic_load(&slot->process.page->control.progress);

    if (job->stop_us == 0)
        return;
    extractor->metrics->stop_steps += progress - job->stop_progress;
    metrics_observe(&extractor->metrics->stop,
                    service_now_us(extractor->service) - job->stop_us);
}

void extractor_jobs_on_answer(struct extractor_slot *slot, void *handle,
                              const struct extractor_slotwire *message, int fd, void *arg)
{
    struct extractor *extractor = ((struct extractor_jobs *)arg)->extractor;
    struct extractor_task *job = handle;

    observe_stop(extractor, slot, job);
    if (message->kind == EXTRACTOR_SLOT_DONE)
        job_done(extractor, job, &message->result, fd); /* in time or not: it is there */
    else if (job->fate == EXTRACTOR_FATE_EXPIRED)
        extractor_task_expire(extractor, job, false);
    else
        job_error(extractor, job, &message->error);
}

void extractor_jobs_on_lost(struct extractor_slot *slot, void *handle, const char *how,
                            void *arg)
{
    static const char *const doing[] = {"waiting", "working", "answering"};
    struct extractor *extractor = ((struct extractor_jobs *)arg)->extractor;
    struct extractor_task *job = handle;
    uint32_t stage = atomic_load(&slot->process.page->stage);
    char detail[160];

    if (job->fate == EXTRACTOR_FATE_EXPIRED) {
        extractor_task_expire(extractor, job, true);
        return;
    }
    snprintf(detail, sizeof detail, "Slot %u ended by %s while %s.", slot->number, how,
             stage < 3 ? doing[stage] : "?");
    extractor_task_fail(extractor, job, PROTO_STATUS_WORKER_LOST, detail);
}
