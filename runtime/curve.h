/*
 * curve.h - CURVE for this process's ZeroMQ sockets: its keys, and at the broker the
 * gate that asks who may connect.
 *
 * The gate is ZeroMQ's authentication handler (ZAP, RFC 27): a REP socket of this process
 * at inproc://zeromq.zap.01 that libzmq asks in each CURVE handshake. It knows one list
 * of public keys, a file that is looked at for each handshake and read again when it has
 * changed; a new one that cannot be read leaves the old one in force, with an error in
 * the log. A key taken from the list does not end the connections that it has.
 *
 * CURVE is for tcp: an ipc path lies in a folder of mode 0700. Loop thread only.
 */
#ifndef RUNTIME_CURVE_H
#define RUNTIME_CURVE_H

#include <stdbool.h>
#include <uv.h>

struct curve;

/* Load the keys (proto/curve.h): `key_file`, and the broker's public key where
 * `server_file` is not "". 0, or -errno after logging why. */
int curve_open(const char *key_file, const char *server_file, struct curve **out);
/* Opens the gate: from now on sockets may be bound with these keys. One in each ZeroMQ
 * context. 0, or -errno after logging why. */
int curve_guard(struct curve *curve, uv_loop_t *loop, void *zmq, const char *allowed);
/* After the sockets. The loop runs on until libuv is done. NULL is fine. */
void curve_close(struct curve *curve);

/* What keeps `socket` from speaking CURVE, or NULL: it does, once bound or connected. */
const char *curve_apply(const struct curve *curve, void *socket, bool bind);

#endif
