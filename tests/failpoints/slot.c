/*
 * A slot that does harm to itself: built into siftmesh-slot by -DSIFTMESH_FAILPOINTS=ON
 * and never otherwise. The linker (--wrap) puts it in front of the functions in which the
 * stages begin, so that the product's own sources know nothing of it.
 *
 *   SIFTMESH_FAILPOINT=STAGE:ACTION[:once=PATH|:one=PATH]
 *
 *   STAGE    seal      when the sandbox closes; its one ACTION is forbid: as a container
 *                      that does not let it
 *            start     before the first job is waited for
 *            decode, denoise, sift, answer
 *   ACTION   exit      as a library that calls exit()
 *            kill      SIGKILL, as by the kernel when memory is short
 *            abort     as a library that finds its memory broken
 *            stop      SIGSTOP: alive, and nothing moves
 *            spin      computes for ever, and nothing moves
 *            endless   computes for ever, progress moves, cancel is not heard
 *            crawl     computes for CRAWL_S, nothing moves, then goes on
 *            slow      computes for ever, progress moves, until it is cancelled
 *            alloc     takes memory until there is none, then abort()
 *            babble    a packet that is none
 *            enomem    of denoise and sift: as if there was no memory; the slot lives on
 *            forge     of answer: features of another key, or bytes behind the PNG
 *            script    of answer: a PNG's signature and a script
 *            huge, clock, count
 *                      of answer: DONE with a size, times, a count that are not so
 *            chatter   of answer: STARTED, again and again
 *            open, socket, fork, exec
 *                      what the sandbox forbids; where it succeeds the slot goes on
 *   one      only the slot that creates PATH, each time that it passes
 *   once     only the slot that creates PATH, and only the first time that it passes;
 *            decided before its sandbox closes
 */
#include "extractor/slot.h"
#include "extractor/decode/decode.h"
#include "extractor/vision/kernels.h"
#include "extractor/vision/sift.h"
#include "extractor/vision/sift_native.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

#define ALLOC_BYTES (16u << 20)
#define CRAWL_S     4

struct failpoint {
    char stage[16], action[16];
    bool armed;   /* this slot is the one */
    bool once;    /* and its first pass */
    bool serving; /* warm-up is over */
    bool lying;   /* the DONE to come is not true */
    struct extractor_slotpage *page;
};

static struct failpoint point;

/* ---- what it does ---- */

static void do_exit(void)
{
    exit(EX_SOFTWARE);
}

static void do_kill(void)
{
    raise(SIGKILL);
}

static void do_abort(void)
{
    abort();
}

static void do_stop(void)
{
    raise(SIGSTOP);
}

static void do_spin(void)
{
    for (volatile unsigned i = 0;; i++)
        ;
}

static void do_endless(void)
{
    for (;;)
        vision_step(&point.page->control);
}

static void do_slow(void)
{
    while (!vision_step(&point.page->control))
        ;
}

static void do_crawl(void)
{
    struct timespec now, end;

    clock_gettime(CLOCK_MONOTONIC, &end);
    end.tv_sec += CRAWL_S;
    do
        clock_gettime(CLOCK_MONOTONIC, &now);
    while (now.tv_sec < end.tv_sec);
}

static void do_alloc(void)
{
    void *block;

    while ((block = malloc(ALLOC_BYTES)) != NULL)
        memset(block, 1, ALLOC_BYTES);
    abort();
}

static void do_babble(void)
{
    if (write(EXTRACTOR_SLOT_SOCKET_FD, "babble", 6) != 6)
        abort();
}

static void do_open(void)
{
    int fd = open("/etc/passwd", O_RDONLY);

    if (fd >= 0)
        close(fd);
}

static void do_socket(void)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    if (fd >= 0)
        close(fd);
}

static void do_fork(void)
{
    if (fork() == 0)
        _exit(0);
}

static void do_exec(void)
{
    char name[] = "true", *argv[] = {name, NULL};

    execv("/bin/true", argv);
}

static void do_nothing(void)
{
}

static void do_lie(void)
{
    point.lying = true;
}

static void do_chatter(void)
{
    const struct extractor_slotwire again = {.kind = EXTRACTOR_SLOT_STARTED};
    int err;

    do
        err = extractor_slotwire_send(EXTRACTOR_SLOT_SOCKET_FD, &again, NULL);
    while (err == 0 || err == -EAGAIN);
}

static const struct {
    const char *name;
    void (*run)(void);
} actions[] = {
    {"exit", do_exit},       {"kill", do_kill},      {"abort", do_abort},
    {"stop", do_stop},       {"spin", do_spin},      {"endless", do_endless},
    {"slow", do_slow},       {"alloc", do_alloc},    {"babble", do_babble},
    {"open", do_open},       {"socket", do_socket},  {"fork", do_fork},
    {"exec", do_exec},       {"forbid", do_nothing}, {"enomem", do_nothing},
    {"crawl", do_crawl},     {"forge", do_lie},      {"script", do_lie},
    {"huge", do_lie},        {"clock", do_lie},      {"count", do_lie},
    {"chatter", do_chatter},
};

static bool is_action(const char *action)
{
    return strcmp(point.action, action) == 0;
}

