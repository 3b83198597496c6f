/*
 * command.h - what the parts of the `siftmesh` command share.
 *
 * Each subcommand is `int command_NAME(int argc, char **argv)`, argv[0] its own name,
 * returning an exit code of sysexits.h.
 */
#ifndef CLIENT_COMMAND_H
#define CLIENT_COMMAND_H

#include "client/siftmesh.h"
#include "proto/params.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

int command_up(int argc, char **argv);
int command_run(int argc, char **argv);
int command_extract(int argc, char **argv);
int command_status(int argc, char **argv);
int command_scale(int argc, char **argv);
int command_cache(int argc, char **argv);
int command_drain(int argc, char **argv);
int command_config(int argc, char **argv);
int command_check_config(int argc, char **argv);
int command_keygen(int argc, char **argv);

/* The path of `name` beside this program, or just `name`; false: too long. */
bool command_beside(const char *name, char *out, size_t capacity);

/*
 * Which mesh a command is for, mesh.c: as its options say it, NULL where they do not, and
 * what command_mesh_find() makes of them. The keys lie in memory until wiped.
 */
struct command_mesh {
    const char *zmq, *runtime_dir, *config, *curve_key, *curve_server;
    char front[512];
    bool curve;
    struct proto_curve keys;
};
#define COMMAND_MESH_OPTIONS                                                             \
    {"zmq", required_argument, NULL, 'm'},                                               \
        {"runtime-dir", required_argument, NULL, 'm'},                                   \
        {"config", required_argument, NULL, 'm'},                                        \
        {"curve-key", required_argument, NULL, 'm'},                                     \
    {                                                                                    \
        "curve-server", required_argument, NULL, 'm'                                     \
    }
#define COMMAND_MESH_HELP                                                                \
    "  --zmq URL          the broker: tcp://127.0.0.1:5555 or ipc:///path/front.sock\n"  \
    "  --runtime-dir DIR  the folder that the mesh was started with\n"                   \
    "  --config FILE      the file that the mesh was started with: its section [mesh]\n" \
    "  --curve-key FILE, --curve-server FILE  our keys and the broker's public one, "    \
    "for\n"                                                                              \
    "                     a broker on another host\n"
/* One of these options; false: it is another. */
bool command_mesh_option(struct command_mesh *mesh, const char *name, const char *value);
/* EX_OK, or another exit code with a message on stderr. */
int command_mesh_find(struct command_mesh *mesh);
void command_mesh_wipe(struct command_mesh *mesh);

/* For a command that starts the mesh: the runtime folder that $SIFTMESH_MESH_RUNTIME_DIR,
 * the file (`config`, NULL: $SIFTMESH_CONFIG) or else the default names, and whether one
 * of them sets log_level. EX_OK, or another exit code with a message on stderr. */
#define COMMAND_FOLDER_BYTES 512 /* OPTION_STR_BYTES */
int command_mesh_own(const char *config, char folder[COMMAND_FOLDER_BYTES],
                     bool *log_level_is_set);

/* Open a session, saying on stderr why not. NULL: not reachable. */
struct siftmesh *command_connect(const struct command_mesh *mesh);

/* A whole file, malloc'd, of at most COMMAND_FILE_BYTES_MAX (the broker's default of
 * payload_bytes_max) and what one more read brings; NULL with a message on stderr. */
#define COMMAND_FILE_BYTES_MAX (256u << 20)
uint8_t *command_read_file(const char *path, size_t *size);
/* Whole or not at all, by a file beside it and a rename, where `path` is no pipe or
 * device. False with a message on stderr. "-" is stdout. */
bool command_write_file(const char *path, const void *bytes, size_t size);

/* Text of others as it may go to a terminal (proto/text.h): names of files, what peers
 * and answers say. Holds until this thread's fourth call after it. */
const char *command_shown(const char *text);

/* In ASCII, to stdout; flags of json_dumpf(3). */
void command_print_json(const json_t *json, size_t flags);

/* The exit code for the end of a request. */
int command_exit_code(enum proto_status status);

/* notify.c: the receiving end of sd_notify(3). A socket, or -errno; `name` is what a
 * child gets as $NOTIFY_SOCKET. */
#define COMMAND_NOTIFY_BYTES 128
int command_notify_open(char *name, size_t capacity);
/* One message if there is one; the sender's pid, or 0. `text` is NUL-terminated. */
pid_t command_notify_read(int fd, char *text, size_t capacity);
/* The value of NAME= in `text`, up to the end of its line; false: absent. */
bool command_notify_value(const char *text, const char *name, char *out, size_t capacity);

/* http.c: a request by libcurl. Headers of interest come out by command_http_header. */
struct command_http {
    long status;
    uint8_t *body; /* malloc'd */
    size_t size;
    char *headers; /* malloc'd, as received */
    double seconds;
};
/* POST `bytes` to `url`. False with a sentence in `error` when nothing came back within
 * `timeout_ms`. */
bool command_http_post(const char *url, const char *accept, const void *bytes,
                       size_t size, int timeout_ms, struct command_http *out, char *error,
                       size_t error_bytes);
bool command_http_header(const struct command_http *http, const char *name, char *out,
                         size_t capacity);
void command_http_free(struct command_http *http);
/* Ends this thread's connection. */
void command_http_close(void);

/* draw.c: keypoints over a grey PNG, as a colour PNG (malloc'd). 0 or -EINVAL, -ENOMEM.
 */
int command_draw(const uint8_t *grey_png, size_t grey_bytes,
                 const struct proto_blob *blob, uint8_t **png, size_t *png_bytes);

/* scene.c: a generated picture, 640x480 PGM (malloc'd), always the same. */
uint8_t *command_scene(size_t *size);

#endif
