#include "gateway/body.h"

#include "runtime/endpoint.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

struct gateway_budget {
    atomic_size_t used_bytes, holders;
    size_t limit_bytes;
};

/* What a message's release needs; in front of the bytes, so that wrapping costs nothing.
 * Its size keeps the bytes aligned as malloc's. */
struct block {
    struct gateway_budget *budget;
    size_t capacity;
};

struct gateway_budget *gateway_budget_new(size_t limit_bytes)
{
    struct gateway_budget *budget = malloc(sizeof *budget);

    if (budget == NULL)
        return NULL;
    atomic_init(&budget->used_bytes, 0);
    atomic_init(&budget->holders, 1);
    budget->limit_bytes = limit_bytes;
    return budget;
}

void gateway_budget_drop(struct gateway_budget *budget)
{
    if (budget != NULL && atomic_fetch_sub(&budget->holders, 1) == 1)
        free(budget);
}

size_t gateway_budget_used(const struct gateway_budget *budget)
{
    return atomic_load(&budget->used_bytes);
}

size_t gateway_budget_limit(const struct gateway_budget *budget)
{
    return budget->limit_bytes;
}

/* Only the loop thread takes, so there is no race between the check and the addition. A
 * body that is alone may fill the budget: `own` bytes of it are the body's already. */
static int take(struct gateway_budget *budget, size_t more, size_t own, unsigned priority)
{
    size_t used = atomic_load(&budget->used_bytes);
    uint64_t limit = proto_priority_limit(budget->limit_bytes, used - own, priority);

    if (used > limit || more > limit - used)
        return -ENOBUFS;
    atomic_fetch_add(&budget->used_bytes, more);
    return 0;
}

static void give_back(struct gateway_budget *budget, size_t bytes)
{
    atomic_fetch_sub(&budget->used_bytes, bytes);
}

static struct block *block_of(uint8_t *bytes)
{
    return (struct block *)(void *)(bytes - sizeof(struct block));
}

int gateway_body_reserve(struct gateway_body *body, struct gateway_budget *budget,
                         size_t capacity)
{
    struct block *old = body->bytes == NULL ? NULL : block_of(body->bytes);
    size_t more = capacity - body->capacity;
    int err = take(budget, more, body->capacity, body->priority);

    if (err < 0)
        return err;
    struct block *block = realloc(old, sizeof *block + capacity);
    if (block == NULL) {
        give_back(budget, more);
        return -ENOMEM;
    }
    if (old == NULL)
        atomic_fetch_add(&budget->holders, 1);
    *block = (struct block){budget, capacity};
    body->budget = budget;
    body->bytes = (uint8_t *)(block + 1);
    body->capacity = capacity;
    return 0;
}

void gateway_body_begin(struct gateway_body *body, struct gateway_budget *budget,
                        size_t expected)
{
    body->budget = budget;
    body->expected = expected;
}

/* Of a body that holds `needed` bytes now. A small one is whole at once: to copy it as it
 * grows would cost each hit more than its memory does. */
static size_t next_capacity(const struct gateway_body *body, size_t needed,
                            size_t capacity_max)
{
    size_t capacity = 2 * body->capacity;

    if (capacity < GATEWAY_BODY_STEP_BYTES)
        capacity = GATEWAY_BODY_STEP_BYTES;
    if (needed <= body->expected &&
        (capacity > body->expected || body->expected <= GATEWAY_BODY_WHOLE_BYTES))
        capacity = body->expected;
    if (capacity > capacity_max)
        capacity = capacity_max;
    return capacity < needed ? needed : capacity;
}

int gateway_body_append(struct gateway_body *body, const uint8_t *bytes, size_t size,
                        size_t capacity_max)
{
    if (size > capacity_max - body->size)
        return -E2BIG;
    if (size > body->capacity - body->size) {
        size_t needed = body->size + size;
        int err = gateway_body_reserve(body, body->budget,
                                       next_capacity(body, needed, capacity_max));
        if (err == -ENOBUFS)
            err = gateway_body_reserve(body, body->budget, needed);
        if (err < 0)
            return err;
    }
    memcpy(body->bytes + body->size, bytes, size);
    body->size += size;
    return 0;
}

/* Any thread. */
static void release(void *bytes, void *owner)
{
    struct block *block = owner;
    struct gateway_budget *budget = block->budget;

    (void)bytes;
    give_back(budget, block->capacity);
    free(block);
    gateway_budget_drop(budget);
}

void gateway_body_free(struct gateway_body *body)
{
    if (body->bytes != NULL)
        release(body->bytes, block_of(body->bytes));
    *body = (struct gateway_body){0};
}

int gateway_body_wrap(struct gateway_body *body, zmq_msg_t *out)
{
    if (mesh_payload_wrap(out, body->bytes, body->size, release, block_of(body->bytes)) <
        0)
        return -ENOMEM;
    *body = (struct gateway_body){0};
    return 0;
}
