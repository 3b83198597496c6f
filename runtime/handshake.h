/*
 * handshake.h - who connects to a ZeroMQ socket, and who does not get in.
 *
 * libzmq drops what is no ZMTP, speaks another security mechanism, has a key that is not
 * allowed, or takes longer than HANDSHAKE_IVL, without a word to the socket's owner. Its
 * monitor tells; this counts, and logs failures at a limited rate. Loop thread only.
 */
#ifndef RUNTIME_HANDSHAKE_H
#define RUNTIME_HANDSHAKE_H

#include <stdint.h>
#include <uv.h>

enum handshake_failure {
    HANDSHAKE_CUT,      /* ended, or was too slow */
    HANDSHAKE_PROTOCOL, /* no ZMTP, another mechanism, or another key of the server */
    HANDSHAKE_AUTH,     /* the key is not allowed */
    HANDSHAKE_FAILURES
};

struct handshake_counters {
    uint64_t accepted, ended; /* connections; ended in whatever way */
    uint64_t failed[HANDSHAKE_FAILURES];
};

struct handshake;

/* Watch `socket`, before it binds or connects. `address` (copied) is for the log. 0 or
 * -errno. */
int handshake_open(uv_loop_t *loop, void *zmq, void *socket, const char *address,
                   struct handshake **out);
/* Before the socket is closed. NULL is fine. */
void handshake_close(struct handshake *handshake);

const struct handshake_counters *handshake_counters(const struct handshake *handshake);
const char *handshake_failure_name(unsigned failure); /* "cut", ... */

#endif
