/*
 * mesh.c - which mesh a command is for: --zmq, --runtime-dir, --config, --curve-key and
 * --curve-server, else section [mesh] of $SIFTMESH_CONFIG and SIFTMESH_MESH_..., else the
 * default folder; for root the folder of the unit where that one has no mesh.
 */
#include "client/command/command.h"
#include "runtime/service.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#define CONNECT_TIMEOUT_MS 5000
#define UNIT_FOLDER        "/run/siftmesh"

static const struct option_spec mesh_specs[] = {
#define OPTIONS_OF struct mesh_options
#include "runtime/options_spec.h"

#include "runtime/service.tbl"

#include "runtime/options_end.h"
    {0}};

static bool is_set(const struct option_origins *origins, size_t offset)
{
    size_t i = 0;

    while (mesh_specs[i].offset != offset)
        i++;
    return origins->of[0][i] != OPTION_FROM_DEFAULT;
}

/* Section [mesh] of `config`, else of $SIFTMESH_CONFIG, and the environment; false, said.
 */
static bool load(const char *config, struct mesh_options *options,
                 struct option_origins *origins)
{
    const struct option_section section = {"mesh", mesh_specs, options};
    char error[512];
    int left;

    if (config == NULL)
        config = getenv("SIFTMESH_CONFIG");
    if (options_load(&section, 1, config, 0, NULL, &left, origins, error, sizeof error) ==
        0)
        return true;
    fprintf(stderr, "siftmesh: %s\n", command_shown(error));
    return false;
}

int command_mesh_own(const char *config, char folder[COMMAND_FOLDER_BYTES],
                     bool *log_level_is_set)
{
    struct mesh_options options;
    struct option_origins origins;

    if (!load(config, &options, &origins))
        return EX_CONFIG;
    *log_level_is_set = is_set(&origins, offsetof(struct mesh_options, log_level));
    if (options.runtime_dir[0] != '\0') {
        snprintf(folder, COMMAND_FOLDER_BYTES, "%s", options.runtime_dir);
        return EX_OK;
    }
    if (service_runtime_dir(folder, COMMAND_FOLDER_BYTES) == 0)
        return EX_OK;
    fprintf(stderr, "siftmesh: XDG_RUNTIME_DIR is too long\n");
    return EX_CONFIG;
}

bool command_mesh_option(struct command_mesh *mesh, const char *name, const char *value)
{
    const struct {
        const char *name, **value;
    } options[] = {{"zmq", &mesh->zmq},
                   {"runtime-dir", &mesh->runtime_dir},
                   {"config", &mesh->config},
                   {"curve-key", &mesh->curve_key},
                   {"curve-server", &mesh->curve_server}};

    for (size_t i = 0; i < sizeof options / sizeof options[0]; i++)
        if (strcmp(options[i].name, name) == 0) {
            *options[i].value = value;
            return true;
        }
    return false;
}

static bool has_socket(const char *folder)
{
    char path[512];

    return snprintf(path, sizeof path, "%s/front.sock", folder) < (int)sizeof path &&
           access(path, F_OK) == 0;
}

/* The first of: --zmq, --runtime-dir, front, runtime_dir, the default. */
static bool choose_front(struct command_mesh *mesh, const struct mesh_options *options)
{
    const char *folder = mesh->runtime_dir;
    char own[OPTION_STR_BYTES];
    int size;

    if (folder == NULL && options->runtime_dir[0] != '\0')
        folder = options->runtime_dir;
    if (folder == NULL) {
        if (service_runtime_dir(own, sizeof own) < 0)
            return false;
        folder = geteuid() == 0 && !has_socket(own) && has_socket(UNIT_FOLDER)
                     ? UNIT_FOLDER
                     : own;
    }
    if (mesh->zmq != NULL)
        size = snprintf(mesh->front, sizeof mesh->front, "%s", mesh->zmq);
    else if (mesh->runtime_dir == NULL && options->front[0] != '\0')
        size = snprintf(mesh->front, sizeof mesh->front, "%s", options->front);
    else
        size = snprintf(mesh->front, sizeof mesh->front, "ipc://%s/front.sock", folder);
    return size < (int)sizeof mesh->front;
}

/* An exit code, said on stderr. */
static int load_keys(struct command_mesh *mesh, const struct mesh_options *options)
{
    const char *own = mesh->curve_key ? mesh->curve_key : options->curve_key;
    const char *server = mesh->curve_server ? mesh->curve_server : options->curve_server;
    char error[512];

    if (own[0] == '\0')
        return EX_OK;
    mesh->curve = true;
    if (server[0] == '\0')
        snprintf(error, sizeof error, "--curve-key needs --curve-server beside it");
    else if (proto_curve_load(own, server, &mesh->keys, error, sizeof error) == 0)
        return EX_OK;
    fprintf(stderr, "siftmesh: %s\n", command_shown(error));
    return EX_UNAVAILABLE;
}

int command_mesh_find(struct command_mesh *mesh)
{
    struct mesh_options options;

    if (!load(mesh->config, &options, NULL))
        return EX_CONFIG;
    if (!choose_front(mesh, &options)) {
        fprintf(stderr, "siftmesh: the broker's address is too long\n");
        return EX_USAGE;
    }
    return load_keys(mesh, &options);
}

void command_mesh_wipe(struct command_mesh *mesh)
{
    proto_curve_wipe(&mesh->keys);
}

static const char *why_not(const struct command_mesh *mesh, int err,
                           char why[SIFTMESH_WHY_BYTES])
{
    if (err == -EPERM)
        return why; /* siftmesh_check_front() has told */
    if (err == -EACCES)
        return "tcp beyond loopback needs --curve-key and --curve-server";
    if (err != -ETIMEDOUT)
        return strerror(-err);
    if (mesh->curve)
        return "no answer within 5 s; is our key in the broker's list, and its key the "
               "right one?";
    if (strncmp(mesh->front, "tcp://", 6) == 0)
        return "no answer within 5 s. Is `siftmesh up` running, or does it want "
               "--curve-key and --curve-server?";
    return "no answer within 5 s. Is `siftmesh up` running?";
}

struct siftmesh *command_connect(const struct command_mesh *mesh)
{
    struct siftmesh *opened = NULL;
    char why[SIFTMESH_WHY_BYTES] = "";
    int err = siftmesh_open_curve(mesh->front, mesh->curve ? &mesh->keys : NULL,
                                  CONNECT_TIMEOUT_MS, &opened);

    if (err == 0)
        return opened;
    (void)siftmesh_check_front(mesh->front, why, sizeof why);
    fprintf(stderr, "siftmesh: no mesh at %s: %s\n", command_shown(mesh->front),
            command_shown(why_not(mesh, err, why)));
    return NULL;
}
