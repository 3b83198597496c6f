#include "broker/peers.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int broker_peers_init(struct broker_peers *peers, uint32_t max, uint64_t unsent_max,
                      uint64_t seed)
{
    uint32_t buckets = 1;

    while (buckets < max)
        buckets *= 2;
    *peers = (struct broker_peers){
        .max = max, .bucket_mask = buckets - 1, .seed = seed, .unsent_max = unsent_max};
    peers->all = calloc(max, sizeof peers->all[0]);
    peers->buckets = calloc(buckets, sizeof peers->buckets[0]);
    if (peers->all == NULL || peers->buckets == NULL) {
        broker_peers_free(peers);
        return -ENOMEM;
    }
    return 0;
}

void broker_peers_free(struct broker_peers *peers)
{
    for (uint32_t i = 0; peers->all != NULL && i < peers->max; i++) {
        free(peers->all[i].stats);
        broker_finals_drop(&peers->all[i]);
        mesh_outbox_free(peers->all[i].id.outbox);
    }
    free(peers->all);
    free(peers->buckets);
    *peers = (struct broker_peers){0};
}

static struct broker_peer **bucket(const struct broker_peers *peers,
                                   const struct mesh_peer *id)
{
    uint64_t hash = peers->seed;

    for (unsigned i = 0; i < id->size; i++) {
        hash = (hash ^ id->bytes[i]) * 0xff51afd7ed558ccdull;
        hash ^= hash >> 32;
    }
    return &peers->buckets[hash & peers->bucket_mask];
}

struct broker_peer *broker_peers_find(const struct broker_peers *peers,
                                      const struct mesh_peer *id)
{
    struct broker_peer *peer = *bucket(peers, id);

    while (peer != NULL && !mesh_peer_equal(&peer->id, id))
        peer = peer->same_hash;
    return peer;
}

struct broker_peer *broker_peers_at(const struct broker_peers *peers, uint32_t index)
{
    return index < peers->max && peers->all[index].used ? &peers->all[index] : NULL;
}

struct broker_peer *broker_peers_add(struct broker_peers *peers,
                                     const struct mesh_peer *id)
{
    struct broker_peer **at = bucket(peers, id);
    uint32_t index = 0;

    while (index < peers->max && peers->all[index].used)
        index++;
    struct mesh_outbox *outbox =
        index < peers->max ? mesh_outbox_new(peers->unsent_max) : NULL;
    if (outbox == NULL)
        return NULL;
    peers->all[index] =
        (struct broker_peer){.used = true, .id = *id, .index = index, .same_hash = *at};
    peers->all[index].id.outbox = outbox;
    *at = &peers->all[index];
    peers->count++;
    return *at;
}

void broker_peers_remove(struct broker_peers *peers, struct broker_peer *peer)
{
    struct broker_peer **at = bucket(peers, &peer->id);

    while (*at != peer)
        at = &(*at)->same_hash;
    *at = peer->same_hash;
    free(peer->stats);
    broker_finals_drop(peer);
    mesh_outbox_free(peer->id.outbox);
    *peer = (struct broker_peer){0};
    peers->count--;
}

void broker_peers_set_stats(struct broker_peer *peer, const void *bytes, size_t size)
{
    if (size == 0 || size > BROKER_PEERS_STATS_BYTES)
        return;
    char *stats = realloc(peer->stats, size);
    if (stats == NULL)
        return;
    memcpy(stats, bytes, size);
    peer->stats = stats;
    peer->stats_bytes = size;
}
