#include "monitor/sample.h"

#include <errno.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#define MIB    (1u << 20)
#define SECOND 1000000u

/* A tree of recorded files: proc/ and cgroup/ in a folder of its own. */
struct tree {
    char root[64], proc[96], cgroup[96];
    struct monitor_sampler sampler;
    struct monitor_sample sample;
};

static void put(const struct tree *tree, const char *path, const char *text)
{
    char full[512];
    int length = snprintf(full, sizeof full, "%s/%s", tree->root, path);
    assert_true(length > 0 && length < (int)sizeof full);
    for (char *slash = full + strlen(tree->root) + 1;
         (slash = strchr(slash, '/')) != NULL; slash++) {
        *slash = '\0';
        assert_true(mkdir(full, 0700) == 0 || errno == EEXIST);
        *slash = '/';
    }
    FILE *file = fopen(full, "w");
    assert_non_null(file);
    fputs(text, file);
    assert_int_equal(fclose(file), 0);
}

static int drop_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
    (void)st;
    (void)type;
    (void)at;
    return remove(path);
}

static void cut(const struct tree *tree, const char *path)
{
    char full[512];
    snprintf(full, sizeof full, "%s/%s", tree->root, path);
    assert_int_equal(remove(full), 0);
}

/* The machine: 16 GiB, 4 of them in use; idle. */
static void begin(struct tree *tree, const char *cgroup)
{
    *tree = (struct tree){0};
    strcpy(tree->root, "/tmp/siftmesh-sample-XXXXXX");
    assert_non_null(mkdtemp(tree->root));
    snprintf(tree->proc, sizeof tree->proc, "%s/proc", tree->root);
    snprintf(tree->cgroup, sizeof tree->cgroup, "%s/cgroup", tree->root);
    put(tree, "proc/meminfo",
        "MemTotal:       16777216 kB\nMemFree:         1000000 kB\n"
        "MemAvailable:   12582912 kB\n");
    put(tree, "proc/stat", "cpu  100 0 100 800 0 0 0 0 0 0\ncpu0 1 2 3\n");
    monitor_sampler_init(&tree->sampler, tree->proc, tree->cgroup, cgroup);
}

static void end(struct tree *tree)
{
    nftw(tree->root, drop_one, 8, FTW_DEPTH | FTW_PHYS);
}

static const struct monitor_sample *take(struct tree *tree, uint64_t now_us)
{
    monitor_sampler_take(&tree->sampler, now_us, &tree->sample);
    return &tree->sample;
}

static void assert_memory(const struct monitor_sample *s, const char *from,
                          uint32_t permille, uint64_t limit)
{
    assert_string_equal(s->why, "");
    assert_true(s->memory_known);
    assert_string_equal(s->memory_from, from);
    assert_int_equal(s->memory_permille, permille);
    assert_int_equal(s->memory_limit_bytes, limit);
}

/* ---- memory ---- */

static void without_cgroups_the_machine_counts(void **state)
{
    (void)state;
    struct tree t;
    begin(&t, "");
    assert_memory(take(&t, SECOND), "machine", 250, 16384ull * MIB);
    assert_int_equal(t.sample.memory_used_bytes, 4096ull * MIB);
    end(&t);
}

static void put_v2(struct tree *t, const char *max, const char *current,
                   const char *inactive)
{
    char text[128];
    put(t, "cgroup/cgroup.controllers", "cpu memory\n");
    put(t, "proc/self/cgroup", "0::/mesh/monitor\n");
    put(t, "cgroup/mesh/memory.max", "max\n");
    put(t, "cgroup/mesh/monitor/memory.max", max);
    put(t, "cgroup/mesh/monitor/memory.current", current);
    snprintf(text, sizeof text, "anon 5\nworkingset_inactive_file 3\ninactive_file %s\n",
             inactive);
    put(t, "cgroup/mesh/monitor/memory.stat", text);
}

static void v2_memory_is_current_less_what_the_kernel_drops(void **state)
{
    (void)state;
    struct tree t;
    begin(&t, "");
    put_v2(&t, "1073741824\n", "966367642\n", "107374182"); /* 0.9 less 0.1 GiB */
    assert_memory(take(&t, SECOND), "cgroup2", 800, 1024ull * MIB);
    end(&t);
}

static void v2_max_without_a_number_is_no_bound(void **state)
{
    (void)state;
    struct tree t;
    begin(&t, "");
    put_v2(&t, "max\n", "99999999999\n", "0");
    assert_memory(take(&t, SECOND), "machine", 250, 16384ull * MIB);
    end(&t);
}

