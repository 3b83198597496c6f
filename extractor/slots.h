/*
 * slots.h - the slot processes of this host: kept at their number, given jobs, stopped,
 * replaced, reaped.
 *
 * Acts on the decisions of pool.h. Knows jobs only as something a slot holds; the mesh is
 * in jobs.c. Loop thread only. Slots are numbered from 1; the idle ones are used in turn.
 * EXTRACTOR_SLOTS_SPARE numbers beyond the most slots are for successors, which warm up
 * while the worn slots that they replace still work.
 */
#ifndef EXTRACTOR_SLOTS_H
#define EXTRACTOR_SLOTS_H

#include "extractor/options.h"
#include "extractor/pool.h"
#include "extractor/process.h"
#include "runtime/service.h"

#define EXTRACTOR_SLOTS_SPARE 4

struct extractor_slots;

struct extractor_slot {
    unsigned number;
    enum extractor_slot_state state;
    struct extractor_process process;
    void *job;                 /* of the owner, while there is a job in hand; else NULL */
    bool leaving;              /* ends after its job */
    const char *worn;          /* why it is to be replaced; NULL: it is not */
    bool tell;                 /* on_drained when it has ended */
    bool faulty;               /* killed for a fault: that counts as a death */
    uint64_t serial;           /* of the job in hand */
    bool started;              /* it has said STARTED of that */
    int result_fd;             /* the room for its result; -1: there is no job */
    uint64_t born_us, kill_us; /* kill_us: when patience ends; 0: no hurry */
    struct extractor_wear limit;
    uint64_t jobs;
    struct extractor_memory memory; /* as last seen */
    const char *why; /* it is ending: "surplus", "jobs"... of extractor_pool_worn */
    struct extractor_slots *owner;
    uv_poll_t socket_poll, pid_poll;
    int handles;
};

struct extractor_slots_callbacks {
    /* The slot has begun the job in hand. */
    void (*on_started)(struct extractor_slot *slot, void *arg);
    /* DONE or ERROR for `job`, which the slot no longer holds; its result is in `fd`,
     * borrowed. False when that is nothing that an honest slot says: it is killed. */
    bool (*on_answer)(struct extractor_slot *slot, void *job,
                      const struct extractor_slotwire *answer, int fd, void *arg);
    /* The slot ended with `job` in hand. */
    void (*on_lost)(struct extractor_slot *slot, void *job,
                    const struct extractor_ending *ending, void *arg);
    /* A slot that extractor_slots_drain was asked for has ended. */
    void (*on_drained)(unsigned number, void *arg);
    /* The number of idle or living slots may have changed. */
    void (*on_change)(void *arg);
};

/* `count` is the most slots, `callbacks` is copied. Starts none. 0 or -errno. */
int extractor_slots_open(struct service *service, unsigned count,
                         const struct extractor_slots_callbacks *callbacks, void *arg,
                         struct extractor_slots **out);
/* Kills and reaps every slot, calls nothing back, and frees when libuv is done. NULL is
 * fine. */
void extractor_slots_close(struct extractor_slots *slots);

/* Keep `share` slots; more than `count` is `count`. */
void extractor_slots_set_share(struct extractor_slots *slots, unsigned share);

/* Start none any more, whatever the share is: the service ends. */
void extractor_slots_close_doors(struct extractor_slots *slots);

/* The idle slot whose turn it is, or NULL: in turn, so that one sick slot does not get
 * all the work of a quiet host. Never the process `but`, unless that is 0. */
struct extractor_slot *extractor_slots_idle(struct extractor_slots *slots, pid_t but);

/* Replace an idle slot now: a job waits that is not to come to it again. */
void extractor_slots_replace(struct extractor_slot *slot);

/* Give an idle slot `job`, known to callbacks as `handle` (not NULL), with room for a
 * result of `result_bytes_max`. 0, or -errno: then the slot is as it was, or is being
 * killed if it does not take its socket's messages. */
int extractor_slots_give(struct extractor_slot *slot, const struct extractor_job *job,
                         uint64_t result_bytes_max, void *handle);

/* Tell a busy slot to stop its job; it is killed when it has not answered within
 * abort_grace_ms. */
void extractor_slots_cancel(struct extractor_slot *slot);

/* Replace a slot after its job; on_drained follows. -ENOENT when there is none. */
int extractor_slots_drain(struct extractor_slots *slots, unsigned number);

/* Call at least each 100 ms while extractor_slots_hurry() is true, else each second:
 * kills, delayed starts, wear, memory samples. */
void extractor_slots_tick(struct extractor_slots *slots);
bool extractor_slots_hurry(const struct extractor_slots *slots);

struct extractor_slots_count {
    unsigned share;
    unsigned alive; /* processes, but those that are ending */
    unsigned able;  /* of them those that have come up */
    unsigned idle, busy;
};
struct extractor_slots_count extractor_slots_count(const struct extractor_slots *slots);

/* Slot `number` from 1 to the most and the spare ones, or NULL when there is none now. */
struct extractor_slot *extractor_slots_get(const struct extractor_slots *slots,
                                           unsigned number);

/* [{slot, pid, state, jobs, rss_bytes}...] of the living. */
json_t *extractor_slots_json(const struct extractor_slots *slots);

#endif
