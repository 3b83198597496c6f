/*
 * Purges and pages of what was used last, a step each. A purge comes after every put
 * before it: waiting puts that it takes are dropped, and a batch under way is waited for,
 * or it would bring back what the purge removed.
 */
#include "cacher/store/core.h"

#include "proto/key.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* ---- cursors: "<seconds>:<key>" ---- */

static int cursor_parse(const char *text, struct store_cursor *cursor)
{
    char *end;

    *cursor = (struct store_cursor){0};
    if (text == NULL || text[0] == '\0')
        return 0;
    if (text[0] < '0' || text[0] > '9')
        return -EINVAL;
    errno = 0;
    cursor->order_s = strtoull(text, &end, 10);
    if (errno != 0 || *end != ':' || cursor->order_s > STORE_NEVER ||
        proto_unhex(end + 1, strlen(end + 1), cursor->key) < 0)
        return -EINVAL;
    cursor->set = true;
    return 0;
}

static const char *cursor_text(const struct store_cursor *cursor,
                               char out[CACHER_CURSOR_BYTES_MAX])
{
    char hex[PROTO_HEX_BYTES];

    out[0] = '\0';
    if (cursor->set) {
        proto_hex(cursor->key, hex);
        snprintf(out, CACHER_CURSOR_BYTES_MAX, "%" PRIu64 ":%s", cursor->order_s, hex);
    }
    return out;
}

/* ---- those under way ---- */

static int begin(struct cacher_store *store, enum store_kind kind, const char *cursor,
                 void (*done)(struct store_job *job), struct store_job **out)
{
    struct store_cursor from;

    if (store->closing)
        return -ESHUTDOWN;
    if (cursor_parse(cursor, &from) < 0)
        return -EINVAL;
    if (store->scans_count >= STORE_SCANS_MAX)
        return -EBUSY;
    if (store->reads.state == BREAKER_OPEN &&
        cacher_store_now_us(store) < store->reads.until_us)
        return -EHOSTDOWN;
    struct store_job *job = cacher_store_job_new(store, kind, done);
    if (job == NULL)
        return -ENOMEM;
    job->cursor = job->from = from;
    job->awaited = true;
    job->next = store->scans;
    if (job->next != NULL)
        job->next->previous = job;
    store->scans = job;
    store->scans_count++;
    *out = job;
    return 0;
}

static void unlink_scan(struct cacher_store *store, struct store_job *job)
{
    if (job->previous != NULL)
        job->previous->next = job->next;
    else
        store->scans = job->next;
    if (job->next != NULL)
        job->next->previous = job->previous;
    job->awaited = false;
}

static void note(struct cacher_store *store, const struct store_job *job)
{
    if (job->err != 0 && job->err != -ECANCELED)
        snprintf(store->last_error, sizeof store->last_error, "%s", job->error);
}

/* ---- purges ---- */

static void start_purge(struct cacher_store *store, struct store_job *job)
{
    if (!job->from.set) {
        job->matched = cacher_store_drop(store, &job->filter);
        job->removed = job->filter.dry_run ? 0 : job->matched;
    }
    cacher_store_submit(store, job);
}

static void answer_purge(struct cacher_store *store, struct store_job *job)
{
    char text[CACHER_CURSOR_BYTES_MAX];

    unlink_scan(store, job);
    cursor_text(job->err == 0 ? &job->cursor : &job->from, text);
    job->purged(job->err, job->matched, job->removed, text, job->arg);
}

static void on_purged(struct store_job *job)
{
    struct cacher_store *store = job->owner;

    if (job->err == -EAGAIN && job->tries == 0 && !store->closing) {
        job->tries = 1;
        job->err = 0;
        cacher_store_submit(store, job);
        return;
    }
    store->scans_count--;
    store->counters.removed += job->removed;
    note(store, job);
    if (job->awaited)
        answer_purge(store, job);
    cacher_store_job_free(job);
}

int cacher_store_purge(struct cacher_tier *tier, const struct cacher_filter *filter,
                       const char *cursor, cacher_tier_purged_fn *purged, void *arg)
{
    struct cacher_store *store = (struct cacher_store *)tier;
    struct store_job *job;
    int err = begin(store, STORE_PURGE, cursor, on_purged, &job);

    if (err < 0)
        return err;
    job->filter = *filter;
    if (job->filter.before_s > STORE_NEVER)
        job->filter.before_s = STORE_NEVER;
    job->purged = purged;
    job->arg = arg;
    if (store->batch == NULL || job->from.set) {
        start_purge(store, job);
    } else {
        job->line = store->held_back;
        store->held_back = job;
    }
    return 0;
}

