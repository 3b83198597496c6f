/*
 * curve.h - the files of CURVE keys, and where CURVE is required.
 *
 * A key is 40 characters of Z85 (ZeroMQ RFC 32). `siftmesh keygen NAME` writes
 *
 *   NAME.key   two lines, "public KEY" and "secret KEY"; mode 0600, and refused when
 *              others may read it (secret.h)
 *   NAME.pub   one line, "KEY NAME"; it and a list are refused when others may write it
 *
 * A list of those who may connect holds a key a line, and after a space whatever helps to
 * know whose it is, so .pub files put together are one. In all three, empty lines and
 * lines that begin with '#' are comments. Keys that begin with '#' are therefore not
 * made; Z85 has it in its alphabet.
 */
#ifndef PROTO_CURVE_H
#define PROTO_CURVE_H

#include <stdbool.h>
#include <stddef.h>

#define PROTO_CURVE_KEY_CHARS      40
#define PROTO_CURVE_KEYS_MAX       4096      /* keys in a list */
#define PROTO_CURVE_FILE_BYTES_MAX (1 << 20) /* of any of the files */

struct proto_curve_key {
    char text[PROTO_CURVE_KEY_CHARS + 1];
};

/* What a process needs to speak CURVE. Holds a secret: proto_curve_wipe() it. */
struct proto_curve {
    struct proto_curve_key public_key, secret_key; /* its own */
    struct proto_curve_key server;                 /* the broker's; "": not known */
};

/* A list, sorted; all zero is an empty one. */
struct proto_curve_keys {
    struct proto_curve_key *all;
    size_t count;
    bool whole; /* the file's last line has its end; not so while it is being written */
};

/*
 * Fill `out` from NAME.key and, unless `server_file` is NULL or "", the broker's
 * NAME.pub. 0; or with a sentence in `error`: -EINVAL (not such a file), -EPERM (others
 * may read or write it), -EFBIG, -ENOMEM, or the -errno of open(2).
 */
int proto_curve_load(const char *key_file, const char *server_file,
                     struct proto_curve *out, char *error, size_t error_bytes);
void proto_curve_wipe(struct proto_curve *curve);

/* Errors as above. `out` is replaced on success only; proto_curve_keys_free() it. */
int proto_curve_keys_load(const char *file, struct proto_curve_keys *out, char *error,
                          size_t error_bytes);
void proto_curve_keys_free(struct proto_curve_keys *keys);
bool proto_curve_keys_has(const struct proto_curve_keys *keys,
                          const struct proto_curve_key *key);

/* Whether `address` leaves this host, so that only CURVE tells who is there: everything
 * but ipc, inproc and tcp on loopback. A name other than localhost may be any host. */
bool proto_curve_required(const char *address);

#endif
