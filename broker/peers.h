/*
 * peers.h - which routing id is which small number of the core, and what the peer said
 * of itself.
 *
 * One table for the front, one for the back. A peer is in it exactly as long as its
 * session is open. Numbers are the lowest free ones. Loop thread only.
 */
#ifndef BROKER_PEERS_H
#define BROKER_PEERS_H

#include "broker/finals.h"
#include "runtime/endpoint.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BROKER_PEERS_STATS_BYTES 16384 /* PING's payload, docs/PROTOCOL.md section 3 */
#define BROKER_PEERS_NONE        UINT32_MAX

struct broker_peer {
    bool used;
    struct mesh_peer id;
    uint32_t index;
    char role[16]; /* of a client; of a worker its service */
    char name[64], host[64], version[32];
    uint64_t pid, since_us;
    uint32_t bad; /* messages */
    bool spoke;   /* since its session opened, more than the verb that opens it */
    struct broker_finals finals; /* of a client */
    char *stats; /* JSON as the peer sent it, not looked into; NULL: none */
    size_t stats_bytes;
    struct broker_peer *same_hash;
};

struct broker_peers {
    struct broker_peer *all;
    uint32_t max, count;
    struct broker_peer **buckets;
    uint32_t bucket_mask;
    uint64_t seed, unsent_max;
};

/* Room for `max` peers, each with at most `unsent_max` bytes on their way to it. `seed`
 * is secret: peers choose their routing ids. 0, -ENOMEM. */
int broker_peers_init(struct broker_peers *peers, uint32_t max, uint64_t unsent_max,
                      uint64_t seed);
void broker_peers_free(struct broker_peers *peers);

/* NULL when it has no session. */
struct broker_peer *broker_peers_find(const struct broker_peers *peers,
                                      const struct mesh_peer *id);
struct broker_peer *broker_peers_at(const struct broker_peers *peers, uint32_t index);
/* A new entry, all zero but for id and index. NULL when `max` are there, or without
 * memory. */
struct broker_peer *broker_peers_add(struct broker_peers *peers,
                                     const struct mesh_peer *id);
void broker_peers_remove(struct broker_peers *peers, struct broker_peer *peer);

/* Keep a copy of what the peer says of itself; too long or no memory: the last stays. */
void broker_peers_set_stats(struct broker_peer *peer, const void *bytes, size_t size);

#endif
