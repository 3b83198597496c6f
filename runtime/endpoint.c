#include "runtime/endpoint.h"

#include "proto/curve.h"
#include "runtime/folder.h"
#include "runtime/log.h"
#include "runtime/watch.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* One wake-up handles at most this many messages, so that timers and the other sockets
 * get their turn under load. */
#define BATCH_MESSAGES 64

#define HANDSHAKE_MS         5000
#define HEARTBEAT_MS         2000
#define HEARTBEAT_TIMEOUT_MS 10000
#define RECONNECT_MS         50
#define RECONNECT_MAX_MS     1000
#define KEEPALIVE_IDLE_S     30
#define BACKLOG                                                                          \
    1024 /* connections not yet accepted; all clients come at once                       \
            after a restart */

struct frames {
    zmq_msg_t header, body;
    struct mesh_msg msg;
    int count; /* without the routing id */
    bool bad_peer;
};

struct endpoint {
    void *socket;
    enum endpoint_kind kind;
    struct watch watch;
    struct handshake *handshake;
    bool paused, closed;
    char *address;
    struct folder_file lock; /* of an ipc path that we bind */
    ino_t path_inode;        /* of the socket that we bound there; 0: none */
    int binds;               /* beyond the first */
    uint64_t refused;        /* handshakes after which we connected again */
    struct endpoint_callbacks callbacks;
    void *arg;
    struct endpoint_counters counters;
    struct frames batch[BATCH_MESSAGES]; /* received; from `next` on not yet delivered */
    int next, received;
};

/* ---- receiving ---- */

static void frames_init(struct frames *f)
{
    f->msg.peer.size = 0;
    f->msg.envelope = (struct proto_envelope){0};
    zmq_msg_init(&f->header);
    zmq_msg_init(&f->body);
    zmq_msg_init(&f->msg.payload);
    f->count = 0;
    f->bad_peer = false;
}

static void frames_close(struct frames *f)
{
    zmq_msg_close(&f->header);
    zmq_msg_close(&f->body);
    zmq_msg_close(&f->msg.payload);
}

static void set_peer(struct frames *f, zmq_msg_t *id)
{
    size_t size = zmq_msg_size(id);
    f->bad_peer = size == 0 || size > ENDPOINT_PEER_BYTES_MAX;
    if (f->bad_peer)
        return;
    memcpy(f->msg.peer.bytes, zmq_msg_data(id), size);
    f->msg.peer.size = (uint8_t)size;
}

/* Reads every frame of one message, keeping the three that can be right. 0 or -errno. */
static int frames_recv(struct endpoint *endpoint, struct frames *f)
{
    bool peer_next = endpoint->kind == ENDPOINT_ROUTER;

    for (;;) {
        zmq_msg_t extra, *into = &extra;
        zmq_msg_init(&extra);
        if (!peer_next && f->count == 0)
            into = &f->header;
        else if (!peer_next && f->count == 1)
            into = &f->body;
        else if (!peer_next && f->count == 2)
            into = &f->msg.payload;

        int n = zmq_msg_recv(into, endpoint->socket, ZMQ_DONTWAIT);
        int err = n < 0 ? -zmq_errno() : 0;
        bool more = err == 0 && zmq_msg_more(into);
        if (err == 0 && peer_next)
            set_peer(f, into);
        else if (err == 0)
            f->count++;
        zmq_msg_close(&extra);
        if (err < 0)
            return err;
        peer_next = false;
        if (!more)
            return 0;
    }
}

