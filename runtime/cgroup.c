/*
 * cgroup.c - limits and use of memory and CPU, read from cgroupfs and procfs.
 *
 * Called by broker and extractor at their start, and by the monitor at each sample. It
 * never writes to a group and keeps nothing between two calls.
 */
#include "runtime/cgroup.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

const struct cgroup_roots cgroup_system = {"/proc", "/sys/fs/cgroup", ""};

/* ---- which group ---- */

void cgroup_find(const struct cgroup_roots *roots, const char *controller,
                 struct cgroup_place *out)
{
    char text[PROCFILE_BYTES];

    *out = (struct cgroup_place){.below = ""};
    if (procfile_read(text, "%s/cgroup.controllers", roots->cgroupfs) >= 0) {
        out->version = CGROUP_2;
        controller = "";
    } else if (procfile_read(text, "%s/%s/tasks", roots->cgroupfs, controller) >= 0) {
        out->version = CGROUP_1;
        out->below = strcmp(controller, "memory") == 0 ? "/memory" : "/cpu";
    } else {
        return;
    }
    if (roots->cgroup[0] != '\0')
        snprintf(out->path, sizeof out->path, "%s%s", roots->cgroup[0] == '/' ? "" : "/",
                 roots->cgroup);
    else if (procfile_read(text, "%s/self/cgroup", roots->procfs) < 0 ||
             procfile_cgroup(text, controller, out->path) < 0)
        out->path[0] = '\0'; /* a container's own root */
    size_t length = strlen(out->path);
    while (length > 0 && out->path[length - 1] == '/')
        out->path[--length] = '\0';
}

bool cgroup_climb(struct cgroup_place *place)
{
    char *slash = strrchr(place->path, '/');
    if (slash == NULL)
        return false;
    *slash = '\0';
    return true;
}

static int read_file(char text[PROCFILE_BYTES], const struct cgroup_roots *roots,
                     const struct cgroup_place *place, const char *file)
{
    return procfile_read(text, "%s%s%s/%s", roots->cgroupfs, place->below, place->path,
                         file);
}

static int read_value(const struct cgroup_roots *roots, const struct cgroup_place *place,
                      const char *file, uint64_t *out)
{
    char text[PROCFILE_BYTES];
    int size = read_file(text, roots, place, file);

    return size < 0 ? size : procfile_limit(text, out, NULL);
}

/* ---- memory ---- */

int cgroup_memory_limit(const struct cgroup_roots *roots,
                        const struct cgroup_place *place, uint64_t *out,
                        const char **file)
{
    const bool v2 = place->version == CGROUP_2;
    uint64_t limit, high = PROCFILE_NO_LIMIT;

    *file = v2 ? "memory.max" : "memory.limit_in_bytes";
    int err = read_value(roots, place, *file, &limit);
    if (err == 0 && v2) {
        *file = "memory.high";
        err = read_value(roots, place, *file, &high);
        err = err == -ENOENT ? 0 : err; /* of kernels before 4.5 */
    }
    if (err < 0)
        return err;
    limit = high < limit ? high : limit;
    if (limit == 0 || limit == PROCFILE_NO_LIMIT)
        return -ENOENT;
    *out = limit;
    return 0;
}

/* Page cache of files, on both of the kernel's lists. */
static int read_cache(const char *text, bool v2, uint64_t *out, const char **file)
{
    uint64_t inactive, active = 0;

    *file = v2 ? "inactive_file in memory.stat" : "total_inactive_file in memory.stat";
    int err =
        procfile_line(text, v2 ? "inactive_file" : "total_inactive_file", &inactive);
    if (err < 0)
        return err;
    *file = v2 ? "active_file in memory.stat" : "total_active_file in memory.stat";
    err = procfile_line(text, v2 ? "active_file" : "total_active_file", &active);
    if (err < 0 && err != -ENOENT)
        return err;
    *out = inactive + active;
    return 0;
}

int cgroup_memory_used(const struct cgroup_roots *roots, const struct cgroup_place *place,
                       uint64_t *out, const char **file)
{
    const bool v2 = place->version == CGROUP_2;
    char text[PROCFILE_BYTES];
    uint64_t all, cache;

    *file = v2 ? "memory.current" : "memory.usage_in_bytes";
    int err = read_value(roots, place, *file, &all);
    if (err == 0 && all == PROCFILE_NO_LIMIT)
        err = -EINVAL;
    if (err < 0)
        return err;
    *file = "memory.stat";
    err = read_file(text, roots, place, *file);
    if (err >= 0)
        err = read_cache(text, v2, &cache, file);
    if (err < 0)
        return err;
    *out = all > cache ? all - cache : 0;
    return 0;
}

