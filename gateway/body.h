/*
 * body.h - the bytes of an upload, in a buffer that grows as they arrive, under one
 * budget.
 *
 * The budget counts what is allocated, not what is announced, until nobody holds it any
 * more, ZeroMQ's I/O thread included: so it is atomic and counted by its holders, and
 * outlives the gateway if it must. All else is for the loop thread.
 */
#ifndef GATEWAY_BODY_H
#define GATEWAY_BODY_H

#include <stddef.h>
#include <stdint.h>
#include <zmq.h>

struct gateway_budget;

/* NULL: out of memory. */
struct gateway_budget *gateway_budget_new(size_t limit_bytes);
/* Let go; freed with the last body that counts in it. NULL is fine. */
void gateway_budget_drop(struct gateway_budget *budget);
size_t gateway_budget_used(const struct gateway_budget *budget);
size_t gateway_budget_limit(const struct gateway_budget *budget);

#define GATEWAY_BODY_STEP_BYTES  (16u << 10)
#define GATEWAY_BODY_WHOLE_BYTES (128u << 10) /* announced as so much: made at once */

/* Zeroed is an empty body that needs no gateway_body_free(). */
struct gateway_body {
    struct gateway_budget *budget;
    uint8_t *bytes;
    size_t size, capacity;
    size_t expected;   /* bytes in all, as announced; 0: not known */
    unsigned priority; /* enum proto_priority: how much of the budget it may fill */
};

/* Ready to be appended to; nothing is allocated yet. `priority` is kept. */
void gateway_body_begin(struct gateway_body *body, struct gateway_budget *budget,
                        size_t expected);
/* Room for `capacity` bytes in all. 0; -ENOBUFS over the budget; -ENOMEM. */
int gateway_body_reserve(struct gateway_body *body, struct gateway_budget *budget,
                         size_t capacity);
/* After gateway_body_begin() or gateway_body_reserve(). Grows by doubling, at least to
 * GATEWAY_BODY_STEP_BYTES (to all that is expected, where that is no more than
 * GATEWAY_BODY_WHOLE_BYTES), up to what is expected and to `capacity_max` bytes. 0;
 * -ENOBUFS, and it may be tried again; -ENOMEM; -E2BIG above capacity_max. */
int gateway_body_append(struct gateway_body *body, const uint8_t *bytes, size_t size,
                        size_t capacity_max);
/* Zeroed and already freed are fine. */
void gateway_body_free(struct gateway_body *body);

/* Move the bytes into a message without copying; the body is empty after. The message is
 * the caller's to close. 0, or -ENOMEM and the body is as it was. */
int gateway_body_wrap(struct gateway_body *body, zmq_msg_t *out);

#endif
