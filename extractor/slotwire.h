/*
 * slotwire.h - what a slot process and its supervisor say to each other.
 *
 * One SOCK_SEQPACKET socketpair a slot: a message is one packet, whole or not at all, so
 * there is no half-read state. Big things (picture, result) travel as a sealed memfd
 * beside the packet: the receiver maps it, nothing is streamed or buffered, and the
 * sender cannot change or cut it afterwards. One shared page carries what must work while
 * the slot computes: cancel and progress.
 *
 *   slot -> supervisor   HELLO once, then for each JOB: STARTED, and DONE or ERROR
 *   supervisor -> slot   JOB, one at a time; closing the socket ends the slot
 *
 * Packets, little-endian. All begin with 16 bytes:
 *
 *   0  4 magic "SLT1"    4  2 kind    6  2 size of the packet    8  8 serial of the job
 *
 *   JOB      16 4 kind of result, 20 4 zero, 24 8 image bytes, 32 8 most pixels,
 *            40 8 most bytes of memory, 48 32 image SHA-256, 80 32 key,
 *            112 canonical parameters; fd: the image
 *   DONE     16 8 result bytes, 24 4 count, 28 4 width, 32 4 height, 36 4 zero,
 *            40 8 decode_us, 48 8 denoise_us, 56 8 sift_us; fd: the result
 *   ERROR    16 4 status, 20 4 detail bytes, 24 8 limit, 32 8 actual, 40 detail
 *   HELLO    16 4 pid, 20 4 errno of a seccomp filter that the system forbids, 0: none
 *   STARTED  nothing more
 *
 * A slot handles hostile pictures, so the supervisor takes its packets for hostile too.
 */
#ifndef EXTRACTOR_SLOTWIRE_H
#define EXTRACTOR_SLOTWIRE_H

#include "extractor/pipeline.h"
#include "extractor/sandbox.h"

#define EXTRACTOR_SLOTWIRE_HEADER_BYTES 16
#define EXTRACTOR_SLOTWIRE_BYTES_MAX    320            /* the longest packet, ERROR */
#define EXTRACTOR_PAYLOAD_BYTES_MAX     (640ull << 20) /* as the mesh's own bound */

/* Where a slot finds what its supervisor gave it. */
#define EXTRACTOR_SLOT_SOCKET_FD 3
#define EXTRACTOR_SLOT_PAGE_FD   4

enum extractor_slotwire_kind {
    EXTRACTOR_SLOT_HELLO = 1,
    EXTRACTOR_SLOT_JOB,
    EXTRACTOR_SLOT_STARTED,
    EXTRACTOR_SLOT_DONE,
    EXTRACTOR_SLOT_ERROR
};

/* Only the members of `kind` mean anything; pointers in them are NULL. */
struct extractor_slotwire {
    enum extractor_slotwire_kind kind;
    uint64_t serial;            /* the supervisor's number of the job; 0 in HELLO */
    uint32_t pid, filter_errno; /* of HELLO */
    struct extractor_job job;
    struct extractor_result result;
    struct extractor_error error;
};

enum extractor_slot_stage {
    EXTRACTOR_STAGE_IDLE,
    EXTRACTOR_STAGE_RUNNING,
    EXTRACTOR_STAGE_ANSWERING
};

/* The shared page. The supervisor writes `cancel` (0 again before each job) and, before
 * the slot starts, `sandbox` and `cpu_off`; the slot writes the rest. */
struct extractor_slotpage {
    struct vision_control control;
    _Atomic uint32_t stage; /* enum extractor_slot_stage; for people */
    struct extractor_sandbox sandbox;
    unsigned cpu_off; /* of every job; as in struct extractor_job */
};

/* Returns the packet's size. */
size_t extractor_slotwire_encode(const struct extractor_slotwire *message,
                                 uint8_t out[EXTRACTOR_SLOTWIRE_BYTES_MAX]);

/* 0, or -EPROTO for anything that is not exactly a packet as above. */
int extractor_slotwire_decode(const void *bytes, size_t size,
                              struct extractor_slotwire *out);

/* Send without blocking, with `fd` (borrowed) beside it unless it is -1. 0 or -errno. */
int extractor_slotwire_send(int sock, const struct extractor_slotwire *message, int fd);

/*
 * Take one packet. 0 with `out` and `fd` filled, where `fd` is the caller's to close and
 * -1 in the kinds that carry none; -EAGAIN when a non-blocking socket has nothing; -EPIPE
 * at the end; -EPROTO for a bad packet, a missing or an unwanted fd; else -errno.
 */
int extractor_slotwire_recv(int sock, struct extractor_slotwire *out, int *fd);

/* A sealed memfd that holds a copy of `bytes`. The fd (>= 0), or -errno. */
int extractor_payload_make(const void *bytes, size_t size);

/*
 * Map `fd` (which may be closed then) for reading. -EPROTO when it is no sealed memfd of
 * exactly `size` bytes, 1 to EXTRACTOR_PAYLOAD_BYTES_MAX; else -errno of mmap. Released
 * with munmap(*out, size).
 */
int extractor_payload_map(int fd, size_t size, void **out);

#endif
