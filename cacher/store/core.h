/*
 * core.h - the store's core: everything but SQL. Loop thread only.
 *
 * store.c    opening, the tier's class, closing
 * read.c     gets and touches
 * write.c    the queue behind the answer: one batch at a time, kept until it is committed
 * scan.c     purges and pages of what was used last
 * retain.c   bounds in bytes and age, in steps
 *
 * Two breakers, since a full disk fails writes and not reads: `reads` is fed by gets,
 * `writes` by batches. What succeeds in writing or retention closes both.
 */
#ifndef CACHER_STORE_CORE_H
#define CACHER_STORE_CORE_H

#include "cacher/store/home.h"
#include "runtime/log.h"

#define STORE_SCANS_MAX   64  /* steps of purges and pages under way at once */
#define STORE_RETRY_MS    100 /* until a failed batch is tried again, breaker closed */
#define STORE_STEP_MS     5   /* between two steps of retention */
#define STORE_TOUCH_SLOTS 8192
#define STORE_LINE_BYTES  256 /* what a waiting result is counted beside its bytes */

/* Keys used since the last write: a set, by the first bytes of what is a SHA-256. */
struct store_touches {
    unsigned count;
    uint16_t slot[STORE_TOUCH_SLOTS]; /* index of a key plus 1 */
    uint8_t keys[STORE_TOUCHES_MAX][PROTO_DIGEST_BYTES];
};

enum store_timer {
    STORE_TIMER_GETS,  /* the oldest get's time is over */
    STORE_TIMER_BATCH, /* write */
    STORE_TIMER_TOUCH,
    STORE_TIMER_RETAIN,
    STORE_TIMER_CLOSE,
    STORE_TIMERS
};

struct cacher_store {
    struct cacher_tier tier; /* first */
    uv_loop_t *loop;
    struct cacher_store_options options;
    struct store_home *home;
    struct cacher_tier_counters counters;
    struct breaker reads, writes;
    uint64_t (*unix_s)(void); /* tests set it */
    char last_error[STORE_ERROR_BYTES];
    bool usable; /* something succeeded once */
    uv_timer_t timers[STORE_TIMERS];
    unsigned handles; /* not yet closed */

    struct store_job *gets, *gets_last; /* awaited, oldest first */
    unsigned gets_count;                /* under way, also those no longer awaited */
    struct store_job *scans;            /* purges and pages, awaited */
    unsigned scans_count;
    struct store_job *held_back; /* purges that wait for the batch; by line */

    struct store_put *queue, **queue_end; /* not in a batch */
    struct store_job *batch;              /* under way */
    unsigned alone;                       /* of the queue, to be written one by one */
    uint64_t retries;                     /* of batches */
    bool refusing;                        /* said in the log */
    struct store_touches *touches;

    struct store_job *retaining;
    bool keeper;       /* retention is ours */
    bool retain_again; /* a round is not at its end: the next step does not count */

    bool closing, flushed, home_closed;
    void (*closed)(void *arg);
    void *closed_arg;
};

uint64_t cacher_store_now_us(const struct cacher_store *store);
/* NULL: out of memory. */
struct store_job *cacher_store_job_new(struct cacher_store *store, enum store_kind kind,
                                       void (*done)(struct store_job *job));
void cacher_store_submit(struct cacher_store *store, struct store_job *job);
/* Feed a breaker with how a job ended; says in the log when it opens or closes. Before
 * anything has succeeded the first failure opens both, and the first success closes them:
 * a store that cannot be opened is no store. */
void cacher_store_ended(struct cacher_store *store, struct breaker *breaker,
                        const struct store_job *job);

/* read.c */
int cacher_store_get(struct cacher_tier *tier, const uint8_t key[PROTO_DIGEST_BYTES],
                     cacher_tier_got_fn *got, void *arg);
void cacher_store_touch(struct cacher_tier *tier, const uint8_t key[PROTO_DIGEST_BYTES]);
void cacher_store_on_gets_timer(uv_timer_t *timer);
void cacher_store_fail_gets(struct cacher_store *store);

/* write.c */
int cacher_store_put(struct cacher_tier *tier, const struct cacher_record *record,
                     struct hotcache_value *value, uint64_t ttl_s);
void cacher_store_on_batch_timer(uv_timer_t *timer);
void cacher_store_on_touch_timer(uv_timer_t *timer);
/* Write what there is, now, if nothing is under way and the breaker lets it. */
void cacher_store_write(struct cacher_store *store);
bool cacher_store_write_idle(const struct cacher_store *store); /* nothing to do */
/* Drop waiting puts that the filter takes (all of them: NULL), or only count them. */
uint64_t cacher_store_drop(struct cacher_store *store,
                           const struct cacher_filter *filter);

/* scan.c */
int cacher_store_purge(struct cacher_tier *tier, const struct cacher_filter *filter,
                       const char *cursor, cacher_tier_purged_fn *purged, void *arg);
int cacher_store_recent(struct cacher_tier *tier, unsigned most, const char *cursor,
                        cacher_tier_each_fn *each, cacher_tier_page_fn *page, void *arg);
/* Remove a damaged row; nobody waits for it. */
void cacher_store_remove(struct cacher_store *store,
                         const uint8_t key[PROTO_DIGEST_BYTES]);
/* The batch ended: purges that waited for it go on. */
void cacher_store_scans_go_on(struct cacher_store *store);
void cacher_store_fail_scans(struct cacher_store *store);

/* retain.c */
void cacher_store_on_retain_timer(uv_timer_t *timer);

/* store.c: go on with closing once something ended. */
void cacher_store_closing(struct cacher_store *store);

#endif
