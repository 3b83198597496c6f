/*
 * result.h - what memory keeps: a result with what the tiers behind must know of it, or
 * a refusal of an input.
 *
 * hotcache's references are for one thread, and ZeroMQ frees what it has sent on its own.
 * So each result owns a zmq_msg_t: sending takes a zmq_msg_copy() of it, whose count is
 * libzmq's own and atomic, and the bytes go out without being copied. They are copied
 * once, when they arrive: a received message may be a piece of a larger receive buffer,
 * which it would keep alive uncounted. Loop thread only.
 */
#ifndef CACHER_RESULT_H
#define CACHER_RESULT_H

#include "cacher/tier/record.h"
#include "proto/status.h"
#include "runtime/hotcache.h"

#include <zmq.h>

/* One reference, everything of `record` copied. NULL: out of memory. */
struct hotcache_value *cacher_result_new(const struct cacher_record *record);
/* All but the key, which is in the cache's entry; borrowed from `value`. */
void cacher_result_record(const struct hotcache_value *value,
                          const uint8_t key[PROTO_DIGEST_BYTES],
                          struct cacher_record *record);
/* To be sent: shared. */
zmq_msg_t *cacher_result_payload(struct hotcache_value *value);
/* Whether `seconds` have passed since this last said so, or the result was made: the use
 * of a result is told to the tiers behind now and then, not for each hit. */
bool cacher_result_touch(struct hotcache_value *value, uint64_t now_s, uint64_t seconds);

/* An input that is refused, whoever sends it. */
struct cacher_refusal {
    enum proto_status status;
    uint64_t limit, actual, created_s;
    char detail[256];
};

/* One reference, copied. NULL: out of memory. */
struct hotcache_value *cacher_refusal_new(const struct cacher_refusal *refusal);
const struct cacher_refusal *cacher_refusal_of(const struct hotcache_value *value);

#endif
