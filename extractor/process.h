/*
 * process.h - one siftmesh-slot process: started, signalled, measured, reaped.
 *
 * Knows no loop and no mesh. The child inherits stderr, its socket as fd 3 and its page
 * as fd 4, and no other descriptor.
 */
#ifndef EXTRACTOR_PROCESS_H
#define EXTRACTOR_PROCESS_H

#include "extractor/slotwire.h"

#include <sys/types.h>

struct extractor_process {
    pid_t pid;
    int pidfd; /* readable once the process has ended */
    int sock;  /* SOCK_SEQPACKET, non-blocking */
    struct extractor_slotpage *page;
};

struct extractor_memory {
    uint64_t resident_bytes, peak_bytes;
    uint64_t private_bytes; /* of those resident: no file's, shared with nobody */
};

/*
 * Run `program` as "siftmesh-slot NUMBER", which confines itself as `sandbox` says and
 * does without the kernels of `cpu_off` (as in struct extractor_job). 0, or -errno with
 * nothing left behind. The caller must reap it: extractor_process_reap, then
 * extractor_process_free.
 */
int extractor_process_start(const char *program, unsigned number,
                            const struct extractor_sandbox *sandbox, unsigned cpu_off,
                            struct extractor_process *out);

/* SIGKILL. Does nothing to a process that has ended. */
void extractor_process_kill(const struct extractor_process *process);

/* How a process ended. */
struct extractor_ending {
    int signal;   /* 0: it exited */
    char how[64]; /* "exit 0", "signal 9 (Killed)" */
};

/* Collect a process that has ended; with `wait`, wait for it to end. 0 with `out` filled;
 * -EAGAIN while it runs (without `wait`). */
int extractor_process_reap(const struct extractor_process *process, bool wait,
                           struct extractor_ending *out);

/* Close and unmap; signals nobody. Accepts zeroed and already freed. */
void extractor_process_free(struct extractor_process *process);

/*
 * Let a living process use `seconds` of CPU from now on, at least one; then the kernel
 * ends it by SIGXCPU, even if we hang ourselves. 0, or -errno.
 */
int extractor_process_limit_cpu(const struct extractor_process *process,
                                uint64_t seconds);

/* CPU time that a living process has used. 0, or -errno. */
int extractor_process_cpu(const struct extractor_process *process, uint64_t *used_us);

/* VmRSS, VmHWM and RssAnon of a living process. 0, or -errno. */
int extractor_process_memory(const struct extractor_process *process,
                             struct extractor_memory *out);

/* Path of `name` in the folder of this very program. 0, or -errno. */
int extractor_process_beside(const char *name, char *out, size_t out_bytes);

#endif
