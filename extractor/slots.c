#include "extractor/slots.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* One wake-up takes at most this many packets of a slot: it has no cause to send more. */
#define BATCH_PACKETS 8

/* A slot told to end does so in a millisecond when it is idle. */
#define END_GRACE_US 1000000u

#define SAMPLE_US      2000000u /* memory of each slot is looked at this often */
#define STORM_ALERT_US 1000000u /* a brake delay from which people should know */
#define HOW_BYTES      64

struct extractor_slots {
    struct service *service;
    const struct extractor_options *options;
    struct extractor_metrics *metrics;
    struct extractor_slots_callbacks callbacks;
    void *arg;
    char program[4096];
    struct extractor_slot **table; /* by number - 1; NULL: none */
    struct extractor_pool_slot *view;
    enum extractor_pool_verdict *verdicts;
    unsigned count, share;
    uint64_t serial, sampled_us;
    struct extractor_brake brake;
    struct log_limit quiet;
    bool delayed;  /* a start waits for the brake */
    unsigned open; /* slots whose handles are not closed, and one for us */
};

static void slots_settle(struct extractor_slots *slots);

/* ---- the end of a slot ---- */

static void slots_release(struct extractor_slots *slots)
{
    if (--slots->open > 0)
        return;
    free(slots->table);
    free(slots->view);
    free(slots->verdicts);
    free(slots);
}

static void on_handle_closed(uv_handle_t *handle)
{
    struct extractor_slot *slot = handle->data;

    if (--slot->handles > 0)
        return;
    struct extractor_slots *slots = slot->owner;
    free(slot);
    slots_release(slots);
}

static void slot_sample(struct extractor_slot *slot)
{
    struct extractor_memory memory;

    if (extractor_process_memory(&slot->process, &memory) == 0)
        slot->memory = memory;
}

static void slot_kill(struct extractor_slot *slot, const char *why)
{
    log_event(LOG_WARNING, "slot killed", "slot=%u pid=%d why=\"%s\"", slot->number,
              (int)slot->process.pid, why);
    slot->owner->metrics->slots_killed++;
    slot_sample(slot);
    slot->why = why;
    slot->state = EXTRACTOR_SLOT_ENDING;
    slot->kill_us = 0;
    extractor_process_kill(&slot->process);
}

/* Ask an idle or starting slot to go. */
static void slot_end(struct extractor_slot *slot)
{
    slot_sample(slot);
    if (slot->why == NULL)
        slot->why = "surplus";
    slot->state = EXTRACTOR_SLOT_ENDING;
    slot->kill_us = service_now_us(slot->owner->service) + END_GRACE_US;
    uv_poll_stop(&slot->socket_poll);
    shutdown(slot->process.sock, SHUT_RDWR);
}

static void slot_forget(struct extractor_slot *slot)
{
    slot->owner->table[slot->number - 1] = NULL;
    slot->state = EXTRACTOR_SLOT_EMPTY;
    uv_close((uv_handle_t *)&slot->socket_poll, on_handle_closed);
    uv_close((uv_handle_t *)&slot->pid_poll, on_handle_closed);
    extractor_process_free(&slot->process);
}

static void slot_log_end(const struct extractor_slot *slot, const char *how,
                         uint64_t age_us)
{
    log_event(slot->why != NULL ? LOG_INFO : LOG_WARNING, "slot ended",
              "slot=%u pid=%d how=\"%s\" why=\"%s\" jobs=%" PRIu64 " age_s=%" PRIu64
              " peak_bytes=%" PRIu64,
              slot->number, (int)slot->process.pid, how,
              slot->why != NULL ? slot->why : "died", slot->jobs, age_us / 1000000,
              slot->memory.peak_bytes);
}

/* A death that nobody asked for: count it, and brake when such slots die young. */
static void slot_mourn(struct extractor_slot *slot, uint64_t age_us, uint64_t now_us)
{
    struct extractor_slots *slots = slot->owner;

    slots->metrics->slots_died++;
    uint64_t delay_us = extractor_brake_death(&slots->brake, age_us, now_us);
    if (delay_us >= STORM_ALERT_US)
        log_limited(LOG_ERROR, &slots->quiet, now_us, "slots keep dying",
                    "slot=%u next_start_ms=%" PRIu64, slot->number, delay_us / 1000);
}

static void slot_ended(struct extractor_slot *slot, const char *how)
{
    struct extractor_slots *slots = slot->owner;
    uint64_t now_us = service_now_us(slots->service);
    uint64_t age_us = now_us - slot->born_us;
    void *job = slot->job;

    slot_log_end(slot, how, age_us);
    if (slot->why == NULL)
        slot_mourn(slot, age_us, now_us);
    slot->job = NULL;
    if (job != NULL)
        slots->callbacks.on_lost(slot, job, how, slots->arg);
    if (slot->tell)
        slots->callbacks.on_drained(slot->number, slots->arg);
    slot_forget(slot);
    slots_settle(slots);
}