static void deliver(struct endpoint *endpoint, struct frames *f)
{
    struct mesh_msg *msg = &f->msg;
    int err = f->count < 2 || f->count > 3 ? -EPROTO : 0;

    if (f->bad_peer) {
        endpoint->counters.bad++;
        return;
    }
    if (f->count >= 1) {
        int header = proto_envelope_decode(zmq_msg_data(&f->header),
                                           zmq_msg_size(&f->header), &msg->envelope);
        err = header < 0 ? header : err;
    }
    if (zmq_msg_size(&f->body) > PROTO_BODY_BYTES_MAX)
        err = -EPROTO;
    if (err < 0) {
        endpoint->counters.bad++;
        if (endpoint->callbacks.on_bad != NULL)
            endpoint->callbacks.on_bad(endpoint, &msg->peer, &msg->envelope, err,
                                       endpoint->arg);
        return;
    }

    msg->body = zmq_msg_data(&f->body);
    msg->body_bytes = zmq_msg_size(&f->body);
    msg->has_payload = f->count == 3;
    endpoint->counters.received++;
    endpoint->counters.bytes_in += zmq_msg_size(&msg->payload);
    endpoint->callbacks.on_message(endpoint, msg, endpoint->arg);
}

/*
 * Receive first, then deliver: what the owner sends in answer then goes out in one go,
 * and ZeroMQ's thread is woken for the first of it and finds the rest waiting. One by
 * one it would fall asleep between any two.
 */
static void receive_batch(struct endpoint *endpoint)
{
    endpoint->next = endpoint->received = 0;
    while (endpoint->received < BATCH_MESSAGES) {
        struct frames *f = &endpoint->batch[endpoint->received];
        frames_init(f);
        int err = frames_recv(endpoint, f);
        if (err == 0) {
            endpoint->received++;
            continue;
        }
        frames_close(f);
        if (err != -EINTR)
            return;
    }
}

static void drop_batch(struct endpoint *endpoint)
{
    while (endpoint->next < endpoint->received)
        frames_close(&endpoint->batch[endpoint->next++]);
}

/* Handles a batch. What is left is for the next turn of the loop: the socket is known to
 * be empty only after EAGAIN, and no longer after a send. */
static void pump(void *owner)
{
    struct endpoint *endpoint = owner;

    if (endpoint->next == endpoint->received && !endpoint->paused)
        receive_batch(endpoint);
    if (endpoint->paused || endpoint->received == 0) {
        watch_again(&endpoint->watch, false);
        return;
    }
    watch_again(&endpoint->watch, true);
    while (endpoint->next < endpoint->received && !endpoint->paused) {
        struct frames *f = &endpoint->batch[endpoint->next++];
        deliver(endpoint, f);
        frames_close(f);
    }
}

void endpoint_pause(struct endpoint *endpoint, bool pause)
{
    endpoint->paused = pause;
    if (!pause && !endpoint->closed)
        watch_again(&endpoint->watch, true);
}

/* ---- opening and closing ---- */

static int set_int(void *socket, int option, int value)
{
    return zmq_setsockopt(socket, option, &value, sizeof value) < 0 ? -zmq_errno() : 0;
}

static int set_options(struct endpoint *endpoint, const char *routing_id, int hwm)
{
    void *s = endpoint->socket;
    int64_t largest = ENDPOINT_PAYLOAD_BYTES_MAX;
    int err = 0;

    err = err ? err : set_int(s, ZMQ_LINGER, 0);
    err = err ? err : set_int(s, ZMQ_SNDHWM, hwm);
    err = err ? err : set_int(s, ZMQ_RCVHWM, hwm);
    err = err ? err : set_int(s, ZMQ_HANDSHAKE_IVL, HANDSHAKE_MS);
    err = err ? err : set_int(s, ZMQ_HEARTBEAT_IVL, HEARTBEAT_MS);
    err = err ? err : set_int(s, ZMQ_HEARTBEAT_TIMEOUT, HEARTBEAT_TIMEOUT_MS);
    err = err ? err : set_int(s, ZMQ_RECONNECT_IVL, RECONNECT_MS);
    err = err ? err : set_int(s, ZMQ_RECONNECT_IVL_MAX, RECONNECT_MAX_MS);
    err = err ? err : set_int(s, ZMQ_TCP_KEEPALIVE, 1);
    err = err ? err : set_int(s, ZMQ_TCP_KEEPALIVE_IDLE, KEEPALIVE_IDLE_S);
    err = err ? err : set_int(s, ZMQ_IPV6, 1);
    err = err ? err : set_int(s, ZMQ_BACKLOG, BACKLOG);
    if (err == 0 && zmq_setsockopt(s, ZMQ_MAXMSGSIZE, &largest, sizeof largest) < 0)
        err = -zmq_errno();
    if (endpoint->kind == ENDPOINT_ROUTER)
        err = err ? err : set_int(s, ZMQ_ROUTER_MANDATORY, 1);
    if (endpoint->kind == ENDPOINT_DEALER) {
        /* Queue for a live connection only, so that a send can tell there is none. */
        err = err ? err : set_int(s, ZMQ_IMMEDIATE, 1);
        if (err == 0 &&
            zmq_setsockopt(s, ZMQ_ROUTING_ID, routing_id, strlen(routing_id)) < 0)
            err = -zmq_errno();
    }
    return err;
}

