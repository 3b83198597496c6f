/*
 * Any bytes as a configuration file: no crash, every refusal says why in a line, and what
 * is accepted is within its bounds and is read back the same from what --show-config
 * prints.
 */
#include "runtime/options.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct sample {
    uint64_t lane_depth, body_bytes_max;
    char listen[OPTION_STR_BYTES];
    bool allow_high;
};

static const struct option_spec specs[] = {
    {"lane_depth", OPTION_INT, "jobs", "", 100, 1, 65536, NULL,
     offsetof(struct sample, lane_depth)},
    {"body_bytes_max", OPTION_INT, "bytes", "", 1 << 20, 1024, UINT64_C(1) << 40, NULL,
     offsetof(struct sample, body_bytes_max)},
    {"listen", OPTION_STR, NULL, "", 0, 0, 0, "127.0.0.1:0",
     offsetof(struct sample, listen)},
    {"allow_high", OPTION_FLAG, NULL, "", 0, 0, 0, NULL,
     offsetof(struct sample, allow_high)},
    {0},
};

static void require(int condition)
{
    if (!condition)
        abort();
}

/* A file in memory; its path is in `path`. */
static int file_of(const void *bytes, size_t size, char path[64])
{
    int fd = memfd_create("options", 0);

    require(fd >= 0 && write(fd, bytes, size) == (ssize_t)size);
    snprintf(path, 64, "/proc/self/fd/%d", fd);
    return fd;
}

static int load(const void *bytes, size_t size, struct sample *values,
                struct option_origins *origins, char error[512])
{
    struct option_section section = {"sample", specs, values};
    char path[64], name[] = "fuzz", *argv[] = {name, NULL};
    int first_left = 0, fd = file_of(bytes, size, path);

    memset(values, 0, sizeof *values);
    int err = options_load(&section, 1, path, 1, argv, &first_left, origins, error, 512);
    close(fd);
    return err;
}

static void check_round_trip(struct sample *values, const struct option_origins *origins)
{
    struct option_section section = {"sample", specs, values};
    struct option_origins again_origins;
    struct sample again;
    char *text = NULL, error[512] = "";
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);

    require(out != NULL);
    options_show(&section, 1, origins, out);
    fclose(out);
    require(load(text, size, &again, &again_origins, error) == 0);
    require(again.lane_depth == values->lane_depth &&
            again.body_bytes_max == values->body_bytes_max &&
            again.allow_high == values->allow_high &&
            strcmp(again.listen, values->listen) == 0);
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct option_origins origins;
    struct sample values;
    char error[512] = "";

    int err = load(data, size, &values, &origins, error);
    if (err < 0) {
        require(err == -EINVAL && error[0] != '\0' && strlen(error) < sizeof error);
        return 0;
    }
    require(values.lane_depth >= 1 && values.lane_depth <= 65536);
    require(values.body_bytes_max >= 1024 && values.body_bytes_max <= UINT64_C(1) << 40);
    require(memchr(values.listen, '\0', sizeof values.listen) != NULL);
    check_round_trip(&values, &origins);
    return 0;
}