static void v2_the_bound_above_counts_when_it_is_nearer(void **state)
{
    (void)state;
    struct tree t;
    begin(&t, "");
    put_v2(&t, "1073741824\n", "536870912\n", "0"); /* half of 1 GiB */
    put(&t, "cgroup/mesh/memory.max", "2147483648\n");
    put(&t, "cgroup/mesh/memory.current", "2040109466\n"); /* 95 % of 2 GiB */
    put(&t, "cgroup/mesh/memory.stat", "inactive_file 0\n");
    assert_memory(take(&t, SECOND), "cgroup2", 950, 2048ull * MIB);
    put(&t, "cgroup/mesh/memory.current", "214748364\n");
    assert_memory(take(&t, SECOND), "cgroup2", 500, 1024ull * MIB);
    end(&t);
}

static void v2_high_bounds_like_max(void **state)
{
    (void)state;
    struct tree t;
    begin(&t, "");
    put_v2(&t, "max\n", "536870912\n", "0");
    put(&t, "cgroup/mesh/monitor/memory.high", "1073741824\n");
    assert_memory(take(&t, SECOND), "cgroup2", 500, 1024ull * MIB);
    end(&t);
}

static void the_machine_counts_when_it_is_nearer_to_its_end(void **state)
{
    (void)state;
    struct tree t;
    begin(&t, "");
    put_v2(&t, "1073741824\n", "536870912\n", "0");
    put(&t, "proc/meminfo", "MemTotal: 16777216 kB\nMemAvailable: 1677722 kB\n");
    assert_memory(take(&t, SECOND), "machine", 900, 16384ull * MIB);
    end(&t);
}

static void a_named_cgroup_is_watched_instead_of_our_own(void **state)
{
    (void)state;
    struct tree t;
    begin(&t, "slots/");
    put_v2(&t, "1073741824\n", "107374182\n", "0");
    put(&t, "cgroup/slots/memory.max", "1073741824\n");
    put(&t, "cgroup/slots/memory.current", "1020054733\n");
    put(&t, "cgroup/slots/memory.stat", "inactive_file 0\n");
    assert_memory(take(&t, SECOND), "cgroup2", 950, 1024ull * MIB);
    end(&t);
}

static void put_v1(struct tree *t, const char *limit, const char *usage)
{
    put(t, "proc/self/cgroup",
        "4:memory:/docker/abc\n3:cpuset:/x\n2:cpu,cpuacct:/docker/abc\n0::/\n");
    put(t, "cgroup/memory/tasks", "1\n");
    put(t, "cgroup/memory/docker/abc/memory.limit_in_bytes", limit);
    put(t, "cgroup/memory/docker/abc/memory.usage_in_bytes", usage);
    put(t, "cgroup/memory/docker/abc/memory.stat",
        "inactive_file 1\ntotal_inactive_file 107374182\n");
}

static void v1_memory_is_usage_less_the_whole_tree_s_cache(void **state)
{
    (void)state;
    struct tree t;
    begin(&t, "");
    put_v1(&t, "1073741824\n", "966367642\n");
    assert_memory(take(&t, SECOND), "cgroup1", 800, 1024ull * MIB);
    end(&t);
}

static void v1_no_bound_is_a_huge_number(void **state)
{
    (void)state;
    struct tree t;
    begin(&t, "");
    put_v1(&t, "9223372036854771712\n", "966367642\n");
    assert_memory(take(&t, SECOND), "machine", 250, 16384ull * MIB);
    end(&t);
}

/* In a container /proc/self/cgroup names a path that is not mounted there. */
static void v1_a_path_that_is_not_mounted_leads_to_the_root(void **state)
{
    (void)state;
    struct tree t;
    begin(&t, "");
    put(&t, "proc/self/cgroup", "4:memory:/docker/abc\n");
    put(&t, "cgroup/memory/tasks", "1\n");
    put(&t, "cgroup/memory/memory.limit_in_bytes", "1073741824\n");
    put(&t, "cgroup/memory/memory.usage_in_bytes", "751619276\n");
    put(&t, "cgroup/memory/memory.stat", "total_inactive_file 0\n");
    assert_memory(take(&t, SECOND), "cgroup1", 700, 1024ull * MIB);
    end(&t);
}

/* ---- what must not be believed ---- */

static void assert_blind(struct tree *t, const char *file)
{
    take(t, SECOND);
    assert_false(t->sample.memory_known);
    assert_non_null(strstr(t->sample.why, file));
}

