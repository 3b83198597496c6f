#include "client/command/command.h"
#include "proto/text.h"
#include "runtime/process.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *help;
} commands[] = {
    {"up", command_up, "run the whole mesh in the foreground"},
    {"run", command_run, "start a mesh, send it photos, draw what came back, stop it"},
    {"extract", command_extract, "send photos to a mesh and write their features"},
    {"status", command_status, "show services, slots, queues and cache"},
    {"scale", command_scale, "set the number of extractor slots"},
    {"drain", command_drain, "let a slot finish its job and be replaced"},
    {"cache", command_cache, "see, purge, warm and plan the cache"},
    {"config", command_config, "print every option of every service with its origin"},
    {"check-config", command_check_config, "check a configuration file"},
    {"keygen", command_keygen, "make the keys that a mesh across hosts needs"},
};
enum { COMMANDS = sizeof commands / sizeof commands[0] };

bool command_beside(const char *name, char *out, size_t capacity)
{
    char self[512];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);

    if (n <= 0)
        return snprintf(out, capacity, "%s", name) < (int)capacity;
    self[n] = '\0';
    *strrchr(self, '/') = '\0';
    return snprintf(out, capacity, "%s/%s", self, name) < (int)capacity;
}

/* NULL with errno; EFBIG above COMMAND_FILE_BYTES_MAX. */
static uint8_t *read_stream(FILE *file, size_t *size)
{
    size_t capacity = 1 << 16, used = 0, n;
    uint8_t *bytes = malloc(capacity);

    while (bytes != NULL && (n = fread(bytes + used, 1, capacity - used, file)) > 0) {
        used += n;
        if (used < capacity)
            continue;
        capacity *= 2;
        uint8_t *larger = NULL;
        if (used > COMMAND_FILE_BYTES_MAX)
            errno = EFBIG;
        else
            larger = realloc(bytes, capacity);
        if (larger == NULL)
            free(bytes);
        bytes = larger;
    }
    *size = used;
    return bytes;
}

uint8_t *command_read_file(const char *path, size_t *size)
{
    FILE *file = strcmp(path, "-") == 0 ? stdin : fopen(path, "rbe");
    uint8_t *bytes = NULL;

    if (file != NULL) {
        errno = 0;
        bytes = read_stream(file, size);
        if (ferror(file)) {
            free(bytes);
            bytes = NULL;
        }
    }
    if (bytes == NULL && errno == EFBIG)
        fprintf(stderr, "siftmesh: %s: larger than a mesh carries, %u bytes\n",
                command_shown(path), COMMAND_FILE_BYTES_MAX);
    else if (bytes == NULL)
        fprintf(stderr, "siftmesh: %s: %s\n", command_shown(path), strerror(errno));
    if (file != NULL && file != stdin)
        fclose(file);
    return bytes;
}

/* Read once, before there are threads: to read it is to change it for all of them. */
static mode_t file_mask;

static void read_file_mask(void)
{
    file_mask = umask(0);
    umask(file_mask);
}

/* A file of our own beside `path`, to be renamed to it; -1: errno. */
static int open_aside(const char *path, char aside[PATH_MAX])
{
    struct stat st;

    if (snprintf(aside, PATH_MAX, "%s.XXXXXX", path) >= PATH_MAX) {
        errno = ENAMETOOLONG;
        return -1;
    }
    int fd = mkostemp(aside, O_CLOEXEC);
    /* The rights of the old one, or those of any new file. */
    if (fd >= 0 &&
        fchmod(fd, stat(path, &st) == 0 ? st.st_mode & 0777 : 0666 & ~file_mask) < 0)
        (void)0; /* a file system without rights */
    return fd;
}

static bool write_stream(FILE *file, const void *bytes, size_t size)
{
    bool ok = file != NULL && fwrite(bytes, 1, size, file) == size;

    if (file != NULL && file != stdout)
        return fclose(file) == 0 && ok;
    return file != NULL && fflush(file) == 0 && ok;
}

