#include "extractor/slots_internal.h"
#include "extractor/vision/kernels.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SAMPLE_US 2000000u /* memory of each slot is looked at this often */

/* ---- the number of slots ---- */

static void slots_try_start(struct extractor_slots *slots, unsigned number)
{
    uint64_t now_us = service_now_us(slots->service);

    if (!extractor_brake_allows(&slots->brakes[number - 1], now_us)) {
        slots->delayed++;
        return;
    }
    int err = extractor_slot_start(slots, number);
    if (err == 0)
        return;
    /* As a slot that died at once: the system may have no more to give for now. */
    extractor_brake_death(&slots->brakes[number - 1], 0, now_us);
    slots->delayed++;
    log_limited(LOG_ERROR, &slots->quiet, now_us, "slot not started",
                "slot=%u program=\"%s\" error=\"%s\"", number, slots->program,
                strerror(-err));
}

static void slots_view(struct extractor_slots *slots)
{
    for (unsigned i = 0; i < slots->count; i++) {
        const struct extractor_slot *slot = slots->table[i];
        slots->view[i] = slot == NULL
                             ? (struct extractor_pool_slot){.state = EXTRACTOR_SLOT_EMPTY}
                             : (struct extractor_pool_slot){slot->state, slot->leaving,
                                                            slot->worn != NULL};
    }
}

void extractor_slots_gauge(struct extractor_slots *slots)
{
    struct extractor_slots_count count = extractor_slots_count(slots);

    slots->metrics->slots = count.alive;
    slots->metrics->slots_busy = count.busy;
    slots->metrics->slots_share = count.share;
    slots->metrics->slots_delayed = slots->delayed;
}

static void slot_wear(struct extractor_slot *slot, uint64_t now_us)
{
    struct extractor_wear used = {slot->jobs, now_us - slot->born_us,
                                  slot->memory.resident_bytes};

    if (slot->jobs == 0) /* with a limit that is too low slots would only come and go */
        used.resident_bytes = 0;

    if (slot->worn == NULL)
        slot->worn = extractor_pool_worn(&used, &slot->limit);
}

/* A worn slot has a successor. */
static void slot_retire(struct extractor_slot *slot)
{
    slot->leaving = true;
    slot->why = slot->worn;
    slot->owner->metrics->slots_recycled++;
}

static void slot_obey(struct extractor_slots *slots, unsigned number,
                      enum extractor_pool_verdict verdict)
{
    struct extractor_slot *slot = slots->table[number - 1];

    switch (verdict) {
    case EXTRACTOR_POOL_START:
        if (!slots->doors_closed)
            slots_try_start(slots, number);
        break;
    case EXTRACTOR_POOL_END:
        if (slot->worn != NULL && !slot->leaving)
            slot_retire(slot);
        extractor_slot_end(slot);
        break;
    case EXTRACTOR_POOL_LEAVE:
        slot_retire(slot);
        break;
    case EXTRACTOR_POOL_KEEP:
        break;
    }
}

/* Make the slots what they should be, then tell the owner, who may give jobs. */
void extractor_slots_settle(struct extractor_slots *slots)
{
    uint64_t now_us = service_now_us(slots->service);

    slots->delayed = 0;
    for (unsigned i = 0; i < slots->count; i++)
        if (slots->table[i] != NULL)
            slot_wear(slots->table[i], now_us);
    slots_view(slots);
    extractor_pool_plan(slots->view, slots->count, slots->share, slots->verdicts);
    for (unsigned i = 0; i < slots->count; i++)
        slot_obey(slots, i + 1, slots->verdicts[i]);
    extractor_slots_gauge(slots);
    slots->callbacks.on_change(slots->arg);
}

void extractor_slots_set_share(struct extractor_slots *slots, unsigned share)
{
    slots->share = share < slots->most ? share : slots->most;
    extractor_slots_settle(slots);
}

void extractor_slots_close_doors(struct extractor_slots *slots)
{
    slots->doors_closed = true;
}

int extractor_slots_drain(struct extractor_slots *slots, unsigned number)
{
    struct extractor_slot *slot = extractor_slots_get(slots, number);

    if (slot == NULL)
        return -ENOENT;
    slot->tell = true;
    slot->leaving = true;
    extractor_slots_settle(slots);
    return 0;
}

struct extractor_slot *extractor_slots_idle(struct extractor_slots *slots, pid_t but)
{
    for (unsigned i = 0; i < slots->count; i++) {
        struct extractor_slot *slot = slots->table[(slots->turn + i) % slots->count];
        if (slot != NULL && slot->state == EXTRACTOR_SLOT_IDLE && !slot->leaving &&
            (but == 0 || slot->process.pid != but))
            return slot;
    }
    return NULL;
}

void extractor_slots_replace(struct extractor_slot *slot)
{
    slot->leaving = true;
    slot->why = "second attempt";
    extractor_slots_settle(slot->owner);
}

/* ---- time ---- */

static void slots_sample(struct extractor_slots *slots)
{
    uint64_t resident = 0;

    for (unsigned i = 0; i < slots->count; i++)
        if (slots->table[i] != NULL) {
            extractor_slot_sample(slots->table[i]);
            resident += slots->table[i]->memory.resident_bytes;
        }
    slots->metrics->slots_resident_bytes = resident;
}

