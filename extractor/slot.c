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

/* ---- warm-up ---- */

#define WARM_UP_SIDE_PX 48

/* 8 x 8 grey pixels. */
static const uint8_t warm_up_jpeg[] = {
    0xff, 0xd8, 0xff, 0xdb, 0x00, 0x43, 0x00, 0x10, 0x0b, 0x0c, 0x0e, 0x0c, 0x0a, 0x10,
    0x0e, 0x0d, 0x0e, 0x12, 0x11, 0x10, 0x13, 0x18, 0x28, 0x1a, 0x18, 0x16, 0x16, 0x18,
    0x31, 0x23, 0x25, 0x1d, 0x28, 0x3a, 0x33, 0x3d, 0x3c, 0x39, 0x33, 0x38, 0x37, 0x40,
    0x48, 0x5c, 0x4e, 0x40, 0x44, 0x57, 0x45, 0x37, 0x38, 0x50, 0x6d, 0x51, 0x57, 0x5f,
    0x62, 0x67, 0x68, 0x67, 0x3e, 0x4d, 0x71, 0x79, 0x70, 0x64, 0x78, 0x5c, 0x65, 0x67,
    0x63, 0xff, 0xc0, 0x00, 0x0b, 0x08, 0x00, 0x08, 0x00, 0x08, 0x01, 0x01, 0x11, 0x00,
    0xff, 0xc4, 0x00, 0x14, 0x00, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x03, 0xff, 0xc4, 0x00, 0x1d, 0x10, 0x00,
    0x02, 0x01, 0x04, 0x03, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x01, 0x02, 0x04, 0x00, 0x03, 0x21, 0x22, 0x41, 0x61, 0x71, 0xff, 0xda, 0x00,
    0x08, 0x01, 0x01, 0x00, 0x00, 0x3f, 0x00, 0x04, 0x68, 0xe2, 0x1b, 0xab, 0x5b, 0x63,
    0x20, 0xb6, 0xad, 0xc0, 0x18, 0xef, 0xda, 0xff, 0xd9,
};

static void warm_up_with(const uint8_t *image, size_t size, unsigned cpu_off)
{
    struct extractor_job job = {.kind = PROTO_KIND_FEATURES,
                                .image = image,
                                .image_bytes = size,
                                .pixels_max = WARM_UP_SIDE_PX * WARM_UP_SIDE_PX,
                                .cpu_off = cpu_off};
    struct extractor_result result;
    struct extractor_error error;

    proto_params_init(&job.params);
    /* Should it fail, so will real jobs, and those say why. */
    if (extractor_pipeline_run(&job, NULL, &result, &error) == 0)
        extractor_result_free(&result);
}

void extractor_slot_warm_up(unsigned cpu_off)
{
    static const char header[] = "P5 48 48 255\n";
    enum { HEADER = sizeof header - 1, PIXELS = WARM_UP_SIDE_PX * WARM_UP_SIDE_PX };
    uint8_t picture[HEADER + PIXELS];

    memcpy(picture, header, HEADER);
    for (int i = 0; i < PIXELS; i++) { /* squares: some features are found */
        int x = i % WARM_UP_SIDE_PX / 8, y = i / WARM_UP_SIDE_PX / 8;
        picture[HEADER + i] = (uint8_t)(x * y % 3 * 100);
    }
    warm_up_with(picture, sizeof picture, cpu_off);
    warm_up_with(warm_up_jpeg, sizeof warm_up_jpeg, cpu_off);
    malloc_trim(0);
}

/* ---- jobs ---- */

static void slot_stage(struct slot *slot, enum extractor_slot_stage stage)
{
    atomic_store_explicit(&slot->page->stage, stage, memory_order_relaxed);
}

static int slot_say(struct slot *slot, struct extractor_slotwire *message,
                    enum extractor_slotwire_kind kind)
{
    message->kind = kind;
    return extractor_slotwire_send(slot->sock, message, NULL);
}

static void slot_oserror(struct extractor_error *error, const char *what, int err)
{
    *error = (struct extractor_error){.status = PROTO_STATUS_UNAVAILABLE};
    snprintf(error->detail, sizeof error->detail, "%s: %s.", what, strerror(-err));
}

/* The result in its room, then DONE; where there is no memory for it, ERROR. */
static int slot_answer(struct slot *slot, struct extractor_slotwire *answer, int room)
{
    slot_stage(slot, EXTRACTOR_STAGE_ANSWERING);
    int err = extractor_payload_fill(room, answer->result.bytes, answer->result.size);
    if (err < 0) {
        slot_oserror(&answer->error, "No memory for the result", err);
        return slot_say(slot, answer, EXTRACTOR_SLOT_ERROR);
    }
    return slot_say(slot, answer, EXTRACTOR_SLOT_DONE);
}

static int slot_compute(struct slot *slot, const struct extractor_job *job,
                        struct extractor_slotwire *answer, int room)
{
    if (extractor_pipeline_run(job, &slot->page->control, &answer->result,
                               &answer->error) < 0)
        return slot_say(slot, answer, EXTRACTOR_SLOT_ERROR);

    int err = slot_answer(slot, answer, room);
    extractor_result_free(&answer->result);
    return err;
}

static int slot_job(struct slot *slot, struct extractor_job *job, uint64_t serial,
                    const int fds[EXTRACTOR_FDS])
{
    struct extractor_slotwire answer = {.serial = serial};
    void *image;

    slot->dirty = true;
    slot_stage(slot, EXTRACTOR_STAGE_RUNNING);
    int err = slot_say(slot, &answer, EXTRACTOR_SLOT_STARTED);
    if (err < 0)
        return err;

    err = extractor_payload_map(fds[EXTRACTOR_FD_IMAGE], job->image_bytes, &image);
    if (err < 0) {
        slot_oserror(&answer.error, "The picture cannot be mapped", err);
        return slot_say(slot, &answer, EXTRACTOR_SLOT_ERROR);
    }
    job->image = image;
    job->cpu_off = slot->page->cpu_off;
    err = slot_compute(slot, job, &answer, fds[EXTRACTOR_FD_RESULT]);
    munmap(image, job->image_bytes);
    return err;
}

static int slot_next(struct slot *slot)
{
    struct extractor_slotwire message;
    int fds[EXTRACTOR_FDS];
    int err = extractor_slotwire_recv(slot->sock, &message, fds);

    if (err < 0)
        return err;
    if (message.kind == EXTRACTOR_SLOT_JOB)
        err = slot_job(slot, &message.job, message.serial, fds);
    else
        err = -EPROTO;
    for (size_t i = 0; i < EXTRACTOR_FDS; i++)
        if (fds[i] >= 0)
            close(fds[i]);
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

int extractor_slot_run(int sock, struct extractor_slotpage *page, int filter_err)
{
    struct slot slot = {.sock = sock, .page = page};
    struct extractor_slotwire hello = {.pid = (uint32_t)getpid(),
                                       .filter_errno = (uint32_t)-filter_err};
    int err = slot_say(&slot, &hello, EXTRACTOR_SLOT_HELLO);

    if (err == 0)
        err = slot_loop(&slot);
    if (err == -EPIPE) /* the supervisor closed its end, or is no more */
        return EX_OK;
    return err == -EPROTO ? EX_PROTOCOL : EX_OSERR;
}
