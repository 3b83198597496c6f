/*
 * purges.c - results to be forgotten: first the tiers, by a cacher, then all memories, by
 * the broker; from the beginning again where a part of that failed.
 *
 * Begun by admin.c, gone on with from gateway.c's timer and messages. It never speaks
 * HTTP and never calls a waiter twice.
 */
#include "gateway/purges.h"

#include "runtime/log.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#define TIERS_US  10000000u /* for a cacher's answer */
#define MEMORY_US 5000000u  /* for the broker's */
#define AGAIN_US  1000000u  /* between two tries */

/* TIERS: the exchange is open; MEMORY: the broker's echo of `id` is to come. */
enum step { KEPT, TIERS, MEMORY };

struct gateway_purge {
    struct gateway_purges *purges;
    struct gateway_purge *previous, *next;
    uint8_t key[PROTO_DIGEST_BYTES];
    struct proto_id trace;
    enum step step;
    bool kept;       /* a try has failed */
    bool tiers_done; /* in this try */
    struct proto_id id;
    uint64_t due_us;           /* KEPT: the next try; MEMORY: no answer comes any more */
    gateway_purged_fn *purged; /* NULL: nobody waits */
    void *waiter;
};

struct gateway_purges {
    struct gateway_mesh *mesh;
    struct gateway_link link;
    struct gateway_purge *first;
    uint64_t count, kept;
};

struct gateway_purges *gateway_purges_new(struct gateway_mesh *mesh,
                                          const struct gateway_link *link)
{
    struct gateway_purges *purges = calloc(1, sizeof *purges);

    if (purges == NULL)
        return NULL;
    purges->mesh = mesh;
    purges->link = *link;
    return purges;
}

void gateway_purges_free(struct gateway_purges *purges)
{
    if (purges == NULL)
        return;
    if (purges->kept > 0)
        log_event(LOG_WARNING, "results were not forgotten everywhere", "purges=%llu",
                  (unsigned long long)purges->kept);
    for (struct gateway_purge *at = purges->first, *next; at != NULL; at = next) {
        next = at->next;
        free(at);
    }
    free(purges);
}

/* ---- ends ----------------------------------------------------------------------- */

static void tell(struct gateway_purge *purge, bool done)
{
    gateway_purged_fn *purged = purge->purged;

    purge->purged = NULL;
    if (purged != NULL)
        purged(done, purge->waiter);
}

static void unlink_purge(struct gateway_purge *purge)
{
    struct gateway_purges *purges = purge->purges;

    if (purge->previous != NULL)
        purge->previous->next = purge->next;
    else
        purges->first = purge->next;
    if (purge->next != NULL)
        purge->next->previous = purge->previous;
    purges->count--;
    purges->kept -= purge->kept;
}

static void finish(struct gateway_purge *purge)
{
    char key[2 * PROTO_DIGEST_BYTES + 1];

    proto_hex(purge->key, key);
    if (purge->kept)
        log_event(LOG_NOTICE, "a purge that was kept is done", "key=%s", key);
    unlink_purge(purge);
    tell(purge, true);
    free(purge);
}

static void keep(struct gateway_purge *purge, const char *why, uint64_t now_us)
{
    char key[2 * PROTO_DIGEST_BYTES + 1];

    purge->step = KEPT;
    purge->due_us = now_us + AGAIN_US;
    if (!purge->kept) {
        purge->kept = true;
        purge->purges->kept++;
        proto_hex(purge->key, key);
        log_event(LOG_WARNING, "a purge is kept and tried again", "key=%s error=\"%s\"",
                  key, why);
    }
    tell(purge, false);
}

/* ---- one try -------------------------------------------------------------------- */

static void ask_memories(struct gateway_purge *purge, uint64_t now_us)
{
    const struct gateway_link *link = &purge->purges->link;
    struct proto_purge body = {.key_bytes = PROTO_DIGEST_BYTES};
    struct proto_envelope envelope = {
        .verb = PROTO_PURGE, .priority = PROTO_PRIORITY_HIGH, .trace = purge->trace};

    memcpy(body.key, purge->key, sizeof body.key);
    purge->id = envelope.request = link->new_id(link->arg);
    purge->step = MEMORY;
    purge->due_us = now_us + MEMORY_US;
    if (link->send(link->arg, &envelope, &body, NULL) < 0)
        keep(purge, "the broker does not answer", now_us);
}

/* A cacher that ran out of time for a step tells where it ended. */
static bool is_whole(zmq_msg_t *payload)
{
    json_t *answer = payload == NULL ? NULL
                                     : json_loadb(zmq_msg_data(payload),
                                                  zmq_msg_size(payload), 0, NULL);
    const char *cursor = json_string_value(json_object_get(answer, "cursor"));
    bool whole = cursor != NULL && cursor[0] == '\0';

    json_decref(answer);
    return whole;
}

