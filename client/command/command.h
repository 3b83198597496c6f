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

/* The broker's client endpoint: `given`, else $SIFTMESH_MESH_FRONT, else ipc in
 * `runtime_dir` (NULL: the default one). False: too long. */
bool command_front(const char *given, const char *runtime_dir, char *out,
                   size_t capacity);

/* Files of CURVE keys, proto/curve.h. NULL: $SIFTMESH_MESH_CURVE_KEY and
 * $SIFTMESH_MESH_CURVE_SERVER, else none. */
struct command_keys {
    const char *own, *server;
};

/* Open a session, saying on stderr why not. NULL: not reachable. */
struct siftmesh *command_connect(const char *front, const struct command_keys *keys);

/* A whole file, malloc'd; NULL with a message on stderr. */
uint8_t *command_read_file(const char *path, size_t *size);
/* False with a message on stderr. "-" is stdout. */
bool command_write_file(const char *path, const void *bytes, size_t size);

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
/* POST `bytes` to `url`. False with a sentence in `error` when nothing came back. */
bool command_http_post(const char *url, const char *accept, const void *bytes,
                       size_t size, struct command_http *out, char *error,
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
