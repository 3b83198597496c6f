/*
 * endpoint.h - a ZeroMQ socket that speaks SMP/1, on the libuv loop (runtime/watch.h).
 *
 * Frames are checked for count and size and the header is decoded before the owner sees
 * them (docs/PROTOCOL.md section 2); a bad message is handed to on_bad. Messages are
 * received a bounded batch at a time, so that other handles get their turn.
 *
 * Why libzmq and not czmq: docs/notes/czmq.md.
 */
#ifndef RUNTIME_ENDPOINT_H
#define RUNTIME_ENDPOINT_H

#include "proto/body.h"
#include "proto/envelope.h"
#include "runtime/curve.h"
#include "runtime/handshake.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>
#include <zmq.h>

#define ENDPOINT_PEER_BYTES_MAX    64
#define ENDPOINT_PAYLOAD_BYTES_MAX (640u << 20) /* a blob of the most features */
#define MESH_PIECE_BYTES_MAX       8192 /* libzmq's receive buffer; what is larger is alone */
#define MESH_MESSAGE_BYTES         96 /* a message costs beside its bytes, malloc's part too */

struct endpoint;
struct mesh_outbox;

/* Who is at the other end of a ROUTER: its routing id. Empty on other sockets. */
struct mesh_peer {
    uint8_t bytes[ENDPOINT_PEER_BYTES_MAX];
    uint8_t size;
    struct mesh_outbox *outbox; /* bounds what is sent to it; NULL: nothing does */
};

/* A message received. Owned by the endpoint and valid during the callback; what is to
 * outlive it is moved out (mesh_payload_take). */
struct mesh_msg {
    struct mesh_peer peer;
    struct proto_envelope envelope;
    const uint8_t *body;
    size_t body_bytes;
    zmq_msg_t payload; /* initialised always; size 0 when there is none */
    bool has_payload;
};

struct endpoint_callbacks {
    void (*on_message)(struct endpoint *endpoint, struct mesh_msg *msg, void *arg);
    /* Not SMP/1. -EPROTO or -EPROTONOSUPPORT; verb and request of `envelope` are filled
     * where they could be read, else zero. May be NULL: dropped. */
    void (*on_bad)(struct endpoint *endpoint, const struct mesh_peer *peer,
                   const struct proto_envelope *envelope, int err, void *arg);
};

struct endpoint_counters {
    uint64_t received, sent, bad, dropped; /* messages; dropped: sends that failed */
    uint64_t bytes_in, bytes_out;          /* payload bytes */
};

enum endpoint_kind { ENDPOINT_ROUTER, ENDPOINT_DEALER, ENDPOINT_PUB };

struct endpoint_options {
    enum endpoint_kind kind; /* ROUTER and PUB bind, DEALER connects */
    const char *address;     /* ipc, tcp or inproc */
    const char *routing_id;  /* of a DEALER */
    int hwm;                 /* messages each way */
    struct curve *curve;     /* for tcp; NULL: without CURVE. Outlives the endpoint */
};

/*
 * An ipc path is bound only under a lock file beside it (ZeroMQ would steal it silently):
 * -EADDRINUSE when another process holds it. tcp beyond loopback (proto/curve.h) is
 * neither bound nor connected to without CURVE: -EACCES, and why is logged. 0 or another
 * -errno, logged by the caller.
 */
int endpoint_open(uv_loop_t *loop, void *zmq, const struct endpoint_options *options,
                  const struct endpoint_callbacks *callbacks, void *arg,
                  struct endpoint **out);
/*
 * For an ipc path that we bind, every FOLDER_LOOK_MS (runtime/folder.h): binds it again
 * where it, or its lock, was removed from under us. 0: as it was; 1: bound again;
 * -EADDRINUSE: another process has taken it; -EMFILE: it was removed ENDPOINT_BINDS_MAX
 * times; or another -errno. Connections live on in any case. endpoint_touch() keeps its
 * files from looking old.
 */