/* Memories are told in any case: they are what most requests are answered from. */
static void on_tiers_purged(const struct gateway_ending *ending, uint64_t now_us,
                            void *owner)
{
    struct gateway_purge *purge = owner;

    purge->tiers_done = ending->status == PROTO_STATUS_OK && is_whole(ending->payload);
    ask_memories(purge, now_us);
}

/* 0 or what gateway_mesh_submit() says. */
static int ask_tiers(struct gateway_purge *purge, uint64_t now_us)
{
    struct proto_submit body = {
        .service = "cache", .method = "purge", .key_bytes = PROTO_DIGEST_BYTES};
    struct proto_purge what = {.key_bytes = PROTO_DIGEST_BYTES};
    uint8_t packed[PROTO_BODY_BYTES_MAX];
    zmq_msg_t payload;

    memcpy(what.key, purge->key, sizeof what.key);
    int size = proto_body_encode(proto_purge_fields, &what, packed, sizeof packed);
    if (size < 0 || mesh_payload_copy(&payload, packed, (size_t)size) < 0)
        return -ENOMEM;
    struct gateway_submit submit = {.body = &body,
                                    .payload = &payload,
                                    .trace = purge->trace,
                                    .budget_us = TIERS_US,
                                    .priority = PROTO_PRIORITY_HIGH,
                                    .ended = on_tiers_purged,
                                    .owner = purge};
    int err = gateway_mesh_submit(purge->purges->mesh, &submit, now_us, NULL);
    zmq_msg_close(&payload);
    if (err == 0)
        purge->step = TIERS;
    return err;
}

/* One of this key that waits for its next try. */
static struct gateway_purge *find_kept(const struct gateway_purges *purges,
                                       const uint8_t key[PROTO_DIGEST_BYTES])
{
    struct gateway_purge *at = purges->first;

    while (at != NULL && (at->step != KEPT || memcmp(at->key, key, sizeof at->key) != 0))
        at = at->next;
    return at;
}

static struct gateway_purge *new_purge(struct gateway_purges *purges,
                                       const uint8_t key[PROTO_DIGEST_BYTES],
                                       const struct proto_id *trace)
{
    struct gateway_purge *purge = calloc(1, sizeof *purge);

    if (purge == NULL)
        return NULL;
    purge->purges = purges;
    purge->trace = *trace;
    memcpy(purge->key, key, sizeof purge->key);
    purge->next = purges->first;
    if (purge->next != NULL)
        purge->next->previous = purge;
    purges->first = purge;
    purges->count++;
    return purge;
}

int gateway_purges_begin(struct gateway_purges *purges,
                         const uint8_t key[PROTO_DIGEST_BYTES],
                         const struct proto_id *trace, gateway_purged_fn *purged,
                         void *waiter, uint64_t now_us, struct gateway_purge **out)
{
    struct gateway_purge *purge = find_kept(purges, key);

    if (purge == NULL && purges->count >= GATEWAY_PURGES_MAX)
        return -ENOBUFS;
    if (purge == NULL)
        purge = new_purge(purges, key, trace);
    if (purge == NULL)
        return -ENOMEM;
    int err = ask_tiers(purge, now_us);
    if (err == 0) {
        purge->purged = purged;
        purge->waiter = waiter;
        *out = purge;
    } else if (!purge->kept) {
        unlink_purge(purge);
        free(purge);
    }
    return err;
}

void gateway_purge_leave(struct gateway_purge *purge)
{
    purge->purged = NULL;
}

/* ---- answers and time ----------------------------------------------------------- */

bool gateway_purges_on_message(struct gateway_purges *purges, const struct proto_id *id,
                               uint64_t now_us)
{
    struct gateway_purge *purge = purges->first;

    while (purge != NULL &&
           (purge->step != MEMORY || memcmp(&purge->id, id, sizeof *id) != 0))
        purge = purge->next;
    if (purge == NULL)
        return false;
    if (purge->tiers_done)
        finish(purge);
    else
        keep(purge, "no cacher answered for every tier", now_us);
    return true;
}

void gateway_purges_sweep(struct gateway_purges *purges, uint64_t now_us)
{
    /* A try that begins or fails frees nothing. */
    for (struct gateway_purge *at = purges->first; at != NULL; at = at->next) {
        if (at->step == TIERS || now_us < at->due_us)
            continue;
        if (at->step == MEMORY)
            keep(at, "the broker does not answer", now_us);
        else if (ask_tiers(at, now_us) < 0)
            keep(at, "the broker does not answer", now_us);
    }
}

uint64_t gateway_purges_count(const struct gateway_purges *purges)
{
    return purges->count;
}

uint64_t gateway_purges_kept(const struct gateway_purges *purges)
{
    return purges->kept;
}
