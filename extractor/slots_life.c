#include "extractor/slots_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* One wake-up takes at most this many packets of a slot. It has no cause to send more:
 * HELLO once, and two for each job that we give; the first one too many ends it. */
#define BATCH_PACKETS 8

/* A slot told to end does so in a millisecond when it is idle. */
#define END_GRACE_US 1000000u

#define STORM_ALERT_US 1000000u /* a brake delay from which people should know */

/* ---- the end of a slot ---- */

static void on_handle_closed(uv_handle_t *handle)
{
    struct extractor_slot *slot = handle->data;

    if (--slot->handles > 0)
        return;
    struct extractor_slots *slots = slot->owner;
    free(slot);
    extractor_slots_release(slots);
}

/* The room of its job: what was written there and is no result is freed. */
static void slot_room_close(struct extractor_slot *slot)
{
    if (slot->result_fd < 0)
        return;
    extractor_payload_empty(slot->result_fd);
    close(slot->result_fd);
    slot->result_fd = -1;
}

void extractor_slot_sample(struct extractor_slot *slot)
{
    struct extractor_memory memory;

    if (extractor_process_memory(&slot->process, &memory) == 0)
        slot->memory = memory;
}

void extractor_slot_kill(struct extractor_slot *slot, const char *why)
{
    log_event(LOG_WARNING, "slot killed", "slot=%u slot_pid=%d why=\"%s\"", slot->number,
              (int)slot->process.pid, why);
    slot->owner->metrics->slots_killed++;
    extractor_slot_sample(slot);
    slot->why = why;
    slot->state = EXTRACTOR_SLOT_ENDING;
    slot->kill_us = 0;
    extractor_process_kill(&slot->process);
}

/* Ask an idle or starting slot to go. */
void extractor_slot_end(struct extractor_slot *slot)
{
    extractor_slot_sample(slot);
    if (slot->why == NULL)
        slot->why = slot->tell ? "drained" : "surplus";
    slot->state = EXTRACTOR_SLOT_ENDING;
    slot->kill_us = service_now_us(slot->owner->service) + END_GRACE_US;
    uv_poll_stop(&slot->socket_poll);
    shutdown(slot->process.sock, SHUT_RDWR);
}

void extractor_slot_forget(struct extractor_slot *slot)
{
    slot->owner->table[slot->number - 1] = NULL;
    slot->state = EXTRACTOR_SLOT_EMPTY;
    uv_close((uv_handle_t *)&slot->socket_poll, on_handle_closed);
    uv_close((uv_handle_t *)&slot->pid_poll, on_handle_closed);
    extractor_process_free(&slot->process);
    slot_room_close(slot);
}

void extractor_slot_log_end(const struct extractor_slot *slot, const char *how,
                            uint64_t age_us)
{
    log_event(slot->why != NULL ? LOG_INFO : LOG_WARNING, "slot ended",
              "slot=%u slot_pid=%d how=\"%s\" why=\"%s\" jobs=%" PRIu64 " age_s=%" PRIu64
              " peak_bytes=%" PRIu64 " private_bytes=%" PRIu64,
              slot->number, (int)slot->process.pid, how,
              slot->why != NULL ? slot->why : "died", slot->jobs, age_us / 1000000,
              slot->memory.peak_bytes, slot->memory.private_bytes);
}

/* A death of its own fault: count it, and brake when such slots die young. */
static void slot_mourn(struct extractor_slot *slot, uint64_t age_us, uint64_t now_us)
{
    struct extractor_slots *slots = slot->owner;

    slots->metrics->slots_died++;
    uint64_t delay_us =
        extractor_brake_death(&slots->brakes[slot->number - 1], age_us, now_us);
    if (delay_us >= STORM_ALERT_US)
        log_limited(LOG_ERROR, &slots->quiet, now_us, "slots keep dying",
                    "slot=%u next_start_ms=%" PRIu64, slot->number, delay_us / 1000);
}

static void slot_ended(struct extractor_slot *slot, const struct extractor_ending *ending)
{
    struct extractor_slots *slots = slot->owner;
    uint64_t now_us = service_now_us(slots->service);
    uint64_t age_us = now_us - slot->born_us;
    void *job = slot->job;

    extractor_slot_log_end(slot, ending->how, age_us);
    if (slot->why == NULL || slot->faulty)
        slot_mourn(slot, age_us, now_us);
    slot->job = NULL;
    if (job != NULL)
        slots->callbacks.on_lost(slot, job, ending, slots->arg);
    if (slot->tell)
        slots->callbacks.on_drained(slot->number, slots->arg);
    extractor_slot_forget(slot);
    extractor_slots_settle(slots);
}

/* ---- what a slot says ---- */

/* A slot that may have only so many jobs has had them: its memory, in which pictures
 * were, goes before the next one comes. */
static void slot_used_up(struct extractor_slot *slot)
{
    uint64_t most = slot->owner->options->slot_jobs;

    if (most == 0 || slot->jobs < most || slot->leaving)
        return;
    slot->leaving = true;
    slot->why = "slot_jobs";
    slot->owner->metrics->slots_recycled++;
}

