/*
 * Two pools, two hash tables, three lists; all links are indexes into the pools.
 *
 *   entries: one for each lease that holds. Found by key (chains in `by_key`); in the
 *     order of their ends in the list oldest..youngest: every lease lasts equally long,
 *     so the order of grants is the order of ends and no heap is needed.
 *   waiters: one for each parked get. Found by request id (chains in `by_id`); in the
 *     order of arrival in the list of their entry. Their deadlines differ, so a tick
 *     looks at all of them: 3000 are some 10 us, ten times a second.
 */
#include "cacher/leases.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define NONE      UINT32_MAX
#define TABLE_MAX (1u << 20) /* entries or waiters; some 100 MB of each */

struct entry {
    uint8_t key[PROTO_DIGEST_BYTES];
    uint64_t lease, expires_us;
    struct proto_id holder; /* the trace id of who computes; zero: unknown */
    uint32_t chain;         /* next of this hash; next free one in the pool */
    uint32_t older, younger;
    uint32_t first, last; /* waiters */
    uint32_t parked;
    bool looking; /* the lease is the cacher's own */
};

struct waiter {
    struct cacher_ticket ticket;
    uint32_t entry; /* NONE: free */
    uint32_t chain; /* next of this hash; next free one in the pool */
    uint32_t before, after;
};

struct cacher_leases {
    struct cacher_leases_limits limits;
    struct cacher_leases_counters counters;
    cacher_answer_fn *answer;
    void *arg;
    uint64_t next_lease;
    struct entry *entries;
    struct waiter *waiters;
    uint32_t *by_key, *by_id; /* heads of chains */
    uint32_t key_mask, id_mask;
    uint32_t free_entry, free_waiter;          /* used before and free again */
    uint32_t entries_touched, waiters_touched; /* used ever; the rest costs no memory */
    uint32_t oldest, youngest;                 /* entries */
};

static uint32_t *table_new(uint32_t most, uint32_t *mask)
{
    uint32_t size = 16;
    while (size < most)
        size *= 2;
    uint32_t *heads = malloc(size * sizeof heads[0]);
    if (heads != NULL)
        memset(heads, 0xff, size * sizeof heads[0]);
    *mask = size - 1;
    return heads;
}

struct cacher_leases *cacher_leases_new(const struct cacher_leases_limits *limits,
                                        cacher_answer_fn *answer, void *arg)
{
    if (limits->leases_max == 0 || limits->parked_max == 0 ||
        limits->parked_key_max == 0 || limits->leases_max > TABLE_MAX ||
        limits->parked_max > TABLE_MAX || limits->lease_us == 0)
        return NULL;

    struct cacher_leases *leases = calloc(1, sizeof *leases);
    if (leases == NULL)
        return NULL;
    leases->limits = *limits;
    leases->answer = answer;
    leases->arg = arg;
    leases->next_lease = limits->first;
    leases->entries = calloc(limits->leases_max, sizeof leases->entries[0]);
    leases->waiters = calloc(limits->parked_max, sizeof leases->waiters[0]);
    leases->by_key = table_new(limits->leases_max, &leases->key_mask);
    leases->by_id = table_new(limits->parked_max, &leases->id_mask);
    if (leases->entries == NULL || leases->waiters == NULL || leases->by_key == NULL ||
        leases->by_id == NULL) {
        cacher_leases_free(leases);
        return NULL;
    }
    leases->free_entry = leases->free_waiter = NONE;
    leases->oldest = leases->youngest = NONE;
    return leases;
}

void cacher_leases_free(struct cacher_leases *leases)
{
    if (leases == NULL)
        return;
    free(leases->entries);
    free(leases->waiters);
    free(leases->by_key);
    free(leases->by_id);
    free(leases);
}

/* Keys and ids come from peers; the seed keeps them from choosing a chain. */
static uint32_t hash(uint64_t seed, const uint8_t *bytes, size_t size)
{
    uint64_t mixed = seed;
    for (size_t i = 0; i + 8 <= size; i += 8) {
        uint64_t word;
        memcpy(&word, bytes + i, sizeof word);
        mixed = (mixed ^ word) * 0x9e3779b97f4a7c15u;
        mixed ^= mixed >> 32;
    }
    return (uint32_t)mixed;
}

static uint32_t *key_head(struct cacher_leases *leases, const uint8_t *key)
{
    return &leases->by_key[hash(leases->limits.seed, key, PROTO_DIGEST_BYTES) &
                           leases->key_mask];
}