static void slot_patience(struct extractor_slot *slot, uint64_t now_us)
{
    const char *why = "does not end";

    if (slot->kill_us == 0 || now_us < slot->kill_us)
        return;
    if (slot->state == EXTRACTOR_SLOT_STARTING) {
        why = "does not come up";
        slot->faulty = true;
    } else if (slot->state == EXTRACTOR_SLOT_BUSY) {
        why = "does not stop";
    }
    extractor_slot_kill(slot, why);
}

void extractor_slots_tick(struct extractor_slots *slots)
{
    uint64_t now_us = service_now_us(slots->service);

    for (unsigned i = 0; i < slots->count; i++)
        if (slots->table[i] != NULL)
            slot_patience(slots->table[i], now_us);
    if (now_us - slots->sampled_us >= SAMPLE_US) {
        slots->sampled_us = now_us;
        slots_sample(slots);
    }
    extractor_slots_settle(slots);
}

bool extractor_slots_hurry(const struct extractor_slots *slots)
{
    if (slots->delayed > 0)
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
        count.able += slot->state != EXTRACTOR_SLOT_STARTING;
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

void extractor_slots_release(struct extractor_slots *slots)
{
    if (--slots->open > 0)
        return;
    free(slots->table);
    free(slots->view);
    free(slots->verdicts);
    free(slots->brakes);
    free(slots);
}

static int find_program(struct extractor_slots *slots)
{
    const char *given = slots->options->slot_program;

    if (given[0] == '\0')
        return extractor_process_beside("siftmesh-slot", slots->program,
                                        sizeof slots->program);
    strcpy(slots->program, given); /* an option is shorter than a path */
    return 0;
}

static int read_sandbox(struct extractor_slots *slots)
{
    const struct extractor_options *options = slots->options;

    slots->sandbox.address_bytes_max = options->slot_address_bytes;
    int err = extractor_sandbox_parse(options->sandbox, &slots->sandbox.mode);
    if (err < 0)
        log_event(LOG_ERROR, "sandbox must be auto, require or off", "sandbox=\"%s\"",
                  options->sandbox);
    /* Without the filter a slot of root could open what it likes. */
    if (err == 0 && slots->sandbox.mode == EXTRACTOR_SANDBOX_AUTO && geteuid() == 0)
        slots->sandbox.mode = EXTRACTOR_SANDBOX_REQUIRE;
    return err;
}

/* Slots inherit stderr: what they write there comes after what is there, wherever the
 * file's offset stands. They cannot take that back, as their filter lacks fcntl. */
static void log_append_only(void)
{
    struct stat log;
    int flags = fcntl(STDERR_FILENO, F_GETFL);

    if (flags >= 0 && fstat(STDERR_FILENO, &log) == 0 && S_ISREG(log.st_mode))
        (void)fcntl(STDERR_FILENO, F_SETFL, flags | O_APPEND);
}

static int read_cpu(struct extractor_slots *slots)
{
    const char *wanted = slots->options->cpu,
               *best = vision_cpu_name(vision_cpu_detect());
    unsigned cpu = 0;
    int err = vision_cpu_choose(wanted, &cpu);

    slots->cpu_off = ~cpu;
    if (err == -ENOTSUP)
        log_event(LOG_ERROR, "this processor lacks the instructions of the option cpu",
                  "cpu=\"%s\" best=%s", wanted, best);
    else if (err < 0)
        log_event(LOG_ERROR, "cpu must be auto, scalar, avx2, avx512 or neon",
                  "cpu=\"%s\"", wanted);
    else
        log_event(LOG_INFO, "kernels chosen", "cpu=%s best=%s", vision_cpu_name(cpu),
                  best);
    return err;
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
                                      .most = count,
                                      .count = count + EXTRACTOR_SLOTS_SPARE,
                                      .open = 1};
    slots->table = calloc(slots->count, sizeof *slots->table);
    slots->view = calloc(slots->count, sizeof *slots->view);
    slots->verdicts = calloc(slots->count, sizeof *slots->verdicts);
    slots->brakes = calloc(slots->count, sizeof *slots->brakes);
    int err = find_program(slots);
    if (err == 0)
        err = read_sandbox(slots);
    if (err == 0)
        err = read_cpu(slots);
    if (slots->table == NULL || slots->view == NULL || slots->verdicts == NULL ||
        slots->brakes == NULL)
        err = -ENOMEM;
    if (err == 0 && access(slots->program, X_OK) < 0) {
        err = -errno;
        log_event(LOG_ERROR, "no program for slots", "path=\"%s\" error=\"%s\"",
                  slots->program, strerror(errno));
    }
    log_append_only();
    if (err < 0)
        extractor_slots_release(slots);
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
            extractor_slot_sample(slots->table[i]);
            extractor_process_kill(&slots->table[i]->process);
        }
    for (unsigned i = 0; i < slots->count; i++) {
        struct extractor_slot *slot = slots->table[i];
        struct extractor_ending ending = {.how = "?"};
        if (slot == NULL)
            continue;
        extractor_process_reap(&slot->process, true, &ending);
        slot->why = "service ends";
        extractor_slot_log_end(slot, ending.how,
                               service_now_us(slots->service) - slot->born_us);
        extractor_slot_forget(slot);
    }
    extractor_slots_release(slots);
}
