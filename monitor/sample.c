#include "monitor/sample.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define LEVELS_MAX 32 /* cgroups above each other that are looked at */

enum version { NO_CGROUP, CGROUP1, CGROUP2 };

static const char *const version_names[] = {"machine", "cgroup1", "cgroup2"};

void monitor_sampler_init(struct monitor_sampler *sampler, const char *procfs,
                          const char *cgroupfs, const char *cgroup)
{
    *sampler = (struct monitor_sampler){
        .procfs = procfs, .cgroupfs = cgroupfs, .cgroup = cgroup};
}

static void say(char why[MONITOR_WHY_BYTES], const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void say(char why[MONITOR_WHY_BYTES], const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(why, MONITOR_WHY_BYTES, format, args);
    va_end(args);
}

static uint32_t permille(uint64_t part, uint64_t whole)
{
    return (uint32_t)((double)part / (double)whole * 1000 + 0.5);
}

/* ---- which cgroup ---- */

struct place {
    enum version version;
    const char *below;             /* v1: "/memory" or "/cpu"; v2: "" */
    char path[MONITOR_PATH_BYTES]; /* without the slash at its end; "": the root */
};

static void find_place(const struct monitor_sampler *sampler, const char *controller,
                       struct place *out)
{
    char text[MONITOR_PROCFILE_BYTES];
    char below[32];

    *out = (struct place){.below = ""};
    snprintf(below, sizeof below, "/%s", controller);
    if (monitor_procfile_read(text, "%s/cgroup.controllers", sampler->cgroupfs) >= 0) {
        out->version = CGROUP2;
        controller = "";
    } else if (monitor_procfile_read(text, "%s%s/tasks", sampler->cgroupfs, below) >= 0) {
        out->version = CGROUP1;
        out->below = strcmp(controller, "memory") == 0 ? "/memory" : "/cpu";
    } else {
        return;
    }
    if (sampler->cgroup[0] != '\0')
        snprintf(out->path, sizeof out->path, "%s%s",
                 sampler->cgroup[0] == '/' ? "" : "/", sampler->cgroup);
    else if (monitor_procfile_read(text, "%s/self/cgroup", sampler->procfs) < 0 ||
             monitor_procfile_cgroup(text, controller, out->path) < 0)
        out->path[0] = '\0'; /* a container's own root */
    size_t length = strlen(out->path);
    while (length > 0 && out->path[length - 1] == '/')
        out->path[--length] = '\0';
}

/* One level up; false at the root. */
static bool climb(struct place *place)
{
    char *slash = strrchr(place->path, '/');
    if (slash == NULL)
        return false;
    *slash = '\0';
    return true;
}

/* ---- memory ---- */

struct memory {
    uint64_t used, limit; /* limit MONITOR_NO_LIMIT: this level has none */
};

static int read_limit(const struct monitor_sampler *sampler, const struct place *place,
                      const char *file, uint64_t *out)
{
    char text[MONITOR_PROCFILE_BYTES];
    int size = monitor_procfile_read(text, "%s%s%s/%s", sampler->cgroupfs, place->below,
                                     place->path, file);

    return size < 0 ? size : monitor_procfile_limit(text, out, NULL);
}

/* Bytes in use at this level; 0, or -errno with the file's name in `why`. */
static int read_used(const struct monitor_sampler *sampler, const struct place *place,
                     uint64_t *out, char why[MONITOR_WHY_BYTES])
{
    bool v2 = place->version == CGROUP2;
    const char *file = v2 ? "memory.current" : "memory.usage_in_bytes";
    const char *cache = v2 ? "inactive_file" : "total_inactive_file";
    char text[MONITOR_PROCFILE_BYTES];
    uint64_t all, droppable = 0;

    int err = read_limit(sampler, place, file, &all);
    if (err == 0 && all == MONITOR_NO_LIMIT)
        err = -EINVAL;
    if (err < 0) {
        say(why, "%s cannot be read: %s", file, strerror(-err));
        return err;
    }
    err = monitor_procfile_read(text, "%s%s%s/memory.stat", sampler->cgroupfs,
                                place->below, place->path);
    if (err >= 0)
        err = monitor_procfile_line(text, cache, &droppable);
    if (err < 0) {
        say(why, "%s in memory.stat cannot be read: %s", cache, strerror(-err));
        return err;
    }
    *out = all > droppable ? all - droppable : 0;
    return 0;
}

/* -ENOENT when this level bounds nothing. */
static int read_level(const struct monitor_sampler *sampler, const struct place *place,
                      struct memory *out, char why[MONITOR_WHY_BYTES])
{
    bool v2 = place->version == CGROUP2;
    const char *file = v2 ? "memory.max" : "memory.limit_in_bytes";
    uint64_t high = MONITOR_NO_LIMIT;

    int err = read_limit(sampler, place, file, &out->limit);
    if (err == -ENOENT)
        return err;
    if (err == 0 && v2) {
        /* Above memory.high work is slowed to a crawl: for us that is the end. */
        file = "memory.high";
        err = read_limit(sampler, place, file, &high);
        err = err == -ENOENT ? 0 : err;
    }
    if (err < 0) {
        say(why, "%s cannot be read: %s", file, strerror(-err));
        return err;
    }
    out->limit = high < out->limit ? high : out->limit;
    if (out->limit == 0 || out->limit == MONITOR_NO_LIMIT)
        return -ENOENT;
    err = read_used(sampler, place, &out->used, why);
    return err == -ENOENT ? -EIO : err; /* a bound without its use is not "no bound" */
}

static int read_machine(const struct monitor_sampler *sampler, struct memory *out,
                        char why[MONITOR_WHY_BYTES])
{
    char text[MONITOR_PROCFILE_BYTES];
    uint64_t total_kb, available_kb;

    int err = monitor_procfile_read(text, "%s/meminfo", sampler->procfs);
    if (err >= 0)
        err = monitor_procfile_line(text, "MemTotal", &total_kb);
    if (err >= 0)
        err = monitor_procfile_line(text, "MemAvailable", &available_kb);
    if (err >= 0 && (total_kb == 0 || available_kb > total_kb || total_kb > 1ull << 44))
        err = -EINVAL;
    if (err < 0) {
        say(why, "meminfo cannot be read: %s", strerror(-err));
        return err;
    }
    *out = (struct memory){(total_kb - available_kb) * 1024, total_kb * 1024};
    return 0;
}

static void take_tighter(struct monitor_sample *out, const struct memory *memory,
                         enum version version)
{
    uint32_t share = permille(memory->used, memory->limit);

    if (out->memory_from != NULL && share <= out->memory_permille)
        return;
    out->memory_permille = share;
    out->memory_used_bytes = memory->used;
    out->memory_limit_bytes = memory->limit;
    out->memory_from = version_names[version];
}

static void sample_memory(const struct monitor_sampler *sampler,
                          struct monitor_sample *out)
{
    struct memory machine, level;
    struct place place;

    if (read_machine(sampler, &machine, out->why) < 0)
        return;
    take_tighter(out, &machine, NO_CGROUP);
    find_place(sampler, "memory", &place);
    for (unsigned i = 0; place.version != NO_CGROUP && i < LEVELS_MAX; i++) {
        int err = read_level(sampler, &place, &level, out->why);
        if (err < 0 && err != -ENOENT)
            return;
        /* v1 writes "none" as a number of about 2^63. */
        if (err == 0 && level.limit < machine.limit)
            take_tighter(out, &level, place.version);
        if (!climb(&place))
            break;
    }
    out->memory_known = true;
}

/* ---- CPU ---- */

/* Share of the time since the count before, which is replaced. */
static int advance(struct monitor_cpu_count *before, struct monitor_cpu_count now,
                   uint32_t *out)
{
    struct monitor_cpu_count last = *before;

    *before = now;
    before->known = true;
    if (!last.known || last.depth != now.depth)
        return -EAGAIN;
    if (now.all <= last.all || now.busy < last.busy)
        return -EINVAL;
    uint32_t share = permille(now.busy - last.busy, now.all - last.all);
    *out = share < 1000 ? share : 1000;
    return 0;
}

/* First line: user nice system idle iowait irq softirq steal; guests are in user. Time
 * stolen by other machines is busy: it cannot be had. */
static int machine_cpu(struct monitor_sampler *sampler, uint32_t *out)
{
    char text[MONITOR_PROCFILE_BYTES];
    uint64_t field[8] = {0}, all = 0;
    const char *at;

    int err = monitor_procfile_read(text, "%s/stat", sampler->procfs);
    if (err < 0)
        return err;
    if (strncmp(text, "cpu ", 4) != 0)
        return -EINVAL;
    at = text + 4;
    for (int i = 0; i < 8; i++) {
        at += strspn(at, " ");
        if (monitor_procfile_number(at, &field[i], &at) < 0)
            return -EINVAL;
        all += field[i];
    }
    struct monitor_cpu_count now = {.busy = all - field[3] - field[4], .all = all};
    return advance(&sampler->machine, now, out);
}

struct quota {
    uint64_t quota_us, period_us; /* quota MONITOR_NO_LIMIT: none */
};

static int read_quota(const struct monitor_sampler *sampler, const struct place *place,
                      struct quota *out)
{
    char text[MONITOR_PROCFILE_BYTES];
    const char *end;
    bool v2 = place->version == CGROUP2;
    int err = monitor_procfile_read(text, "%s%s%s/%s", sampler->cgroupfs, place->below,
                                    place->path, v2 ? "cpu.max" : "cpu.cfs_quota_us");

    if (err < 0)
        return err;
    if (strncmp(text, "-1", 2) == 0)
        out->quota_us = MONITOR_NO_LIMIT;
    else if (monitor_procfile_limit(text, &out->quota_us, &end) < 0)
        return -EINVAL;
    if (out->quota_us == MONITOR_NO_LIMIT)
        return -ENOENT;
    if (v2)
        err = monitor_procfile_number(end + strspn(end, " "), &out->period_us, NULL);
    else
        err = read_limit(sampler, place, "cpu.cfs_period_us", &out->period_us);
    return err == 0 && out->period_us == 0 ? -EINVAL : err;
}

static int read_usage_us(const struct monitor_sampler *sampler, const struct place *place,
                         uint64_t *out)
{
    char text[MONITOR_PROCFILE_BYTES];
    int err;

    if (place->version == CGROUP2) {
        err =
            monitor_procfile_read(text, "%s%s/cpu.stat", sampler->cgroupfs, place->path);
        return err < 0 ? err : monitor_procfile_line(text, "usage_usec", out);
    }
    err = monitor_procfile_read(text, "%s/cpuacct%s/cpuacct.usage", sampler->cgroupfs,
                                place->path);
    if (err >= 0)
        err = monitor_procfile_number(text, out, NULL);
    *out = err < 0 ? 0 : *out / 1000;
    return err;
}

/* -ENOENT when no cgroup has a quota. Of several the smallest counts. */
static int group_cpu(struct monitor_sampler *sampler, uint64_t now_us, uint32_t *out,
                     enum version *version)
{
    struct place place, tightest;
    struct quota quota, least = {MONITOR_NO_LIMIT, 1};

    find_place(sampler, "cpu", &place);
    *version = place.version;
    for (unsigned i = 0; place.version != NO_CGROUP && i < LEVELS_MAX; i++) {
        int err = read_quota(sampler, &place, &quota);
        if (err < 0 && err != -ENOENT)
            return err;
        if (err == 0 && (least.quota_us == MONITOR_NO_LIMIT ||
                         (double)quota.quota_us / (double)quota.period_us <
                             (double)least.quota_us / (double)least.period_us)) {
            least = quota;
            tightest = place;
        }
        if (!climb(&place))
            break;
    }
    if (least.quota_us == MONITOR_NO_LIMIT) {
        sampler->group.known = false;
        return -ENOENT;
    }
    uint64_t usage_us;
    int err = read_usage_us(sampler, &tightest, &usage_us);
    if (err < 0)
        return err == -ENOENT ? -EINVAL : err;
    struct monitor_cpu_count now = {
        .busy = usage_us,
        .all =
            (uint64_t)((double)now_us * (double)least.quota_us / (double)least.period_us),
        .depth = strlen(tightest.path)};
    return advance(&sampler->group, now, out);
}

static void sample_cpu(struct monitor_sampler *sampler, uint64_t now_us,
                       struct monitor_sample *out)
{
    uint32_t machine = 0, group = 0;
    enum version version;
    int err = machine_cpu(sampler, &machine);
    int group_err = group_cpu(sampler, now_us, &group, &version);

    if (err == -EAGAIN || group_err == -EAGAIN) {
        say(out->why_cpu, "CPU takes two samples");
    } else if (err < 0) {
        say(out->why_cpu, "stat cannot be read: %s", strerror(-err));
    } else if (group_err < 0 && group_err != -ENOENT) {
        say(out->why_cpu, "the cgroup's CPU time cannot be read: %s",
            strerror(-group_err));
    } else {
        bool tighter = group_err == 0 && group > machine;
        out->cpu_known = true;
        out->cpu_permille = tighter ? group : machine;
        out->cpu_from = version_names[tighter ? version : NO_CGROUP];
    }
}

/* ---- pressure stall information: "some avg10=1.23 avg60=..." ---- */

static void sample_stall(const struct monitor_sampler *sampler,
                         struct monitor_sample *out)
{
    char text[MONITOR_PROCFILE_BYTES];
    struct place place;
    unsigned whole, part;
    int size = -ENOENT;

    find_place(sampler, "memory", &place);
    if (place.version == CGROUP2)
        size = monitor_procfile_read(text, "%s%s/memory.pressure", sampler->cgroupfs,
                                     place.path);
    if (size < 0)
        size = monitor_procfile_read(text, "%s/pressure/memory", sampler->procfs);
    if (size < 0 || sscanf(text, "some avg10=%3u.%2u ", &whole, &part) != 2)
        return;
    out->stall_known = true;
    out->stall_permille = whole * 10 + part / 10;
}

void monitor_sampler_take(struct monitor_sampler *sampler, uint64_t now_us,
                          struct monitor_sample *out)
{
    *out = (struct monitor_sample){.at_us = now_us};
    sample_memory(sampler, out);
    sample_cpu(sampler, now_us, out);
    sample_stall(sampler, out);
}
