#include "runtime/curve.h"

#include "proto/curve.h"
#include "runtime/log.h"
#include "runtime/watch.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <zmq.h>

#define ZAP_ADDRESS "inproc://zeromq.zap.01"
#define ZAP_DOMAIN  "siftmesh"
#define ZAP_FRAMES  7   /* of a CURVE request, RFC 27 */
#define FRAME_BYTES 256 /* longest that we look at; longer ones are cut */
#define BATCH       16  /* handshakes for each turn of the loop */
#define KEY_BYTES   32
/* A list that is rewritten in place counts when nothing was written for this long. */
#define SETTLED_US  1000000
#define ERROR_BYTES 512

struct frame {
    uint8_t bytes[FRAME_BYTES];
    size_t size;
};

struct curve {
    struct proto_curve keys;
    void *zap; /* the gate's socket; NULL: none */
    struct watch watch;
    char *allowed_file;
    struct stat seen; /* the list as it was when it was read; zero: not there */
    uint64_t seen_us; /* when it was seen so first */
    bool unsettled;   /* it may be half of what is being written: not in force */
    struct proto_curve_keys allowed;
    struct log_limit quiet;
};

int curve_open(const char *key_file, const char *server_file, struct curve **out)
{
    char error[ERROR_BYTES];
    struct curve *curve = calloc(1, sizeof *curve);

    if (curve == NULL)
        return -ENOMEM;
    int err = zmq_has("curve") ? 0 : -ENOTSUP;
    if (err < 0)
        snprintf(error, sizeof error, "this libzmq was built without CURVE");
    else
        err = proto_curve_load(key_file, server_file, &curve->keys, error, sizeof error);
    if (err < 0) {
        log_event(LOG_ERROR, "cannot use CURVE", "error=\"%s\"", error);
        free(curve);
        return err;
    }
    *out = curve;
    return 0;
}

/* ---- the list ---- */

