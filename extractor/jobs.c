#include "extractor/jobs.h"

#include "extractor/extractor.h"
#include "proto/blob.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* Addresses of a slot that are not its picture's: program, libraries, stack, the
 * picture's file, the result. */
#define SLOT_BASE_BYTES (192ull << 20)

/* Why a job is being stopped. */
enum fate { FATE_NONE, FATE_UNWANTED, FATE_EXPIRED };

struct job {
    bool used;
    struct proto_envelope envelope; /* of JOB: id, attempt, trace, priority */
    struct extractor_job work;
    zmq_msg_t image;             /* until a slot has it */
    struct extractor_slot *slot; /* NULL: held */
    bool started;
    bool has_budget; /* deadline_us is the client's, not our own job_timeout_ms */
    enum fate fate;
    uint64_t received_us, deadline_us, progress_us;
    uint32_t progress;
};

struct extractor_jobs {
    struct extractor *extractor;
    unsigned size;
    struct job table[]; /* the held ones and those in slots */
};

static uint64_t now_of(const struct extractor_jobs *jobs)
{
    return service_now_us(jobs->extractor->service);
}

/* ---- the end of a job ---- */

static void job_clear(struct job *job)
{
    zmq_msg_close(&job->image);
    *job = (struct job){0};
}

static void outcome_init(struct proto_outcome *outcome, enum proto_status status,
                         const char *detail)
{
    memset(outcome, 0, sizeof *outcome);
    snprintf(outcome->code, sizeof outcome->code, "%s", proto_status_code(status));
    snprintf(outcome->detail, sizeof outcome->detail, "%s", detail);
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

static void answer_done(struct extractor *extractor,
                        const struct proto_envelope *envelope, enum proto_status status,
                        const char *detail)
{
    struct proto_outcome outcome;

    outcome_init(&outcome, status, detail);
    answer(extractor, envelope, PROTO_DONE, status, &outcome, NULL);
}

static void answer_fail(struct extractor *extractor,
                        const struct proto_envelope *envelope, enum proto_status status,
                        const char *detail)
{
    struct proto_outcome outcome;

    outcome_init(&outcome, status, detail);
    outcome.retryable = 1;
    snprintf(outcome.blame, sizeof outcome.blame, "worker");
    answer(extractor, envelope, PROTO_FAIL, status, &outcome, NULL);
}

/* The one way out: the job ends here unless its fate says that nobody listens. */
static void job_end(struct extractor *extractor, struct job *job, enum proto_verb verb,
                    enum proto_status status, const struct proto_outcome *outcome,
                    zmq_msg_t *payload)
{
    if (job->fate == FATE_UNWANTED)
        extractor->metrics->jobs_aborted++;
    else
        answer(extractor, &job->envelope, verb, status, outcome, payload);
    job_clear(job);
}

static void job_fail(struct extractor *extractor, struct job *job,
                     enum proto_status status, const char *detail)
{
    struct proto_outcome outcome;

    outcome_init(&outcome, status, detail);
    outcome.retryable = 1;
    snprintf(outcome.blame, sizeof outcome.blame, "worker");
    job_end(extractor, job, PROTO_FAIL, status, &outcome, NULL);
}

static void job_expire(struct extractor *extractor, struct job *job)
{
    struct proto_outcome outcome;

    if (!job->has_budget) { /* there may be time for another slot */
        job_fail(extractor, job, PROTO_STATUS_EXPIRED, "The slot took too long.");
        return;
    }
    outcome_init(&outcome, PROTO_STATUS_EXPIRED, "The time for this picture ran out.");
    outcome.slot = job->slot != NULL ? job->slot->number : 0;
    job_end(extractor, job, PROTO_DONE, PROTO_STATUS_EXPIRED, &outcome, NULL);
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
    static const uint8_t png[8] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};
    struct proto_blob blob;

    if (work->kind == PROTO_KIND_DENOISE)
        return size > sizeof png && memcmp(bytes, png, sizeof png) == 0;
    return proto_blob_decode(bytes, size, &blob) == 0 &&
           memcmp(blob.key, work->key, sizeof blob.key) == 0 &&
           memcmp(blob.image_sha256, work->image_sha256, sizeof blob.image_sha256) == 0;
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

static void job_done(struct extractor *extractor, struct job *job,
                     const struct extractor_result *result, int fd)
{
    struct proto_outcome outcome;
    zmq_msg_t payload;
    int err = wrap_result(&job->work, fd, result->size, &payload);

    if (err < 0) {
        log_event(LOG_ERROR, "result not usable", "slot=%u error=\"%s\"",
                  job->slot->number, strerror(-err));
        job_fail(extractor, job, PROTO_STATUS_INTERNAL,
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
    job_end(extractor, job, PROTO_DONE, PROTO_STATUS_OK, &outcome, &payload);
    zmq_msg_close(&payload);
}

static void job_error(struct extractor *extractor, struct job *job,
                      const struct extractor_error *error)
{
    struct proto_outcome outcome;
    bool ours = error->status == PROTO_STATUS_INTERNAL ||
                error->status == PROTO_STATUS_CANCELLED; /* and nobody asked for that */

    outcome_init(&outcome, error->status, error->detail);
    outcome.limit = error->limit;
    outcome.actual = error->actual;
    outcome.slot = job->slot->number;
    outcome.retryable = ours;
    if (ours)
        snprintf(outcome.blame, sizeof outcome.blame, "worker");
    job_end(extractor, job, ours ? PROTO_FAIL : PROTO_DONE, error->status, &outcome,
            NULL);
}

/* ---- what slots say ---- */

void extractor_jobs_on_started(struct extractor_slot *slot, void *arg)
{
    struct extractor_jobs *jobs = arg;
    struct job *job = slot->job;
    struct proto_start start = {.slot = slot->number, .pid = (uint64_t)slot->process.pid};
    struct proto_envelope envelope = {.verb = PROTO_START,
                                      .priority = job->envelope.priority,
                                      .attempt = job->envelope.attempt,
                                      .request = job->envelope.request,
                                      .trace = job->envelope.trace};

    if (job->started || job->fate == FATE_UNWANTED)
        return;
    job->started = true;
    job->progress_us = now_of(jobs);
    jobs->extractor->metrics->jobs_started++;
    metrics_observe(&jobs->extractor->metrics->handover,
                    job->progress_us - job->received_us);
    extractor_send(jobs->extractor, &envelope, &start, NULL);
}

void extractor_jobs_on_answer(struct extractor_slot *slot, void *handle,
                              const struct extractor_slotwire *message, int fd, void *arg)
{
    struct extractor *extractor = ((struct extractor_jobs *)arg)->extractor;
    struct job *job = handle;
    (void)slot;

    if (message->kind == EXTRACTOR_SLOT_DONE)
        job_done(extractor, job, &message->result, fd); /* in time or not: it is there */
    else if (job->fate == FATE_EXPIRED)
        job_expire(extractor, job);
    else
        job_error(extractor, job, &message->error);
}

void extractor_jobs_on_lost(struct extractor_slot *slot, void *handle, const char *how,
                            void *arg)
{
    static const char *const doing[] = {"waiting", "working", "answering"};
    struct extractor *extractor = ((struct extractor_jobs *)arg)->extractor;
    struct job *job = handle;
    uint32_t stage = atomic_load(&slot->process.page->stage);
    char detail[160];

    if (job->fate == FATE_EXPIRED) {
        job_expire(extractor, job);
        return;
    }
    snprintf(detail, sizeof detail, "Slot %u ended by %s while %s.", slot->number, how,
             stage < 3 ? doing[stage] : "?");
    job_fail(extractor, job, PROTO_STATUS_WORKER_LOST, detail);
}

/* ---- from the broker to a slot ---- */

static struct job *job_find(struct extractor_jobs *jobs,
                            const struct proto_envelope *envelope)
{
    for (unsigned i = 0; i < jobs->size; i++) {
        struct job *job = &jobs->table[i];
        if (job->used &&
            memcmp(&job->envelope.request, &envelope->request, sizeof(struct proto_id)) ==
                0 &&
            (envelope->attempt == 0 || job->envelope.attempt == envelope->attempt))
            return job;
    }
    return NULL;
}

static struct job *job_room(struct extractor_jobs *jobs)
{
    if (extractor_jobs_count(jobs).held >= EXTRACTOR_HELD_MAX)
        return NULL;
    for (unsigned i = 0; i < jobs->size; i++)
        if (!jobs->table[i].used)
            return &jobs->table[i];
    return NULL;
}

/* 0, or the status that says what is wrong. */
static enum proto_status read_submit(const struct mesh_msg *msg,
                                     struct extractor_job *out, const char **detail)
{
    struct proto_submit submit;

    *detail = "The job's fields are not valid.";
    if (proto_body_decode(proto_submit_fields, msg->body, msg->body_bytes, &submit) < 0 ||
        submit.key_bytes != sizeof out->key ||
        submit.image_sha256_bytes != sizeof out->image_sha256)
        return PROTO_STATUS_BAD_REQUEST;
    if (strcmp(submit.method, "features") == 0) {
        out->kind = PROTO_KIND_FEATURES;
    } else if (strcmp(submit.method, "denoise") == 0) {
        out->kind = PROTO_KIND_DENOISE;
    } else {
        *detail = "The service extract has the methods features and denoise.";
        return PROTO_STATUS_BAD_REQUEST;
    }
    memcpy(out->key, submit.key, sizeof out->key);
    memcpy(out->image_sha256, submit.image_sha256, sizeof out->image_sha256);
    *detail = "The canonical parameters are not valid.";
    if (proto_params_decode(submit.params, submit.params_bytes, &out->params) < 0)
        return PROTO_STATUS_BAD_PARAMETER;
    *detail = "There is no picture.";
    out->image_bytes = zmq_msg_size((zmq_msg_t *)&msg->payload);
    return out->image_bytes == 0 ? PROTO_STATUS_UNDECODABLE : PROTO_STATUS_OK;
}

/* Refuse a picture that does not fit, rather than fail in its middle. */
static uint64_t memory_max(const struct extractor_options *options)
{
    uint64_t bytes = options->slot_address_bytes;

    return bytes > 2 * SLOT_BASE_BYTES ? bytes - SLOT_BASE_BYTES : bytes;
}

static void job_fill(struct extractor_jobs *jobs, struct job *job,
                     const struct extractor_job *work, struct mesh_msg *msg)
{
    const struct extractor_options *options = jobs->extractor->options;
    uint64_t now_us = now_of(jobs), budget_ms = msg->envelope.budget_ms;

    *job = (struct job){
        .used = true, .envelope = msg->envelope, .work = *work, .received_us = now_us};
    mesh_payload_take(msg, &job->image);
    job->work.image = zmq_msg_data(&job->image);
    job->work.pixels_max = options->pixels_max;
    job->work.memory_max = memory_max(options);
    job->has_budget = budget_ms != 0 && budget_ms <= options->job_timeout_ms;
    if (!job->has_budget)
        budget_ms = options->job_timeout_ms;
    job->deadline_us = now_us + budget_ms * 1000;
}

void extractor_jobs_add(struct extractor_jobs *jobs, struct mesh_msg *msg)
{
    struct extractor *extractor = jobs->extractor;
    struct extractor_job work = {0};
    struct job *job = job_room(jobs);
    const char *detail;

    extractor->metrics->jobs_received++;
    if (service_draining(extractor->service)) {
        answer_fail(extractor, &msg->envelope, PROTO_STATUS_DRAINING,
                    "The extractor is leaving.");
        return;
    }
    if (job == NULL) {
        answer_fail(extractor, &msg->envelope, PROTO_STATUS_FULL, "No slot is free.");
        return;
    }
    enum proto_status status = read_submit(msg, &work, &detail);
    if (status != PROTO_STATUS_OK) {
        answer_done(extractor, &msg->envelope, status, detail);
        return;
    }
    job_fill(jobs, job, &work, msg);
    extractor_jobs_dispatch(jobs);
    extractor_wake(extractor);
}

static void job_stop(struct extractor *extractor, struct job *job, enum fate fate)
{
    job->fate = fate;
    if (job->slot != NULL)
        extractor_slots_cancel(job->slot);
    else if (fate == FATE_EXPIRED)
        job_expire(extractor, job);
    else
        job_end(extractor, job, PROTO_FAIL, PROTO_STATUS_CANCELLED, NULL, NULL);
}

void extractor_jobs_abort(struct extractor_jobs *jobs, const struct mesh_msg *msg)
{
    struct job *job = job_find(jobs, &msg->envelope);

    if (job != NULL)
        job_stop(jobs->extractor, job, FATE_UNWANTED);
}

void extractor_jobs_abandon(struct extractor_jobs *jobs)
{
    for (unsigned i = 0; i < jobs->size; i++)
        if (jobs->table[i].used)
            job_stop(jobs->extractor, &jobs->table[i], FATE_UNWANTED);
}

void extractor_jobs_fail_all(struct extractor_jobs *jobs)
{
    for (unsigned i = 0; i < jobs->size; i++) {
        struct job *job = &jobs->table[i];
        if (!job->used)
            continue;
        if (job->slot != NULL)
            job->slot->job = NULL; /* whatever it still says is nobody's */
        job_fail(jobs->extractor, job, PROTO_STATUS_DRAINING, "The extractor ends now.");
    }
}

static struct job *oldest_held(struct extractor_jobs *jobs)
{
    struct job *oldest = NULL;

    for (unsigned i = 0; i < jobs->size; i++) {
        struct job *job = &jobs->table[i];
        if (job->used && job->slot == NULL &&
            (oldest == NULL || job->received_us < oldest->received_us))
            oldest = job;
    }
    return oldest;
}

/* False when the slot could not take it, and another may. */
static bool job_give(struct extractor *extractor, struct job *job,
                     struct extractor_slot *slot)
{
    int err = extractor_slots_give(slot, &job->work, job);

    if (err == 0) {
        job->slot = slot;
        job->progress = atomic_load(&slot->process.page->control.progress);
        zmq_msg_close(&job->image);
        zmq_msg_init(&job->image);
        job->work.image = NULL;
    } else if (slot->state == EXTRACTOR_SLOT_IDLE) { /* it is not the slot's fault */
        log_event(LOG_ERROR, "job not given", "slot=%u error=\"%s\"", slot->number,
                  strerror(-err));
        job_fail(extractor, job, PROTO_STATUS_INTERNAL, "No memory for the picture.");
    }
    return err == 0;
}

void extractor_jobs_dispatch(struct extractor_jobs *jobs)
{
    struct extractor_slot *slot;
    struct job *job;

    while ((job = oldest_held(jobs)) != NULL &&
           (slot = extractor_slots_idle(jobs->extractor->slots)) != NULL)
        job_give(jobs->extractor, job, slot);
}

/* ---- time ---- */

static void job_progress(struct extractor *extractor, struct job *job, uint64_t now_us)
{
    uint32_t progress = atomic_load(&job->slot->process.page->control.progress);
    struct proto_envelope envelope = {.verb = PROTO_PROGRESS,
                                      .priority = job->envelope.priority,
                                      .attempt = job->envelope.attempt,
                                      .request = job->envelope.request,
                                      .trace = job->envelope.trace};

    if (!job->started || job->fate != FATE_NONE || progress == job->progress ||
        now_us - job->progress_us < EXTRACTOR_PROGRESS_US)
        return;
    job->progress = progress;
    job->progress_us = now_us;
    extractor_send(extractor, &envelope, NULL, NULL);
}

void extractor_jobs_tick(struct extractor_jobs *jobs)
{
    struct extractor *extractor = jobs->extractor;
    uint64_t now_us = now_of(jobs);

    for (unsigned i = 0; i < jobs->size; i++) {
        struct job *job = &jobs->table[i];
        if (!job->used)
            continue;
        if (now_us >= job->deadline_us && job->fate == FATE_NONE)
            job_stop(extractor, job, FATE_EXPIRED);
        else if (job->slot != NULL)
            job_progress(extractor, job, now_us);
        else if (now_us - job->received_us >= EXTRACTOR_HELD_US)
            job_fail(extractor, job, PROTO_STATUS_FULL, "No slot became free in time.");
    }
}

/* ---- the table ---- */

struct extractor_jobs_count extractor_jobs_count(const struct extractor_jobs *jobs)
{
    struct extractor_jobs_count count = {0};

    for (unsigned i = 0; i < jobs->size; i++)
        if (jobs->table[i].used) {
            count.running += jobs->table[i].slot != NULL;
            count.held += jobs->table[i].slot == NULL;
        }
    return count;
}

int extractor_jobs_open(struct extractor *extractor, unsigned slots_max,
                        struct extractor_jobs **out)
{
    unsigned size = slots_max + EXTRACTOR_HELD_MAX;
    struct extractor_jobs *jobs = calloc(1, sizeof *jobs + size * sizeof jobs->table[0]);

    if (jobs == NULL)
        return -ENOMEM;
    jobs->extractor = extractor;
    jobs->size = size;
    *out = jobs;
    return 0;
}

void extractor_jobs_close(struct extractor_jobs *jobs)
{
    if (jobs == NULL)
        return;
    for (unsigned i = 0; i < jobs->size; i++)
        if (jobs->table[i].used)
            job_clear(&jobs->table[i]);
    free(jobs);
}
