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

#define HELLO_FIRST_MS   10 /* wait for WELCOME, doubled up to HELLO_MAX_MS */
#define HELLO_MAX_MS     200
#define HEARTBEAT_MIN_MS 20
#define SILENT_INTERVALS 3 /* heartbeats without a frame: is the session still there? */
#define RECONNECT_MS     5000 /* HELLO without an answer for so long: connect anew */
#define DRAINING_WAIT_MS 200  /* before a broker that stops is asked again */
#define SETTLE_MS        1000 /* for the cache to take a result */
#define CLIENT_HWM       1024 /* messages */
/* A parked cache request may wait as long as another's computation; ask no longer than
 * this before computing it ourselves. */
#define CACHE_WAIT_MS 20000

struct siftmesh {
    void *context, *socket;
    char front[256];
    bool open;         /* a session, as far as we know: PING, not HELLO */
    uint64_t epoch;    /* of the broker that the session is with */
    uint64_t sessions; /* those in which nothing of the one before is known */
    uint64_t ids;
    int heartbeat_ms, hello_ms;
    int64_t said_ms, heard_ms, connected_ms; /* the last time */
    uint8_t prefix[8];
    pid_t owner; /* the process that opened it */
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

/* ---- session ---- */

static void lose_session(struct siftmesh *mesh)
{
    mesh->open = false;
    mesh->hello_ms = HELLO_FIRST_MS;
    mesh->said_ms = mesh->connected_ms = now_ms();
    mesh->said_ms -= HELLO_MAX_MS; /* HELLO at once */
}

static void take_welcome(struct siftmesh *mesh, const struct incoming *in)
{
    struct proto_welcome welcome;

    if (mesh->open ||
        proto_body_decode(proto_welcome_fields, in->body, in->body_bytes, &welcome) < 0)
        return;
    if (welcome.fresh != 0 || in->envelope.epoch != mesh->epoch || mesh->sessions == 0)
        mesh->sessions++;
    mesh->open = true;
    mesh->epoch = in->envelope.epoch;
    mesh->heartbeat_ms = welcome.heartbeat_ms > HEARTBEAT_MIN_MS
                             ? (int)welcome.heartbeat_ms
                             : HEARTBEAT_MIN_MS;
}

/* True for a message that is about the session, not about a request. */
static bool take_session(struct siftmesh *mesh, const struct incoming *in)
{
    switch (in->envelope.verb) {
    case PROTO_WELCOME:
        take_welcome(mesh, in);
        return true;
    case PROTO_PONG:
        if (mesh->open && in->envelope.epoch != mesh->epoch)
            lose_session(mesh);
        return true;
    case PROTO_BYE:
        if (mesh->open)
            lose_session(mesh);
        return true;
    default:
        return false;
    }
}

static int connect_front(struct siftmesh *mesh)
{
    uint64_t unique;
    char id[64];

    memcpy(&unique, mesh->prefix, sizeof unique);
    snprintf(id, sizeof id, "client:%d-%016llx-%llx", (int)getpid(),
             (unsigned long long)unique, (unsigned long long)++mesh->ids);
    zmq_setsockopt(mesh->socket, ZMQ_ROUTING_ID, id, strlen(id));
    mesh->connected_ms = now_ms();
    return zmq_connect(mesh->socket, mesh->front) < 0 ? -zmq_errno() : 0;
}

static void say_hello(struct siftmesh *mesh)
{
    struct proto_envelope hello = {.verb = PROTO_HELLO,
                                   .priority = PROTO_PRIORITY_NORMAL};
    struct proto_hello body = {.role = "client", .version = SIFTMESH_VERSION};

    /* A connection that a sleep or a router killed, or whose handshake was refused, does
     * not come back by itself. The broker may still hold the old one, under its id. */
    if (now_ms() - mesh->connected_ms > RECONNECT_MS &&
        zmq_disconnect(mesh->socket, mesh->front) == 0)
        (void)connect_front(mesh); /* took the same address before */
    snprintf(body.name, sizeof body.name, "client:%d", (int)getpid());
    (void)send_message(mesh, &hello, &body, NULL, 0); /* not connected yet: said again */
    mesh->hello_ms =
        mesh->hello_ms * 2 < HELLO_MAX_MS ? mesh->hello_ms * 2 : HELLO_MAX_MS;
}

/* HELLO while there is no session, PING while there is one; ms until the next of them. */
static int64_t keep_session(struct siftmesh *mesh)
{
    struct proto_envelope ping = {.verb = PROTO_PING, .priority = PROTO_PRIORITY_NORMAL};
    int64_t now = now_ms();

    if (mesh->open && now - mesh->heard_ms > SILENT_INTERVALS * mesh->heartbeat_ms)
        lose_session(mesh);
    int64_t due = mesh->said_ms + (mesh->open ? mesh->heartbeat_ms : mesh->hello_ms);
    if (now >= due) {
        if (mesh->open)
            (void)send_message(mesh, &ping, NULL, NULL, 0); /* silence shows by itself */
        else
            say_hello(mesh);
        mesh->said_ms = now;
        due = now + (mesh->open ? mesh->heartbeat_ms : mesh->hello_ms);
    }
    return due - now;
}

/* One step towards a message about a request: 0 when it is in `in`; -EAGAIN: look at the
 * session, and step again; -ETIMEDOUT: it is `until_ms`. */
static int step(struct siftmesh *mesh, int64_t until_ms, struct incoming *in)
{
    int err = recv_message(mesh, in);

    if (err == 0) {
        mesh->heard_ms = now_ms();
        return take_session(mesh, in) ? -EAGAIN : 0;
    }
    int64_t left = until_ms - now_ms();
    if (left <= 0)
        return -ETIMEDOUT;
    if (err == -EAGAIN) {
        int64_t due = keep_session(mesh);
        zmq_pollitem_t item = {mesh->socket, 0, ZMQ_POLLIN, 0};
        zmq_poll(&item, 1, left < due ? left : due);
    }
    return -EAGAIN;
}

/* A handle that was silent for a heartbeat asks first whether its session lives. */
static void begin_call(struct siftmesh *mesh)
{
    mesh->heard_ms = now_ms();
    if (mesh->open && mesh->heard_ms - mesh->said_ms >= mesh->heartbeat_ms)
        lose_session(mesh);
}

/* A missing folder is no harm: nothing is sent before there is a connection. */
static int check_front(const struct siftmesh *mesh)
{
    char why[SIFTMESH_WHY_BYTES];
    int err = siftmesh_check_front(mesh->front, why, sizeof why);
    return err == -EPERM ? err : 0;
}

static int await_session(struct siftmesh *mesh, int timeout_ms)
{
    int64_t until = now_ms() + timeout_ms;
    struct incoming in = {0};
    int err = -EAGAIN;

    zmq_msg_init(&in.payload);
    lose_session(mesh);
    while (!mesh->open && err != -ETIMEDOUT)
        err = step(mesh, until, &in);
    zmq_msg_close(&in.payload);
    return mesh->open ? check_front(mesh) : -ETIMEDOUT;
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
    int zero = 0, one = 1, hwm = CLIENT_HWM;

    if (snprintf(mesh->front, sizeof mesh->front, "%s", front) >= (int)sizeof mesh->front)
        return -EINVAL;
    mesh->context = zmq_ctx_new();
    mesh->socket = mesh->context ? zmq_socket(mesh->context, ZMQ_DEALER) : NULL;
    if (mesh->socket == NULL)
        return -ENOMEM;
    zmq_setsockopt(mesh->socket, ZMQ_LINGER, &zero, sizeof zero);
    zmq_setsockopt(mesh->socket, ZMQ_IMMEDIATE, &one, sizeof one);
    zmq_setsockopt(mesh->socket, ZMQ_IPV6, &one, sizeof one);
    zmq_setsockopt(mesh->socket, ZMQ_SNDHWM, &hwm, sizeof hwm);
    zmq_setsockopt(mesh->socket, ZMQ_RCVHWM, &hwm, sizeof hwm);
    int err = secure(mesh->socket, front, curve);
    if (err < 0)
        return err;
    err = check_front(mesh);
    return err < 0 ? err : connect_front(mesh);
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
    mesh->owner = getpid();
    int err = set_up_socket(mesh, front, curve);
    if (err == 0)
        err = await_session(mesh, timeout_ms);
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
    if (mesh->owner != getpid()) { /* libzmq's threads are the parent's alone */
        free(mesh);
        return;
    }
    if (mesh->socket != NULL) {
        struct proto_envelope bye = {.verb = PROTO_BYE,
                                     .priority = PROTO_PRIORITY_NORMAL};
        int linger_ms = 100;
        if (mesh->open)
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

/* A question and what answers it: FINAL, REJECT, or `answer_verb`. */
struct exchange {
    struct proto_envelope *envelope;
    const void *body, *payload;
    size_t size;
    int answer_verb; /* -1: none */
    int64_t until_ms, not_before_ms;
    uint64_t session; /* in which it was sent; 0: in none, or it came to nothing */
};

static int send_question(struct siftmesh *mesh, struct exchange *x)
{
    int64_t now = now_ms();
    int err = check_front(mesh);

    if (err < 0)
        return err;
    x->envelope->request = new_id(mesh);
    if (x->envelope->verb == PROTO_SUBMIT)
        x->envelope->budget_ms = (uint32_t)(x->until_ms > now ? x->until_ms - now : 1);
    err = send_message(mesh, x->envelope, x->body, x->payload, x->size);
    if (err == 0) {
        x->session = mesh->sessions;
        mesh->said_ms = now;
    } else if (err == -EAGAIN || err == -EINTR) { /* no connection: the broker is away */
        x->not_before_ms = now + HELLO_MAX_MS;
        err = 0;
    }
    return err;
}

static bool is_end(struct exchange *x, const struct incoming *in)
{
    uint8_t got = in->envelope.verb;
    bool ours = memcmp(&in->envelope.request, &x->envelope->request,
                       sizeof in->envelope.request) == 0;

    if (!ours || (got != PROTO_FINAL && got != PROTO_REJECT && got != x->answer_verb))
        return false;
    if (got == x->answer_verb || in->envelope.status != PROTO_STATUS_DRAINING ||
        now_ms() + DRAINING_WAIT_MS >= x->until_ms)
        return true;
    x->session = 0; /* a successor will take it */
    x->not_before_ms = now_ms() + DRAINING_WAIT_MS;
    return false;
}

/* Ask until there is an answer: again in each session that does not know the question. */
static int exchange(struct siftmesh *mesh, struct exchange *x, struct incoming *in)
{
    int err = -EAGAIN;

    if (getpid() != mesh->owner)
        return -ECHILD;
    begin_call(mesh);
    for (;;) {
        bool waits = mesh->open && x->session != mesh->sessions;
        if (waits && now_ms() >= x->not_before_ms) {
            err = send_question(mesh, x);
            if (err < 0)
                return err;
            continue;
        }
        bool later = waits && x->not_before_ms < x->until_ms;
        err = step(mesh, later ? x->not_before_ms : x->until_ms, in);
        if (err == 0 && is_end(x, in))
            return 0;
        if (err == -ETIMEDOUT && !later)
            return err;
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
                               .cost_bytes = cost_bytes,
                               .trace = new_id(mesh)};
    struct exchange x = {.envelope = &e,
                         .body = body,
                         .payload = payload,
                         .size = size,
                         .answer_verb = -1,
                         .until_ms = now_ms() + timeout_ms};
    struct incoming in = {0};

    zmq_msg_init(&in.payload);
    int err = exchange(mesh, &x, &in);
    if (err == 0)
        err = finish(&in, result);
    if (err == -ETIMEDOUT && x.session != 0) {
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
    struct proto_submit body = *asked;

    snprintf(body.service, sizeof body.service, "cache");
    snprintf(body.method, sizeof body.method, "get");
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
    if (err == -ENOMEM || err == -EPERM)
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
    if (lease != 0)
        settle(mesh, &body, lease, result, SETTLE_MS);
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
    struct proto_envelope e = {.verb = (uint8_t)verb, .priority = PROTO_PRIORITY_HIGH};
    struct exchange x = {.envelope = &e,
                         .body = body,
                         .answer_verb = (int)answer_verb,
                         .until_ms = now_ms() + timeout_ms};
    struct incoming in = {0};

    *result = (struct siftmesh_result){0};
    zmq_msg_init(&in.payload);
    int err = exchange(mesh, &x, &in);
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