/* CURVE for tcp, or why not. 0 or -errno. */
static int secure(struct endpoint *endpoint, const struct endpoint_options *options)
{
    const char *why = NULL;

    if (options->curve != NULL && strncmp(options->address, "tcp://", 6) == 0)
        why = curve_apply(options->curve, endpoint->socket,
                          options->kind != ENDPOINT_DEALER);
    else if (proto_curve_required(options->address))
        why = "tcp beyond loopback needs CURVE: curve_key, from siftmesh keygen";
    if (why == NULL)
        return 0;
    log_event(LOG_ERROR, "endpoint refused", "address=\"%s\" why=\"%s\"",
              options->address, why);
    return -EACCES;
}

/* The path of an ipc endpoint that we bind, or NULL. */
static const char *own_path(const struct endpoint *endpoint)
{
    bool own =
        endpoint->kind != ENDPOINT_DEALER && strncmp(endpoint->address, "ipc://", 6) == 0;
    return own ? endpoint->address + 6 : NULL;
}

/* ZeroMQ unlinks an ipc path before binding it, whoever listens there. 0 or -errno. */
static int lock_ipc(struct endpoint *endpoint)
{
    char path[512];

    if (snprintf(path, sizeof path, "%s.lock", own_path(endpoint)) >= (int)sizeof path)
        return -ENAMETOOLONG;
    return folder_take(&endpoint->lock, path, "");
}

static int bind_address(struct endpoint *endpoint)
{
    const char *path = own_path(endpoint);
    struct stat st;

    if (zmq_bind(endpoint->socket, endpoint->address) < 0)
        return -zmq_errno();
    if (path != NULL && lstat(path, &st) == 0)
        endpoint->path_inode = st.st_ino;
    return 0;
}

static int attach(struct endpoint *endpoint)
{
    if (endpoint->kind == ENDPOINT_DEALER)
        return zmq_connect(endpoint->socket, endpoint->address) < 0 ? -zmq_errno() : 0;
    int err = own_path(endpoint) != NULL ? lock_ipc(endpoint) : 0;
    return err < 0 ? err : bind_address(endpoint);
}

int endpoint_look(struct endpoint *endpoint)
{
    const char *path = own_path(endpoint);
    struct stat st;

    if (path == NULL)
        return 0;
    int err = folder_look(&endpoint->lock);
    if (err < 0)
        return err;
    if (lstat(path, &st) == 0 && st.st_ino == endpoint->path_inode)
        return err;
    if (endpoint->binds >= ENDPOINT_BINDS_MAX)
        return -EMFILE;
    endpoint->binds++;
    /* Beside the listener whose path is gone, not in its place: to unbind that one would
     * end its connections. */
    err = bind_address(endpoint);
    return err < 0 ? err : 1;
}

