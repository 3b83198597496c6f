#include "client/command/command.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "runtime/service.h"

#define CONNECT_TIMEOUT_MS 5000

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

bool command_front(const char *given, const char *runtime_dir, char *out, size_t capacity)
{
    char dir[256];

    if (given == NULL && runtime_dir == NULL)
        given = getenv("SIFTMESH_MESH_FRONT");
    if (given != NULL)
        return snprintf(out, capacity, "%s", given) < (int)capacity;
    if (runtime_dir == NULL)
        runtime_dir = getenv("SIFTMESH_MESH_RUNTIME_DIR");
    if (runtime_dir == NULL) {
        if (service_runtime_dir(dir, sizeof dir) < 0)
            return false;
        runtime_dir = dir;
    }
    return snprintf(out, capacity, "ipc://%s/front.sock", runtime_dir) < (int)capacity;
}

/* 1: keys are in `out`, 0: none are named, -1: said on stderr. */
static int load_keys(const struct command_keys *keys, struct proto_curve *out)
{
    const char *own = keys->own ? keys->own : getenv("SIFTMESH_MESH_CURVE_KEY");
    const char *server =
        keys->server ? keys->server : getenv("SIFTMESH_MESH_CURVE_SERVER");
    char error[512];

    if (own == NULL || own[0] == '\0')
        return 0;
    if (server == NULL || server[0] == '\0')
        snprintf(error, sizeof error, "--curve-key needs --curve-server beside it");
    else if (proto_curve_load(own, server, out, error, sizeof error) == 0)
        return 1;
    fprintf(stderr, "siftmesh: %s\n", error);
    return -1;
}

static const char *why_not(int err, bool curve)
{
    if (err == -EACCES)
        return "tcp beyond loopback needs --curve-key and --curve-server";
    if (err != -ETIMEDOUT)
        return strerror(-err);
    return curve
               ? "no answer within 5 s; is our key in the broker's list, and its key the "
                 "right one?"
               : "no answer within 5 s. Is `siftmesh up` running?";
}

struct siftmesh *command_connect(const char *front, const struct command_keys *keys)
{
    struct siftmesh *mesh = NULL;
    struct proto_curve curve = {0};
    int loaded = load_keys(keys, &curve);

    if (loaded < 0)
        return NULL;
    int err =
        siftmesh_open_curve(front, loaded ? &curve : NULL, CONNECT_TIMEOUT_MS, &mesh);
    proto_curve_wipe(&curve);
    if (err == 0)
        return mesh;
    fprintf(stderr, "siftmesh: no mesh at %s: %s\n", front, why_not(err, loaded > 0));
    return NULL;
}

static uint8_t *read_stream(FILE *file, size_t *size)
{
    size_t capacity = 1 << 16, used = 0, n;
    uint8_t *bytes = malloc(capacity);

    while (bytes != NULL && (n = fread(bytes + used, 1, capacity - used, file)) > 0) {
        used += n;
        if (used < capacity)
            continue;
        capacity *= 2;
        uint8_t *larger = realloc(bytes, capacity);
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
    if (bytes == NULL)
        fprintf(stderr, "siftmesh: %s: %s\n", path, strerror(errno));
    if (file != NULL && file != stdin)
        fclose(file);
    return bytes;
}

bool command_write_file(const char *path, const void *bytes, size_t size)
{
    FILE *file = strcmp(path, "-") == 0 ? stdout : fopen(path, "wbe");
    bool ok = file != NULL && fwrite(bytes, 1, size, file) == size;

    if (file != NULL && file != stdout)
        ok = fclose(file) == 0 && ok;
    else if (file != NULL)
        ok = fflush(file) == 0 && ok;
    if (!ok)
        fprintf(stderr, "siftmesh: %s: %s\n", path, strerror(errno));
    return ok;
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

int main(int argc, char **argv)
{
    if (argc < 2) {
        print_usage(stderr);
        return EX_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
        strcmp(argv[1], "help") == 0) {
        print_usage(stdout);
        return EX_OK;
    }
    if (strcmp(argv[1], "--version") == 0) {
        printf("siftmesh %s\n", SIFTMESH_VERSION);
        return EX_OK;
    }
    for (int i = 0; i < COMMANDS; i++)
        if (strcmp(argv[1], commands[i].name) == 0)
            return commands[i].run(argc - 1, argv + 1);
    fprintf(stderr, "siftmesh: no command '%s'\n", argv[1]);
    print_usage(stderr);
    return EX_USAGE;
}