#define ENDPOINT_BINDS_MAX 1000
int endpoint_look(struct endpoint *endpoint);
void endpoint_touch(const struct endpoint *endpoint);
/* For a DEALER without a connection, now and then: ZeroMQ gives up an address for ever
 * where the handshake was refused, and whoever refused it may learn better. */
void endpoint_retry(struct endpoint *endpoint);
/* Closes the socket (linger 0, or `linger_ms`) and frees the endpoint when libuv is done.
 * NULL is fine. Allowed inside its own callbacks. */
void endpoint_close(struct endpoint *endpoint, int linger_ms);

/*
 * Send without blocking. `peer` for ROUTER, else NULL. `body` of the struct that
 * envelope->verb has in verbs.tbl, NULL for an empty one. `payload` may be NULL; it is
 * sent as a shared copy (zmq_msg_copy) and stays the caller's.
 * 0; -EAGAIN: queue or outbox full; -EHOSTUNREACH: peer is gone; counted as dropped.
 */
int endpoint_send(struct endpoint *endpoint, const struct mesh_peer *peer,
                  const struct proto_envelope *envelope, const void *body,
                  zmq_msg_t *payload);
/* The same with a body as it came in from another peer and was checked (the bytes of
 * mesh_msg.body, at most PROTO_BODY_BYTES_MAX). */
int endpoint_forward(struct endpoint *endpoint, const struct mesh_peer *peer,
                     const struct proto_envelope *envelope, const void *body,
                     size_t body_bytes, zmq_msg_t *payload);
/* The same on PUB, under a topic. */
int endpoint_publish(struct endpoint *endpoint, const char *topic,
                     const struct proto_envelope *envelope, const void *body);

/* Stop and start on_message being called (back-pressure); starts running. */
void endpoint_pause(struct endpoint *endpoint, bool pause);

const struct endpoint_counters *endpoint_counters(const struct endpoint *endpoint);
const struct handshake_counters *endpoint_handshakes(const struct endpoint *endpoint);
bool mesh_peer_equal(const struct mesh_peer *a, const struct mesh_peer *b);

/*
 * Payload helpers. mesh_payload_keep moves `from` to `out` (initialised by this; the
 * caller closes it with zmq_msg_close) for somebody who keeps it: libzmq hands out small
 * messages as pieces of a receive buffer, of which each piece keeps the whole
 * (MESH_PIECE_BYTES_MAX and as much again), so they are copied. mesh_payload_take does it
 * to the payload of `msg`. mesh_payload_wrap makes a message of
 * bytes that are released by `release(bytes, owner)` when ZeroMQ is done, possibly on its
 * own thread. mesh_payload_copy copies. 0 or -ENOMEM.
 */
void mesh_payload_keep(zmq_msg_t *from, zmq_msg_t *out);
void mesh_payload_take(struct mesh_msg *msg, zmq_msg_t *out);
int mesh_payload_wrap(zmq_msg_t *out, void *bytes, size_t size,
                      void (*release)(void *bytes, void *owner), void *owner);
int mesh_payload_copy(zmq_msg_t *out, const void *bytes, size_t size);

/*
 * The payload bytes that ZeroMQ holds for one peer, which its high-water mark does not
 * know: it counts messages. A peer that reads nothing would otherwise make us keep as
 * many as that of any size. mesh_outbox_new: NULL without memory. mesh_outbox_free: NULL
 * is fine; what is on its way keeps it alive. mesh_outbox_copy: `out` shares the bytes of
 * `payload` and is counted until ZeroMQ lets go of it, on whatever thread. 0; -EAGAIN:
 * there would be more than `bytes_max`, and something is on its way already; -ENOMEM.
 */
struct mesh_outbox *mesh_outbox_new(uint64_t bytes_max);
void mesh_outbox_free(struct mesh_outbox *outbox);
int mesh_outbox_copy(struct mesh_outbox *outbox, zmq_msg_t *payload, zmq_msg_t *out);
/* Whether mesh_outbox_copy() of so many bytes would not say -EAGAIN. */
bool mesh_outbox_fits(const struct mesh_outbox *outbox, uint64_t size);
uint64_t mesh_outbox_bytes(const struct mesh_outbox *outbox); /* counted now */

#endif