void endpoint_touch(const struct endpoint *endpoint)
{
    if (own_path(endpoint) == NULL)
        return;
    folder_touch(own_path(endpoint));
    folder_touch(endpoint->lock.path);
}

static void on_closed(void *owner)
{
    free(owner);
}

static int open_socket(struct endpoint *endpoint, uv_loop_t *loop, void *zmq,
                       const struct endpoint_options *options)
{
    static const int types[] = {ZMQ_ROUTER, ZMQ_DEALER, ZMQ_PUB};

    endpoint->address = strdup(options->address);
    if (endpoint->address == NULL)
        return -ENOMEM;
    endpoint->socket = zmq_socket(zmq, types[options->kind]);
    if (endpoint->socket == NULL)
        return -zmq_errno();
    int err = set_options(endpoint, options->routing_id, options->hwm);
    if (err == 0)
        err = secure(endpoint, options);
    if (err == 0)
        err = handshake_open(loop, zmq, endpoint->socket, options->address,
                             &endpoint->handshake);
    if (err == 0)
        err = attach(endpoint);
    if (err == 0)
        err = watch_start(&endpoint->watch, loop, endpoint->socket, pump, endpoint);
    return err;
}

int endpoint_open(uv_loop_t *loop, void *zmq, const struct endpoint_options *options,
                  const struct endpoint_callbacks *callbacks, void *arg,
                  struct endpoint **out)
{
    struct endpoint *endpoint = calloc(1, sizeof *endpoint);

    if (endpoint == NULL)
        return -ENOMEM;
    endpoint->kind = options->kind;
    endpoint->lock.fd = -1;
    endpoint->arg = arg;
    if (callbacks != NULL)
        endpoint->callbacks = *callbacks;
    int err = open_socket(endpoint, loop, zmq, options);
    if (err < 0) {
        endpoint_close(endpoint, 0);
        return err;
    }
    *out = endpoint;
    return 0;
}

void endpoint_retry(struct endpoint *endpoint)
{
    const struct handshake_counters *c = handshake_counters(endpoint->handshake);
    uint64_t refused = c->failed[HANDSHAKE_AUTH] + c->failed[HANDSHAKE_PROTOCOL];

    if (endpoint->kind != ENDPOINT_DEALER || refused == endpoint->refused)
        return;
    endpoint->refused = refused;
    zmq_disconnect(endpoint->socket, endpoint->address);
    (void)attach(endpoint); /* took the same address before */
}

/* Only a path that is still ours. */
static void remove_path(const struct endpoint *endpoint)
{
    struct stat st;

    if (endpoint->path_inode != 0 && lstat(endpoint->address + 6, &st) == 0 &&
        st.st_ino == endpoint->path_inode)
        unlink(endpoint->address + 6);
}

void endpoint_close(struct endpoint *endpoint, int linger_ms)
{
    if (endpoint == NULL || endpoint->closed)
        return;
    endpoint->closed = true;
    drop_batch(endpoint);
    handshake_close(endpoint->handshake);
    endpoint->handshake = NULL;
    if (endpoint->socket != NULL) {
        set_int(endpoint->socket, ZMQ_LINGER, linger_ms);
        zmq_close(endpoint->socket);
    }
    /* ZeroMQ leaves the socket's file behind. The lock's file stays: whoever opened it
     * meanwhile must find the one that the next owner locks. */
    remove_path(endpoint);
    folder_release(&endpoint->lock, false);
    free(endpoint->address);
    watch_stop(&endpoint->watch, on_closed, endpoint);
}

/* ---- sending ---- */

static int send_bytes(struct endpoint *endpoint, const void *bytes, size_t size,
                      int flags)
{
    if (zmq_send(endpoint->socket, bytes, size, flags | ZMQ_DONTWAIT) < 0)
        return -zmq_errno();
    return 0;
}

/* A peer, on ROUTER, or a topic, on PUB; no bytes on DEALER. */
struct first_frame {
    const void *bytes;
    size_t size;
    struct mesh_outbox *outbox;
};

