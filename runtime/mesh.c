/* What a message of endpoint.h consists of. */
#include "runtime/endpoint.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

bool mesh_peer_equal(const struct mesh_peer *a, const struct mesh_peer *b)
{
    return a->size == b->size && memcmp(a->bytes, b->bytes, a->size) == 0;
}

void mesh_payload_keep(zmq_msg_t *from, zmq_msg_t *out)
{
    /* Without memory for a copy the piece is better than nothing. */
    if (zmq_msg_size(from) <= MESH_PIECE_BYTES_MAX &&
        mesh_payload_copy(out, zmq_msg_data(from), zmq_msg_size(from)) == 0)
        return;
    zmq_msg_init(out);
    zmq_msg_move(out, from);
}

void mesh_payload_take(struct mesh_msg *msg, zmq_msg_t *out)
{
    mesh_payload_keep(&msg->payload, out);
}

#ifdef __SANITIZE_THREAD__
/* ThreadSanitizer does not see that libzmq, which it did not compile, hands a message
 * from one thread to the other: it is told here, and so checks what release() does
 * beside. */
#include <sanitizer/tsan_interface.h>

struct handed {
    void (*release)(void *bytes, void *owner);
    void *owner;
};

static void release_handed(void *bytes, void *owner)
{
    struct handed *handed = owner;

    __tsan_acquire(bytes);
    handed->release(bytes, handed->owner);
    free(handed);
}

int mesh_payload_wrap(zmq_msg_t *out, void *bytes, size_t size,
                      void (*release)(void *bytes, void *owner), void *owner)
{
    struct handed *handed = malloc(sizeof *handed);

    if (handed == NULL)
        return -ENOMEM;
    *handed = (struct handed){release, owner};
    __tsan_release(bytes);
    if (zmq_msg_init_data(out, bytes, size, release_handed, handed) == 0)
        return 0;
    free(handed);
    return -ENOMEM;
}
#else
int mesh_payload_wrap(zmq_msg_t *out, void *bytes, size_t size,
                      void (*release)(void *bytes, void *owner), void *owner)
{
    return zmq_msg_init_data(out, bytes, size, release, owner) < 0 ? -ENOMEM : 0;
}
#endif

int mesh_payload_copy(zmq_msg_t *out, const void *bytes, size_t size)
{
    if (zmq_msg_init_size(out, size) < 0)
        return -ENOMEM;
    memcpy(zmq_msg_data(out), bytes, size);
    return 0;
}

/* ---- outbox ---- */

/* Counting costs an allocation each; as many of smaller ones as a queue holds matter
 * little. */
#define COUNTED_BYTES_MIN 1024

struct mesh_outbox {
    atomic_uint_fast64_t bytes;
    atomic_uint holders; /* the owner, and each message on its way */
    uint64_t bytes_max;
};

struct held {
    zmq_msg_t payload;
    struct mesh_outbox *outbox;
};

struct mesh_outbox *mesh_outbox_new(uint64_t bytes_max)
{
    struct mesh_outbox *outbox = malloc(sizeof *outbox);

    if (outbox != NULL) {
        atomic_init(&outbox->bytes, 0);
        atomic_init(&outbox->holders, 1);
        outbox->bytes_max = bytes_max;
    }
    return outbox;
}

void mesh_outbox_free(struct mesh_outbox *outbox)
{
    if (outbox != NULL && atomic_fetch_sub(&outbox->holders, 1) == 1)
        free(outbox);
}

static void on_let_go(void *bytes, void *hint)
{
    struct held *held = hint;
    (void)bytes;

    atomic_fetch_sub(&held->outbox->bytes, zmq_msg_size(&held->payload));
    zmq_msg_close(&held->payload);
    mesh_outbox_free(held->outbox);
    free(held);
}

/* On its way a message may be kept for as long as its peer reads nothing. */
static int share(zmq_msg_t *payload, zmq_msg_t *out)
{
    size_t size = zmq_msg_size(payload);

    if (size <= MESH_PIECE_BYTES_MAX)
        return mesh_payload_copy(out, zmq_msg_data(payload), size);
    zmq_msg_init(out);
    return zmq_msg_copy(out, payload) < 0 ? -ENOMEM : 0;
}

static int hold(struct mesh_outbox *outbox, zmq_msg_t *payload, zmq_msg_t *out)
{
    struct held *held = malloc(sizeof *held);

    if (held == NULL)
        return -ENOMEM;
    held->outbox = outbox;
    if (share(payload, &held->payload) < 0) {
        free(held);
        return -ENOMEM;
    }
    if (zmq_msg_init_data(out, zmq_msg_data(&held->payload), zmq_msg_size(&held->payload),
                          on_let_go, held) < 0) {
        zmq_msg_close(&held->payload);
        free(held);
        return -ENOMEM;
    }
    atomic_fetch_add(&outbox->holders, 1);
    atomic_fetch_add(&outbox->bytes, zmq_msg_size(payload));
    return 0;
}

bool mesh_outbox_fits(const struct mesh_outbox *outbox, uint64_t size)
{
    uint64_t held = atomic_load(&outbox->bytes);

    return size < COUNTED_BYTES_MIN || held == 0 || held + size <= outbox->bytes_max;
}

int mesh_outbox_copy(struct mesh_outbox *outbox, zmq_msg_t *payload, zmq_msg_t *out)
{
    uint64_t size = zmq_msg_size(payload);

    if (outbox != NULL && size >= COUNTED_BYTES_MIN) {
        return mesh_outbox_fits(outbox, size) ? hold(outbox, payload, out) : -EAGAIN;
    }
    if (outbox != NULL)
        return share(payload, out);
    zmq_msg_init(out);
    return zmq_msg_copy(out, payload) < 0 ? -ENOMEM : 0;
}

uint64_t mesh_outbox_bytes(const struct mesh_outbox *outbox)
{
    return atomic_load(&outbox->bytes);
}
