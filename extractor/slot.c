#include "extractor/slot.h"

#include <errno.h>
#include <malloc.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sysexits.h>
#include <unistd.h>

/*
 * Memory between jobs. A job of 640x480 touches some 80 MB; faulting that in anew for
 * each job costs about a tenth of its time, keeping it for ever costs the host. So freed
 * memory stays while jobs follow each other, up to WARM_BYTES, and goes back after
 * TRIM_MS without one. The thresholds are set by hand because glibc's grow by themselves.
 */
#define TRIM_MS         250
#define WARM_BYTES      (256 << 20)
#define MMAP_FROM_BYTES (32 << 20) /* the most that mallopt takes */

struct slot {
    int sock;
    struct extractor_slotpage *page;
    bool dirty; /* memory of a job may still be here */
};

void extractor_slot_tune_malloc(void)
{
    mallopt(M_ARENA_MAX, 1);
    mallopt(M_MMAP_THRESHOLD, MMAP_FROM_BYTES);
    mallopt(M_TRIM_THRESHOLD, WARM_BYTES);
}

static void slot_stage(struct slot *slot, enum extractor_slot_stage stage)
{
    atomic_store_explicit(&slot->page->stage, stage, memory_order_relaxed);
}

static int slot_say(struct slot *slot, struct extractor_slotwire *message,
                    enum extractor_slotwire_kind kind, int fd)
{
    message->kind = kind;
    return extractor_slotwire_send(slot->sock, message, fd);
}

static void slot_oserror(struct extractor_error *error, const char *what, int err)
{
    *error = (struct extractor_error){.status = PROTO_STATUS_INTERNAL};
    snprintf(error->detail, sizeof error->detail, "%s: %s.", what, strerror(-err));
}

/* The result as a payload beside DONE; where there is no memory for it, ERROR. */
static int slot_answer(struct slot *slot, struct extractor_slotwire *answer)
{
    slot_stage(slot, EXTRACTOR_STAGE_ANSWERING);
    int fd = extractor_payload_make(answer->result.bytes, answer->result.size);
    if (fd < 0) {
        slot_oserror(&answer->error, "No memory for the result", fd);
        return slot_say(slot, answer, EXTRACTOR_SLOT_ERROR, -1);
    }
    int err = slot_say(slot, answer, EXTRACTOR_SLOT_DONE, fd);
    close(fd);
    return err;
}

static int slot_compute(struct slot *slot, const struct extractor_job *job,
                        struct extractor_slotwire *answer)
{
    if (extractor_pipeline_run(job, &slot->page->control, &answer->result,
                               &answer->error) < 0)
        return slot_say(slot, answer, EXTRACTOR_SLOT_ERROR, -1);

    int err = slot_answer(slot, answer);
    extractor_result_free(&answer->result);
    return err;
}

static int slot_job(struct slot *slot, struct extractor_job *job, uint64_t serial, int fd)
{
    struct extractor_slotwire answer = {.serial = serial};
    void *image;

    slot->dirty = true;
    slot_stage(slot, EXTRACTOR_STAGE_RUNNING);
    int err = slot_say(slot, &answer, EXTRACTOR_SLOT_STARTED, -1);
    if (err < 0)
        return err;

    err = extractor_payload_map(fd, job->image_bytes, &image);
    if (err < 0) {
        slot_oserror(&answer.error, "The picture cannot be mapped", err);
        return slot_say(slot, &answer, EXTRACTOR_SLOT_ERROR, -1);
    }
    job->image = image;
    err = slot_compute(slot, job, &answer);
    munmap(image, job->image_bytes);
    return err;
}

static int slot_next(struct slot *slot)
{
    struct extractor_slotwire message;
    int fd;
    int err = extractor_slotwire_recv(slot->sock, &message, &fd);

    if (err < 0)
        return err;
    if (message.kind == EXTRACTOR_SLOT_JOB)
        err = slot_job(slot, &message.job, message.serial, fd);
    else
        err = -EPROTO;
    if (fd >= 0)
        close(fd);
    slot_stage(slot, EXTRACTOR_STAGE_IDLE);
    return err;
}

static int slot_loop(struct slot *slot)
{
    struct pollfd in = {.fd = slot->sock, .events = POLLIN};
    int err = 0;

    while (err == 0) {
        int ready = poll(&in, 1, slot->dirty ? TRIM_MS : -1);
        if (ready > 0) {
            err = slot_next(slot);
        } else if (ready == 0) {
            malloc_trim(0);
            slot->dirty = false;
        } else if (errno != EINTR) {
            err = -errno;
        }
    }
    return err;
}

int extractor_slot_run(int sock, struct extractor_slotpage *page)
{
    struct slot slot = {.sock = sock, .page = page};
    struct extractor_slotwire hello = {.pid = (uint32_t)getpid()};
    int err = slot_say(&slot, &hello, EXTRACTOR_SLOT_HELLO, -1);

    if (err == 0)
        err = slot_loop(&slot);
    if (err == -EPIPE) /* the supervisor closed its end, or is no more */
        return EX_OK;
    return err == -EPROTO ? EX_PROTOCOL : EX_OSERR;
}
