#include "client/siftmesh.h"

#include "proto/picture.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>
#include <zmq.h>

#define HELLO_REPEAT_MS  200
#define HEARTBEAT_MIN_MS 20
#define CLIENT_HWM       1024 /* messages */
/* A parked cache request may wait as long as another's computation; ask no longer than
 * this before computing it ourselves. */
#define CACHE_WAIT_MS 20000

struct siftmesh {
    void *context, *socket;
    uint64_t epoch, ids;
    int heartbeat_ms;
    int64_t pinged_ms;
    uint8_t prefix[8];
};

/* A message that came in; payload is initialised always. */
struct incoming {
    struct proto_envelope envelope;
    uint8_t body[PROTO_BODY_BYTES_MAX];
    size_t body_bytes;
    zmq_msg_t payload;
};

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* ---- frames ---- */

static int send_message(struct siftmesh *mesh, struct proto_envelope *envelope,
                        const void *body, const void *payload, size_t payload_bytes)
{
    uint8_t header[PROTO_ENVELOPE_BYTES], packed[PROTO_BODY_BYTES_MAX];
    int size = 0, more = payload != NULL ? ZMQ_SNDMORE : 0;

    envelope->epoch = mesh->epoch;
    proto_envelope_encode(envelope, header);
    if (body != NULL)
        size = proto_body_encode(proto_verb_fields(envelope->verb), body, packed,
                                 sizeof packed);
    if (size < 0)
        return size;
    if (zmq_send(mesh->socket, header, sizeof header, ZMQ_SNDMORE | ZMQ_DONTWAIT) < 0 ||
        zmq_send(mesh->socket, packed, (size_t)size, more | ZMQ_DONTWAIT) < 0)
        return -zmq_errno();
    if (payload != NULL &&
        zmq_send(mesh->socket, payload, payload_bytes, ZMQ_DONTWAIT) < 0)
        return -zmq_errno();
    return 0;
}

/* One frame into `msg`; true when another of the same message follows. -errno else. */
static int recv_frame(struct siftmesh *mesh, zmq_msg_t *msg)
{
    if (zmq_msg_recv(msg, mesh->socket, ZMQ_DONTWAIT) < 0)
        return -zmq_errno();
    return zmq_msg_more(msg);
}

/* 0, -EAGAIN, or -EPROTO for a message that is none; reads it to its last frame. */
static int recv_message(struct siftmesh *mesh, struct incoming *in)
{
    int count = 0, more = 1, err = 0;

    zmq_msg_close(&in->payload);
    zmq_msg_init(&in->payload);
    while (more > 0) {
        zmq_msg_t frame;
        zmq_msg_init(&frame);
        more = recv_frame(mesh, &frame);
        if (more < 0)
            err = more;
        else if (count == 0)
            err = proto_envelope_decode(zmq_msg_data(&frame), zmq_msg_size(&frame),
                                        &in->envelope);
        else if (count == 1 && zmq_msg_size(&frame) <= sizeof in->body)
            memcpy(in->body, zmq_msg_data(&frame), in->body_bytes = zmq_msg_size(&frame));
        else if (count == 2)
            zmq_msg_move(&in->payload, &frame);
        else
            err = -EPROTO;
        zmq_msg_close(&frame);
        count++;
    }
    return err == 0 && count < 2 ? -EPROTO : err;
}

static void keep_alive(struct siftmesh *mesh)
{
    struct proto_envelope ping = {.verb = PROTO_PING, .priority = PROTO_PRIORITY_NORMAL};

    if (mesh->epoch == 0 || now_ms() - mesh->pinged_ms < mesh->heartbeat_ms)
        return;
    mesh->pinged_ms = now_ms();
    (void)send_message(mesh, &ping, NULL, NULL, 0); /* silence shows by itself */
}

/* The next message before `until_ms`. 0, -ETIMEDOUT, or -ECONNRESET: session lost. */
static int next_message(struct siftmesh *mesh, int64_t until_ms, struct incoming *in)
{
    for (;;) {
        int err = recv_message(mesh, in);
        if (err == 0) {
            bool other = mesh->epoch != 0 && in->envelope.epoch != mesh->epoch &&
                         in->envelope.verb == PROTO_PONG;
            if (other || in->envelope.verb == PROTO_BYE)
                return -ECONNRESET;
            if (in->envelope.verb != PROTO_PONG)
                return 0;
        } else if (err == -EAGAIN) {
            int64_t left = until_ms - now_ms();
            if (left <= 0)
                return -ETIMEDOUT;
            keep_alive(mesh);
            zmq_pollitem_t item = {mesh->socket, 0, ZMQ_POLLIN, 0};
            zmq_poll(&item, 1, left < mesh->heartbeat_ms ? left : mesh->heartbeat_ms);
        }
    }
}