static struct first_frame to_peer(const struct mesh_peer *peer)
{
    if (peer == NULL)
        return (struct first_frame){0};
    return (struct first_frame){peer->bytes, peer->size, peer->outbox};
}

/* ZeroMQ decides at the first frame whether a message can go; later ones follow it. */
static int send_first(struct endpoint *endpoint, struct first_frame first,
                      const struct proto_envelope *envelope, const void *body,
                      size_t body_bytes, bool more)
{
    uint8_t header[PROTO_ENVELOPE_BYTES];
    int err = 0;

    proto_envelope_encode(envelope, header);
    if (first.bytes != NULL)
        err = send_bytes(endpoint, first.bytes, first.size, ZMQ_SNDMORE);
    if (err == 0)
        err = send_bytes(endpoint, header, sizeof header, ZMQ_SNDMORE);
    return err < 0 ? err : send_bytes(endpoint, body, body_bytes, more ? ZMQ_SNDMORE : 0);
}

static int send_frames(struct endpoint *endpoint, struct first_frame first,
                       const struct proto_envelope *envelope, const void *body,
                       size_t body_bytes, zmq_msg_t *payload)
{
    zmq_msg_t copy;

    if (payload == NULL)
        return send_first(endpoint, first, envelope, body, body_bytes, false);
    int err = mesh_outbox_copy(first.outbox, payload, &copy);
    if (err < 0)
        return err;
    err = send_first(endpoint, first, envelope, body, body_bytes, true);
    if (err == 0 && zmq_msg_send(&copy, endpoint->socket, ZMQ_DONTWAIT) < 0)
        err = -zmq_errno();
    if (err == 0)
        endpoint->counters.bytes_out += zmq_msg_size(payload);
    else
        zmq_msg_close(&copy);
    return err;
}

static int pack_and_send(struct endpoint *endpoint, struct first_frame first,
                         const struct proto_envelope *envelope, const void *body,
                         zmq_msg_t *payload)
{
    const struct proto_field *fields = proto_verb_fields(envelope->verb);
    uint8_t packed[PROTO_BODY_BYTES_MAX];
    int size = 0;

    if (body != NULL)
        size = fields ? proto_body_encode(fields, body, packed, sizeof packed) : -EINVAL;
    if (size < 0)
        return size;
    return send_frames(endpoint, first, envelope, packed, (size_t)size, payload);
}

static int counted(struct endpoint *endpoint, int err)
{
    if (err == 0)
        endpoint->counters.sent++;
    else
        endpoint->counters.dropped++;
    if (!endpoint->paused && !endpoint->closed)
        watch_again(&endpoint->watch, true);
    return err;
}

int endpoint_send(struct endpoint *endpoint, const struct mesh_peer *peer,
                  const struct proto_envelope *envelope, const void *body,
                  zmq_msg_t *payload)
{
    return counted(endpoint,
                   pack_and_send(endpoint, to_peer(peer), envelope, body, payload));
}

int endpoint_forward(struct endpoint *endpoint, const struct mesh_peer *peer,
                     const struct proto_envelope *envelope, const void *body,
                     size_t body_bytes, zmq_msg_t *payload)
{
    return counted(endpoint, send_frames(endpoint, to_peer(peer), envelope, body,
                                         body_bytes, payload));
}

int endpoint_publish(struct endpoint *endpoint, const char *topic,
                     const struct proto_envelope *envelope, const void *body)
{
    struct first_frame first = {topic, strlen(topic), NULL};
    return counted(endpoint, pack_and_send(endpoint, first, envelope, body, NULL));
}

const struct endpoint_counters *endpoint_counters(const struct endpoint *endpoint)
{
    return &endpoint->counters;
}

const struct handshake_counters *endpoint_handshakes(const struct endpoint *endpoint)
{
    return handshake_counters(endpoint->handshake);
}
