/*
 * finals.h - FINALs on their way to a client that reads slowly.
 *
 * ZeroMQ is given `unsent_bytes` of results for one client (mesh_outbox). What ends
 * beyond that is held here, in order, up to `held_bytes`, and no job of the client's is
 * begun meanwhile: so what is held is no more than what its jobs at workers made. It goes
 * out as the client reads. What is too much even so ends at once as `full`, without its
 * payload; what outlives its request's time, or the session, is dropped: nobody waits for
 * it.
 */
#ifndef BROKER_FINALS_H
#define BROKER_FINALS_H

#include "proto/body.h"
#include "proto/envelope.h"

#include <stdbool.h>
#include <stdint.h>
#include <zmq.h>

/* While something is held the broker looks so often whether there is room again: ZeroMQ
 * lets go of a payload on a thread of its own, and tells nobody. */
#define BROKER_FINALS_LOOK_US 5000u

struct broker;
struct broker_peer;
struct broker_final;

/* Of one client. Zeroed is empty. */
struct broker_finals {
    struct broker_final *first, *last;
    uint64_t bytes;
    bool changed; /* since the core was told whether there are any */
};

/* Send a FINAL, or hold it. `payload` (NULL: none) is moved from where it is held. A
 * result is of no use after `until_us`. */
void broker_finals_send(struct broker *broker, struct broker_peer *client,
                        const struct proto_envelope *envelope,
                        const struct proto_outcome *outcome, zmq_msg_t *payload,
                        uint64_t until_us);
/* Send what there is room for now, to everybody. */
void broker_finals_look(struct broker *broker);
/* An event of the core: whose jobs are to wait from now on, and whose no longer. */
void broker_finals_tell(struct broker *broker);
/* The session is over. */
void broker_finals_drop(struct broker_peer *client);

#endif
