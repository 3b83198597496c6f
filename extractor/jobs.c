#include "extractor/jobs_internal.h"

#include "proto/mask.h"
#include "proto/picture.h"
#include "proto/result.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Addresses of a slot that are not its picture's: program, libraries, stack, the
 * picture's file, the result. */
#define SLOT_BASE_BYTES (192ull << 20)

/* Room for the result of bytes that are no picture: a slot has only an error for them. */
#define NO_RESULT_BYTES 4096u

static uint64_t now_of(const struct extractor_jobs *jobs)
{
    return service_now_us(jobs->extractor->service);
}

/* ---- from the broker to a slot ---- */

static struct extractor_task *job_find(struct extractor_jobs *jobs,
                                       const struct proto_envelope *envelope)
{
    for (unsigned i = 0; i < jobs->size; i++) {
        struct extractor_task *job = &jobs->table[i];
        if (job->used &&
            memcmp(&job->envelope.request, &envelope->request, sizeof(struct proto_id)) ==
                0 &&
            (envelope->attempt == 0 || job->envelope.attempt == envelope->attempt))
            return job;
    }
    return NULL;
}

static struct extractor_task *job_room(struct extractor_jobs *jobs)
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
    uint8_t key[PROTO_DIGEST_BYTES];

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
    *detail = "The key is not that of the picture and the parameters.";
    if (proto_key(out->image_sha256, out->kind, &out->params, key) < 0 ||
        memcmp(key, out->key, sizeof key) != 0)
        return PROTO_STATUS_BAD_REQUEST;
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

/* How large its result can be, by the head of the file: the slot is not asked. */
static void job_measure(struct extractor_task *job)
{
    size_t picture_bytes = job->work.image_bytes, mask_bytes = 0;
    struct proto_picture picture;
    uint64_t most;

    (void)proto_mask_split(job->work.image, job->work.image_bytes, &picture_bytes,
                           &mask_bytes);
    job->result_bytes_max = NO_RESULT_BYTES;
    if (proto_picture_probe(job->work.image, picture_bytes, &picture) < 0)
        return;
    job->width_px = picture.width_px;
    job->height_px = picture.height_px;
    most = proto_result_bytes_max(job->work.kind, &job->work.params, picture.width_px,
                                  picture.height_px);
    job->result_bytes_max =
        most < EXTRACTOR_PAYLOAD_BYTES_MAX ? most : EXTRACTOR_PAYLOAD_BYTES_MAX;
}

/* ---- second attempts ---- */

void extractor_jobs_remember(struct extractor_jobs *jobs,
                             const struct extractor_task *job)
{
    if (job->slot == NULL || job->envelope.attempt != 1)
        return;
    jobs->firsts[jobs->firsts_next] =
        (struct extractor_first){job->envelope.request, job->slot->process.pid};
    jobs->firsts_next = (jobs->firsts_next + 1) % EXTRACTOR_FIRSTS_MAX;
}

/* The process that had the first attempt, or 0. It may have ended, and then it is no slot
 * any more. */
static pid_t first_pid(const struct extractor_jobs *jobs,
                       const struct proto_envelope *envelope)
{
    if (envelope->attempt < 2)
        return 0;
    for (unsigned i = 0; i < EXTRACTOR_FIRSTS_MAX; i++)
        if (memcmp(&jobs->firsts[i].request, &envelope->request,
                   sizeof envelope->request) == 0)
            return jobs->firsts[i].pid;
    return 0;
}

static void job_fill(struct extractor_jobs *jobs, struct extractor_task *job,
                     const struct extractor_job *work, struct mesh_msg *msg)
{
    const struct extractor_options *options = jobs->extractor->options;
    uint64_t now_us = now_of(jobs), budget_ms = msg->envelope.budget_ms;

    *job = (struct extractor_task){
        .used = true, .envelope = msg->envelope, .work = *work, .received_us = now_us};
    mesh_payload_take(msg, &job->image);
    job->work.image = zmq_msg_data(&job->image);
    job->avoid = first_pid(jobs, &msg->envelope);
    job_measure(job);
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
    struct extractor_task *job = job_room(jobs);
    const char *detail;

    extractor->metrics->jobs_received++;
    if (service_draining(extractor->service)) {
        /* FULL, not DRAINING: it crossed our DRAIN on its way, and costs it no attempt.
         */
        extractor_jobs_answer_fail(extractor, &msg->envelope, PROTO_STATUS_FULL,
                                   "The extractor is leaving.");
        return;
    }
    if (job == NULL) {
        extractor_jobs_answer_fail(extractor, &msg->envelope, PROTO_STATUS_FULL,
                                   "No slot is free.");
        return;
    }
    enum proto_status status = read_submit(msg, &work, &detail);
    if (status != PROTO_STATUS_OK) {
        extractor_jobs_answer_done(extractor, &msg->envelope, status, detail);
        return;
    }
    job_fill(jobs, job, &work, msg);
    extractor_jobs_dispatch(jobs);
    extractor_wake(extractor);
}

static void slot_stop(struct extractor_task *job, uint64_t now_us)
{
    extractor_slots_cancel(job->slot);
    job->stop_us = now_us;
    /* After the flag, so that no step counts that was done before it could be seen. */
    job->stop_progress = atomic_load(&job->slot->process.page->control.progress);
}

static void job_stop(struct extractor *extractor, struct extractor_task *job,
                     enum extractor_fate fate)
{
    job->fate = fate;
    if (job->slot != NULL)
        slot_stop(job, service_now_us(extractor->service));
    else if (fate == EXTRACTOR_FATE_EXPIRED)
        extractor_task_expire(extractor, job, false);
    else
        extractor_task_end(extractor, job, PROTO_FAIL, PROTO_STATUS_CANCELLED, NULL,
                           NULL);
}