void cacher_store_scans_go_on(struct cacher_store *store)
{
    while (store->held_back != NULL) {
        struct store_job *job = store->held_back;
        store->held_back = job->line;
        job->line = NULL;
        start_purge(store, job);
    }
}

static void on_removed(struct store_job *job)
{
    struct cacher_store *store = job->owner;

    store->scans_count--;
    store->counters.removed += job->removed;
    note(store, job);
    cacher_store_job_free(job);
}

void cacher_store_remove(struct cacher_store *store,
                         const uint8_t key[PROTO_DIGEST_BYTES])
{
    /* Beyond the bound it stays, and is found damaged again. */
    if (store->closing || store->scans_count >= STORE_SCANS_MAX)
        return;
    struct store_job *job = cacher_store_job_new(store, STORE_PURGE, on_removed);
    if (job == NULL)
        return;
    job->filter.kind = CACHER_FILTER_KEY;
    memcpy(job->filter.key, key, PROTO_DIGEST_BYTES);
    store->scans_count++;
    cacher_store_submit(store, job);
}

/* ---- pages ---- */

static void give_rows(struct cacher_store *store, struct store_job *job)
{
    uint64_t now_s = store->unix_s();

    for (struct store_row *row = job->rows; row != NULL; row = row->next) {
        uint64_t expires_s = row->expires_s;
        if (row->damaged) {
            store->counters.damaged++;
            cacher_store_remove(store, row->record.key);
        } else if (expires_s != 0 && expires_s <= now_s) {
            continue;
        } else if (!job->each(&row->record, job->arg)) {
            job->cursor.set = true;
            job->cursor.order_s = row->last_use_s;
            memcpy(job->cursor.key, row->record.key, PROTO_DIGEST_BYTES);
            return;
        }
    }
}

static void answer_page(struct cacher_store *store, struct store_job *job)
{
    char text[CACHER_CURSOR_BYTES_MAX];

    unlink_scan(store, job);
    if (job->err == 0)
        give_rows(store, job);
    cursor_text(job->err == 0 ? &job->cursor : &job->from, text);
    job->page(job->err, text, job->arg);
}

static void on_page(struct store_job *job)
{
    struct cacher_store *store = job->owner;

    store->scans_count--;
    note(store, job);
    if (job->awaited)
        answer_page(store, job);
    cacher_store_job_free(job);
}

int cacher_store_recent(struct cacher_tier *tier, unsigned most, const char *cursor,
                        cacher_tier_each_fn *each, cacher_tier_page_fn *page, void *arg)
{
    struct cacher_store *store = (struct cacher_store *)tier;
    struct store_job *job;
    int err = begin(store, STORE_RECENT, cursor, on_page, &job);

    if (err < 0)
        return err;
    if (!job->cursor.set) {
        job->cursor.order_s = STORE_NEVER;
        memset(job->cursor.key, 0xff, PROTO_DIGEST_BYTES);
    }
    job->most = most == 0 ? 1 : most > CACHER_STEP_KEYS ? CACHER_STEP_KEYS : most;
    job->each = each;
    job->page = page;
    job->arg = arg;
    cacher_store_submit(store, job);
    return 0;
}

/* ---- closing ---- */

void cacher_store_fail_scans(struct cacher_store *store)
{
    struct store_job *held = store->held_back;

    store->held_back = NULL;
    while (store->scans != NULL) {
        struct store_job *job = store->scans;
        struct store_job failed = *job; /* the home may be at work on it */
        unlink_scan(store, job);
        char text[CACHER_CURSOR_BYTES_MAX];
        cursor_text(&failed.from, text);
        if (failed.kind == STORE_PURGE)
            failed.purged(-ESHUTDOWN, 0, 0, text, failed.arg);
        else
            failed.page(-ESHUTDOWN, text, failed.arg);
    }
    while (held != NULL) { /* the home has never seen them */
        struct store_job *job = held;
        held = job->line;
        store->scans_count--;
        cacher_store_job_free(job);
    }
}