static uint32_t *id_head(struct cacher_leases *leases, const struct proto_id *id)
{
    return &leases->by_id[hash(leases->limits.seed, id->bytes, PROTO_ID_BYTES) &
                          leases->id_mask];
}

static uint32_t find_entry(struct cacher_leases *leases, const uint8_t *key)
{
    uint32_t i = *key_head(leases, key);
    while (i != NONE && memcmp(leases->entries[i].key, key, PROTO_DIGEST_BYTES) != 0)
        i = leases->entries[i].chain;
    return i;
}

/* ---- the list of leases by age ---- */

static void age_append(struct cacher_leases *leases, uint32_t i)
{
    struct entry *entry = &leases->entries[i];
    entry->older = leases->youngest;
    entry->younger = NONE;
    if (leases->youngest != NONE)
        leases->entries[leases->youngest].younger = i;
    else
        leases->oldest = i;
    leases->youngest = i;
}

static void age_remove(struct cacher_leases *leases, uint32_t i)
{
    struct entry *entry = &leases->entries[i];
    if (entry->older != NONE)
        leases->entries[entry->older].younger = entry->younger;
    else
        leases->oldest = entry->younger;
    if (entry->younger != NONE)
        leases->entries[entry->younger].older = entry->older;
    else
        leases->youngest = entry->older;
}

/* ---- entries ---- */

static uint64_t grant(struct cacher_leases *leases, uint32_t i,
                      const struct proto_id *holder, uint64_t now_us)
{
    if (leases->next_lease == 0) /* 0 means no lease in messages */
        leases->next_lease = 1;
    leases->entries[i].lease = leases->next_lease++;
    leases->entries[i].holder = *holder;
    leases->entries[i].expires_us = now_us + leases->limits.lease_us;
    age_append(leases, i);
    *(leases->entries[i].looking ? &leases->counters.looks : &leases->counters.granted) +=
        1;
    return leases->entries[i].lease;
}

static uint32_t entry_add(struct cacher_leases *leases, const uint8_t *key)
{
    uint32_t i = leases->free_entry;
    if (i != NONE)
        leases->free_entry = leases->entries[i].chain;
    else if (leases->entries_touched < leases->limits.leases_max)
        i = leases->entries_touched++;
    else
        return NONE;
    struct entry *entry = &leases->entries[i];
    memcpy(entry->key, key, PROTO_DIGEST_BYTES);
    entry->first = entry->last = NONE;
    entry->parked = 0;
    entry->looking = false;
    uint32_t *head = key_head(leases, key);
    entry->chain = *head;
    *head = i;
    leases->counters.leases_now++;
    return i;
}

/* The entry has no waiters and has left the list by age. */
static void entry_remove(struct cacher_leases *leases, uint32_t i)
{
    struct entry *entry = &leases->entries[i];
    assert(entry->parked == 0);
    uint32_t *link = key_head(leases, entry->key);
    while (*link != i)
        link = &leases->entries[*link].chain;
    *link = entry->chain;
    entry->chain = leases->free_entry;
    leases->free_entry = i;
    leases->counters.leases_now--;
}

/* ---- waiters ---- */

static uint32_t find_waiter(struct cacher_leases *leases, const struct proto_id *id,
                            uint8_t attempt)
{
    uint32_t i = *id_head(leases, id);
    while (i != NONE &&
           (memcmp(&leases->waiters[i].ticket.request, id, sizeof *id) != 0 ||
            leases->waiters[i].ticket.attempt != attempt))
        i = leases->waiters[i].chain;
    return i;
}

static uint32_t waiter_place(struct cacher_leases *leases)
{
    uint32_t i = leases->free_waiter;
    if (i != NONE)
        leases->free_waiter = leases->waiters[i].chain;
    else if (leases->waiters_touched < leases->limits.parked_max)
        i = leases->waiters_touched++;
    return i;
}

/* A place that was not used after all. */
static void waiter_give_back(struct cacher_leases *leases, uint32_t i)
{
    leases->waiters[i].entry = NONE;
    leases->waiters[i].chain = leases->free_waiter;
    leases->free_waiter = i;
}

