#include "monitor/sample.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const char *const version_names[] = {"machine", "cgroup1", "cgroup2"};

void monitor_sampler_init(struct monitor_sampler *sampler, const char *procfs,
                          const char *cgroupfs, const char *cgroup)
{
    *sampler = (struct monitor_sampler){.roots = {procfs, cgroupfs, cgroup}};
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

/* ---- memory ---- */

struct memory {
    uint64_t used, limit;
};

/* -ENOENT when this level bounds nothing. */
static int read_level(const struct monitor_sampler *sampler,
                      const struct cgroup_place *place, struct memory *out,
                      char why[MONITOR_WHY_BYTES])
{
    const char *file;
    int err = cgroup_memory_limit(&sampler->roots, place, &out->limit, &file);

    if (err == -ENOENT)
        return err;
    if (err == 0)
        err = cgroup_memory_used(&sampler->roots, place, &out->used, &file);
    if (err < 0)
        say(why, "%s cannot be read: %s", file, strerror(-err));
    return err == -ENOENT ? -EIO : err; /* a bound without its use is not "no bound" */
}

static int read_machine(const struct monitor_sampler *sampler, struct memory *out,
                        char why[MONITOR_WHY_BYTES])
{
    uint64_t total, available;
    int err = cgroup_machine_memory(&sampler->roots, &total, &available);

    if (err < 0) {
        say(why, "meminfo cannot be read: %s", strerror(-err));
        return err;
    }
    *out = (struct memory){total - available, total};
    return 0;
}

static void take_tighter(struct monitor_sample *out, const struct memory *memory,
                         enum cgroup_version version)
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
    struct cgroup_place place;

    if (read_machine(sampler, &machine, out->why) < 0)
        return;
    take_tighter(out, &machine, CGROUP_NONE);
    cgroup_find(&sampler->roots, "memory", &place);
    for (unsigned i = 0; place.version != CGROUP_NONE && i < CGROUP_LEVELS_MAX; i++) {
        int err = read_level(sampler, &place, &level, out->why);
        if (err < 0 && err != -ENOENT)
            return;
        /* v1 writes "none" as a number of about 2^63. */
        if (err == 0 && level.limit < machine.limit)
            take_tighter(out, &level, place.version);
        if (!cgroup_climb(&place))
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
    char text[PROCFILE_BYTES];
    uint64_t field[8] = {0}, all = 0;
    const char *at;

    int err = procfile_read(text, "%s/stat", sampler->roots.procfs);
    if (err < 0)
        return err;
    if (strncmp(text, "cpu ", 4) != 0)
        return -EINVAL;
    at = text + 4;
    for (int i = 0; i < 8; i++) {
        at += strspn(at, " ");
        if (procfile_number(at, &field[i], &at) < 0)
            return -EINVAL;
        all += field[i];
    }
    struct monitor_cpu_count now = {.busy = all - field[3] - field[4], .all = all};
    return advance(&sampler->machine, now, out);
}

/* -ENOENT when no cgroup has a quota. Of several the smallest counts. */
static int group_cpu(struct monitor_sampler *sampler, uint64_t now_us, uint32_t *out,
                     enum cgroup_version *version)
{
    struct cgroup_place place;
    struct cgroup_quota quota;
    uint64_t usage_us;

    int err = cgroup_tightest_quota(&sampler->roots, &place, &quota);
    *version = place.version;
    if (err == -ENOENT)
        sampler->group.known = false;
    if (err < 0)
        return err;
    err = cgroup_cpu_used_us(&sampler->roots, &place, &usage_us);
    if (err < 0)
        return err == -ENOENT ? -EINVAL : err;
    struct monitor_cpu_count now = {
        .busy = usage_us,
        .all =
            (uint64_t)((double)now_us * (double)quota.quota_us / (double)quota.period_us),
        .depth = strlen(place.path)};
    return advance(&sampler->group, now, out);
}

static void sample_cpu(struct monitor_sampler *sampler, uint64_t now_us,
                       struct monitor_sample *out)
{
    uint32_t machine = 0, group = 0;
    enum cgroup_version version;
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
        out->cpu_from = version_names[tighter ? version : CGROUP_NONE];
    }
}

/* ---- pressure stall information: "some avg10=1.23 avg60=..." ---- */

static void sample_stall(const struct monitor_sampler *sampler,
                         struct monitor_sample *out)
{
    char text[PROCFILE_BYTES];
    struct cgroup_place place;
    unsigned whole, part;
    int size = -ENOENT;

    cgroup_find(&sampler->roots, "memory", &place);
    if (place.version == CGROUP_2)
        size = procfile_read(text, "%s%s/memory.pressure", sampler->roots.cgroupfs,
                             place.path);
    if (size < 0)
        size = procfile_read(text, "%s/pressure/memory", sampler->roots.procfs);
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
