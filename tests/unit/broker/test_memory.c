#include "broker/memory.h"
#include "tests/harness/harness.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MIB (1ull << 20)

static char root[64];

static int make_root(void **state)
{
    (void)state;
    strcpy(root, "/tmp/siftmesh-memory-XXXXXX");
    return mkdtemp(root) == NULL;
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
    write_file("/proc/meminfo", "MemFree:  1 kB\nMemTotal:  1048576 kB\n");
}

static void without_a_group_the_machine_is_the_limit(void **state)
{
    (void)state;
    assert_int_equal(broker_memory_limit(root), 0);
    with_ram_of_1_gib();
    assert_int_equal(broker_memory_limit(root), 1024 * MIB);
    write_file("/proc/self/cgroup", "0::/\n");
    assert_int_equal(broker_memory_limit(root), 1024 * MIB);
}

static void the_least_limit_of_the_group_and_its_ancestors_holds(void **state)
{
    (void)state;
    with_ram_of_1_gib();
    write_file("/proc/self/cgroup", "0::/a/b\n");
    write_file("/sys/fs/cgroup/a/b/memory.max", "max\n");
    assert_int_equal(broker_memory_limit(root), 1024 * MIB);
    write_file("/sys/fs/cgroup/a/memory.max", "104857600\n");
    assert_int_equal(broker_memory_limit(root), 100 * MIB);
    write_file("/sys/fs/cgroup/a/b/memory.max", "52428800\n");
    assert_int_equal(broker_memory_limit(root), 50 * MIB);
    write_file("/sys/fs/cgroup/a/b/memory.max", "524288000000\n");
    assert_int_equal(broker_memory_limit(root), 100 * MIB);
    /* In a container the group's own limit is at the top. */
    write_file("/sys/fs/cgroup/memory.max", "1048576\n");
    assert_int_equal(broker_memory_limit(root), 1 * MIB);
}

static void version_1_is_read_too_and_nonsense_is_not(void **state)
{
    (void)state;
    with_ram_of_1_gib();
    write_file("/proc/self/cgroup", "nonsense\n7:cpu:/x\n4:memory:/docker/1\n");
    write_file("/sys/fs/cgroup/memory/docker/1/memory.limit_in_bytes",
               "9223372036854771712\n"); /* none */
    assert_int_equal(broker_memory_limit(root), 1024 * MIB);
    write_file("/sys/fs/cgroup/memory/memory.limit_in_bytes", "209715200\n");
    assert_int_equal(broker_memory_limit(root), 200 * MIB);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(without_a_group_the_machine_is_the_limit,
                                        make_root, remove_root),
        cmocka_unit_test_setup_teardown(
            the_least_limit_of_the_group_and_its_ancestors_holds, make_root, remove_root),
        cmocka_unit_test_setup_teardown(version_1_is_read_too_and_nonsense_is_not,
                                        make_root, remove_root),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