/* To take another file: the old one may still be written. EBUSY: it is mounted there, as
 * in a container. */
static bool only_the_folder_forbids(int err)
{
    return err == EACCES || err == EPERM || err == EROFS || err == EBUSY;
}

/* Whole or not at all, where the folder takes a new file. */
static bool write_aside(const char *path, const void *bytes, size_t size)
{
    char aside[PATH_MAX], target[PATH_MAX];

    if (realpath(path, target) == NULL) /* the file behind a link; or none yet */
        snprintf(target, sizeof target, "%s", path);
    int fd = open_aside(target, aside);
    if (fd >= 0 && write_stream(fdopen(fd, "w"), bytes, size) &&
        rename(aside, target) == 0)
        return true;
    int err = errno;
    if (fd >= 0)
        unlink(aside);
    if (only_the_folder_forbids(err) && access(target, W_OK) == 0)
        return write_stream(fopen(target, "wbe"), bytes, size);
    errno = err;
    return false;
}

bool command_write_file(const char *path, const void *bytes, size_t size)
{
    struct stat st;
    bool ok,
        in_place = stat(path, &st) == 0 && !S_ISREG(st.st_mode); /* a pipe, a device */

    if (strcmp(path, "-") == 0)
        ok = write_stream(stdout, bytes, size);
    else if (in_place)
        ok = write_stream(fopen(path, "wbe"), bytes, size);
    else
        ok = write_aside(path, bytes, size);
    if (!ok)
        fprintf(stderr, "siftmesh: %s: %s\n", command_shown(path), strerror(errno));
    return ok;
}

const char *command_shown(const char *text)
{
    static _Thread_local char copies[4][PATH_MAX];
    static _Thread_local unsigned turn;

    return proto_text_copy(text, copies[turn++ % 4], PATH_MAX);
}

void command_print_json(const json_t *json, size_t flags)
{
    json_dumpf(json, stdout, flags | JSON_ENSURE_ASCII);
    putchar('\n');
}

int command_exit_code(enum proto_status status)
{
    switch (proto_status_http(status)) {
    case 200:
        return EX_OK;
    case 400:
        return EX_USAGE;
    case 413:
    case 415:
    case 422:
        return EX_DATAERR;
    case 503:
    case 504:
        return EX_TEMPFAIL;
    default:
        return EX_SOFTWARE;
    }
}

static void print_usage(FILE *out)
{
    fprintf(out, "Usage: siftmesh COMMAND [OPTION...]\n"
                 "Denoised pictures and SIFT features, as a service.\n\n");
    for (int i = 0; i < COMMANDS; i++)
        fprintf(out, "  %-13s %s\n", commands[i].name, commands[i].help);
    fprintf(out, "\nsiftmesh COMMAND --help tells more. siftmesh --version\n");
}

/* Output that could not be written is an error, unless the command failed already. */
static int finish(int code)
{
    bool failed = fflush(stdout) != 0 || ferror(stdout);

    if (!failed || code != EX_OK)
        return code;
    fprintf(stderr, "siftmesh: the output cannot be written\n");
    return EX_IOERR;
}

int main(int argc, char **argv)
{
    process_open_standard();
    read_file_mask();
    if (argc < 2) {
        print_usage(stderr);
        return EX_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
        strcmp(argv[1], "help") == 0) {
        print_usage(stdout);
        return finish(EX_OK);
    }
    if (strcmp(argv[1], "--version") == 0) {
        printf("siftmesh %s\n", SIFTMESH_VERSION);
        return finish(EX_OK);
    }
    for (int i = 0; i < COMMANDS; i++)
        if (strcmp(argv[1], commands[i].name) == 0)
            return finish(commands[i].run(argc - 1, argv + 1));
    fprintf(stderr, "siftmesh: no command '%s'\n", command_shown(argv[1]));
    print_usage(stderr);
    return EX_USAGE;
}