static void a_broken_file_makes_memory_unknown_and_is_named(void **state)
{
    (void)state;
    static const char *const garbage[] = {
        "", "\n", "-5\n", "12x\n", "0x10\n", "1e9\n", "99999999999999999999\n", "max5\n"};
    struct tree t;
    begin(&t, "");
    for (size_t i = 0; i < sizeof garbage / sizeof garbage[0]; i++) {
        put_v2(&t, "1073741824\n", garbage[i], "0");
        assert_blind(&t, "memory.current");
        put_v2(&t, garbage[i], "5\n", "0");
        assert_blind(&t, "memory.max");
    }
    put_v2(&t, "1073741824\n", "5\n", "x");
    assert_blind(&t, "inactive_file");
    put_v2(&t, "1073741824\n", "max\n", "0");
    assert_blind(&t, "memory.current");
    end(&t);
}

static void a_bound_whose_use_cannot_be_read_is_not_replaced_by_the_machine(void **state)
{
    (void)state;
    struct tree t;
    begin(&t, "");
    put_v2(&t, "1073741824\n", "5\n", "0");
    cut(&t, "cgroup/mesh/monitor/memory.current");
    assert_blind(&t, "memory.current");
    end(&t);
}

static void meminfo_must_make_sense(void **state)
{
    (void)state;
    static const char *const garbage[] = {
        "", "MemTotal: 5 kB\n", "MemTotal: 0 kB\nMemAvailable: 0 kB\n",
        "MemTotal: 5 kB\nMemAvailable: 6 kB\n", "MemTotal: x kB\nMemAvailable: 6 kB\n"};
    struct tree t;
    begin(&t, "");
    for (size_t i = 0; i < sizeof garbage / sizeof garbage[0]; i++) {
        put(&t, "proc/meminfo", garbage[i]);
        assert_blind(&t, "meminfo");
    }
    cut(&t, "proc/meminfo");
    assert_blind(&t, "meminfo");
    end(&t);
}

/* ---- CPU ---- */

static void cpu_takes_two_samples_and_counts_stolen_time(void **state)
{
    (void)state;
    struct tree t;
    begin(&t, "");
    assert_false(take(&t, SECOND)->cpu_known);
    assert_non_null(strstr(t.sample.why_cpu, "two samples"));
    /* +60 user, +20 steal, +15 idle, +5 iowait */
    put(&t, "proc/stat", "cpu  160 0 100 815 5 0 0 20 0 0\n");
    assert_true(take(&t, 2 * SECOND)->cpu_known);
    assert_int_equal(t.sample.cpu_permille, 800);
    assert_string_equal(t.sample.cpu_from, "machine");
    end(&t);
}

static void cpu_that_does_not_advance_or_runs_back_is_unknown(void **state)
{
    (void)state;
    struct tree t;
    begin(&t, "");
    take(&t, SECOND);
    assert_false(take(&t, 2 * SECOND)->cpu_known);
    put(&t, "proc/stat", "cpu  10 0 10 80 0 0 0 0 0 0\n");
    assert_false(take(&t, 3 * SECOND)->cpu_known);
    put(&t, "proc/stat", "cpu  20 0 10 90 0 0 0 0 0 0\n"); /* and from there on */
    assert_true(take(&t, 4 * SECOND)->cpu_known);
    assert_int_equal(t.sample.cpu_permille, 500);
    put(&t, "proc/stat", "cpu 1 2\n");
    assert_false(take(&t, 5 * SECOND)->cpu_known);
    assert_non_null(strstr(t.sample.why_cpu, "stat"));
    assert_true(t.sample.memory_known);
    end(&t);
}

static void v2_quota_is_the_whole_of_cpu(void **state)
{
    (void)state;
    struct tree t;
    begin(&t, "");
    put_v2(&t, "max\n", "5\n", "0");
    put(&t, "cgroup/mesh/cpu.max", "max 100000\n");
    put(&t, "cgroup/mesh/monitor/cpu.max", "50000 100000\n"); /* half a core */
    put(&t, "cgroup/mesh/monitor/cpu.stat", "usage_usec 1000000\nuser_usec 5\n");
    assert_false(take(&t, 10 * SECOND)->cpu_known);
    put(&t, "cgroup/mesh/monitor/cpu.stat", "usage_usec 1475000\nuser_usec 5\n");
    put(&t, "proc/stat", "cpu  110 0 100 890 0 0 0 0 0 0\n");
    assert_true(take(&t, 11 * SECOND)->cpu_known);
    assert_int_equal(t.sample.cpu_permille, 950);
    assert_string_equal(t.sample.cpu_from, "cgroup2");
    end(&t);
}

