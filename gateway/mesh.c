#include "gateway/mesh.h"

#include "runtime/drain.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define BUCKETS 1024u /* a power of two */
/* The broker's own end of a request is waited for this much longer than its budget. */
#define GRACE_US 250000u
/* A SUBMIT may be lost though its send succeeded; without ACCEPT for this long it is
 * taken for lost. Long enough for a large picture on a slow link. */
#define ACCEPT_US 10000000u
/* What was cancelled is waited for no longer than this. */
#define CANCELLED_US 2000000u

struct gateway_exchange {
    struct gateway_exchange *next, *previous; /* all, oldest first */
    struct gateway_exchange *chain;           /* of a bucket */
    struct proto_id id;
    uint64_t payload_bytes, deadline_us, accept_us;
    bool accepted;
    gateway_ended_fn *ended;
    void *owner;
};

struct gateway_mesh {
    struct gateway_link link;
    bool up;          /* the session */
    bool leaving;     /* its broker drains */
    bool seen;        /* there was a session */
    uint64_t gone_us; /* since when no broker takes requests, where none does */
    struct gateway_credit credit;
    struct gateway_exchange *first, *last;
    struct gateway_exchange *buckets[BUCKETS];
    struct gateway_mesh_counters counters;
    struct drain ended;
};

static const struct proto_outcome no_outcome;

struct gateway_mesh *gateway_mesh_new(const struct gateway_link *link)
{
    struct gateway_mesh *mesh = calloc(1, sizeof *mesh);

    if (mesh != NULL)
        mesh->link = *link;
    return mesh;
}

void gateway_mesh_free(struct gateway_mesh *mesh)
{
    if (mesh == NULL)
        return;
    for (struct gateway_exchange *at = mesh->first, *next; at != NULL; at = next) {
        next = at->next;
        free(at);
    }
    free(mesh);
}

/* ---- the table ------------------------------------------------------------------ */

/* Ids are a count behind a fixed prefix (session.h), so their end spreads them. */
static struct gateway_exchange **bucket_of(struct gateway_mesh *mesh,
                                           const struct proto_id *id)
{
    unsigned end = id->bytes[8] | (unsigned)id->bytes[9] << 8;

    return &mesh->buckets[end % BUCKETS];
}

static struct gateway_exchange *find(struct gateway_mesh *mesh, const struct proto_id *id)
{
    struct gateway_exchange *at = *bucket_of(mesh, id);

    while (at != NULL && memcmp(at->id.bytes, id->bytes, PROTO_ID_BYTES) != 0)
        at = at->chain;
    return at;
}

static void insert(struct gateway_mesh *mesh, struct gateway_exchange *exchange)
{
    struct gateway_exchange **bucket = bucket_of(mesh, &exchange->id);

    exchange->chain = *bucket;
    *bucket = exchange;
    exchange->previous = mesh->last;
    if (mesh->last != NULL)
        mesh->last->next = exchange;
    else
        mesh->first = exchange;
    mesh->last = exchange;
    mesh->credit.jobs++;
    mesh->credit.bytes += exchange->payload_bytes;
}

static void withdraw(struct gateway_mesh *mesh, struct gateway_exchange *exchange)
{
    struct gateway_exchange **at = bucket_of(mesh, &exchange->id);

    while (*at != exchange)
        at = &(*at)->chain;
    *at = exchange->chain;
    if (exchange->previous != NULL)
        exchange->previous->next = exchange->next;
    else
        mesh->first = exchange->next;
    if (exchange->next != NULL)
        exchange->next->previous = exchange->previous;
    else
        mesh->last = exchange->previous;
    mesh->credit.jobs--;
    mesh->credit.bytes -= exchange->payload_bytes;
}

/* The one way out of an exchange. */
static void end(struct gateway_mesh *mesh, struct gateway_exchange *exchange,
                const struct gateway_ending *ending, uint64_t now_us)
{
    gateway_ended_fn *ended = exchange->ended;
    void *owner = exchange->owner;

    withdraw(mesh, exchange);
    free(exchange);
    drain_note(&mesh->ended, now_us);
    if (ended != NULL)
        ended(ending, now_us, owner);
}

/* ---- the session ---------------------------------------------------------------- */

/* Only those open at the call: `ended` may submit new ones, which go to the end. */
static void lose_all(struct gateway_mesh *mesh, uint64_t now_us)
{
    const struct gateway_ending ending = {
        .status = PROTO_STATUS_UNAVAILABLE, .lost = true, .outcome = &no_outcome};

    for (uint64_t left = mesh->credit.jobs; left > 0 && mesh->first != NULL; left--) {
        mesh->counters.lost++;
        end(mesh, mesh->first, &ending, now_us);
    }
}

