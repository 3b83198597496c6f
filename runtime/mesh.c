/* What a message of endpoint.h consists of. */
#include "runtime/endpoint.h"

#include <errno.h>
#include <string.h>

bool mesh_peer_equal(const struct mesh_peer *a, const struct mesh_peer *b)
{
    return a->size == b->size && memcmp(a->bytes, b->bytes, a->size) == 0;
}

void mesh_payload_take(struct mesh_msg *msg, zmq_msg_t *out)
{
    zmq_msg_init(out);
    zmq_msg_move(out, &msg->payload);
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