/* 0, or -EBADMSG when the answer is not usable. */
static int slot_answered(struct extractor_slot *slot,
                         const struct extractor_slotwire *message)
{
    struct extractor_slots *slots = slot->owner;
    void *job = slot->job;
    bool usable = true;

    slot->job = NULL;
    slot->state = EXTRACTOR_SLOT_IDLE;
    slot->kill_us = 0;
    slot->jobs++;
    extractor_slot_sample(slot); /* the job's peak; a slot that is killed tells no more */
    slot_used_up(slot);
    if (job != NULL)
        usable =
            slots->callbacks.on_answer(slot, job, message, slot->result_fd, slots->arg);
    slot_room_close(slot);
    if (!usable) { /* before settling, which would give it the next job */
        slots->metrics->answers_unusable++;
        return -EBADMSG;
    }
    extractor_slots_settle(slots);
    return 0;
}

/* Once: the system is the same for every slot. */
static void warn_of_no_filter(struct extractor_slots *slots, unsigned filter_errno)
{
    if (filter_errno == 0 || slots->warned)
        return;
    slots->warned = true;
    log_event(LOG_WARNING, "slots run without a seccomp filter",
              "error=\"%s\" hint=\"the system or its container forbids it\"",
              strerror((int)filter_errno));
}

/* 0; -EPROTO when this is not what the slot may say now; -EBADMSG for a bad answer. */
static int slot_message(struct extractor_slot *slot,
                        const struct extractor_slotwire *message)
{
    bool mine = slot->state == EXTRACTOR_SLOT_BUSY && message->serial == slot->serial;

    if (message->kind == EXTRACTOR_SLOT_HELLO && slot->state == EXTRACTOR_SLOT_STARTING) {
        slot->state = EXTRACTOR_SLOT_IDLE;
        slot->kill_us = 0;
        warn_of_no_filter(slot->owner, message->filter_errno);
        extractor_slot_sample(slot);
        extractor_slots_settle(slot->owner);
        return 0;
    }
    if (message->kind == EXTRACTOR_SLOT_STARTED && mine && !slot->started) {
        slot->started = true;
        if (slot->job != NULL)
            slot->owner->callbacks.on_started(slot, slot->owner->arg);
        return 0;
    }
    if ((message->kind == EXTRACTOR_SLOT_DONE || message->kind == EXTRACTOR_SLOT_ERROR) &&
        mine && slot->started)
        return slot_answered(slot, message);
    return -EPROTO;
}

/* It is ending, and its pidfd will say how; or it only closed its socket. */
static void slot_hung_up(struct extractor_slot *slot)
{
    uv_poll_stop(&slot->socket_poll);
    if (slot->kill_us == 0)
        slot->kill_us = service_now_us(slot->owner->service) + END_GRACE_US;
}

/* Everything that waits in the socket. May end with the slot being killed, but not
 * forgotten. */
static void slot_read(struct extractor_slot *slot)
{
    for (int i = 0; i < BATCH_PACKETS && slot->state != EXTRACTOR_SLOT_ENDING; i++) {
        struct extractor_slotwire message;
        int err = extractor_slotwire_recv(slot->process.sock, &message, NULL);

        if (err == -EAGAIN)
            return;
        if (err == -EPIPE) {
            slot_hung_up(slot);
            return;
        }
        if (err == 0)
            err = slot_message(slot, &message);
        if (err < 0) {
            uv_poll_stop(&slot->socket_poll);
            slot->faulty = true;
            extractor_slot_kill(slot, err == -EBADMSG ? "answers what was not asked"
                                                      : "speaks nonsense");
        }
    }
}

static void on_socket(uv_poll_t *poll, int status, int events)
{
    (void)status;
    (void)events;
    slot_read(poll->data);
}

static void on_pid(uv_poll_t *poll, int status, int events)
{
    struct extractor_slot *slot = poll->data;
    struct extractor_ending ending = {.how = "?"};

    (void)status;
    (void)events;
    /* Its last words first: a result that was sent counts. */
    slot_read(slot);
    if (extractor_process_reap(&slot->process, false, &ending) != -EAGAIN)
        slot_ended(slot, &ending);
}

/* ---- starting ---- */

static uint64_t jobs_limit(const struct extractor_options *options)
{
    uint64_t jobs = options->recycle_jobs, tenth = jobs / 10;
    uint32_t chance;

    /* Spread, so that slots started together do not leave together; below the number, as
     * a worn slot works on until its successor is warm. */
    service_random(&chance, sizeof chance);
    return jobs - tenth + chance % (tenth + 1);
}

