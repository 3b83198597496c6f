#include "broker/core/heap.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

int broker_core_heap_init(struct broker_core_heap *heap, uint32_t capacity)
{
    *heap = (struct broker_core_heap){.capacity = capacity};
    heap->at = calloc((size_t)capacity + 1, sizeof(heap->at[0]));
    return heap->at == NULL ? -ENOMEM : 0;
}

void broker_core_heap_free(struct broker_core_heap *heap)
{
    free(heap->at);
    *heap = (struct broker_core_heap){0};
}

static void put(struct broker_core_heap *heap, uint32_t place,
                struct broker_core_timer *timer)
{
    heap->at[place] = timer;
    timer->place = place;
}

static void rise(struct broker_core_heap *heap, uint32_t place,
                 struct broker_core_timer *timer)
{
    while (place > 1 && heap->at[place / 2]->due_us > timer->due_us) {
        put(heap, place, heap->at[place / 2]);
        place /= 2;
    }
    put(heap, place, timer);
}

static void sink(struct broker_core_heap *heap, uint32_t place,
                 struct broker_core_timer *timer)
{
    for (;;) {
        uint32_t child = 2 * place;
        if (child > heap->count)
            break;
        if (child < heap->count && heap->at[child + 1]->due_us < heap->at[child]->due_us)
            child++;
        if (heap->at[child]->due_us >= timer->due_us)
            break;
        put(heap, place, heap->at[child]);
        place = child;
    }
    put(heap, place, timer);
}

static void settle(struct broker_core_heap *heap, uint32_t place,
                   struct broker_core_timer *timer)
{
    if (place > 1 && heap->at[place / 2]->due_us > timer->due_us)
        rise(heap, place, timer);
    else
        sink(heap, place, timer);
}

void broker_core_heap_set(struct broker_core_heap *heap, struct broker_core_timer *timer,
                          uint64_t due_us)
{
    timer->due_us = due_us;
    if (timer->place == 0) {
        assert(heap->count < heap->capacity);
        heap->count++;
        rise(heap, heap->count, timer);
    } else {
        settle(heap, timer->place, timer);
    }
}

void broker_core_heap_clear(struct broker_core_heap *heap,
                            struct broker_core_timer *timer)
{
    uint32_t place = timer->place;
    if (place == 0)
        return;
    timer->place = 0;

    struct broker_core_timer *last = heap->at[heap->count];
    heap->count--;
    if (last != timer)
        settle(heap, place, last);
}

struct broker_core_timer *broker_core_heap_first(const struct broker_core_heap *heap)
{
    return heap->count == 0 ? NULL : heap->at[1];
}