/* ---- session ---- */

static int hello(struct siftmesh *mesh, int timeout_ms)
{
    int64_t until = now_ms() + timeout_ms;
    struct incoming in = {0};
    struct proto_hello body = {.role = "client", .version = SIFTMESH_VERSION};
    struct proto_welcome welcome;
    int err = -ETIMEDOUT;

    snprintf(body.name, sizeof body.name, "client:%d", (int)getpid());
    mesh->heartbeat_ms = HELLO_REPEAT_MS;
    zmq_msg_init(&in.payload);
    while (err == -ETIMEDOUT && now_ms() < until) {
        struct proto_envelope e = {.verb = PROTO_HELLO,
                                   .priority = PROTO_PRIORITY_NORMAL};
        int64_t again = now_ms() + HELLO_REPEAT_MS;
        (void)send_message(mesh, &e, &body, NULL, 0); /* not connected yet: once more */
        err = next_message(mesh, again < until ? again : until, &in);
        if (err == 0 && in.envelope.verb != PROTO_WELCOME)
            err = -ETIMEDOUT;
    }
    if (err == 0)
        err = proto_body_decode(proto_welcome_fields, in.body, in.body_bytes, &welcome);
    if (err == 0) {
        mesh->epoch = in.envelope.epoch;
        mesh->heartbeat_ms = welcome.heartbeat_ms > HEARTBEAT_MIN_MS
                                 ? (int)welcome.heartbeat_ms
                                 : HEARTBEAT_MIN_MS;
        mesh->pinged_ms = now_ms();
    }
    zmq_msg_close(&in.payload);
    return err;
}

static int set_key(void *socket, int option, const struct proto_curve_key *key)
{
    return zmq_setsockopt(socket, option, key->text, PROTO_CURVE_KEY_CHARS) < 0 ? -EINVAL
                                                                                : 0;
}

static int secure(void *socket, const char *front, const struct proto_curve *curve)
{
    if (curve == NULL || strncmp(front, "tcp://", 6) != 0)
        return proto_curve_required(front) ? -EACCES : 0;
    int err = set_key(socket, ZMQ_CURVE_SERVERKEY, &curve->server);
    if (err == 0)
        err = set_key(socket, ZMQ_CURVE_PUBLICKEY, &curve->public_key);
    if (err == 0)
        err = set_key(socket, ZMQ_CURVE_SECRETKEY, &curve->secret_key);
    return err;
}

static int set_up_socket(struct siftmesh *mesh, const char *front,
                         const struct proto_curve *curve)
{
    char id[64];
    uint64_t unique;
    int zero = 0, one = 1, hwm = CLIENT_HWM;

    mesh->context = zmq_ctx_new();
    mesh->socket = mesh->context ? zmq_socket(mesh->context, ZMQ_DEALER) : NULL;
    if (mesh->socket == NULL)
        return -ENOMEM;
    memcpy(&unique, mesh->prefix, sizeof unique);
    snprintf(id, sizeof id, "client:%d-%016llx", (int)getpid(),
             (unsigned long long)unique);
    zmq_setsockopt(mesh->socket, ZMQ_ROUTING_ID, id, strlen(id));
    zmq_setsockopt(mesh->socket, ZMQ_LINGER, &zero, sizeof zero);
    zmq_setsockopt(mesh->socket, ZMQ_IMMEDIATE, &one, sizeof one);
    zmq_setsockopt(mesh->socket, ZMQ_IPV6, &one, sizeof one);
    zmq_setsockopt(mesh->socket, ZMQ_SNDHWM, &hwm, sizeof hwm);
    zmq_setsockopt(mesh->socket, ZMQ_RCVHWM, &hwm, sizeof hwm);
    int err = secure(mesh->socket, front, curve);
    if (err < 0)
        return err;
    return zmq_connect(mesh->socket, front) < 0 ? -zmq_errno() : 0;
}

int siftmesh_open(const char *front, int timeout_ms, struct siftmesh **out)
{
    return siftmesh_open_curve(front, NULL, timeout_ms, out);
}

int siftmesh_open_curve(const char *front, const struct proto_curve *curve,
                        int timeout_ms, struct siftmesh **out)
{
    struct siftmesh *mesh = calloc(1, sizeof *mesh);

    if (mesh == NULL)
        return -ENOMEM;
    if (getrandom(mesh->prefix, sizeof mesh->prefix, 0) != sizeof mesh->prefix)
        abort(); /* never comes short for 8 bytes, getrandom(2) */
    int err = set_up_socket(mesh, front, curve);
    if (err == 0)
        err = hello(mesh, timeout_ms);
    if (err < 0) {
        siftmesh_close(mesh);
        return err;
    }
    *out = mesh;
    return 0;
}