/* Whether the slot fails here. */
static bool hit(const char *stage)
{
    if (!point.armed || !point.serving || strcmp(point.stage, stage) != 0)
        return false;
    point.armed = !point.once;
    for (size_t i = 0; i < sizeof actions / sizeof actions[0]; i++)
        if (is_action(actions[i].name))
            actions[i].run();
    return is_action("enomem");
}

/* ---- which slot ---- */

static bool is_known(const char *action)
{
    for (size_t i = 0; i < sizeof actions / sizeof actions[0]; i++)
        if (strcmp(action, actions[i].name) == 0)
            return true;
    return false;
}

/* Before main(), so before the sandbox closes. */
__attribute__((constructor)) static void arm(void)
{
    const char *text = getenv("SIFTMESH_FAILPOINT");
    int end = 0;

    if (text == NULL)
        return;
    sscanf(text, "%15[a-z]:%15[a-z]%n", point.stage, point.action, &end);
    const char *rest = text + end;
    if (end == 0 || !is_known(point.action) ||
        (*rest != '\0' && strncmp(rest, ":once=", 6) != 0 &&
         strncmp(rest, ":one=", 5) != 0)) {
        fprintf(stderr, "siftmesh-slot: SIFTMESH_FAILPOINT is not valid: %s\n", text);
        exit(EX_USAGE);
    }
    point.armed = true;
    point.once = strncmp(rest, ":once=", 6) == 0;
    if (*rest != '\0') {
        int fd =
            open(strchr(rest, '=') + 1, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
        point.armed = fd >= 0;
        if (fd >= 0)
            close(fd);
    }
}

/* ---- where: a changed signature is an error of the compiler, not of a test ---- */

__typeof__(extractor_slot_run) __real_extractor_slot_run, __wrap_extractor_slot_run;
__typeof__(extractor_sandbox_seal) __real_extractor_sandbox_seal,
    __wrap_extractor_sandbox_seal;
__typeof__(decode_image) __real_decode_image, __wrap_decode_image;
__typeof__(vision_nlm) __real_vision_nlm, __wrap_vision_nlm;
__typeof__(vision_sift) __real_vision_sift, __wrap_vision_sift;
__typeof__(vision_sift_native) __real_vision_sift_native, __wrap_vision_sift_native;
__typeof__(extractor_payload_fill) __real_extractor_payload_fill,
    __wrap_extractor_payload_fill;
__typeof__(extractor_slotwire_send) __real_extractor_slotwire_send,
    __wrap_extractor_slotwire_send;

int __wrap_extractor_slot_run(int sock, struct extractor_slotpage *page, int filter_err)
{
    point.page = page;
    point.serving = true;
    hit("start");
    return __real_extractor_slot_run(sock, page, filter_err);
}

int __wrap_extractor_sandbox_seal(int sock)
{
    if (point.armed && strcmp(point.stage, "seal") == 0)
        return -EPERM;
    return __real_extractor_sandbox_seal(sock);
}

int __wrap_decode_image(const uint8_t *bytes, size_t size,
                        const struct decode_options *options, struct vision_image *out,
                        struct decode_error *error)
{
    hit("decode");
    return __real_decode_image(bytes, size, options, out, error);
}

int __wrap_vision_nlm(const struct vision_kernels *k, const struct vision_image *dst,
                      const struct vision_image *src,
                      const struct vision_nlm_params *params, void *scratch,
                      struct vision_control *control)
{
    return hit("denoise") ? -ENOMEM
                          : __real_vision_nlm(k, dst, src, params, scratch, control);
}

int __wrap_vision_sift(const struct vision_image *image,
                       const struct vision_sift_params *params,
                       struct vision_control *control, struct vision_features *out)
{
    return hit("sift") ? -ENOMEM : __real_vision_sift(image, params, control, out);
}

int __wrap_vision_sift_native(const struct vision_kernels *k,
                              const struct vision_image *image,
                              const struct vision_sift_params *params,
                              struct vision_control *control, struct vision_features *out)
{
    return hit("sift") ? -ENOMEM
                       : __real_vision_sift_native(k, image, params, control, out);
}

/* A blob's key is there; whatever is there in a PNG, its CRC tells. */
#define FORGED_AT 64

static const char script[] = "\x89PNG\r\n\x1a\n<script>alert(1)</script>";

int __wrap_extractor_payload_fill(int fd, const void *bytes, size_t size)
{
    hit("answer");
    if (point.lying && is_action("script"))
        return __real_extractor_payload_fill(fd, script, sizeof script);
    if (!point.lying || !is_action("forge") || size <= FORGED_AT)
        return __real_extractor_payload_fill(fd, bytes, size);
    uint8_t *forged = malloc(size);
    if (forged == NULL)
        abort();
    memcpy(forged, bytes, size);
    forged[FORGED_AT] ^= 1;
    int err = __real_extractor_payload_fill(fd, forged, size);
    free(forged);
    return err;
}

int __wrap_extractor_slotwire_send(int sock, const struct extractor_slotwire *message,
                                   const int *fds)
{
    struct extractor_slotwire lie = *message;

    if (point.lying && message->kind == EXTRACTOR_SLOT_DONE) {
        point.lying = false;
        if (is_action("script"))
            lie.result.size = sizeof script;
        if (is_action("huge"))
            lie.result.size = 600u << 20;
        if (is_action("clock"))
            lie.result.decode_us = UINT64_MAX;
        lie.result.count += is_action("count");
    }
    return __real_extractor_slotwire_send(sock, &lie, fds);
}