static void waiter_add(struct cacher_leases *leases, uint32_t i, uint32_t entry_index,
                       const struct cacher_ticket *ticket)
{
    struct waiter *waiter = &leases->waiters[i];
    struct entry *entry = &leases->entries[entry_index];

    waiter->ticket = *ticket;
    waiter->entry = entry_index;
    waiter->before = entry->last;
    waiter->after = NONE;
    if (entry->last != NONE)
        leases->waiters[entry->last].after = i;
    else
        entry->first = i;
    entry->last = i;
    entry->parked++;

    uint32_t *head = id_head(leases, &ticket->request);
    waiter->chain = *head;
    *head = i;
    leases->counters.parked += !entry->looking;
    leases->counters.parked_now++;
}

static struct cacher_ticket waiter_remove(struct cacher_leases *leases, uint32_t i)
{
    struct waiter *waiter = &leases->waiters[i];
    struct entry *entry = &leases->entries[waiter->entry];

    if (waiter->before != NONE)
        leases->waiters[waiter->before].after = waiter->after;
    else
        entry->first = waiter->after;
    if (waiter->after != NONE)
        leases->waiters[waiter->after].before = waiter->before;
    else
        entry->last = waiter->before;
    entry->parked--;

    uint32_t *link = id_head(leases, &waiter->ticket.request);
    while (*link != i)
        link = &leases->waiters[*link].chain;
    *link = waiter->chain;
    waiter_give_back(leases, i);
    leases->counters.parked_now--;
    return waiter->ticket;
}

/* ---- what can happen ---- */

/* The look-up of entry `i` found nothing: peeks wait for nothing else. */
static void answer_peeks(struct cacher_leases *leases, uint32_t i)
{
    for (uint32_t w = leases->entries[i].first, next; w != NONE; w = next) {
        next = leases->waiters[w].after;
        if (!leases->waiters[w].ticket.peek)
            continue;
        struct cacher_ticket ticket = waiter_remove(leases, w);
        leases->answer(&ticket, CACHER_ANSWER_LEASE, 0, leases->arg);
    }
}

/* The lease of entry `i` is over: the one that waited longest computes now. */
static void hand_over(struct cacher_leases *leases, uint32_t i, uint64_t now_us)
{
    age_remove(leases, i);
    if (leases->entries[i].looking)
        answer_peeks(leases, i);
    leases->entries[i].looking = false;
    if (leases->entries[i].first == NONE) {
        entry_remove(leases, i);
        return;
    }
    struct cacher_ticket ticket = waiter_remove(leases, leases->entries[i].first);
    uint64_t lease = grant(leases, i, &ticket.trace, now_us);
    leases->answer(&ticket, CACHER_ANSWER_LEASE, lease, leases->arg);
}

static const struct proto_id nobody;

static bool is_holder(const struct entry *entry, const struct proto_id *trace)
{
    return memcmp(trace, &nobody, sizeof nobody) != 0 &&
           memcmp(trace, &entry->holder, sizeof *trace) == 0;
}

static void expire(struct cacher_leases *leases, uint32_t i, uint64_t now_us)
{
    leases->counters.expired += !leases->entries[i].looking;
    hand_over(leases, i, now_us);
}

/* The first get of a key: its caller computes, or the cacher looks while it waits. */
static enum cacher_turn begin(struct cacher_leases *leases, const uint8_t *key,
                              const struct cacher_ticket *ticket, bool look,
                              uint64_t now_us, uint64_t *lease)
{
    uint32_t place = look ? waiter_place(leases) : NONE;
    uint32_t i = look && place == NONE ? NONE : entry_add(leases, key);

    if (i == NONE) {
        if (place != NONE)
            waiter_give_back(leases, place);
        leases->counters.crowded++;
        return CACHER_TURN_CROWDED;
    }
    leases->entries[i].looking = look;
    *lease = grant(leases, i, look ? &nobody : &ticket->trace, now_us);
    if (!look)
        return CACHER_TURN_LEASE;
    waiter_add(leases, place, i, ticket);
    return CACHER_TURN_LOOK;
}