void gateway_mesh_up(struct gateway_mesh *mesh, const struct proto_welcome *welcome,
                     bool fresh, uint64_t now_us)
{
    mesh->up = mesh->seen = true;
    mesh->leaving = false;
    mesh->credit.jobs_max = welcome->credit_jobs;
    mesh->credit.bytes_max = welcome->credit_bytes;
    if (fresh)
        lose_all(mesh, now_us);
}

bool gateway_mesh_is_up(const struct gateway_mesh *mesh)
{
    return mesh->up && !mesh->leaving;
}

bool gateway_mesh_is_connected(const struct gateway_mesh *mesh)
{
    return mesh->up;
}

void gateway_mesh_down(struct gateway_mesh *mesh, uint64_t now_us)
{
    if (gateway_mesh_is_up(mesh))
        mesh->gone_us = now_us;
    mesh->up = false;
}

/* The broker drains: its successor is waited for as after its death. */
static void leave(struct gateway_mesh *mesh, uint64_t now_us)
{
    if (gateway_mesh_is_up(mesh))
        mesh->gone_us = now_us;
    mesh->leaving = true;
}

uint64_t gateway_mesh_away_us(const struct gateway_mesh *mesh, uint64_t now_us)
{
    if (gateway_mesh_is_up(mesh))
        return 0;
    return mesh->seen ? now_us - mesh->gone_us : GATEWAY_MESH_NEVER;
}

/* ---- asking --------------------------------------------------------------------- */

static bool has_credit(const struct gateway_mesh *mesh, uint64_t payload_bytes,
                       unsigned priority)
{
    struct gateway_credit credit = gateway_mesh_credit(mesh, priority);

    if (credit.jobs >= credit.jobs_max)
        return false;
    return payload_bytes == 0 || (credit.bytes <= credit.bytes_max &&
                                  payload_bytes <= credit.bytes_max - credit.bytes);
}

static int send_submit(struct gateway_mesh *mesh, const struct gateway_submit *submit,
                       const struct proto_id *id)
{
    uint64_t budget_ms = (submit->budget_us + 999) / 1000;
    struct proto_envelope envelope = {
        .verb = PROTO_SUBMIT,
        .priority = (uint8_t)submit->priority,
        .budget_ms = budget_ms < UINT32_MAX ? (uint32_t)budget_ms : UINT32_MAX,
        .request = *id,
        .cost_bytes = submit->cost_bytes,
        .trace = submit->trace,
    };

    return mesh->link.send(mesh->link.arg, &envelope, submit->body, submit->payload);
}

int gateway_mesh_submit(struct gateway_mesh *mesh, const struct gateway_submit *submit,
                        uint64_t now_us, struct gateway_exchange **out)
{
    uint64_t bytes = submit->payload == NULL ? 0 : zmq_msg_size(submit->payload);

    if (!gateway_mesh_is_up(mesh))
        return -ENOTCONN;
    if (!has_credit(mesh, bytes, submit->priority))
        return -ENOBUFS;
    struct gateway_exchange *exchange = calloc(1, sizeof *exchange);
    if (exchange == NULL)
        return -ENOMEM;
    exchange->id = mesh->link.new_id(mesh->link.arg);
    int err = send_submit(mesh, submit, &exchange->id);
    if (err < 0) {
        free(exchange);
        return err;
    }
    exchange->payload_bytes = bytes;
    exchange->deadline_us = now_us + submit->budget_us + GRACE_US;
    exchange->accept_us = now_us + ACCEPT_US;
    exchange->ended = submit->ended;
    exchange->owner = submit->owner;
    insert(mesh, exchange);
    mesh->counters.submitted++;
    if (out != NULL)
        *out = exchange;
    return 0;
}

static void send_cancel(struct gateway_mesh *mesh, const struct proto_id *id,
                        uint16_t flags)
{
    struct proto_envelope envelope = {.verb = PROTO_CANCEL,
                                      .priority = PROTO_PRIORITY_NORMAL,
                                      .flags = flags,
                                      .request = *id};

    /* Best effort: what is not cancelled ends by its budget. */
    (void)mesh->link.send(mesh->link.arg, &envelope, NULL, NULL);
}

