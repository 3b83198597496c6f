#include "broker/memory.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define PATH_BYTES 1024
#define LINE_BYTES 512

static uint64_t least(uint64_t a, uint64_t b)
{
    if (a == 0 || b == 0)
        return a + b;
    return a < b ? a : b;
}

/* A file that holds one number; 0 for "max", and where there is none. */
static uint64_t read_number(const char *root, const char *folder, const char *path,
                            const char *name)
{
    char whole[PATH_BYTES];
    uint64_t value = 0;

    if (snprintf(whole, sizeof whole, "%s%s%s/%s", root, folder, path, name) >=
        (int)sizeof whole)
        return 0;
    FILE *file = fopen(whole, "re");
    if (file == NULL)
        return 0;
    if (fscanf(file, "%" SCNu64, &value) != 1)
        value = 0;
    fclose(file);
    return value;
}

/* From `path` up to the top: the limit of each ancestor holds as well. `path` is cut. */
static uint64_t limit_upwards(const char *root, const char *folder, char *path,
                              const char *name)
{
    uint64_t limit = 0;

    for (;;) {
        limit = least(limit, read_number(root, folder, path, name));
        char *slash = strrchr(path, '/');
        if (slash == NULL)
            return limit;
        *slash = '\0';
    }
}

/* One line of /proc/self/cgroup: "0::/path" is v2, "4:memory,cpu:/path" v1. */
static uint64_t limit_of_line(const char *root, char *line)
{
    char *controllers = strchr(line, ':');
    char *path = controllers != NULL ? strchr(controllers + 1, ':') : NULL;

    if (path == NULL)
        return 0;
    *controllers++ = '\0';
    *path++ = '\0';
    path[strcspn(path, "\n")] = '\0';
    if (strcmp(line, "0") == 0)
        return limit_upwards(root, "/sys/fs/cgroup", path, "memory.max");
    if (strstr(controllers, "memory") != NULL)
        return limit_upwards(root, "/sys/fs/cgroup/memory", path,
                             "memory.limit_in_bytes");
    return 0;
}

static uint64_t cgroup_limit(const char *root)
{
    char path[PATH_BYTES], line[LINE_BYTES];
    uint64_t limit = 0;

    snprintf(path, sizeof path, "%s/proc/self/cgroup", root);
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return 0;
    while (fgets(line, sizeof line, file) != NULL)
        limit = least(limit, limit_of_line(root, line));
    fclose(file);
    return limit;
}

static uint64_t machine_memory(const char *root)
{
    char path[PATH_BYTES], line[LINE_BYTES];
    uint64_t kib = 0;

    snprintf(path, sizeof path, "%s/proc/meminfo", root);
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return 0;
    while (fgets(line, sizeof line, file) != NULL)
        if (sscanf(line, "MemTotal: %" SCNu64 " kB", &kib) == 1)
            break;
    fclose(file);
    return kib * 1024;
}

uint64_t broker_memory_limit(const char *root)
{
    return least(cgroup_limit(root), machine_memory(root));
}
