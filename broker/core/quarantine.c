/*
 * Keys that killed slots: two kills within quarantine_us, by whatever requests, and the
 * key is refused until quarantine_us after the last one.
 *
 * A kill is a slot that died of a signal, or was killed for hanging, while it worked on
 * the job: FAIL(worker_lost) or FAIL(deadline_exceeded) of a worker with slots. Any other
 * FAIL is a shortage of the host's. Nor does the end of a worker's session count: inputs
 * are decoded in slots, so what ends the supervisor is a restart, a host or an operator,
 * and every job in its hands would be blamed. A key that is innocent, as its slot was
 * killed by somebody else, is cleared by its next good end.
 *
 * The list is in the order of the last kill, which is also the order in which suspects
 * are released: so its head is the one to forget, for its time or for room.
 */
#include "broker/core/state.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static struct broker_core_suspect *suspect_of(struct broker_core_link *link)
{
    return BROKER_CORE_OF(struct broker_core_suspect, line, link);
}

int broker_core_quarantine_init(struct broker_core *core)
{
    struct broker_core_quarantine *q = &core->quarantine;
    uint32_t buckets = 1;

    while (buckets < core->limits.quarantine_keys)
        buckets *= 2;
    broker_core_list_init(&q->line);
    q->bucket_mask = buckets - 1;
    q->all = calloc(core->limits.quarantine_keys, sizeof(q->all[0]));
    q->buckets = calloc(buckets, sizeof(q->buckets[0]));
    return q->all == NULL || q->buckets == NULL ? -ENOMEM : 0;
}

void broker_core_quarantine_free(struct broker_core *core)
{
    free(core->quarantine.all);
    free(core->quarantine.buckets);
    core->quarantine = (struct broker_core_quarantine){0};
}

/* A key is a SHA-256, but of a peer's choice: it may have been searched for. */
static struct broker_core_suspect **bucket(struct broker_core *core, const uint8_t *key)
{
    uint64_t hash = core->limits.hash_seed, word;

    for (int i = 0; i < BROKER_CORE_KEY_BYTES; i += 8) {
        memcpy(&word, key + i, sizeof(word));
        hash = (hash ^ word) * 0xff51afd7ed558ccdull;
        hash ^= hash >> 32;
    }
    return &core->quarantine.buckets[hash & core->quarantine.bucket_mask];
}

static struct broker_core_suspect *find(struct broker_core *core, uint32_t service,
                                        const uint8_t *key)
{
    struct broker_core_suspect *suspect = *bucket(core, key);

    while (suspect != NULL && (suspect->service != service ||
                               memcmp(suspect->key, key, BROKER_CORE_KEY_BYTES) != 0))
        suspect = suspect->same_hash;
    return suspect;
}

static void forget(struct broker_core *core, struct broker_core_suspect *suspect)
{
    struct broker_core_quarantine *q = &core->quarantine;
    struct broker_core_suspect **at = bucket(core, suspect->key);

    while (*at != suspect)
        at = &(*at)->same_hash;
    *at = suspect->same_hash;
    q->refused -= suspect->kills >= BROKER_CORE_KILLS_MAX;
    broker_core_list_remove(&suspect->line);
    suspect->same_hash = q->unused;
    q->unused = suspect;
}

static void forget_old(struct broker_core *core, uint64_t now_us)
{
    struct broker_core_link *line = &core->quarantine.line;

    while (!broker_core_list_empty(line) && suspect_of(line->next)->until_us <= now_us)
        forget(core, suspect_of(line->next));
}

static struct broker_core_suspect *take_free(struct broker_core *core)
{
    struct broker_core_quarantine *q = &core->quarantine;

    if (q->unused == NULL && q->touched == core->limits.quarantine_keys)
        forget(core, suspect_of(q->line.next));
    if (q->unused == NULL)
        return &q->all[q->touched++];
    struct broker_core_suspect *suspect = q->unused;
    q->unused = suspect->same_hash;
    return suspect;
}

static struct broker_core_suspect *add(struct broker_core *core, uint32_t service,
                                       const uint8_t *key)
{
    struct broker_core_suspect *suspect = take_free(core);
    struct broker_core_suspect **at = bucket(core, key);

    *suspect = (struct broker_core_suspect){.service = service, .same_hash = *at};
    memcpy(suspect->key, key, BROKER_CORE_KEY_BYTES);
    broker_core_list_init(&suspect->line);
    *at = suspect;
    return suspect;
}

void broker_core_quarantine_blame(struct broker_core *core,
                                  const struct broker_core_job *job, uint64_t now_us)
{
    struct broker_core_quarantine *q = &core->quarantine;

    if (!job->has_key || core->limits.quarantine_us == 0)
        return;
    forget_old(core, now_us);
    struct broker_core_suspect *suspect = find(core, job->service, job->key);
    if (suspect == NULL)
        suspect = add(core, job->service, job->key);
    suspect->until_us = now_us + core->limits.quarantine_us;
    broker_core_list_remove(&suspect->line);
    broker_core_list_insert(&q->line, &suspect->line);
    if (++suspect->kills != BROKER_CORE_KILLS_MAX)
        return;
    q->refused++;
    core->counters.keys_quarantined++;
    struct broker_core_action *action =
        broker_core_act(core, BROKER_CORE_QUARANTINE, BROKER_CORE_NONE);
    action->service = job->service;
    action->payload = job->payload;
}

void broker_core_quarantine_clear(struct broker_core *core,
                                  const struct broker_core_job *job)
{
    if (!job->has_key || broker_core_list_empty(&core->quarantine.line))
        return;
    struct broker_core_suspect *suspect = find(core, job->service, job->key);
    if (suspect != NULL)
        forget(core, suspect);
}

uint64_t broker_core_quarantine_left_us(struct broker_core *core, uint32_t service,
                                        const uint8_t *key, uint64_t now_us)
{
    if (broker_core_list_empty(&core->quarantine.line))
        return 0;
    forget_old(core, now_us);
    const struct broker_core_suspect *suspect = find(core, service, key);
    if (suspect == NULL || suspect->kills < BROKER_CORE_KILLS_MAX)
        return 0;
    return suspect->until_us - now_us;
}

void broker_core_quarantine_drop(struct broker_core *core, uint32_t service)
{
    struct broker_core_link *line = &core->quarantine.line, *next;

    for (struct broker_core_link *at = line->next; at != line; at = next) {
        next = at->next;
        if (suspect_of(at)->service == service)
            forget(core, suspect_of(at));
    }
}

void broker_core_pardon(struct broker_core *core, const uint8_t *key)
{
    for (uint32_t i = 0; i < BROKER_CORE_SERVICES_MAX; i++) {
        if (key == NULL) {
            broker_core_quarantine_drop(core, i);
            continue;
        }
        struct broker_core_suspect *suspect = find(core, i, key);
        if (suspect != NULL)
            forget(core, suspect);
    }
}