static void v2_a_bad_quota_makes_cpu_unknown(void **state)
{
    (void)state;
    static const char *const garbage[] = {"", "50000\n", "50000 0\n", "x 100000\n"};
    struct tree t;
    begin(&t, "");
    put_v2(&t, "max\n", "5\n", "0");
    for (size_t i = 0; i < sizeof garbage / sizeof garbage[0]; i++) {
        char stat[64];
        put(&t, "cgroup/mesh/monitor/cpu.max", garbage[i]);
        snprintf(stat, sizeof stat, "cpu  %zu 0 0 1000 0 0 0 0 0 0\n", 200 + i);
        put(&t, "proc/stat", stat);
        take(&t, (1 + i) * SECOND);
        assert_false(t.sample.cpu_known);
    }
    assert_non_null(strstr(t.sample.why_cpu, "cgroup"));
    end(&t);
}

static void v1_quota_and_usage_are_in_two_places(void **state)
{
    (void)state;
    struct tree t;
    begin(&t, "");
    put_v1(&t, "1073741824\n", "5\n");
    put(&t, "cgroup/cpu/tasks", "1\n");
    put(&t, "cgroup/cpu/docker/abc/cpu.cfs_quota_us", "200000\n");
    put(&t, "cgroup/cpu/docker/abc/cpu.cfs_period_us", "100000\n");
    put(&t, "cgroup/cpuacct/docker/abc/cpuacct.usage", "1000000000\n");
    take(&t, 10 * SECOND);
    put(&t, "cgroup/cpuacct/docker/abc/cpuacct.usage", "2500000000\n"); /* +1.5 s */
    put(&t, "proc/stat", "cpu  110 0 100 890 0 0 0 0 0 0\n");
    take(&t, 11 * SECOND);
    assert_true(t.sample.cpu_known);
    assert_int_equal(t.sample.cpu_permille, 750);
    assert_string_equal(t.sample.cpu_from, "cgroup1");

    put(&t, "cgroup/cpu/docker/abc/cpu.cfs_quota_us", "-1\n");
    put(&t, "proc/stat", "cpu  120 0 100 980 0 0 0 0 0 0\n");
    take(&t, 12 * SECOND);
    assert_true(t.sample.cpu_known);
    assert_int_equal(t.sample.cpu_permille, 100);
    assert_string_equal(t.sample.cpu_from, "machine");
    end(&t);
}

/* ---- stalls ---- */

static void stalls_are_the_cgroup_s_own_where_it_has_them(void **state)
{
    (void)state;
    struct tree t;
    begin(&t, "");
    assert_false(take(&t, SECOND)->stall_known);
    put(&t, "proc/pressure/memory",
        "some avg10=3.40 avg60=0.00 avg300=0.00 total=0\nfull avg10=0.00\n");
    assert_true(take(&t, 2 * SECOND)->stall_known);
    assert_int_equal(t.sample.stall_permille, 34);
    put_v2(&t, "max\n", "5\n", "0");
    put(&t, "cgroup/mesh/monitor/memory.pressure", "some avg10=12.59 avg60=0.00\n");
    assert_int_equal(take(&t, 3 * SECOND)->stall_permille, 125);
    put(&t, "cgroup/mesh/monitor/memory.pressure", "nonsense\n");
    assert_false(take(&t, 4 * SECOND)->stall_known);
    end(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_cgroups_the_machine_counts),
        cmocka_unit_test(v2_memory_is_current_less_what_the_kernel_drops),
        cmocka_unit_test(v2_max_without_a_number_is_no_bound),
        cmocka_unit_test(v2_the_bound_above_counts_when_it_is_nearer),
        cmocka_unit_test(v2_high_bounds_like_max),
        cmocka_unit_test(the_machine_counts_when_it_is_nearer_to_its_end),
        cmocka_unit_test(a_named_cgroup_is_watched_instead_of_our_own),
        cmocka_unit_test(v1_memory_is_usage_less_the_whole_tree_s_cache),
        cmocka_unit_test(v1_no_bound_is_a_huge_number),
        cmocka_unit_test(v1_a_path_that_is_not_mounted_leads_to_the_root),
        cmocka_unit_test(a_broken_file_makes_memory_unknown_and_is_named),
        cmocka_unit_test(a_bound_whose_use_cannot_be_read_is_not_replaced_by_the_machine),
        cmocka_unit_test(meminfo_must_make_sense),
        cmocka_unit_test(cpu_takes_two_samples_and_counts_stolen_time),
        cmocka_unit_test(cpu_that_does_not_advance_or_runs_back_is_unknown),
        cmocka_unit_test(v2_quota_is_the_whole_of_cpu),
        cmocka_unit_test(v2_a_bad_quota_makes_cpu_unknown),
        cmocka_unit_test(v1_quota_and_usage_are_in_two_places),
        cmocka_unit_test(stalls_are_the_cgroup_s_own_where_it_has_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