static int slot_watch(struct extractor_slot *slot, uv_loop_t *loop)
{
    int err = uv_poll_init(loop, &slot->socket_poll, slot->process.sock);

    if (err < 0)
        return err;
    err = uv_poll_init(loop, &slot->pid_poll, slot->process.pidfd);
    slot->socket_poll.data = slot->pid_poll.data = slot;
    if (err < 0) {
        slot->handles = 1;
        uv_close((uv_handle_t *)&slot->socket_poll, on_handle_closed);
        return err;
    }
    slot->handles = 2;
    /* Neither fails on a handle that was just made. */
    uv_poll_start(&slot->socket_poll, UV_READABLE, on_socket);
    uv_poll_start(&slot->pid_poll, UV_READABLE, on_pid);
    return 0;
}

int extractor_slot_start(struct extractor_slots *slots, unsigned number)
{
    const struct extractor_options *options = slots->options;
    struct extractor_slot *slot = calloc(1, sizeof *slot);

    if (slot == NULL)
        return -ENOMEM;
    int err = extractor_process_start(slots->program, number, &slots->sandbox,
                                      slots->cpu_off, &slot->process);
    if (err < 0) {
        free(slot);
        return err;
    }
    slot->owner = slots;
    slot->number = number;
    slot->result_fd = -1;
    slot->state = EXTRACTOR_SLOT_STARTING;
    slot->born_us = service_now_us(slots->service);
    slot->kill_us = slot->born_us + options->start_grace_ms * 1000;
    slot->limit =
        (struct extractor_wear){jobs_limit(options), options->recycle_age_s * 1000000,
                                options->slot_resident_bytes};
    slots->open++;
    err = slot_watch(slot, service_loop(slots->service));
    if (err < 0) {
        struct extractor_ending ending;
        extractor_process_kill(&slot->process);
        extractor_process_reap(&slot->process, true, &ending);
        extractor_process_free(&slot->process);
        if (slot->handles == 0) {
            free(slot);
            extractor_slots_release(slots);
        }
        return err;
    }
    slots->table[number - 1] = slot;
    slots->metrics->slots_started++;
    log_event(LOG_INFO, "slot started", "slot=%u slot_pid=%d", number,
              (int)slot->process.pid);
    return 0;
}

/* ---- its job ---- */

static uint64_t cpu_seconds(const struct extractor_options *options)
{
    return (options->job_timeout_ms + options->abort_grace_ms + 999) / 1000;
}

/* The picture and the room for its result. 0, or -errno with none of them left open. */
static int make_fds(const struct extractor_job *job, uint64_t result_bytes_max,
                    int fds[EXTRACTOR_FDS])
{
    fds[EXTRACTOR_FD_IMAGE] = extractor_payload_make(job->image, job->image_bytes);
    if (fds[EXTRACTOR_FD_IMAGE] < 0)
        return fds[EXTRACTOR_FD_IMAGE];
    fds[EXTRACTOR_FD_RESULT] = extractor_payload_room(result_bytes_max);
    if (fds[EXTRACTOR_FD_RESULT] >= 0)
        return 0;
    close(fds[EXTRACTOR_FD_IMAGE]);
    return fds[EXTRACTOR_FD_RESULT];
}

int extractor_slots_give(struct extractor_slot *slot, const struct extractor_job *job,
                         uint64_t result_bytes_max, void *handle)
{
    struct extractor_slots *slots = slot->owner;
    struct extractor_slotwire message = {
        .kind = EXTRACTOR_SLOT_JOB, .serial = ++slots->serial, .job = *job};
    int fds[EXTRACTOR_FDS];
    int err = make_fds(job, result_bytes_max, fds);

    if (err < 0)
        return err;
    atomic_store(&slot->process.page->control.cancel, 0);
    /* One thread, so CPU is never more than the time that we give it ourselves: this
     * holds when we hang. Best effort. */
    (void)extractor_process_limit_cpu(&slot->process, cpu_seconds(slots->options));
    err = extractor_slotwire_send(slot->process.sock, &message, fds);
    close(fds[EXTRACTOR_FD_IMAGE]);
    if (err < 0)
        close(fds[EXTRACTOR_FD_RESULT]);
    if (err == -EPIPE || err == -ECONNRESET) {
        slot->state = EXTRACTOR_SLOT_ENDING;
        slot_hung_up(slot);
        return err;
    }
    if (err == -EAGAIN) {
        extractor_slot_kill(slot, "takes no job");
        return err;
    }
    if (err < 0) /* the system is short of memory or descriptors */
        return err;
    slot->state = EXTRACTOR_SLOT_BUSY;
    slot->job = handle;
    slot->serial = message.serial;
    slot->started = false;
    slot->result_fd = fds[EXTRACTOR_FD_RESULT];
    slots->turn = slot->number;
    extractor_slots_gauge(slots);
    return 0;
}

void extractor_slots_cancel(struct extractor_slot *slot)
{
    struct extractor_slots *slots = slot->owner;

    if (slot->state != EXTRACTOR_SLOT_BUSY || slot->kill_us != 0)
        return;
    atomic_store(&slot->process.page->control.cancel, 1);
    slot->kill_us =
        service_now_us(slots->service) + slots->options->abort_grace_ms * 1000;
}
