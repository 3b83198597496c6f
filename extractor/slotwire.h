/*
 * slotwire.h - what a slot process and its supervisor say to each other.
 *
 * One SOCK_SEQPACKET socketpair a slot: a message is one packet, whole or not at all, so
 * there is no half-read state. Big things (picture, result) are in memfds, both made by
 * the supervisor and given with JOB: the picture's is sealed, the result's has room for
 * the largest result of this picture and cannot grow. So a slot makes no memory that its
 * own limits do not count, and sends no descriptor. The supervisor cuts and seals the
 * result before it looks at it. One shared page carries what must work while the slot
 * computes: cancel and progress.
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
 *            112 canonical parameters; fds: the image, room for the result
 *   DONE     16 8 result bytes, 24 4 count, 28 4 width, 32 4 height, 36 4 zero,
 *            40 8 decode_us, 48 8 denoise_us, 56 8 sift_us
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

enum { EXTRACTOR_FD_IMAGE, EXTRACTOR_FD_RESULT, EXTRACTOR_FDS }; /* of JOB */

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

/* Send without blocking; beside JOB go `fds` (borrowed), else NULL. 0 or -errno. */
int extractor_slotwire_send(int sock, const struct extractor_slotwire *message,
                            const int fds[EXTRACTOR_FDS]);

/*
 * Take one packet. With `fds` it is a slot that asks: they are the caller's to close, -1
 * in the kinds that carry none. The supervisor passes NULL and is given no descriptor. 0
 * with `out` filled; -EAGAIN when a non-blocking socket has nothing; -EPIPE at the end;
 * -EPROTO for a bad packet, missing or unwanted descriptors; else -errno.
 */
int extractor_slotwire_recv(int sock, struct extractor_slotwire *out,
                            int fds[EXTRACTOR_FDS]);

/* A sealed memfd that holds a copy of `bytes`. The fd (>= 0), or -errno. */
int extractor_payload_make(const void *bytes, size_t size);

/* An empty memfd of `size` bytes, which take memory only when they are written, and which
 * cannot become more. The fd, or -errno. */
int extractor_payload_room(uint64_t size);

/* Write `bytes` from the start of a room. 0, or -errno: -EPERM when it is too small. */
int extractor_payload_fill(int fd, const void *bytes, size_t size);

/* From now on the room is `size` bytes and nobody changes them. 0; -EPROTO when it was
 * smaller, is mapped for writing by the slot, or is no room at all. */
int extractor_payload_seal(int fd, uint64_t size);

/* Give the room's memory back, whoever still has it open. */
void extractor_payload_empty(int fd);

/* Map a payload for reading. 0; -EPROTO for a size of 0 or above
 * EXTRACTOR_PAYLOAD_BYTES_MAX; else -errno of mmap. Released with munmap(*out, size). */
int extractor_payload_map(int fd, uint64_t size, void **out);

#endif