int cgroup_machine_memory(const struct cgroup_roots *roots, uint64_t *total_bytes,
                          uint64_t *available_bytes)
{
    char text[PROCFILE_BYTES];
    uint64_t total_kb, available_kb;

    int err = procfile_read(text, "%s/meminfo", roots->procfs);
    if (err >= 0)
        err = procfile_line(text, "MemTotal", &total_kb);
    if (err >= 0)
        err = procfile_line(text, "MemAvailable", &available_kb);
    if (err >= 0 && (total_kb == 0 || available_kb > total_kb || total_kb > 1ull << 44))
        err = -EINVAL;
    if (err < 0)
        return err;
    *total_bytes = total_kb * 1024;
    *available_bytes = available_kb * 1024;
    return 0;
}

uint64_t cgroup_memory_bound(const struct cgroup_roots *roots)
{
    uint64_t bound = PROCFILE_NO_LIMIT, limit, available;
    struct cgroup_place place;
    const char *file;

    if (cgroup_machine_memory(roots, &limit, &available) == 0)
        bound = limit;
    cgroup_find(roots, "memory", &place);
    for (unsigned i = 0; place.version != CGROUP_NONE && i < CGROUP_LEVELS_MAX; i++) {
        if (cgroup_memory_limit(roots, &place, &limit, &file) == 0 && limit < bound)
            bound = limit;
        if (!cgroup_climb(&place))
            break;
    }
    return bound == PROCFILE_NO_LIMIT ? 0 : bound;
}

/* ---- CPU ---- */

/* "50000 100000" or "max 100000"; v1 has two files, and -1 for none. */
int cgroup_cpu_quota(const struct cgroup_roots *roots, const struct cgroup_place *place,
                     struct cgroup_quota *out)
{
    const bool v2 = place->version == CGROUP_2;
    char text[PROCFILE_BYTES];
    struct cgroup_quota quota = {PROCFILE_NO_LIMIT, 0};
    const char *end;

    int err = read_file(text, roots, place, v2 ? "cpu.max" : "cpu.cfs_quota_us");
    if (err < 0)
        return err;
    if (strncmp(text, "-1", 2) != 0 && procfile_limit(text, &quota.quota_us, &end) < 0)
        return -EINVAL;
    if (quota.quota_us == PROCFILE_NO_LIMIT)
        return -ENOENT;
    if (v2)
        err = procfile_number(end + strspn(end, " "), &quota.period_us, NULL);
    else
        err = read_value(roots, place, "cpu.cfs_period_us", &quota.period_us);
    if (err == 0 && (quota.period_us == 0 || quota.quota_us == 0))
        err = -EINVAL;
    if (err < 0)
        return err == -ENOENT ? -EINVAL : err; /* half of a quota is no quota */
    *out = quota;
    return 0;
}

int cgroup_cpu_used_us(const struct cgroup_roots *roots, const struct cgroup_place *place,
                       uint64_t *out)
{
    char text[PROCFILE_BYTES];
    int err;

    if (place->version == CGROUP_2) {
        err = read_file(text, roots, place, "cpu.stat");
        return err < 0 ? err : procfile_line(text, "usage_usec", out);
    }
    err = procfile_read(text, "%s/cpuacct%s/cpuacct.usage", roots->cgroupfs, place->path);
    if (err >= 0)
        err = procfile_number(text, out, NULL);
    *out = err < 0 ? 0 : *out / 1000;
    return err;
}

static double share_of(const struct cgroup_quota *quota)
{
    return (double)quota->quota_us / (double)quota->period_us;
}

int cgroup_tightest_quota(const struct cgroup_roots *roots, struct cgroup_place *place,
                          struct cgroup_quota *out)
{
    struct cgroup_place level;
    struct cgroup_quota quota;
    bool found = false;

    cgroup_find(roots, "cpu", &level);
    *place = level;
    for (unsigned i = 0; level.version != CGROUP_NONE && i < CGROUP_LEVELS_MAX; i++) {
        int err = cgroup_cpu_quota(roots, &level, &quota);
        if (err < 0 && err != -ENOENT)
            return err;
        if (err == 0 && (!found || share_of(&quota) < share_of(out))) {
            found = true;
            *out = quota;
            *place = level;
        }
        if (!cgroup_climb(&level))
            break;
    }
    return found ? 0 : -ENOENT;
}

unsigned cgroup_whole_processors(const struct cgroup_roots *roots, unsigned processors)
{
    struct cgroup_place place;
    struct cgroup_quota quota;

    if (cgroup_tightest_quota(roots, &place, &quota) < 0 ||
        share_of(&quota) >= (double)processors)
        return processors;
    return (unsigned)share_of(&quota);
}
