/*
 * job.h - one piece of work for a home of the store, and what comes back.
 *
 * The core (core.h) makes jobs, a home (home.h) does them: whole, in one transaction, or
 * not at all. Until done() the job and all that it points to belong to the home, which
 * may read them on another thread; done() is called on the loop, once.
 */
#ifndef CACHER_STORE_JOB_H
#define CACHER_STORE_JOB_H

#include "cacher/tier/tier.h"

#define STORE_ERROR_BYTES 200          /* of an error's text, cut to fit */
#define STORE_ROW_BYTES   512          /* what a row costs beside what it holds, about */
#define STORE_PAGE_BYTES  (8ull << 20) /* of a page of recent; one result more is fine */
#define STORE_TOUCH_S     60           /* last_use is not written again within */
#define STORE_TOUCHES_MAX 4096         /* keys remembered between two writes */
#define STORE_NEVER       INT64_MAX    /* seconds; databases have no unsigned numbers */

enum store_kind { STORE_GET, STORE_WRITE, STORE_PURGE, STORE_RECENT, STORE_RETAIN };

/* A result that waits to be written. */
struct store_put {
    struct store_put *next;
    struct cacher_record record;  /* params and tags are in text, the payload in value */
    struct hotcache_value *value; /* one reference; loop thread only */
    uint64_t expires_s;           /* Unix time; 0: never */
    uint64_t asked_us;
    uint8_t text[];
};

/* A result that was read. */
struct store_row {
    struct store_row *next;
    struct cacher_record record; /* borrowed from bytes, or from the job's hold */
    uint64_t last_use_s, expires_s;
    bool damaged; /* key alone holds */
    uint8_t bytes[];
};

/* Where a scan goes on: after this row, in the scan's order. */
struct store_cursor {
    uint64_t order_s; /* created or last use, for scans in that order; else 0 */
    uint8_t key[PROTO_DIGEST_BYTES];
    bool set; /* false: at the beginning; as an answer: there is no more */
};

struct store_job {
    enum store_kind kind;
    void (*done)(struct store_job *job);
    void *owner;
    struct store_job *next, *previous; /* the core's list while answers are awaited */
    struct store_job *line;            /* the home's list */
    uint64_t line_us;                  /* since when in it */
    uint64_t asked_us;                 /* loop's clock */
    /* The core's: who waits for the answer, and whether they have it. */
    bool awaited;
    cacher_tier_got_fn *got;
    cacher_tier_purged_fn *purged;
    cacher_tier_each_fn *each;
    cacher_tier_page_fn *page;
    void *arg;
    struct store_cursor from; /* asked with */
    uint64_t now_s;           /* Unix time */
    unsigned tries;           /* of those after the first, so far */

    /* How it ended: 0, or -EAGAIN (others were in the way: try again), -ENOSPC, -EINVAL
     * (this will never be taken), -ETIMEDOUT, -ECANCELED (closing), -EPROTO (schema),
     * other -errno. error: in words, "" with 0. */
    int err;
    char error[STORE_ERROR_BYTES];

    /* GET: key; a row or none. RECENT: cursor, most; rows, cursor. */
    uint8_t key[PROTO_DIGEST_BYTES];
    unsigned most;
    struct store_row *rows, **rows_end;
    void *hold; /* what rows borrow from, if not their own bytes */
    void (*unhold)(void *hold);

    /* WRITE */
    struct store_put *puts;
    unsigned puts_count, touches_count;
    uint8_t (*touches)[PROTO_DIGEST_BYTES];

    /* PURGE: a step. cursor in and out. */
    struct cacher_filter filter;
    struct store_cursor cursor;
    uint64_t matched, removed;

    /* RETAIN: a step, if the lock is ours. Removes what was created before created_s or
     * expires at now_s, then what was not used for longest until `excess` bytes are gone;
     * of each at most `most` rows. `count`: tell entries and bytes, lock or not. */
    uint64_t created_s, excess;
    bool count, held, more;
    uint64_t expired, evicted, freed; /* rows, rows, bytes of both */
    uint64_t entries, bytes;
};

/* A row with room for `bytes`, appended to the job's rows. NULL: out of memory. */
struct store_row *cacher_store_row_new(struct store_job *job, size_t bytes);
/* Whether the record is what was written: bounds, and `sum` (cacher_store_sum). */
bool cacher_store_row_check(const struct cacher_record *record, uint64_t sum);
/* CRC-32 of a record, as in its encoded form (cacher/tier/record.h). */
uint32_t cacher_store_sum(const struct cacher_record *record);
/* What it weighs: the column `bytes`, and what retention counts. */
uint64_t cacher_store_weight(const struct cacher_record *record);
/* Lowest and highest key of a filter of kind ALL, KEY or PREFIX. */
void cacher_store_range(const struct cacher_filter *filter,
                        uint8_t low[PROTO_DIGEST_BYTES],
                        uint8_t high[PROTO_DIGEST_BYTES]);
/* Says how it ended and keeps the text; the first error stays. */
void cacher_store_job_error(struct store_job *job, int err, const char *text);
/* The first line of a server's message, in whatever encoding, fit to be shown. */
void cacher_store_error_copy(const char *text, char out[STORE_ERROR_BYTES]);
void cacher_store_job_drop_rows(struct store_job *job);
/* With its rows and touches; not its puts. NULL is fine. */
void cacher_store_job_free(struct store_job *job);

#endif
