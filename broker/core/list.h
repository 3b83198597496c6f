/*
 * list.h - intrusive doubly linked lists: no allocation, removal in constant time.
 *
 * A head and its members are the same struct; an empty list points at itself.
 */
#ifndef BROKER_CORE_LIST_H
#define BROKER_CORE_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct broker_core_link {
    struct broker_core_link *prev, *next;
};

/* The struct of `type` whose field `member` is `*link`. */
#define BROKER_CORE_OF(type, member, link)                                               \
    ((type *)(void *)((char *)(link)-offsetof(type, member)))

static inline void broker_core_list_init(struct broker_core_link *head)
{
    head->prev = head->next = head;
}

static inline bool broker_core_list_empty(const struct broker_core_link *head)
{
    return head->next == head;
}

/* `link` goes before `at`; with `at` the head, that is the end of the list. */
static inline void broker_core_list_insert(struct broker_core_link *at,
                                           struct broker_core_link *link)
{
    link->prev = at->prev;
    link->next = at;
    at->prev->next = link;
    at->prev = link;
}

static inline void broker_core_list_remove(struct broker_core_link *link)
{
    link->prev->next = link->next;
    link->next->prev = link->prev;
    link->prev = link->next = link;
}

#endif