void extractor_jobs_abort(struct extractor_jobs *jobs, const struct mesh_msg *msg)
{
    struct extractor_task *job = job_find(jobs, &msg->envelope);

    if (job != NULL)
        job_stop(jobs->extractor, job, EXTRACTOR_FATE_UNWANTED);
}

void extractor_jobs_abandon(struct extractor_jobs *jobs)
{
    for (unsigned i = 0; i < jobs->size; i++)
        if (jobs->table[i].used)
            job_stop(jobs->extractor, &jobs->table[i], EXTRACTOR_FATE_UNWANTED);
}

void extractor_jobs_fail_all(struct extractor_jobs *jobs)
{
    for (unsigned i = 0; i < jobs->size; i++) {
        struct extractor_task *job = &jobs->table[i];
        if (!job->used)
            continue;
        if (job->slot != NULL)
            job->slot->job = NULL; /* whatever it still says is nobody's */
        extractor_task_fail(jobs->extractor, job, PROTO_STATUS_DRAINING,
                            "The extractor ends now.");
    }
}

static struct extractor_task *oldest_held(struct extractor_jobs *jobs)
{
    struct extractor_task *oldest = NULL;

    for (unsigned i = 0; i < jobs->size; i++) {
        struct extractor_task *job = &jobs->table[i];
        if (job->used && job->slot == NULL &&
            (oldest == NULL || job->received_us < oldest->received_us))
            oldest = job;
    }
    return oldest;
}

/* False when the slot could not take it, and another may. */
static bool job_give(struct extractor *extractor, struct extractor_task *job,
                     struct extractor_slot *slot)
{
    job->given_us = service_now_us(extractor->service);
    int err = extractor_slots_give(slot, &job->work, job->result_bytes_max, job);

    if (err == 0) {
        job->slot = slot;
        if (extractor_process_cpu(&slot->process, &job->cpu_us) < 0)
            job->cpu_us = UINT64_MAX; /* then it is never taken for having computed */
        job->progress = atomic_load(&slot->process.page->control.progress);
        zmq_msg_close(&job->image);
        zmq_msg_init(&job->image);
        job->work.image = NULL;
    } else if (slot->state == EXTRACTOR_SLOT_IDLE) { /* it is not the slot's fault */
        log_event(LOG_ERROR, "job not given", "slot=%u error=\"%s\"", slot->number,
                  strerror(-err));
        extractor_task_fail(extractor, job, PROTO_STATUS_UNAVAILABLE,
                            "The host is short of memory or descriptors.");
    }
    return err == 0;
}

/* Where no slot is idle but the one that the job is not to come to, that one is replaced,
 * and the job waits for the new process. */
static struct extractor_slot *slot_for(struct extractor_slots *slots,
                                       const struct extractor_task *job)
{
    struct extractor_slot *slot = extractor_slots_idle(slots, job->avoid);

    if (slot == NULL && job->avoid != 0) {
        struct extractor_slot *avoided = extractor_slots_idle(slots, 0);
        if (avoided != NULL)
            extractor_slots_replace(avoided);
    }
    return slot;
}

void extractor_jobs_dispatch(struct extractor_jobs *jobs)
{
    struct extractor_slot *slot;
    struct extractor_task *job;

    while ((job = oldest_held(jobs)) != NULL &&
           (slot = slot_for(jobs->extractor->slots, job)) != NULL)
        job_give(jobs->extractor, job, slot);
}

/* ---- time ---- */

/* VLFeat smooths a whole octave, for seconds where that is large, and cannot be asked how
 * far it is. So its jobs move while their slot has the CPU; one that spins for ever is
 * left to the job's time. Our own kernels count their steps. */
static bool job_moves(const struct extractor_task *job, uint32_t progress,
                      uint64_t now_us)
{
    if (progress != job->progress)
        return true;
    return job->work.kind == PROTO_KIND_FEATURES &&
           job->work.params.sift == PROTO_SIFT_VLFEAT &&
           extractor_task_computed(job, job->progress_cpu_us, job->progress_us, now_us);
}

static void job_progress(struct extractor *extractor, struct extractor_task *job,
                         uint64_t now_us)
{
    uint32_t progress = atomic_load(&job->slot->process.page->control.progress);
    struct proto_envelope envelope = {.verb = PROTO_PROGRESS,
                                      .priority = job->envelope.priority,
                                      .attempt = job->envelope.attempt,
                                      .request = job->envelope.request,
                                      .trace = job->envelope.trace};

    if (!job->started || job->fate != EXTRACTOR_FATE_NONE ||
        now_us - job->progress_us < EXTRACTOR_PROGRESS_US ||
        !job_moves(job, progress, now_us))
        return;
    job->progress = progress;
    job->progress_us = now_us;
    (void)extractor_process_cpu(&job->slot->process, &job->progress_cpu_us);
    extractor_send(extractor, &envelope, NULL, NULL);
}

void extractor_jobs_tick(struct extractor_jobs *jobs)
{
    struct extractor *extractor = jobs->extractor;
    uint64_t now_us = now_of(jobs);

    for (unsigned i = 0; i < jobs->size; i++) {
        struct extractor_task *job = &jobs->table[i];
        if (!job->used)
            continue;
        if (now_us >= job->deadline_us && job->fate == EXTRACTOR_FATE_NONE)
            job_stop(extractor, job, EXTRACTOR_FATE_EXPIRED);
        else if (job->slot != NULL)
            job_progress(extractor, job, now_us);
        else if (now_us - job->received_us >= EXTRACTOR_HELD_US)
            extractor_task_fail(extractor, job, PROTO_STATUS_FULL,
                                "No slot became free in time.");
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
            extractor_task_clear(&jobs->table[i]);
    free(jobs);
}