void siftmesh_close(struct siftmesh *mesh)
{
    if (mesh == NULL)
        return;
    if (mesh->socket != NULL) {
        struct proto_envelope bye = {.verb = PROTO_BYE,
                                     .priority = PROTO_PRIORITY_NORMAL};
        int linger_ms = 100;
        if (mesh->epoch != 0)
            (void)send_message(mesh, &bye, NULL, NULL, 0);
        zmq_setsockopt(mesh->socket, ZMQ_LINGER, &linger_ms, sizeof linger_ms);
        zmq_close(mesh->socket);
    }
    if (mesh->context != NULL)
        zmq_ctx_term(mesh->context);
    free(mesh);
}

int siftmesh_keypair(struct proto_curve *out)
{
    *out = (struct proto_curve){0};
    return zmq_curve_keypair(out->public_key.text, out->secret_key.text) < 0 ? -ENOTSUP
                                                                             : 0;
}

void siftmesh_result_free(struct siftmesh_result *result)
{
    free(result->bytes);
    *result = (struct siftmesh_result){0};
}

/* ---- requests ---- */

static struct proto_id new_id(struct siftmesh *mesh)
{
    struct proto_id id;
    uint64_t count = ++mesh->ids;
    memcpy(id.bytes, mesh->prefix, 8);
    memcpy(id.bytes + 8, &count, 8);
    return id;
}

static int take_payload(struct incoming *in, struct siftmesh_result *result)
{
    size_t size = zmq_msg_size(&in->payload);

    result->bytes = NULL;
    result->size = size;
    if (size == 0)
        return 0;
    result->bytes = malloc(size);
    if (result->bytes == NULL)
        return -ENOMEM;
    memcpy(result->bytes, zmq_msg_data(&in->payload), size);
    return 0;
}

/* Wait for what ends request `id`: FINAL, REJECT, or `verb` of a control answer. */
static int await_end(struct siftmesh *mesh, const struct proto_id *id, int verb,
                     int64_t until_ms, struct incoming *in)
{
    for (;;) {
        int err = next_message(mesh, until_ms, in);
        if (err < 0)
            return err;
        uint8_t got = in->envelope.verb;
        if (memcmp(&in->envelope.request, id, sizeof *id) == 0 &&
            (got == PROTO_FINAL || got == PROTO_REJECT || got == verb))
            return 0;
    }
}

static int finish(struct incoming *in, struct siftmesh_result *result)
{
    result->status = in->envelope.status;
    int err = proto_body_decode(proto_outcome_fields, in->body, in->body_bytes,
                                &result->outcome);
    return err < 0 ? err : take_payload(in, result);
}

static int submit(struct siftmesh *mesh, const struct proto_submit *body,
                  const void *payload, size_t size, uint64_t cost_bytes, int timeout_ms,
                  struct siftmesh_result *result)
{
    struct proto_envelope e = {.verb = PROTO_SUBMIT,
                               .priority = PROTO_PRIORITY_NORMAL,
                               .budget_ms = (uint32_t)timeout_ms,
                               .cost_bytes = cost_bytes,
                               .request = new_id(mesh)};
    struct incoming in = {0};

    e.trace = e.request;
    zmq_msg_init(&in.payload);
    int err = send_message(mesh, &e, body, payload, size);
    if (err == 0)
        err = await_end(mesh, &e.request, -1, now_ms() + timeout_ms, &in);
    if (err == 0)
        err = finish(&in, result);
    if (err == -ETIMEDOUT) {
        e.verb = PROTO_CANCEL;
        (void)send_message(mesh, &e, NULL, NULL, 0);
    }
    zmq_msg_close(&in.payload);
    return err;
}

int siftmesh_submit(struct siftmesh *mesh, const struct proto_submit *body,
                    const void *payload, size_t size, int timeout_ms,
                    struct siftmesh_result *result)
{
    return submit(mesh, body, payload, size, 0, timeout_ms, result);
}

/* Hand the result to whoever waits for this lease, or the lease back. */
static void settle(struct siftmesh *mesh, const struct proto_submit *asked,
                   uint64_t lease, const struct siftmesh_result *result, int timeout_ms)
{
    struct proto_submit body = *asked;
    struct siftmesh_result ignored = {0};
    const struct proto_outcome *outcome = &result->outcome;
    bool ok = result->status == PROTO_STATUS_OK && result->bytes != NULL;

    snprintf(body.service, sizeof body.service, "cache");
    snprintf(body.method, sizeof body.method, "%s", ok ? "put" : "drop");
    body.lease = lease;
    body.image_sha256_bytes = 0;
    body.cost_us = outcome->decode_us + outcome->denoise_us + outcome->sift_us;
    /* Who sends the same picture next is told the same, without a slot's time. */
    if (!ok && strcmp(outcome->blame, "input") == 0 &&
        proto_status_is_of_input(result->status)) {
        snprintf(body.method, sizeof body.method, "put");
        body.status = (uint64_t)result->status;
        body.limit = outcome->limit;
        body.actual = outcome->actual;
        snprintf(body.detail, sizeof body.detail, "%s", outcome->detail);
    }
    /* A result that could not be kept is still a result. */
    (void)submit(mesh, &body, ok ? result->bytes : NULL, ok ? result->size : 0, 0,
                 timeout_ms, &ignored);
    siftmesh_result_free(&ignored);
}

