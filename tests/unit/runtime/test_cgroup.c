/*
 * Recorded trees of procfs and cgroupfs, versions 1 and 2, and what they allow.
 */
#include "runtime/cgroup.h"
#include "tests/harness/harness.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MIB (1ull << 20)

static char root[64], procfs[80], cgroupfs[80];
static const struct cgroup_roots roots = {procfs, cgroupfs, ""};

static int make_root(void **state)
{
    (void)state;
    strcpy(root, "/tmp/siftmesh-cgroup-XXXXXX");
    if (mkdtemp(root) == NULL)
        return -1;
    snprintf(procfs, sizeof procfs, "%s/proc", root);
    snprintf(cgroupfs, sizeof cgroupfs, "%s/sys/fs/cgroup", root);
    return 0;
}

static int remove_root(void **state)
{
    char command[128];
    (void)state;
    snprintf(command, sizeof command, "rm -r '%s'", root);
    return system(command);
}

static void write_file(const char *path, const char *text)
{
    char whole[256];
    snprintf(whole, sizeof whole, "%s%s", root, path);
    for (char *at = strchr(whole + 1, '/'); at != NULL; at = strchr(at + 1, '/')) {
        *at = '\0';
        (void)mkdir(whole, 0700);
        *at = '/';
    }
    FILE *file = fopen(whole, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static void with_ram_of_1_gib(void)
{
    write_file("/proc/meminfo",
               "MemFree:  1 kB\nMemTotal:  1048576 kB\nMemAvailable:  524288 kB\n");
}

static void with_v2(void)
{
    write_file("/sys/fs/cgroup/cgroup.controllers", "cpu memory\n");
    write_file("/proc/self/cgroup", "0::/a/b\n");
}

static void without_a_group_the_machine_is_the_limit(void **state)
{
    (void)state;
    assert_int_equal(cgroup_memory_bound(&roots), 0);
    with_ram_of_1_gib();
    assert_int_equal(cgroup_memory_bound(&roots), 1024 * MIB);
    write_file("/proc/self/cgroup", "0::/\n");
    assert_int_equal(cgroup_memory_bound(&roots), 1024 * MIB);
}

static void the_least_limit_of_the_group_and_its_ancestors_holds(void **state)
{
    (void)state;
    with_ram_of_1_gib();
    with_v2();
    write_file("/sys/fs/cgroup/a/b/memory.max", "max\n");
    assert_int_equal(cgroup_memory_bound(&roots), 1024 * MIB);
    write_file("/sys/fs/cgroup/a/memory.max", "104857600\n");
    assert_int_equal(cgroup_memory_bound(&roots), 100 * MIB);
    write_file("/sys/fs/cgroup/a/b/memory.max", "52428800\n");
    assert_int_equal(cgroup_memory_bound(&roots), 50 * MIB);
    write_file("/sys/fs/cgroup/a/b/memory.max", "524288000000\n");
    assert_int_equal(cgroup_memory_bound(&roots), 100 * MIB);
    /* In a container the group's own limit is at the top. */
    write_file("/sys/fs/cgroup/memory.max", "1048576\n");
    assert_int_equal(cgroup_memory_bound(&roots), 1 * MIB);
}

static void high_bounds_like_max_on_every_level(void **state)
{
    (void)state;
    with_ram_of_1_gib();
    with_v2();
    write_file("/sys/fs/cgroup/a/b/memory.max", "104857600\n");
    write_file("/sys/fs/cgroup/a/b/memory.high", "max\n");
    assert_int_equal(cgroup_memory_bound(&roots), 100 * MIB);
    write_file("/sys/fs/cgroup/a/memory.max", "max\n");
    write_file("/sys/fs/cgroup/a/memory.high", "52428800\n");
    assert_int_equal(cgroup_memory_bound(&roots), 50 * MIB);
    write_file("/sys/fs/cgroup/a/b/memory.high", "10485760\n");
    assert_int_equal(cgroup_memory_bound(&roots), 10 * MIB);
}

static uint64_t used(const char *folder)
{
    struct cgroup_place place;
    const char *file;
    uint64_t bytes = 0;

    cgroup_find(&roots, "memory", &place);
    snprintf(place.path, sizeof place.path, "%s", folder);
    assert_int_equal(cgroup_memory_used(&roots, &place, &bytes, &file), 0);
    return bytes;
}

/* 3.3 GiB of files that had been read twice throttled a mesh to one slot. */
static void page_cache_of_files_is_not_in_use(void **state)
{
    (void)state;
    with_v2();
    write_file("/sys/fs/cgroup/a/b/memory.current", "104857600\n");
    write_file("/sys/fs/cgroup/a/b/memory.stat",
               "anon 1\nfile 2\nactive_anon 3\ninactive_file 31457280\n"
               "active_file 41943040\nunevictable 0\n");
    assert_int_equal(used("/a/b"), 30 * MIB);
    write_file("/sys/fs/cgroup/a/b/memory.stat", "inactive_file 31457280\n");
    assert_int_equal(used("/a/b"), 70 * MIB);
    write_file("/sys/fs/cgroup/a/b/memory.stat",
               "inactive_file 83886080\nactive_file 41943040\n");
    assert_int_equal(used("/a/b"), 0); /* two files, not read at one moment */
}

static void page_cache_of_version_1_is_the_whole_tree_s(void **state)
{
    (void)state;
    write_file("/proc/self/cgroup", "4:memory:/docker/1\n");
    write_file("/sys/fs/cgroup/memory/tasks", "1\n");
    write_file("/sys/fs/cgroup/memory/docker/1/memory.usage_in_bytes", "104857600\n");
    write_file("/sys/fs/cgroup/memory/docker/1/memory.stat",
               "inactive_file 1\nactive_file 1\ntotal_inactive_file 31457280\n"
               "total_active_file 41943040\n");
    assert_int_equal(used("/docker/1"), 30 * MIB);
}

static void a_quota_is_whole_processors_of_those_there_are(void **state)
{
    static const struct {
        const char *max;
        unsigned of_8;
    } cases[] = {{"50000 100000\n", 0}, {"100000 100000\n", 1}, {"250000 100000\n", 2},
                 {"10000 5000\n", 2},   {"max 100000\n", 8},    {"1600000 100000\n", 8},
                 {"50000\n", 8},        {"50000 0\n", 8},       {"0 100000\n", 8},
                 {"-1 100000\n", 8},    {"nonsense\n", 8},      {"", 8}};
    (void)state;

    assert_int_equal(cgroup_whole_processors(&roots, 8), 8);
    with_v2();
    assert_int_equal(cgroup_whole_processors(&roots, 8), 8);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        write_file("/sys/fs/cgroup/a/b/cpu.max", cases[i].max);
        assert_int_equal(cgroup_whole_processors(&roots, 8), cases[i].of_8);
    }
}

static void the_least_quota_of_all_levels_holds(void **state)
{
    struct cgroup_place place;
    struct cgroup_quota quota;
    (void)state;

    with_v2();
    write_file("/sys/fs/cgroup/a/b/cpu.max", "400000 100000\n");
    write_file("/sys/fs/cgroup/a/cpu.max", "30000 20000\n");
    write_file("/sys/fs/cgroup/cpu.max", "max 100000\n");
    assert_int_equal(cgroup_whole_processors(&roots, 8), 1);
    assert_int_equal(cgroup_tightest_quota(&roots, &place, &quota), 0);
    assert_string_equal(place.path, "/a");
    assert_int_equal(quota.quota_us, 30000);
    assert_int_equal(quota.period_us, 20000);
}

static void version_1_has_its_quota_in_two_files(void **state)
{
    (void)state;
    write_file("/proc/self/cgroup", "3:cpu,cpuacct:/docker/1\n");
    write_file("/sys/fs/cgroup/cpu/tasks", "1\n");
    write_file("/sys/fs/cgroup/cpu/docker/1/cpu.cfs_quota_us", "-1\n");
    write_file("/sys/fs/cgroup/cpu/docker/1/cpu.cfs_period_us", "100000\n");
    assert_int_equal(cgroup_whole_processors(&roots, 8), 8);
    write_file("/sys/fs/cgroup/cpu/docker/1/cpu.cfs_quota_us", "50000\n");
    assert_int_equal(cgroup_whole_processors(&roots, 8), 0);
    write_file("/sys/fs/cgroup/cpu/docker/1/cpu.cfs_quota_us", "350000\n");
    assert_int_equal(cgroup_whole_processors(&roots, 8), 3);
    write_file("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "200000\n");
    write_file("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
    assert_int_equal(cgroup_whole_processors(&roots, 8), 2);
}

static void version_1_is_read_too_and_nonsense_is_not(void **state)
{
    (void)state;
    with_ram_of_1_gib();
    write_file("/proc/self/cgroup", "nonsense\n7:cpu:/x\n4:memory:/docker/1\n");
    write_file("/sys/fs/cgroup/memory/tasks", "1\n");
    write_file("/sys/fs/cgroup/memory/docker/1/memory.limit_in_bytes",
               "9223372036854771712\n"); /* none */
    assert_int_equal(cgroup_memory_bound(&roots), 1024 * MIB);
    write_file("/sys/fs/cgroup/memory/memory.limit_in_bytes", "209715200\n");
    assert_int_equal(cgroup_memory_bound(&roots), 200 * MIB);
}

#define IN_A_ROOT(test) cmocka_unit_test_setup_teardown(test, make_root, remove_root)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_A_ROOT(without_a_group_the_machine_is_the_limit),
        IN_A_ROOT(the_least_limit_of_the_group_and_its_ancestors_holds),
        IN_A_ROOT(high_bounds_like_max_on_every_level),
        IN_A_ROOT(version_1_is_read_too_and_nonsense_is_not),
        IN_A_ROOT(page_cache_of_files_is_not_in_use),
        IN_A_ROOT(page_cache_of_version_1_is_the_whole_tree_s),
        IN_A_ROOT(a_quota_is_whole_processors_of_those_there_are),
        IN_A_ROOT(the_least_quota_of_all_levels_holds),
        IN_A_ROOT(version_1_has_its_quota_in_two_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