enum cacher_turn cacher_leases_get(struct cacher_leases *leases,
                                   const uint8_t key[PROTO_DIGEST_BYTES],
                                   const struct cacher_ticket *ticket, bool look,
                                   uint64_t now_us, uint64_t *lease)
{
    uint32_t i = find_entry(leases, key);
    if (i != NONE && leases->entries[i].expires_us <= now_us) {
        expire(leases, i, now_us); /* the tick has not been here yet */
        i = find_entry(leases, key);
    }
    bool looks = i == NONE ? look : leases->entries[i].looking;
    if (ticket->peek && !looks)
        return CACHER_TURN_MISS;
    if (i == NONE)
        return begin(leases, key, ticket, look, now_us, lease);

    if (is_holder(&leases->entries[i], &ticket->trace)) {
        age_remove(leases, i);
        *lease = grant(leases, i, &ticket->trace, now_us);
        return CACHER_TURN_LEASE;
    }
    bool room = leases->entries[i].parked < leases->limits.parked_key_max;
    uint32_t place = room ? waiter_place(leases) : NONE;
    if (place == NONE) {
        leases->counters.crowded++;
        return CACHER_TURN_CROWDED;
    }
    waiter_add(leases, place, i, ticket);
    leases->counters.shared += looks;
    return CACHER_TURN_PARKED;
}

bool cacher_leases_fulfil(struct cacher_leases *leases,
                          const uint8_t key[PROTO_DIGEST_BYTES], uint64_t lease)
{
    uint32_t i = find_entry(leases, key);
    if (i == NONE)
        return false;

    bool held = leases->entries[i].lease == lease;
    bool looking = leases->entries[i].looking;
    leases->counters.fulfilled += held && !looking;
    while (leases->entries[i].first != NONE) {
        struct cacher_ticket ticket = waiter_remove(leases, leases->entries[i].first);
        leases->counters.coalesced += !looking;
        leases->answer(&ticket, CACHER_ANSWER_RESULT, 0, leases->arg);
    }
    age_remove(leases, i);
    entry_remove(leases, i);
    return held;
}

bool cacher_leases_holds(struct cacher_leases *leases,
                         const uint8_t key[PROTO_DIGEST_BYTES], uint64_t lease)
{
    uint32_t i = find_entry(leases, key);

    return i != NONE && leases->entries[i].lease == lease && !leases->entries[i].looking;
}

bool cacher_leases_drop(struct cacher_leases *leases,
                        const uint8_t key[PROTO_DIGEST_BYTES], uint64_t lease,
                        uint64_t now_us)
{
    uint32_t i = find_entry(leases, key);
    if (i == NONE || leases->entries[i].lease != lease)
        return false;
    leases->counters.dropped += !leases->entries[i].looking;
    hand_over(leases, i, now_us);
    return true;
}

bool cacher_leases_abort(struct cacher_leases *leases, const struct proto_id *request,
                         uint8_t attempt)
{
    uint32_t i = find_waiter(leases, request, attempt);
    if (i == NONE)
        return false;
    (void)waiter_remove(leases, i);
    leases->counters.aborted++;
    return true;
}

void cacher_leases_tick(struct cacher_leases *leases, uint64_t now_us)
{
    /* Waits first: a lease is not handed to one whose time is up. */
    for (uint32_t i = 0; i < leases->waiters_touched && leases->counters.parked_now > 0;
         i++) {
        struct waiter *waiter = &leases->waiters[i];
        if (waiter->entry == NONE || waiter->ticket.until_us > now_us)
            continue;
        struct cacher_ticket ticket = waiter_remove(leases, i);
        leases->counters.timeouts++;
        leases->answer(&ticket, CACHER_ANSWER_TIMEOUT, 0, leases->arg);
    }
    while (leases->oldest != NONE &&
           leases->entries[leases->oldest].expires_us <= now_us) {
        expire(leases, leases->oldest, now_us);
    }
}

void cacher_leases_leave(struct cacher_leases *leases)
{
    for (uint32_t i = 0; i < leases->waiters_touched; i++) {
        if (leases->waiters[i].entry == NONE)
            continue;
        struct cacher_ticket ticket = waiter_remove(leases, i);
        leases->answer(&ticket, CACHER_ANSWER_LEAVING, 0, leases->arg);
    }
}

void cacher_leases_forget(struct cacher_leases *leases)
{
    for (uint32_t i = 0; i < leases->waiters_touched; i++) {
        if (leases->waiters[i].entry != NONE) {
            (void)waiter_remove(leases, i);
            leases->counters.aborted++;
        }
    }
}

void cacher_leases_each(struct cacher_leases *leases,
                        void (*visit)(const struct cacher_ticket *ticket, void *arg),
                        void *arg)
{
    for (uint32_t i = 0; i < leases->waiters_touched; i++)
        if (leases->waiters[i].entry != NONE)
            visit(&leases->waiters[i].ticket, arg);
}

const struct cacher_leases_counters *
cacher_leases_counters(const struct cacher_leases *leases)
{
    return &leases->counters;
}
