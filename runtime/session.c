#include "runtime/session.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HELLO_FIRST_MS   50 /* wait for WELCOME, doubled up to HELLO_MAX_MS */
#define HELLO_MAX_MS     1000
#define HEARTBEAT_MIN_MS 20
#define SILENT_INTERVALS 3     /* heartbeats without a frame end the session */
#define STATS_BYTES_MAX  16384 /* PING's payload, docs/PROTOCOL.md section 3 */
#define SESSION_HWM      16384 /* messages; the credit is the real bound */

struct session {
    struct service *service;
    struct endpoint *endpoint;
    struct proto_hello hello;
    struct proto_enlist enlist;
    bool is_worker;
    struct session_callbacks callbacks;
    void *arg;
    uv_timer_t timer; /* HELLO while down, PING while up */
    bool up;
    uint64_t epoch, heartbeat_ms, hello_ms, heard_us;
    uint8_t prefix[8];
    uint64_t ids;
};

static void on_timer(uv_timer_t *timer);

static void send_hello(struct session *session)
{
    struct proto_envelope envelope = {.verb = PROTO_HELLO,
                                      .priority = PROTO_PRIORITY_NORMAL};
    const void *body = &session->hello;

    if (session->is_worker) {
        envelope.verb = PROTO_REGISTER;
        body = &session->enlist;
    }
    endpoint_retry(session->endpoint);
    /* Not connected yet, or lost: said again when the timer fires. */
    (void)endpoint_send(session->endpoint, NULL, &envelope, body, NULL);
    uv_timer_start(&session->timer, on_timer, session->hello_ms, 0);
    session->hello_ms =
        session->hello_ms * 2 < HELLO_MAX_MS ? session->hello_ms * 2 : HELLO_MAX_MS;
}

static void go_down(struct session *session, const char *why)
{
    if (session->up) {
        session->up = false;
        log_event(LOG_WARNING, "broker lost", "why=\"%s\"", why);
        if (session->callbacks.on_down != NULL)
            session->callbacks.on_down(session, session->arg);
    }
    session->hello_ms = HELLO_FIRST_MS;
    uv_timer_start(&session->timer, on_timer, 0, 0);
}

static json_t *own_stats(struct session *session)
{
    if (session->callbacks.stats != NULL)
        return session->callbacks.stats(session->arg);
    const struct metrics_spec *specs = service_metrics_spec(session->service);
    return specs ? metrics_json(specs, service_metrics(session->service)) : NULL;
}

static void send_ping(struct session *session)
{
    struct proto_envelope envelope = {.verb = PROTO_PING,
                                      .priority = PROTO_PRIORITY_NORMAL};
    json_t *stats = own_stats(session);
    char *text = stats != NULL ? json_dumps(stats, JSON_COMPACT) : NULL;
    size_t size = text != NULL ? strlen(text) : 0;
    zmq_msg_t payload;

    if (size > 0 && size <= STATS_BYTES_MAX &&
        mesh_payload_copy(&payload, text, size) == 0) {
        (void)session_send(session, &envelope, NULL, &payload);
        zmq_msg_close(&payload);
    } else {
        (void)session_send(session, &envelope, NULL, NULL);
    }
    free(text);
    json_decref(stats);
}

static void on_timer(uv_timer_t *timer)
{
    struct session *session = timer->data;
    uint64_t silent_us = service_now_us(session->service) - session->heard_us;

    if (!session->up) {
        send_hello(session);
    } else if (silent_us > SILENT_INTERVALS * session->heartbeat_ms * 1000) {
        go_down(session, "silence");
    } else {
        send_ping(session);
        uv_timer_start(&session->timer, on_timer, session->heartbeat_ms, 0);
    }
}

static void on_welcome(struct session *session, const struct mesh_msg *msg)
{
    struct proto_welcome welcome;

    if (session->up ||
        proto_body_decode(proto_welcome_fields, msg->body, msg->body_bytes, &welcome) < 0)
        return;
    bool fresh = welcome.fresh != 0 || msg->envelope.epoch != session->epoch;
    session->up = true;
    session->epoch = msg->envelope.epoch;
    session->heartbeat_ms =
        welcome.heartbeat_ms < HEARTBEAT_MIN_MS ? HEARTBEAT_MIN_MS : welcome.heartbeat_ms;
    log_event(LOG_INFO, "broker found", "epoch=%llu fresh=%d",
              (unsigned long long)session->epoch, fresh);
    send_ping(session); /* so that the broker's view of us is whole from the start */
    uv_timer_start(&session->timer, on_timer, session->heartbeat_ms, 0);
    if (session->callbacks.on_up != NULL)
        session->callbacks.on_up(session, &welcome, fresh, session->arg);
}