static bool same_file(const struct stat *a, const struct stat *b)
{
    return a->st_ino == b->st_ino && a->st_dev == b->st_dev && a->st_size == b->st_size &&
           a->st_mtim.tv_sec == b->st_mtim.tv_sec &&
           a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

/* Whether the file can be taken for what its writer wants. One that was renamed to its
 * place is; one that is written in place may be empty, cut or half for a while. */
static bool is_settled(const struct curve *curve, const struct stat *now, bool renamed)
{
    struct timespec t;

    clock_gettime(CLOCK_REALTIME, &t);
    int64_t age_us = (t.tv_sec - now->st_mtim.tv_sec) * 1000000 +
                     (t.tv_nsec - now->st_mtim.tv_nsec) / 1000;
    return renamed || age_us >= SETTLED_US ||
           uv_hrtime() / 1000 - curve->seen_us >= SETTLED_US;
}

static void put_off(struct curve *curve, bool whole)
{
    if (curve->unsettled)
        return;
    curve->unsettled = true;
    log_event(LOG_WARNING, "the list of allowed keys is not whole yet: the old one holds",
              "file=\"%s\" error=\"%s\" keys_in_force=%zu", curve->allowed_file,
              whole ? "it is written in place; rename a new one to it instead"
                    : "its last line has no end",
              curve->allowed.count);
}

/* Reads the list: first, and when it has changed. 0 or -errno; a failure is told once. */
static int read_list(struct curve *curve)
{
    char error[ERROR_BYTES] = "";
    struct proto_curve_keys fresh = {0};
    struct stat now = {0};
    bool first = curve->zap == NULL;

    if (stat(curve->allowed_file, &now) < 0)
        now = (struct stat){0}; /* loading it, below, says why */
    bool same = same_file(&curve->seen, &now), renamed = curve->seen.st_ino != now.st_ino;
    if (same && !first && !curve->unsettled)
        return 0;
    if (!same) {
        curve->seen_us = uv_hrtime() / 1000;
        curve->unsettled = false;
    }
    curve->seen = now;
    int err = proto_curve_keys_load(curve->allowed_file, &fresh, error, sizeof error);
    if (err < 0) {
        curve->unsettled = false;
        log_event(LOG_ERROR, "the list of allowed keys was not read",
                  "error=\"%s\" keys_in_force=%zu", error, curve->allowed.count);
        return err;
    }
    if (!first && (!fresh.whole || !is_settled(curve, &now, renamed))) {
        put_off(curve, fresh.whole);
        proto_curve_keys_free(&fresh);
        return 0;
    }
    proto_curve_keys_free(&curve->allowed);
    curve->allowed = fresh;
    curve->unsettled = false;
    log_event(LOG_NOTICE, "allowed keys", "file=\"%s\" keys=%zu", curve->allowed_file,
              curve->allowed.count);
    return 0;
}

/* ---- the gate ---- */

/* All frames of a request; those beyond the ones we look at are dropped. 0 or -errno. */
static int receive(struct curve *curve, struct frame frames[ZAP_FRAMES], int *count)
{
    int more = 1;
    size_t more_bytes = sizeof more;

    for (*count = 0; more; ++*count) {
        struct frame dropped, *f = *count < ZAP_FRAMES ? &frames[*count] : &dropped;
        int n = zmq_recv(curve->zap, f->bytes, sizeof f->bytes, ZMQ_DONTWAIT);
        if (n < 0)
            return -zmq_errno();
        f->size = (size_t)n < sizeof f->bytes ? (size_t)n : sizeof f->bytes;
        zmq_getsockopt(curve->zap, ZMQ_RCVMORE, &more, &more_bytes);
    }
    return 0;
}

static bool is_text(const struct frame *frame, const char *text)
{
    return frame->size == strlen(text) && memcmp(frame->bytes, text, frame->size) == 0;
}

/* Version, id, domain, address, routing id, mechanism, public key. */
static bool is_allowed(struct curve *curve, const struct frame frames[ZAP_FRAMES],
                       int count)
{
    struct proto_curve_key key = {""};

    if (count != ZAP_FRAMES || !is_text(&frames[0], "1.0") ||
        !is_text(&frames[5], "CURVE") || frames[6].size != KEY_BYTES)
        return false;
    zmq_z85_encode(key.text, frames[6].bytes, KEY_BYTES);
    (void)read_list(curve); /* logged; the list in force decides */
    if (proto_curve_keys_has(&curve->allowed, &key))
        return true;
    log_limited(LOG_WARNING, &curve->quiet, uv_hrtime() / 1000, "key refused",
                "key=\"%s\" address=\"%.*s\"", key.text, (int)frames[3].size,
                (const char *)frames[3].bytes);
    return false;
}

static void answer(struct curve *curve, const struct frame *id, bool allowed)
{
    const char *status = allowed ? "200" : "400", *text = allowed ? "OK" : "not allowed";
    const int more = ZMQ_SNDMORE | ZMQ_DONTWAIT;

    /* Within the process, to a peer that waits: none of these can block or fail. */
    zmq_send(curve->zap, "1.0", 3, more);
    zmq_send(curve->zap, id->bytes, id->size, more);
    zmq_send(curve->zap, status, strlen(status), more);
    zmq_send(curve->zap, text, strlen(text), more);
    zmq_send(curve->zap, "", 0, more);
    zmq_send(curve->zap, "", 0, ZMQ_DONTWAIT);
}

static void pump(void *owner)
{
    struct curve *curve = owner;
    struct frame frames[ZAP_FRAMES];
    int count, err = 0;

    for (int i = 0; i < BATCH; i++) {
        frames[1].size = 0;
        err = receive(curve, frames, &count);
        if (err < 0)
            break;
        answer(curve, &frames[1], is_allowed(curve, frames, count));
    }
    watch_again(&curve->watch, err == 0);
}

int curve_guard(struct curve *curve, uv_loop_t *loop, void *zmq, const char *allowed)
{
    int linger = 0;

    curve->allowed_file = strdup(allowed);
    if (curve->allowed_file == NULL)
        return -ENOMEM;
    int err = read_list(curve);
    if (err < 0)
        return err;
    curve->zap = zmq_socket(zmq, ZMQ_REP);
    if (curve->zap == NULL ||
        zmq_setsockopt(curve->zap, ZMQ_LINGER, &linger, sizeof linger) < 0 ||
        zmq_bind(curve->zap, ZAP_ADDRESS) < 0)
        err = -zmq_errno();
    if (err == 0)
        err = watch_start(&curve->watch, loop, curve->zap, pump, curve);
    if (err < 0)
        log_event(LOG_ERROR, "cannot open the gate", "error=\"%s\"", zmq_strerror(-err));
    return err;
}

static void on_closed(void *owner)
{
    struct curve *curve = owner;

    proto_curve_wipe(&curve->keys);
    proto_curve_keys_free(&curve->allowed);
    free(curve->allowed_file);
    free(curve);
}

void curve_close(struct curve *curve)
{
    if (curve == NULL)
        return;
    if (curve->zap != NULL)
        zmq_close(curve->zap);
    curve->zap = NULL;
    watch_stop(&curve->watch, on_closed, curve);
}

/* ---- sockets ---- */

static bool set_text(void *socket, int option, const char *text)
{
    return zmq_setsockopt(socket, option, text, strlen(text)) == 0;
}

static bool apply_server(const struct curve *curve, void *socket)
{
    int on = 1;

    return zmq_setsockopt(socket, ZMQ_CURVE_SERVER, &on, sizeof on) == 0 &&
           set_text(socket, ZMQ_ZAP_DOMAIN, ZAP_DOMAIN) &&
           set_text(socket, ZMQ_CURVE_SECRETKEY, curve->keys.secret_key.text);
}

static bool apply_client(const struct curve *curve, void *socket)
{
    return set_text(socket, ZMQ_CURVE_SERVERKEY, curve->keys.server.text) &&
           set_text(socket, ZMQ_CURVE_PUBLICKEY, curve->keys.public_key.text) &&
           set_text(socket, ZMQ_CURVE_SECRETKEY, curve->keys.secret_key.text);
}

const char *curve_apply(const struct curve *curve, void *socket, bool bind)
{
    /* Without an answer from a gate libzmq would let everybody in. */
    if (bind && curve->zap == NULL)
        return "needs curve_allowed, the file of public keys that may connect";
    if (!bind && curve->keys.server.text[0] == '\0')
        return "needs curve_server, the file of the broker's public key";
    return (bind ? apply_server(curve, socket) : apply_client(curve, socket))
               ? NULL
               : "libzmq does not take the keys: one of them is no Z85";
}
