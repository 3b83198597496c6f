/*
 * siftmesh.h - libsiftmesh: features of pictures from a mesh, over ZeroMQ, from C.
 *
 *     struct siftmesh *mesh;
 *     struct siftmesh_result result;
 *     struct proto_params params;
 *     proto_params_init(&params);
 *     if (siftmesh_open("ipc:///run/siftmesh/front.sock", 5000, &mesh) == 0 &&
 *         siftmesh_features(mesh, bytes, size, &params, 60000, &result) == 0) {
 *         struct proto_blob blob;
 *         proto_blob_decode(result.bytes, result.size, &blob);
 *         ...
 *         siftmesh_result_free(&result);
 *     }
 *     siftmesh_close(mesh);
 *
 * Blocking; a handle belongs to one thread at a time, use one for each thread. It may be
 * idle for as long as its owner likes: no thread works behind it, and a call opens the
 * session anew where the broker has closed it. A broker that is restarted, or a machine
 * that slept, costs a call time but no error: what is unknown to the broker is asked
 * again until `timeout_ms` is over. Speaks SMP/1, docs/PROTOCOL.md section 3. Link with
 * libzmq, msgpack-c and libcrypto.
 */
#ifndef SIFTMESH_H
#define SIFTMESH_H

#include "proto/blob.h"
#include "proto/body.h"
#include "proto/curve.h"
#include "proto/envelope.h"
#include "proto/key.h"
#include "proto/params.h"
#include "proto/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct siftmesh;

struct siftmesh_result {
    enum proto_status status;     /* OK, or how the request ended */
    struct proto_outcome outcome; /* detail, limit, retry-after, stage times */
    bool cached;                  /* it was computed before */
    uint8_t *bytes;               /* malloc'd blob, PNG or JSON; NULL unless OK */
    size_t size;
};

/*
 * Connect to the broker's endpoint for clients and open a session. 0; -ETIMEDOUT when
 * no broker answered within `timeout_ms`; -EACCES for tcp beyond loopback, which needs
 * siftmesh_open_curve(); -EPERM where siftmesh_check_front() refuses `front`; -EINVAL for
 * a bad address; -ENOMEM.
 */
int siftmesh_open(const char *front, int timeout_ms, struct siftmesh **out);
/*
 * The same with the keys that proto_curve_load() read (borrowed), for brokers on other
 * hosts; NULL: none. Unused where `front` is not tcp. A broker that does not allow the
 * key, or has another one than curve->server, does not answer: -ETIMEDOUT. -EINVAL also
 * for keys that are none.
 */
int siftmesh_open_curve(const char *front, const struct proto_curve *curve,
                        int timeout_ms, struct siftmesh **out);
/* NULL is fine. In a child of fork(2) only the handle's own memory is freed. */
void siftmesh_close(struct siftmesh *mesh);

/*
 * Whether only this user or root can be behind an ipc address: its folder must have mode
 * 0700 and belong to this user or to root, or, as /run/siftmesh does, lie in a folder
 * that root alone can write to. 0, also for tcp; -ENOENT: no such folder; -EPERM. A
 * sentence is in `why` unless 0. Every call on a handle looks again before it sends:
 * -EPERM.
 */
#define SIFTMESH_WHY_BYTES 512
int siftmesh_check_front(const char *front, char *why, size_t why_bytes);

/*
 * The features of the picture in `image` (borrowed): from the cache, or computed and
 * then kept there. 0 when the mesh answered (look at result->status), -ETIMEDOUT when it
 * did not within `timeout_ms`, also where no broker was there; -ECHILD in a child of
 * fork(2), which opens a handle of its own; -EPERM, -ENOMEM.
 */
int siftmesh_features(struct siftmesh *mesh, const void *image, size_t size,
                      const struct proto_params *params, int timeout_ms,
                      struct siftmesh_result *result);

/* The denoised picture as PNG. As siftmesh_features(). */
int siftmesh_denoise(struct siftmesh *mesh, const void *image, size_t size,
                     const struct proto_params *params, int timeout_ms,
                     struct siftmesh_result *result);

/*
 * Any method of a service, with its payload (NULL: none): what the two above are made
 * of, for methods that have no function here (docs/PROTOCOL.md section 7). As they.
 */
int siftmesh_submit(struct siftmesh *mesh, const struct proto_submit *body,
                    const void *payload, size_t size, int timeout_ms,
                    struct siftmesh_result *result);

/*
 * A control verb (SCALE, DRAIN, STATS, MODE, PURGE) with its body of bodies.tbl, or NULL.
 * The answer's body is decoded into `answer` where that is not NULL and the answer has
 * the verb `answer_verb`; its payload is result->bytes. Errors as above.
 */
int siftmesh_control(struct siftmesh *mesh, enum proto_verb verb, const void *body,
                     enum proto_verb answer_verb, void *answer, int timeout_ms,
                     struct siftmesh_result *result);

/* A new pair of keys; out->server is left empty. 0, or -ENOTSUP: libzmq has no CURVE. */
int siftmesh_keypair(struct proto_curve *out);

/* Accepts zeroed and already freed. */
void siftmesh_result_free(struct siftmesh_result *result);

#endif
