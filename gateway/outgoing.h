/*
 * outgoing.h - bytes of answers on their way, bounded for one answer, for one client and
 * in all.
 *
 * A value counts once, however many answers share it, from the first one until libuv has
 * let go of the last: with all that it holds, a pinned message too. It is on the account
 * of the client that asked first. Where there is no room the slowest reader gives way,
 * else the answer is refused before it is rendered. A client that is sent nothing may
 * always have one answer, and so may whoever is alone. No allocation, no walk but where
 * room is short.
 */
#ifndef GATEWAY_OUTGOING_H
#define GATEWAY_OUTGOING_H

#include "gateway/gateway.h"
#include "proto/render.h"

/* The client that wants an answer, and the bound that the answer broke. */
struct gateway_asking {
    struct http_client *client;
    uint64_t limit, actual; /* bytes; set with an error */
};

/* Whether the blob in `bytes` may be rendered. 0; -EFBIG: the answer has more bytes than
 * answer_bytes_max for certain; -ENOBUFS: there is no room; -EPROTO: a bad blob. */
int gateway_outgoing_may_render(struct gateway *gateway, struct gateway_asking *asking,
                                const struct hotcache_value *blob,
                                enum proto_format format,
                                enum proto_descriptors descriptors);
/* Whether `value` may be sent. 0, -EFBIG or -ENOBUFS. */
int gateway_outgoing_may_send(struct gateway *gateway, struct gateway_asking *asking,
                              const struct hotcache_value *value);

/* An answer begins, and ends. */
void gateway_outgoing_hold(struct gateway *gateway, struct hotcache_value *value,
                           struct http_client *client);
void gateway_outgoing_drop(struct gateway *gateway, struct hotcache_value *value);

#endif
