/*
 * redis.h - results in Redis, shared by every cacher: a tier (cacher/tier/tier.h).
 *
 * One server, or a Redis Cluster, which is found out when it is connected to. Over
 * `connections` connections to each server, commands are pipelined; each has a time of
 * its own, and gets a second try on a timeout or a lost connection. A server that does
 * not answer is by-passed by its breaker and asked again with growing pauses; the log
 * says so once, and once that it is back.
 *
 *   siftmesh:feat:<64 hex digits>  string: a record (cacher/tier/record.h); expires
 *   siftmesh:tag:<tag>             sorted set: hex keys by the Unix time of their expiry;
 *                                  trimmed at each put, expires with its last key
 *
 * Nothing else in that Redis is read or written, and it is never flushed. Bytes from it
 * are hostile: a reply that is too long, deep or unasked for ends the connection, a value
 * that is no record of the key asked for is a miss, counted as damaged. Values are read
 * by GETRANGE, which bounds what a reply may bring.
 *
 * One thread, that of the loop; nothing blocks it. A host name is resolved by libuv's
 * thread pool.
 *
 * Not here: TLS (use a local proxy), replicas for reads, Sentinel.
 */
#ifndef CACHER_REDIS_REDIS_H
#define CACHER_REDIS_REDIS_H

#include "cacher/tier/tier.h"

#include <stddef.h>
#include <uv.h>

#define CACHER_REDIS_CONNECTIONS_MAX 64

/* 0 is the default of each number. */
struct cacher_redis_options {
    /* redis://[[user]:password@]host[:port][/db] or unix:///path[?db=N]; borrowed for the
     * call. Bytes of user and password may be %-encoded. */
    const char *url;
    unsigned connections; /* to each server, 1 to 64; 4 */
    unsigned timeout_ms;  /* of a try of a command; 250. A get ends in twice that */
    unsigned connect_timeout_ms; /* connected, let in and asked what it is; 1000 */
    unsigned ping_ms;            /* of an idle connection; 30000 */
    unsigned ttl_s;              /* 3600 */
    unsigned ttl_jitter_percent; /* each key's own part of it, 0 to 50; no default */
    size_t value_bytes_max;      /* of a record, up to 256 MiB; 32 MiB */
    unsigned gets_max;           /* under way at once; 4096 */
    unsigned puts_max;           /* not yet written; 4096 */
    size_t queue_bytes_max;      /* of them; 64 MiB */
};

/* NULL when `url` is well formed, else why not: a static sentence, without the URL. */
const char *cacher_redis_url_check(const char *url);

/*
 * Begins to connect and returns. 0; -EINVAL for a URL or a number that cannot be, after
 * logging which and why (never the password); -ENOMEM or libuv's error. The tier is the
 * caller's until it calls class->close.
 */
int cacher_redis_open(uv_loop_t *loop, const struct cacher_redis_options *options,
                      struct cacher_tier **out);

#endif
