/*
 * sample.h - how much memory and CPU are in use, from procfs and cgroupfs.
 *
 * Several bounds may hold at once: those of the cgroup and of each one above it (v2:
 * memory.max, memory.high, cpu.max; v1: memory.limit_in_bytes, cfs quota), and the
 * machine's. The one that is nearest to its end counts: that is where memory runs out.
 * Page cache of files, which the kernel drops by itself, is not in use.
 *
 * Both roots are parameters, so that a recorded tree can be replayed. A file that is
 * there but cannot be understood makes the value unknown, and says so: nothing is
 * decided on a guess. One thread; `now_us` is the caller's clock.
 */
#ifndef MONITOR_SAMPLE_H
#define MONITOR_SAMPLE_H

#include "runtime/cgroup.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MONITOR_WHY_BYTES 160

struct monitor_sample {
    uint64_t at_us;
    bool memory_known, cpu_known, stall_known;
    uint64_t memory_used_bytes, memory_limit_bytes;
    uint32_t memory_permille;    /* used of limit */
    uint32_t cpu_permille;       /* busy, since the sample before; at most 1000 */
    uint32_t stall_permille;     /* PSI: some task waited for memory, last 10 s */
    const char *memory_from;     /* "cgroup2", "cgroup1", "machine"; static */
    const char *cpu_from;        /* the same */
    char why[MONITOR_WHY_BYTES]; /* why memory is unknown; else empty */
    char why_cpu[MONITOR_WHY_BYTES];
};

/* Time used since a sample before: of the machine in ticks, of a cgroup in us. */
struct monitor_cpu_count {
    bool known;
    uint64_t busy, all;
    size_t depth; /* of the cgroup; another one begins anew */
};

struct monitor_sampler {
    struct cgroup_roots roots;
    struct monitor_cpu_count machine, group;
};

/* `cgroup`: a path below the root; "": the one this process is in. */
void monitor_sampler_init(struct monitor_sampler *sampler, const char *procfs,
                          const char *cgroupfs, const char *cgroup);

/* The first sample knows no CPU: it takes two. */
void monitor_sampler_take(struct monitor_sampler *sampler, uint64_t now_us,
                          struct monitor_sample *out);

#endif