void gateway_mesh_cancel(struct gateway_mesh *mesh, struct gateway_exchange *exchange,
                         uint64_t now_us)
{
    send_cancel(mesh, &exchange->id, 0);
    mesh->counters.cancelled++;
    exchange->ended = NULL;
    exchange->accepted = true;
    if (exchange->deadline_us > now_us + CANCELLED_US)
        exchange->deadline_us = now_us + CANCELLED_US;
}

void gateway_mesh_recall(struct gateway_mesh *mesh,
                         const struct gateway_exchange *exchange)
{
    send_cancel(mesh, &exchange->id, PROTO_FLAG_FRESH);
}

/* ---- answers -------------------------------------------------------------------- */

static void on_end(struct gateway_mesh *mesh, struct gateway_exchange *exchange,
                   struct mesh_msg *msg, uint64_t now_us)
{
    struct proto_outcome outcome;
    struct gateway_ending ending = {.status = (enum proto_status)msg->envelope.status,
                                    .outcome = &outcome,
                                    .payload = msg->has_payload ? &msg->payload : NULL};

    if (proto_body_decode(proto_outcome_fields, msg->body, msg->body_bytes, &outcome) <
        0) {
        ending.status = PROTO_STATUS_INTERNAL;
        ending.outcome = &no_outcome;
    }
    if (msg->envelope.verb == PROTO_REJECT) {
        mesh->counters.rejected++;
        if (ending.status == PROTO_STATUS_OK) /* a contradiction is no success */
            ending.status = PROTO_STATUS_INTERNAL;
    }
    if (ending.status == PROTO_STATUS_DRAINING) {
        leave(mesh, now_us);
        mesh->counters.lost++;
        ending.lost = true;
    }
    end(mesh, exchange, &ending, now_us);
}

void gateway_mesh_on_message(struct gateway_mesh *mesh, struct mesh_msg *msg,
                             uint64_t now_us)
{
    unsigned verb = msg->envelope.verb;

    if (verb != PROTO_ACCEPT && verb != PROTO_FINAL && verb != PROTO_REJECT)
        return;
    struct gateway_exchange *exchange = find(mesh, &msg->envelope.request);
    if (exchange == NULL)
        mesh->counters.strays++;
    else if (verb == PROTO_ACCEPT)
        exchange->accepted = true;
    else
        on_end(mesh, exchange, msg, now_us);
}

/* ---- time ----------------------------------------------------------------------- */

static bool is_due(const struct gateway_mesh *mesh,
                   const struct gateway_exchange *exchange, uint64_t now_us)
{
    return now_us >= exchange->deadline_us ||
           (mesh->up && !exchange->accepted && now_us >= exchange->accept_us);
}

static void expire(struct gateway_mesh *mesh, struct gateway_exchange *exchange,
                   uint64_t now_us)
{
    struct gateway_ending ending = {.status = PROTO_STATUS_EXPIRED,
                                    .overdue = now_us >= exchange->deadline_us,
                                    .outcome = &no_outcome};

    ending.lost = !ending.overdue;
    if (ending.lost)
        mesh->counters.lost++;
    else
        mesh->counters.overdue++;
    /* Should the broker know it after all, it need not go on. */
    if (exchange->ended != NULL)
        send_cancel(mesh, &exchange->id, 0);
    end(mesh, exchange, &ending, now_us);
}

void gateway_mesh_sweep(struct gateway_mesh *mesh, uint64_t now_us)
{
    struct gateway_exchange *at = mesh->first;

    /* An end may cancel or submit others, but frees none of them: `next` holds. */
    for (uint64_t left = mesh->credit.jobs; left > 0 && at != NULL; left--) {
        struct gateway_exchange *next = at->next;
        if (is_due(mesh, at, now_us))
            expire(mesh, at, now_us);
        at = next;
    }
}

struct gateway_credit gateway_mesh_credit(const struct gateway_mesh *mesh,
                                          unsigned priority)
{
    struct gateway_credit credit = mesh->credit;

    credit.jobs_max = proto_priority_limit(credit.jobs_max, credit.jobs, priority);
    credit.bytes_max = proto_priority_limit(credit.bytes_max, credit.bytes, priority);
    return credit;
}

uint64_t gateway_mesh_retry_ms(const struct gateway_mesh *mesh, uint64_t now_us)
{
    return drain_ms(&mesh->ended, mesh->credit.jobs, now_us);
}

const struct gateway_mesh_counters *gateway_mesh_counters(const struct gateway_mesh *mesh)
{
    return &mesh->counters;
}
