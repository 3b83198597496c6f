/*
 * heap.h - the deadlines of everything, earliest first: a binary heap of timers that
 * live in the objects they belong to.
 *
 * Why not a timer wheel: one can be asked exactly when the next deadline is, so the
 * shell sleeps until then, and a simulation gets the same order on every run. 16,000
 * timers are 14 levels.
 */
#ifndef BROKER_CORE_HEAP_H
#define BROKER_CORE_HEAP_H

#include <stddef.h>
#include <stdint.h>

struct broker_core_timer {
    uint64_t due_us;
    uint32_t place; /* in the heap, from 1; 0: not armed */
    uint32_t owner; /* for whoever looks at the first timer */
    uint8_t kind;
};

struct broker_core_heap {
    struct broker_core_timer **at; /* at[1] is the earliest */
    uint32_t count, capacity;
};

/* Room for `capacity` timers. 0 or -ENOMEM. */
int broker_core_heap_init(struct broker_core_heap *heap, uint32_t capacity);
void broker_core_heap_free(struct broker_core_heap *heap);

/* Arm `timer`, or move it when it is armed. */
void broker_core_heap_set(struct broker_core_heap *heap, struct broker_core_timer *timer,
                          uint64_t due_us);
/* Disarm; nothing when it is not armed. */
void broker_core_heap_clear(struct broker_core_heap *heap,
                            struct broker_core_timer *timer);
/* The earliest, still armed; NULL when there is none. */
struct broker_core_timer *broker_core_heap_first(const struct broker_core_heap *heap);

#endif