/* ---- what a slot says ---- */

static void slot_answered(struct extractor_slot *slot,
                          const struct extractor_slotwire *message, int fd)
{
    struct extractor_slots *slots = slot->owner;
    void *job = slot->job;

    slot->job = NULL;
    slot->state = EXTRACTOR_SLOT_IDLE;
    slot->kill_us = 0;
    slot->jobs++;
    if (job != NULL)
        slots->callbacks.on_answer(slot, job, message, fd, slots->arg);
    slots_settle(slots);
}

/* 0, or -EPROTO when this is not what the slot may say now. */
static int slot_message(struct extractor_slot *slot,
                        const struct extractor_slotwire *message, int fd)
{
    bool mine = slot->state == EXTRACTOR_SLOT_BUSY && message->serial == slot->serial;

    if (message->kind == EXTRACTOR_SLOT_HELLO && slot->state == EXTRACTOR_SLOT_STARTING) {
        slot->state = EXTRACTOR_SLOT_IDLE;
        slot->kill_us = 0;
        slots_settle(slot->owner);
        return 0;
    }
    if (message->kind == EXTRACTOR_SLOT_STARTED && mine) {
        if (slot->job != NULL)
            slot->owner->callbacks.on_started(slot, slot->owner->arg);
        return 0;
    }
    if ((message->kind == EXTRACTOR_SLOT_DONE || message->kind == EXTRACTOR_SLOT_ERROR) &&
        mine) {
        slot_answered(slot, message, fd);
        return 0;
    }
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
        int fd;
        int err = extractor_slotwire_recv(slot->process.sock, &message, &fd);

        if (err == -EAGAIN)
            return;
        if (err == -EPIPE) {
            slot_hung_up(slot);
            return;
        }
        if (err == 0) {
            err = slot_message(slot, &message, fd);
            if (fd >= 0)
                close(fd);
        }
        if (err < 0) {
            uv_poll_stop(&slot->socket_poll);
            slot_kill(slot, "speaks nonsense");
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
    char how[HOW_BYTES] = "?";

    (void)status;
    (void)events;
    /* Its last words first: a result that was sent counts. */
    slot_read(slot);
    if (extractor_process_reap(&slot->process, false, how, sizeof how) != -EAGAIN)
        slot_ended(slot, how);
}

/* ---- starting ---- */

static uint64_t jobs_limit(const struct extractor_options *options)
{
    uint64_t jobs = options->recycle_jobs, tenth = jobs / 10;
    uint32_t chance;

    /* Spread, so that slots started together do not leave together. */
    service_random(&chance, sizeof chance);
    return jobs - tenth + chance % (2 * tenth + 1);
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

static int slot_start(struct extractor_slots *slots, unsigned number)
{
    const struct extractor_options *options = slots->options;
    struct extractor_slot *slot = calloc(1, sizeof *slot);

    if (slot == NULL)
        return -ENOMEM;
    int err = extractor_process_start(slots->program, number, options->slot_address_bytes,
                                      &slot->process);
    if (err < 0) {
        free(slot);
        return err;
    }
    slot->owner = slots;
    slot->number = number;
    slot->state = EXTRACTOR_SLOT_STARTING;
    slot->born_us = service_now_us(slots->service);
    slot->kill_us = slot->born_us + options->start_grace_ms * 1000;
    slot->limit =
        (struct extractor_wear){jobs_limit(options), options->recycle_age_s * 1000000,
                                options->slot_resident_bytes};
    slots->open++;
    err = slot_watch(slot, service_loop(slots->service));
    if (err < 0) {
        char how[HOW_BYTES];
        extractor_process_kill(&slot->process);
        extractor_process_reap(&slot->process, true, how, sizeof how);
        extractor_process_free(&slot->process);
        if (slot->handles == 0) {
            free(slot);
            slots_release(slots);
        }
        return err;
    }
    slots->table[number - 1] = slot;
    slots->metrics->slots_started++;
    log_event(LOG_INFO, "slot started", "slot=%u pid=%d", number, (int)slot->process.pid);
    return 0;
}

static void slots_try_start(struct extractor_slots *slots, unsigned number)
{
    uint64_t now_us = service_now_us(slots->service);

    if (!extractor_brake_allows(&slots->brake, now_us)) {
        slots->delayed = true;
        return;
    }
    int err = slot_start(slots, number);
    if (err == 0)
        return;
    /* As a slot that died at once: the system may have no more to give for now. */
    extractor_brake_death(&slots->brake, 0, now_us);
    slots->delayed = true;
    log_limited(LOG_ERROR, &slots->quiet, now_us, "slot not started",
                "slot=%u program=\"%s\" error=\"%s\"", number, slots->program,
                strerror(-err));
}

/* ---- the number of slots ---- */

static void slots_view(struct extractor_slots *slots)
{
    for (unsigned i = 0; i < slots->count; i++) {
        const struct extractor_slot *slot = slots->table[i];
        slots->view[i] = slot == NULL
                             ? (struct extractor_pool_slot){EXTRACTOR_SLOT_EMPTY, false}
                             : (struct extractor_pool_slot){slot->state, slot->leaving};
    }
}

static void slots_gauge(struct extractor_slots *slots)
{
    struct extractor_slots_count count = extractor_slots_count(slots);

    slots->metrics->slots = count.alive;
    slots->metrics->slots_busy = count.busy;
    slots->metrics->slots_share = count.share;
}

static void slot_wear(struct extractor_slot *slot, uint64_t now_us)
{
    struct extractor_wear used = {slot->jobs, now_us - slot->born_us,
                                  slot->memory.resident_bytes};
    const char *worn = extractor_pool_worn(&used, &slot->limit);

    if (worn == NULL || slot->leaving)
        return;
    slot->leaving = true;
    slot->why = worn;
    slot->owner->metrics->slots_recycled++;
}

/* Make the slots what they should be, then tell the owner, who may give jobs. */
static void slots_settle(struct extractor_slots *slots)
{
    uint64_t now_us = service_now_us(slots->service);

    slots->delayed = false;
    for (unsigned i = 0; i < slots->count; i++)
        if (slots->table[i] != NULL && slots->table[i]->state == EXTRACTOR_SLOT_IDLE)
            slot_wear(slots->table[i], now_us);
    slots_view(slots);
    extractor_pool_plan(slots->view, slots->count, slots->share, slots->verdicts);
    for (unsigned i = 0; i < slots->count; i++) {
        if (slots->verdicts[i] == EXTRACTOR_POOL_END)
            slot_end(slots->table[i]);
        if (slots->verdicts[i] == EXTRACTOR_POOL_START)
            slots_try_start(slots, i + 1);
    }
    slots_gauge(slots);
    slots->callbacks.on_change(slots->arg);
}

void extractor_slots_set_share(struct extractor_slots *slots, unsigned share)
{
    slots->share = share < slots->count ? share : slots->count;
    slots_settle(slots);
}

int extractor_slots_drain(struct extractor_slots *slots, unsigned number)
{
    struct extractor_slot *slot = extractor_slots_get(slots, number);

    if (slot == NULL)
        return -ENOENT;
    slot->tell = true;
    slot->leaving = true;
    if (slot->why == NULL)
        slot->why = "drained";
    slots_settle(slots);
    return 0;
}

/* ---- jobs ---- */

struct extractor_slot *extractor_slots_idle(struct extractor_slots *slots)
{
    for (unsigned i = 0; i < slots->count; i++)
        if (slots->table[i] != NULL && slots->table[i]->state == EXTRACTOR_SLOT_IDLE &&
            !slots->table[i]->leaving)
            return slots->table[i];
    return NULL;
}

int extractor_slots_give(struct extractor_slot *slot, const struct extractor_job *job,
                         void *handle)
{
    struct extractor_slots *slots = slot->owner;
    struct extractor_slotwire message = {
        .kind = EXTRACTOR_SLOT_JOB, .serial = ++slots->serial, .job = *job};
    int fd = extractor_payload_make(job->image, job->image_bytes);

    if (fd < 0)
        return fd;
    atomic_store(&slot->process.page->control.cancel, 0);
    int err = extractor_slotwire_send(slot->process.sock, &message, fd);
    close(fd);
    if (err == -EPIPE || err == -ECONNRESET) {
        slot->state = EXTRACTOR_SLOT_ENDING;
        slot_hung_up(slot);
        return err;
    }
    if (err < 0) {
        slot_kill(slot, "takes no job");
        return err;
    }
    slot->state = EXTRACTOR_SLOT_BUSY;
    slot->job = handle;
    slot->serial = message.serial;
    slots_gauge(slots);
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

/* ---- time ---- */

static void slots_sample(struct extractor_slots *slots)
{
    uint64_t resident = 0;

    for (unsigned i = 0; i < slots->count; i++)
        if (slots->table[i] != NULL) {
            slot_sample(slots->table[i]);
            resident += slots->table[i]->memory.resident_bytes;
        }
    slots->metrics->slots_resident_bytes = resident;
}

void extractor_slots_tick(struct extractor_slots *slots)
{
    uint64_t now_us = service_now_us(slots->service);

    for (unsigned i = 0; i < slots->count; i++) {
        struct extractor_slot *slot = slots->table[i];
        if (slot != NULL && slot->kill_us != 0 && now_us >= slot->kill_us)
            slot_kill(slot, slot->state == EXTRACTOR_SLOT_STARTING ? "does not come up"
                            : slot->state == EXTRACTOR_SLOT_BUSY   ? "does not stop"
                                                                   : "does not end");
    }
    if (now_us - slots->sampled_us >= SAMPLE_US) {
        slots->sampled_us = now_us;
        slots_sample(slots);
    }
    slots_settle(slots);
}

bool extractor_slots_hurry(const struct extractor_slots *slots)
{
    if (slots->delayed)
        return true;
    for (unsigned i = 0; i < slots->count; i++)
        if (slots->table[i] != NULL && slots->table[i]->kill_us != 0)
            return true;
    return false;
}

/* ---- what there is ---- */

struct extractor_slots_count extractor_slots_count(const struct extractor_slots *slots)
{
    struct extractor_slots_count count = {.share = slots->share};

    for (unsigned i = 0; i < slots->count; i++) {
        const struct extractor_slot *slot = slots->table[i];
        if (slot == NULL || slot->state == EXTRACTOR_SLOT_ENDING)
            continue;
        count.alive++;
        count.busy += slot->state == EXTRACTOR_SLOT_BUSY;
        count.idle += slot->state == EXTRACTOR_SLOT_IDLE && !slot->leaving;
    }
    return count;
}

struct extractor_slot *extractor_slots_get(const struct extractor_slots *slots,
                                           unsigned number)
{
    return number >= 1 && number <= slots->count ? slots->table[number - 1] : NULL;
}

json_t *extractor_slots_json(const struct extractor_slots *slots)
{
    json_t *list = json_array();

    for (unsigned i = 0; i < slots->count; i++) {
        const struct extractor_slot *slot = slots->table[i];
        if (slot == NULL)
            continue;
        json_t *one = json_pack("{s:i s:i s:s s:I s:I}", "slot", (int)slot->number, "pid",
                                (int)slot->process.pid, "state",
                                extractor_slot_state_name(slot->state), "jobs",
                                (json_int_t)slot->jobs, "rss_bytes",
                                (json_int_t)slot->memory.resident_bytes);
        json_array_append_new(list, one);
    }
    return list;
}

/* ---- all of them ---- */

static int find_program(struct extractor_slots *slots)
{
    const char *given = slots->options->slot_program;

    if (given[0] == '\0')
        return extractor_process_beside("siftmesh-slot", slots->program,
                                        sizeof slots->program);
    strcpy(slots->program, given); /* an option is shorter than a path */
    return 0;
}

int extractor_slots_open(struct service *service, unsigned count,
                         const struct extractor_slots_callbacks *callbacks, void *arg,
                         struct extractor_slots **out)
{
    struct extractor_slots *slots = calloc(1, sizeof *slots);

    if (slots == NULL)
        return -ENOMEM;
    *slots = (struct extractor_slots){.service = service,
                                      .options = service_options(service),
                                      .metrics = service_metrics(service),
                                      .callbacks = *callbacks,
                                      .arg = arg,
                                      .count = count,
                                      .open = 1};
    slots->table = calloc(count, sizeof *slots->table);
    slots->view = calloc(count, sizeof *slots->view);
    slots->verdicts = calloc(count, sizeof *slots->verdicts);
    int err = find_program(slots);
    if (slots->table == NULL || slots->view == NULL || slots->verdicts == NULL)
        err = -ENOMEM;
    if (err == 0 && access(slots->program, X_OK) < 0) {
        err = -errno;
        log_event(LOG_ERROR, "no program for slots", "path=\"%s\" error=\"%s\"",
                  slots->program, strerror(errno));
    }
    if (err < 0)
        slots_release(slots);
    else
        *out = slots;
    return err;
}

void extractor_slots_close(struct extractor_slots *slots)
{
    if (slots == NULL)
        return;
    for (unsigned i = 0; i < slots->count; i++)
        if (slots->table[i] != NULL) {
            slot_sample(slots->table[i]);
            extractor_process_kill(&slots->table[i]->process);
        }
    for (unsigned i = 0; i < slots->count; i++) {
        struct extractor_slot *slot = slots->table[i];
        char how[HOW_BYTES] = "?";
        if (slot == NULL)
            continue;
        extractor_process_reap(&slot->process, true, how, sizeof how);
        slot->why = "service ends";
        slot_log_end(slot, how, service_now_us(slots->service) - slot->born_us);
        slot_forget(slot);
    }
    slots_release(slots);
}