static void on_message(struct endpoint *endpoint, struct mesh_msg *msg, void *arg)
{
    struct session *session = arg;
    struct proto_envelope pong = msg->envelope;
    (void)endpoint;

    session->heard_us = service_now_us(session->service);
    switch (msg->envelope.verb) {
    case PROTO_WELCOME:
        on_welcome(session, msg);
        return;
    case PROTO_PONG:
        if (session->up && msg->envelope.epoch != session->epoch)
            go_down(session, "another epoch");
        return;
    case PROTO_PING:
        pong.verb = PROTO_PONG;
        (void)session_send(session, &pong, NULL, NULL);
        return;
    case PROTO_BYE:
        if (session->up)
            go_down(session, "session ended by the broker");
        return;
    default:
        if (session->callbacks.on_message != NULL)
            session->callbacks.on_message(session, msg, session->arg);
    }
}

static void fill_identity(struct session *session, const char *role,
                          const struct proto_enlist *enlist)
{
    const char *name = service_instance(session->service);

    session->is_worker = enlist != NULL;
    if (enlist != NULL) {
        struct proto_enlist *e = &session->enlist;
        *e = *enlist;
        snprintf(e->name, sizeof e->name, "%s", name);
        snprintf(e->version, sizeof e->version, "%s", SIFTMESH_VERSION);
        uv_os_gethostname(e->host, &(size_t){sizeof e->host});
        e->pid = (uint64_t)uv_os_getpid();
        return;
    }
    snprintf(session->hello.role, sizeof session->hello.role, "%s", role);
    snprintf(session->hello.name, sizeof session->hello.name, "%s", name);
    snprintf(session->hello.version, sizeof session->hello.version, "%s",
             SIFTMESH_VERSION);
}

int session_open(struct service *service, const char *role,
                 const struct proto_enlist *enlist,
                 const struct session_callbacks *callbacks, void *arg,
                 struct session **out)
{
    static const struct endpoint_callbacks endpoint_callbacks = {on_message, NULL};
    char routing_id[ENDPOINT_PEER_BYTES_MAX];
    struct session *session = calloc(1, sizeof *session);

    if (session == NULL)
        return -ENOMEM;
    session->service = service;
    session->callbacks = *callbacks;
    session->arg = arg;
    session->hello_ms = HELLO_FIRST_MS;
    service_random(session->prefix, sizeof session->prefix);
    fill_identity(session, role, enlist);

    /* The end of the name is dropped before the random part that makes it unique. */
    uint64_t unique;
    memcpy(&unique, session->prefix, sizeof unique);
    snprintf(routing_id, sizeof routing_id, "%.46s-%016llx", service_instance(service),
             (unsigned long long)unique);
    struct endpoint_options options = {
        .kind = ENDPOINT_DEALER,
        .address = service_endpoint(service, enlist != NULL ? "back" : "front"),
        .routing_id = routing_id,
        .hwm = SESSION_HWM,
        .curve = service_curve(service),
    };
    int err = endpoint_open(service_loop(service), service_zmq(service), &options,
                            &endpoint_callbacks, session, &session->endpoint);
    if (err < 0) {
        free(session);
        return err;
    }
    uv_timer_init(service_loop(service), &session->timer);
    session->timer.data = session;
    uv_timer_start(&session->timer, on_timer, 0, 0);
    *out = session;
    return 0;
}

static void on_timer_closed(uv_handle_t *handle)
{
    free(handle->data);
}

/* BYE should leave although the process may end right after. */
#define BYE_LINGER_MS 200

void session_close(struct session *session)
{
    if (session == NULL)
        return;
    if (session->up) {
        struct proto_envelope bye = {.verb = PROTO_BYE,
                                     .priority = PROTO_PRIORITY_NORMAL};
        (void)session_send(session, &bye, NULL, NULL);
    }
    session->up = false;
    endpoint_close(session->endpoint, BYE_LINGER_MS);
    uv_close((uv_handle_t *)&session->timer, on_timer_closed);
}

bool session_is_up(const struct session *session)
{
    return session->up;
}

uint64_t session_epoch(const struct session *session)
{
    return session->epoch;
}

int session_send(struct session *session, struct proto_envelope *envelope,
                 const void *body, zmq_msg_t *payload)
{
    if (!session->up)
        return -ENOTCONN;
    envelope->epoch = session->epoch;
    return endpoint_send(session->endpoint, NULL, envelope, body, payload);
}

struct proto_id session_new_id(struct session *session)
{
    struct proto_id id;
    uint64_t count = ++session->ids;
    memcpy(id.bytes, session->prefix, 8);
    memcpy(id.bytes + 8, &count, 8);
    return id;
}

const struct endpoint_counters *session_counters(const struct session *session)
{
    return endpoint_counters(session->endpoint);
}