static int ask_cache(struct siftmesh *mesh, const struct proto_submit *asked,
                     int timeout_ms, struct siftmesh_result *result)
{
    struct proto_submit body = {.key_bytes = PROTO_DIGEST_BYTES};

    snprintf(body.service, sizeof body.service, "cache");
    snprintf(body.method, sizeof body.method, "get");
    memcpy(body.key, asked->key, sizeof body.key);
    return submit(mesh, &body, NULL, 0, 0,
                  timeout_ms < CACHE_WAIT_MS ? timeout_ms : CACHE_WAIT_MS, result);
}

static int compute(struct siftmesh *mesh, enum proto_kind kind, const char *method,
                   const void *image, size_t size, const struct proto_params *params,
                   int timeout_ms, struct siftmesh_result *result)
{
    int64_t until = now_ms() + timeout_ms;
    struct proto_submit body = {.key_bytes = PROTO_DIGEST_BYTES,
                                .image_sha256_bytes = PROTO_DIGEST_BYTES,
                                .params_bytes = PROTO_PARAMS_BYTES};

    *result = (struct siftmesh_result){0};
    snprintf(body.service, sizeof body.service, "extract");
    snprintf(body.method, sizeof body.method, "%s", method);
    proto_params_encode(params, body.params);
    if (proto_sha256(image, size, body.image_sha256) < 0 ||
        proto_key(body.image_sha256, kind, params, body.key) < 0)
        return -ENOMEM;

    int err = ask_cache(mesh, &body, timeout_ms, result);
    if (err == -ECONNRESET || err == -ENOMEM)
        return err;
    if (err == 0 &&
        (result->status == PROTO_STATUS_OK || proto_status_is_of_input(result->status))) {
        result->cached = true;
        return 0;
    }
    uint64_t lease = err == 0 && result->status == PROTO_STATUS_MISS
                         ? result->outcome.lease
                         : 0; /* no cache, no lease: compute all the same */
    siftmesh_result_free(result);
    int64_t left = until - now_ms();
    uint64_t cost = proto_picture_cost_bytes(image, size, kind, params);
    err = left <= 0 ? -ETIMEDOUT
                    : submit(mesh, &body, image, size, cost, (int)left, result);
    if (lease != 0 && err != -ECONNRESET)
        settle(mesh, &body, lease, result, HELLO_REPEAT_MS * 5);
    return err;
}

int siftmesh_features(struct siftmesh *mesh, const void *image, size_t size,
                      const struct proto_params *params, int timeout_ms,
                      struct siftmesh_result *result)
{
    return compute(mesh, PROTO_KIND_FEATURES, "features", image, size, params, timeout_ms,
                   result);
}

int siftmesh_denoise(struct siftmesh *mesh, const void *image, size_t size,
                     const struct proto_params *params, int timeout_ms,
                     struct siftmesh_result *result)
{
    return compute(mesh, PROTO_KIND_DENOISE, "denoise", image, size, params, timeout_ms,
                   result);
}

int siftmesh_control(struct siftmesh *mesh, enum proto_verb verb, const void *body,
                     enum proto_verb answer_verb, void *answer, int timeout_ms,
                     struct siftmesh_result *result)
{
    struct proto_envelope e = {
        .verb = (uint8_t)verb, .priority = PROTO_PRIORITY_HIGH, .request = new_id(mesh)};
    struct incoming in = {0};

    *result = (struct siftmesh_result){0};
    zmq_msg_init(&in.payload);
    int err = send_message(mesh, &e, body, NULL, 0);
    if (err == 0)
        err = await_end(mesh, &e.request, (int)answer_verb, now_ms() + timeout_ms, &in);
    if (err == 0 && in.envelope.verb != answer_verb)
        err = finish(&in, result);
    else if (err == 0 && answer != NULL)
        err = proto_body_decode(proto_verb_fields(answer_verb), in.body, in.body_bytes,
                                answer);
    if (err == 0 && in.envelope.verb == answer_verb)
        err = take_payload(&in, result);
    zmq_msg_close(&in.payload);
    return err;
}
