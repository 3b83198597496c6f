#include "extractor/jobs_internal.h"

#include "proto/result.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

/* A slot's clock is ours, but for programs that bend it. */
#define CLOCK_SLACK_US 1000000u

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

/* A failure of this host. It blames nobody: that a picture killed a slot is said by
 * outcome_blame_worker() alone, and the broker counts it against the picture. */
static void outcome_init_fail(struct proto_outcome *outcome, enum proto_status status,
                              const char *detail)
{
    outcome_init(outcome, status, detail);
    outcome->retryable = 1;
}

static void outcome_blame_worker(struct proto_outcome *outcome)
{
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
    if (verb == PROTO_FAIL || job->fate == EXTRACTOR_FATE_UNWANTED)
        extractor_jobs_remember(extractor->jobs, job);
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

bool extractor_task_computed(const struct extractor_task *job, uint64_t cpu_us,
                             uint64_t since_us, uint64_t now_us)
{
    uint64_t used_us;

    return job->slot != NULL &&
           extractor_process_cpu(&job->slot->process, &used_us) == 0 &&
           used_us > cpu_us &&
           used_us - cpu_us >= (now_us - since_us) / 100 * EXTRACTOR_COMPUTED_PERCENT;
}

void extractor_task_expire(struct extractor *extractor, struct extractor_task *job,
                           bool killed)
{
    struct proto_outcome outcome;

    if (!job->has_budget) { /* there may be time for another slot */
        outcome_init_fail(&outcome, PROTO_STATUS_EXPIRED, "The slot took too long.");
        if (killed)
            outcome_blame_worker(&outcome);
        else /* where the slot spent its time on the picture, another one would as well */
            outcome.retryable = !extractor_task_computed(
                job, job->cpu_us, job->given_us, service_now_us(extractor->service));
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

/* The times that go into metrics: a slot measures parts of what we measure. */
static bool times_are_right(const struct extractor_result *result, uint64_t elapsed_us)
{
    uint64_t most = elapsed_us + CLOCK_SLACK_US;

    return result->decode_us <= most && result->denoise_us <= most &&
           result->sift_us <= most &&
           result->decode_us + result->denoise_us + result->sift_us <= most;
}

/* A slot may have been taken over by the picture it read: what it sends has to be what
 * was asked for. NULL, or why it is not. */
static const char *result_check(const struct extractor_task *job,
                                const struct extractor_result *said, const uint8_t *bytes)
{
    const struct proto_result_known known = {.kind = job->work.kind,
                                             .key = job->work.key,
                                             .image_sha256 = job->work.image_sha256,
                                             .params = &job->work.params,
                                             .width_px = job->width_px,
                                             .height_px = job->height_px};
    struct proto_result result;
    const char *why = proto_result_check(bytes, said->size, &known, &result);

    if (why == NULL &&
        (said->count != result.count || said->width_px != result.width_px ||
         said->height_px != result.height_px))
        why = "the slot says another count or size than its result";
    return why;
}

/* The slot's memory becomes the message's: no copy is made. 0; -EPROTO with `why` when
 * the slot is to blame; else -errno, as memory is short. */
static int result_take(const struct extractor_task *job,
                       const struct extractor_result *said, uint64_t now_us, int fd,
                       zmq_msg_t *out, const char **why)
{
    void *bytes;

    *why = "the slot says times that have not passed";
    if (!times_are_right(said, now_us - job->given_us))
        return -EPROTO;
    *why = "the result is larger than it can be, or the slot holds on to it";
    if (said->size > job->result_bytes_max || extractor_payload_seal(fd, said->size) < 0)
        return -EPROTO;
    int err = extractor_payload_map(fd, said->size, &bytes);
    if (err < 0)
        return err;
    *why = result_check(job, said, bytes);
    err = *why != NULL ? -EPROTO
                       : mesh_payload_wrap(out, bytes, said->size, release_mapping,
                                           (void *)(uintptr_t)said->size);
    if (err < 0)
        munmap(bytes, said->size);
    return err;
}

static void observe(struct extractor_metrics *metrics,
                    const struct extractor_result *result)
{
    metrics_observe(&metrics->decode, result->decode_us);
    metrics_observe(&metrics->denoise, result->denoise_us);
    metrics_observe(&metrics->sift, result->sift_us);
}

/* The job fails for what its slot said. */
static void job_not_usable(struct extractor *extractor, struct extractor_task *job,
                           const char *why)
{
    log_event(LOG_ERROR, "answer not usable", "slot=%u why=\"%s\"", job->slot->number,
              why);
    extractor_task_fail(extractor, job, PROTO_STATUS_INTERNAL,
                        "The slot's answer is not usable.");
}

/* False when the slot is to go. */
static bool job_done(struct extractor *extractor, struct extractor_task *job,
                     const struct extractor_result *result, int fd)
{
    struct proto_outcome outcome;
    const char *why;
    zmq_msg_t payload;
    int err =
        result_take(job, result, service_now_us(extractor->service), fd, &payload, &why);

    if (err == -EPROTO) {
        job_not_usable(extractor, job, why);
        return false;
    }
    if (err < 0) {
        extractor_task_fail(extractor, job, PROTO_STATUS_UNAVAILABLE,
                            "The host is short of memory.");
        return true;
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
    return true;
}

/* Printable ASCII, as slots write it: it goes into logs and answers. */
static void detail_copy(const char *from, char *to, size_t to_bytes)
{
    size_t i;

    for (i = 0; from[i] != '\0' && i + 1 < to_bytes; i++)
        to[i] = from[i] >= ' ' && from[i] <= '~' ? from[i] : '?';
    to[i] = '\0';
}

/* False when the slot is to go: it says what only we may say. */
static bool job_error(struct extractor *extractor, struct extractor_task *job,
                      const struct extractor_error *error)
{
    struct proto_outcome outcome;
    bool of_input = proto_status_is_of_input(error->status);
    bool ours = error->status == PROTO_STATUS_INTERNAL ||
                error->status == PROTO_STATUS_UNAVAILABLE ||
                error->status == PROTO_STATUS_CANCELLED; /* and nobody asked for that */

    if (!of_input && !ours) {
        job_not_usable(extractor, job, "the slot says a status that is not its own");
        return false;
    }
    outcome_init(&outcome, error->status, "");
    detail_copy(error->detail, outcome.detail, sizeof outcome.detail);
    outcome.retryable = ours;
    if (of_input)
        snprintf(outcome.blame, sizeof outcome.blame, "input");
    outcome.limit = error->limit;
    outcome.actual = error->actual;
    outcome.slot = job->slot->number;
    extractor_task_end(extractor, job, ours ? PROTO_FAIL : PROTO_DONE, error->status,
                       &outcome, NULL);
    return true;
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
    job->progress_cpu_us = job->cpu_us;
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

bool extractor_jobs_on_answer(struct extractor_slot *slot, void *handle,
                              const struct extractor_slotwire *message, int fd, void *arg)
{
    struct extractor *extractor = ((struct extractor_jobs *)arg)->extractor;
    struct extractor_task *job = handle;

    observe_stop(extractor, slot, job);
    if (message->kind == EXTRACTOR_SLOT_DONE)
        return job_done(extractor, job, &message->result, fd); /* in time or not */
    if (job->fate != EXTRACTOR_FATE_EXPIRED)
        return job_error(extractor, job, &message->error);
    extractor_task_expire(extractor, job, false);
    return true;
}

/* Only a signal tells that the picture ended its slot: a slot exits when the system lets
 * it do no more, and one that spoke nonsense was ended by us. */
void extractor_jobs_on_lost(struct extractor_slot *slot, void *handle,
                            const struct extractor_ending *ending, void *arg)
{
    static const char *const doing[] = {"waiting", "working", "answering"};
    struct extractor *extractor = ((struct extractor_jobs *)arg)->extractor;
    struct extractor_task *job = handle;
    uint32_t stage = atomic_load(&slot->process.page->stage);
    struct proto_outcome outcome;
    char detail[160];

    if (job->fate == EXTRACTOR_FATE_EXPIRED) {
        extractor_task_expire(extractor, job, true);
        return;
    }
    snprintf(detail, sizeof detail, "Slot %u ended by %s while %s.", slot->number,
             ending->how, stage < 3 ? doing[stage] : "?");
    if (ending->signal == 0 || slot->faulty || !slot->started) {
        extractor_task_fail(extractor, job, PROTO_STATUS_INTERNAL, detail);
        return;
    }
    outcome_init_fail(&outcome, PROTO_STATUS_WORKER_LOST, detail);
    outcome_blame_worker(&outcome);
    extractor_task_end(extractor, job, PROTO_FAIL, PROTO_STATUS_WORKER_LOST, &outcome,
                       NULL);
}
