/*
 * cgroup.h - what the machine and the group of processes that we are in allow us: memory
 * and CPU. The one reader of cgroups, for broker, extractor and monitor.
 *
 * A group is bounded by its own limits and by those of each group above it, the tightest
 * of which counts. Version 2 is read at cgroupfs itself, version 1 below its folders
 * memory, cpu and cpuacct; where both are mounted, version 1. In a container the path
 * that procfs names may not be mounted: then the levels that are there are those above
 * it.
 *
 * The roots are parameters, so that a recorded tree can be read. Limits are values of a
 * moment. One thread.
 */
#ifndef RUNTIME_CGROUP_H
#define RUNTIME_CGROUP_H

#include "runtime/procfile.h"

#include <stdbool.h>
#include <stdint.h>

#define CGROUP_LEVELS_MAX 32 /* groups above each other that are looked at */

struct cgroup_roots {
    const char *procfs, *cgroupfs; /* borrowed: "/proc", "/sys/fs/cgroup" */
    const char *cgroup;            /* a path below cgroupfs; "": the one we are in */
};

extern const struct cgroup_roots cgroup_system;

enum cgroup_version { CGROUP_NONE, CGROUP_1, CGROUP_2 };

/* A level of the hierarchy of one controller. */
struct cgroup_place {
    enum cgroup_version version;
    const char *below;              /* v1: "/memory" or "/cpu"; v2: "" */
    char path[PROCFILE_PATH_BYTES]; /* without the slash at its end; "": the root */
};

/* Where a controller, "memory" or "cpu", has us. Without cgroups version is CGROUP_NONE.
 */
void cgroup_find(const struct cgroup_roots *roots, const char *controller,
                 struct cgroup_place *out);

/* One level up; false at the root. */
bool cgroup_climb(struct cgroup_place *place);

/*
 * Of one level. 0; -ENOENT where it bounds nothing; another -errno, and then `file` is
 * what could not be read. Memory: the lesser of memory.max and memory.high, above which
 * work is slowed to a crawl, or v1's memory.limit_in_bytes. CPU: `quota_us` of CPU time
 * in each `period_us`.
 */
int cgroup_memory_limit(const struct cgroup_roots *roots,
                        const struct cgroup_place *place, uint64_t *out,
                        const char **file);
struct cgroup_quota {
    uint64_t quota_us, period_us; /* neither is 0 */
};
int cgroup_cpu_quota(const struct cgroup_roots *roots, const struct cgroup_place *place,
                     struct cgroup_quota *out);

/* Bytes in use at one level, without page cache of files (active_file, inactive_file),
 * which the kernel drops by itself when memory is asked for. 0, or -errno with `file`. */
int cgroup_memory_used(const struct cgroup_roots *roots, const struct cgroup_place *place,
                       uint64_t *out, const char **file);

/* CPU time that a level has used. 0 or -errno. */
int cgroup_cpu_used_us(const struct cgroup_roots *roots, const struct cgroup_place *place,
                       uint64_t *out);

/* Total and available memory of the machine. 0 or -errno. */
int cgroup_machine_memory(const struct cgroup_roots *roots, uint64_t *total_bytes,
                          uint64_t *available_bytes);

/* The tightest memory limit of all: of the group, those above it and the machine. What
 * cannot be read bounds nothing; 0 where nothing could be. */
uint64_t cgroup_memory_bound(const struct cgroup_roots *roots);

/* The level with the smallest share of CPU, `out` its quota. 0; -ENOENT: no level has a
 * quota; another -errno. */
int cgroup_tightest_quota(const struct cgroup_roots *roots, struct cgroup_place *place,
                          struct cgroup_quota *out);

/* Whole processors out of `processors` (those that we may run on) that the quotas leave;
 * 0: less than one. A quota that cannot be read bounds nothing. */
unsigned cgroup_whole_processors(const struct cgroup_roots *roots, unsigned processors);

#endif
