#include "cacher/store/pg.h"

#include <errno.h>
#include <libpq-fe.h>
#include <stdlib.h>
#include <string.h>

#define COLUMNS                                                                          \
    "r.key, r.created, r.last_use, r.expires, r.width, r.height, r.cost_us, r.params, "  \
    "r.tags, r.crc, r.payload "

/* A step of a purge: what `page` found is removed unless it is a dry run. Answers with
 * how many it found and removed, and where it ended. */
#define PURGE(find, dry)                                                                 \
    "WITH page AS (" find "), gone AS (DELETE FROM siftmesh.results r USING page"        \
    " WHERE r.key = page.key AND " dry "::bigint = 0 RETURNING 1)"                       \
    " SELECT (SELECT count(*) FROM page), (SELECT count(*) FROM gone),"                  \
    " (SELECT ord FROM page ORDER BY ord DESC, key DESC LIMIT 1),"                       \
    " (SELECT key FROM page ORDER BY ord DESC, key DESC LIMIT 1)"

/* A step of retention, by who has its lock: in this transaction, which is granted to the
 * session that has it too. Answers with how many it removed, of what size, and whether
 * the lock is ours. */
#define REMOVE(find, condition)                                                          \
    "WITH mine AS MATERIALIZED (SELECT pg_try_advisory_xact_lock(" PG_LOCK_RETENTION     \
    ") AS ok), page AS (" find "), gone AS (DELETE FROM siftmesh.results r USING page"   \
    " WHERE r.key = page.key" condition " AND (SELECT ok FROM mine) RETURNING r.bytes)"  \
    " SELECT count(*), coalesce(sum(bytes), 0)::bigint,"                                 \
    " (SELECT ok::int::bigint FROM mine) FROM gone"

const char *const cacher_store_pg_texts[PG_STATEMENTS] = {
    [PG_GET] = "SELECT " COLUMNS "FROM siftmesh.results r WHERE key = $1::bytea",
    [PG_PUT] = "INSERT INTO siftmesh.results (key, created, last_use, expires, width,"
               " height, cost_us, params, tags, bytes, crc, payload)"
               " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)"
               " ON CONFLICT (key) DO UPDATE SET created = excluded.created,"
               " last_use = excluded.last_use, expires = excluded.expires,"
               " width = excluded.width, height = excluded.height,"
               " cost_us = excluded.cost_us, params = excluded.params,"
               " tags = excluded.tags, bytes = excluded.bytes, crc = excluded.crc,"
               " payload = excluded.payload",
    [PG_TAGS_DROP] = "DELETE FROM siftmesh.tags WHERE key = $1::bytea",
    [PG_TAGS_ADD] = "INSERT INTO siftmesh.tags (tag, key)"
                    " SELECT DISTINCT unnest(string_to_array($2::text, ',')), $1::bytea"
                    " ON CONFLICT DO NOTHING",
    /* Rows that another cacher is at are left to it: no waiting, no deadlock. */
    [PG_TOUCH] =
        "WITH page AS (SELECT key FROM siftmesh.results WHERE last_use <= $3::bigint"
        " AND key IN (SELECT substring($1::bytea FROM i FOR 32)"
        " FROM generate_series(1, length($1::bytea), 32) i) FOR UPDATE SKIP LOCKED)"
        " UPDATE siftmesh.results r SET last_use = $2::bigint FROM page"
        " WHERE r.key = page.key",
    [PG_RECENT] =
        "SELECT " COLUMNS "FROM siftmesh.results r JOIN (SELECT key,"
        " sum(bytes) OVER (ORDER BY last_use DESC, key DESC) - bytes AS before FROM"
        " (SELECT key, last_use, bytes FROM siftmesh.results"
        " WHERE (last_use, key) < ($1::bigint, $2::bytea)"
        " ORDER BY last_use DESC, key DESC LIMIT $3::bigint) page) p ON p.key = r.key"
        " WHERE p.before < $4::bigint ORDER BY r.last_use DESC, r.key DESC",
    [PG_BY_KEY] = PURGE("SELECT key, 0::bigint AS ord FROM siftmesh.results"
                        " WHERE key > $1::bytea AND key BETWEEN $2::bytea AND $3::bytea"
                        " ORDER BY key LIMIT $4::bigint",
                        "$5"),
    [PG_BY_TAG] = PURGE("SELECT key, 0::bigint AS ord FROM siftmesh.tags"
                        " WHERE tag = $2::text AND key > $1::bytea"
                        " ORDER BY key LIMIT $3::bigint",
                        "$4"),
    [PG_BY_AGE] = PURGE("SELECT key, created AS ord FROM siftmesh.results"
                        " WHERE created < $2::bigint"
                        " AND (created, key) > ($3::bigint, $1::bytea)"
                        " ORDER BY created, key LIMIT $4::bigint",
                        "$5"),
    [PG_KEEP] = "SELECT pg_try_advisory_lock(" PG_LOCK_RETENTION ")::int::bigint",
    [PG_EXPIRE] = REMOVE("(SELECT key FROM siftmesh.results WHERE created < $1::bigint"
                         " ORDER BY created LIMIT $3::bigint) UNION"
                         " (SELECT key FROM siftmesh.results WHERE expires > 0"
                         " AND expires <= $2::bigint ORDER BY expires LIMIT $3::bigint)",
                         ""),
    [PG_EVICT] = REMOVE("SELECT key, sum(bytes) OVER (ORDER BY last_use, key) - bytes"
                        " AS before FROM (SELECT key, bytes, last_use"
                        " FROM siftmesh.results ORDER BY last_use, key"
                        " LIMIT $2::bigint) o",
                        " AND page.before < $1::bigint"),
    [PG_COUNT] = "SELECT count(*), coalesce(sum(bytes), 0)::bigint FROM siftmesh.results",
};

/* ---- parameters ---- */

/* Room for the numbers of a command; the values point into it. */
struct numbers {
    uint8_t bytes[12][8];
    unsigned count;
};

static struct pg_value number(struct numbers *numbers, uint64_t value)
{
    uint8_t *bytes = numbers->bytes[numbers->count++];

    for (unsigned i = 0; i < 8; i++)
        bytes[i] = (uint8_t)(value >> (56 - 8 * i));
    return (struct pg_value){bytes, 8};
}

static struct pg_value key_value(const uint8_t *key)
{
    return (struct pg_value){key, PROTO_DIGEST_BYTES};
}

static void end_job(struct pg_link *link, int err)
{
    if (err != 0)
        cacher_store_job_error(link->job, err, link->error);
    cacher_store_pg_job_ended(link);
}

/* ---- reading ---- */

static void clear(void *result)
{
    PQclear(result);
}

static size_t column(const PGresult *result, int row, int at, const void **bytes)
{
    *bytes = PQgetvalue(result, row, at);
    return (size_t)PQgetlength(result, row, at);
}

/* What it holds is borrowed from the result. It is hostile: the sum decides. */
static const struct store_row *read_row(struct store_job *job, const PGresult *result,
                                        int at)
{
    struct store_row *row = cacher_store_row_new(job, 0);
    const void *key, *params, *tags, *payload;

    if (row == NULL)
        return NULL;
    size_t key_bytes = column(result, at, 0, &key);
    size_t params_bytes = column(result, at, 7, &params);
    size_t tags_bytes = column(result, at, 8, &tags);
    size_t payload_bytes = column(result, at, 10, &payload);
    struct cacher_record *record = &row->record;
    memcpy(record->key, key_bytes == PROTO_DIGEST_BYTES ? key : job->key,
           PROTO_DIGEST_BYTES);
    row->last_use_s = (uint64_t)cacher_store_pg_number(result, at, 2);
    row->expires_s = (uint64_t)cacher_store_pg_number(result, at, 3);
    row->damaged = true;
    if (key_bytes != PROTO_DIGEST_BYTES || params_bytes > CACHER_RECORD_PARAMS_BYTES ||
        tags_bytes > PROTO_TAGS_BYTES_MAX)
        return row;
    record->created_s = (uint64_t)cacher_store_pg_number(result, at, 1);
    record->width_px = (uint32_t)cacher_store_pg_number(result, at, 4);
    record->height_px = (uint32_t)cacher_store_pg_number(result, at, 5);
    record->cost_us = (uint32_t)cacher_store_pg_number(result, at, 6);
    record->params = params;
    record->params_bytes = (uint16_t)params_bytes;
    record->tags = tags;
    record->tags_bytes = (uint16_t)tags_bytes;
    record->payload = payload;
    record->payload_bytes = (uint32_t)payload_bytes;
    row->damaged =
        !cacher_store_row_check(record, (uint64_t)cacher_store_pg_number(result, at, 9));
    return row;
}

static int send_get(struct pg_link *link)
{
    struct pg_value key = key_value(link->job->key);

    return cacher_store_pg_send(link, PG_GET, &key, 1);
}

static int send_recent(struct pg_link *link)
{
    struct store_job *job = link->job;
    struct numbers n = {.count = 0};
    struct pg_value values[] = {number(&n, job->cursor.order_s),
                                key_value(job->cursor.key), number(&n, job->most),
                                number(&n, STORE_PAGE_BYTES)};

    return cacher_store_pg_send(link, PG_RECENT, values, 4);
}

static bool on_rows(struct pg_link *link, unsigned index, PGresult *result)
{
    struct store_job *job = link->job;
    struct store_cursor cursor = {0};
    uint64_t bytes = 0;
    int rows = PQntuples(result);
    (void)index;

    job->hold = result;
    job->unhold = clear;
    for (int i = 0; i < rows; i++) {
        const struct store_row *row = read_row(job, result, i);
        if (row == NULL) {
            cacher_store_job_error(job, -ENOMEM, "out of memory");
            return true;
        }
        bytes += cacher_store_weight(&row->record);
        cursor.order_s = row->last_use_s;
        memcpy(cursor.key, row->record.key, PROTO_DIGEST_BYTES);
    }
    cursor.set = rows > 0 && ((unsigned)rows == job->most || bytes >= STORE_PAGE_BYTES);
    if (job->kind == STORE_RECENT)
        job->cursor = cursor;
    return true;
}

/* ---- writing ---- */

static int send_put(struct pg_link *link, const struct store_put *put)
{
    const struct cacher_record *record = &put->record;
    struct numbers n = {.count = 0};
    struct pg_value values[] = {
        key_value(record->key),
        number(&n, record->created_s),
        number(&n, link->job->now_s),
        number(&n, put->expires_s),
        number(&n, record->width_px),
        number(&n, record->height_px),
        number(&n, record->cost_us),
        {record->params, record->params_bytes},
        {record->tags, record->tags_bytes},
        number(&n, cacher_store_weight(record)),
        number(&n, cacher_store_sum(record)),
        {record->payload, record->payload_bytes},
    };

    if (cacher_store_pg_send(link, PG_PUT, values, 12) < 0 ||
        cacher_store_pg_send(link, PG_TAGS_DROP, values, 1) < 0)
        return -EIO;
    values[1] = values[8];
    return record->tags_bytes == 0 ? 0
                                   : cacher_store_pg_send(link, PG_TAGS_ADD, values, 2);
}

static int by_key(const void *a, const void *b)
{
    const struct store_put *const *left = a, *const *right = b;

    return memcmp((*left)->record.key, (*right)->record.key, PROTO_DIGEST_BYTES);
}

/* In the order of keys, so that two cachers with the same results wait for each other in
 * one direction only. */
static int send_puts(struct pg_link *link)
{
    struct store_job *job = link->job;
    const struct store_put **sorted = calloc(job->puts_count + 1, sizeof *sorted);
    unsigned count = 0;
    int err = sorted == NULL ? -ENOMEM : 0;

    for (const struct store_put *put = job->puts; put != NULL && err == 0;
         put = put->next)
        sorted[count++] = put;
    if (err == 0)
        qsort(sorted, count, sizeof *sorted, by_key);
    for (unsigned i = 0; i < count && err == 0; i++)
        err = send_put(link, sorted[i]);
    free(sorted);
    return err;
}

static int send_write(struct pg_link *link)
{
    struct store_job *job = link->job;
    struct numbers n = {.count = 0};
    struct pg_value values[] = {
        {job->touches, (size_t)job->touches_count * PROTO_DIGEST_BYTES},
        number(&n, job->now_s),
        number(&n, job->now_s - STORE_TOUCH_S)};
    int err = send_puts(link);

    if (err == 0 && job->touches_count > 0)
        err = cacher_store_pg_send(link, PG_TOUCH, values, 3);
    return err;
}

/* ---- purging ---- */

static int send_purge(struct pg_link *link)
{
    struct store_job *job = link->job;
    const struct cacher_filter *filter = &job->filter;
    uint8_t low[PROTO_DIGEST_BYTES], high[PROTO_DIGEST_BYTES];
    struct numbers n = {.count = 0};
    struct pg_value from = {job->cursor.key, job->cursor.set ? PROTO_DIGEST_BYTES : 0};
    struct pg_value most = number(&n, CACHER_STEP_KEYS),
                    dry = number(&n, filter->dry_run);

    if (filter->kind == CACHER_FILTER_TAG) {
        struct pg_value values[] = {from, {filter->tag, strlen(filter->tag)}, most, dry};
        return cacher_store_pg_send(link, PG_BY_TAG, values, 4);
    }
    if (filter->kind == CACHER_FILTER_OLDER) {
        struct pg_value values[] = {from, number(&n, filter->before_s),
                                    number(&n, job->cursor.order_s), most, dry};
        return cacher_store_pg_send(link, PG_BY_AGE, values, 5);
    }
    cacher_store_range(filter, low, high);
    struct pg_value values[] = {from, key_value(low), key_value(high), most, dry};
    return cacher_store_pg_send(link, PG_BY_KEY, values, 5);
}

static bool on_purge(struct pg_link *link, unsigned index, PGresult *result)
{
    struct store_job *job = link->job;
    uint64_t found = (uint64_t)cacher_store_pg_number(result, 0, 0);
    (void)index;

    job->cursor.set = found == CACHER_STEP_KEYS && PQgetlength(result, 0, 3) == 32;
    if (job->cursor.set) {
        job->cursor.order_s = (uint64_t)cacher_store_pg_number(result, 0, 2);
        memcpy(job->cursor.key, PQgetvalue(result, 0, 3), PROTO_DIGEST_BYTES);
    }
    /* Known to be so with the sync; said by `freed` and `entries` until then. */
    job->entries = found;
    job->freed = (uint64_t)cacher_store_pg_number(result, 0, 1);
    return false;
}

static void purge_ended(struct pg_link *link, int err)
{
    struct store_job *job = link->job;

    if (err == 0) {
        job->matched += job->entries;
        job->removed += job->freed;
    }
    end_job(link, err);
}

/* ---- retention: the lock; what is too old; what is too much ---- */

enum { KEEP, EXPIRE, EVICT };

static void start_retain(struct pg_link *link, unsigned stage);

static int send_retain(struct pg_link *link)
{
    struct store_job *job = link->job;
    struct numbers n = {.count = 0};
    struct pg_value most = number(&n, job->most);
    int err = 0;

    if (link->stage == KEEP) {
        err = cacher_store_pg_send(link, PG_KEEP, NULL, 0);
    } else if (link->stage == EXPIRE) {
        struct pg_value values[] = {number(&n, job->created_s), number(&n, job->now_s),
                                    most};
        err = cacher_store_pg_send(link, PG_EXPIRE, values, 3);
    } else {
        struct pg_value values[] = {number(&n, job->excess - job->freed), most};
        err = cacher_store_pg_send(link, PG_EVICT, values, 2);
    }
    if (err == 0 && job->count && link->stage != EVICT)
        err = cacher_store_pg_send(link, PG_COUNT, NULL, 0);
    return err;
}

static bool on_retain(struct pg_link *link, unsigned index, PGresult *result)
{
    struct store_job *job = link->job;
    uint64_t first = (uint64_t)cacher_store_pg_number(result, 0, 0);
    uint64_t second = (uint64_t)cacher_store_pg_number(result, 0, 1);

    if (index == 1) {
        job->entries = first;
        job->bytes = second;
        return false;
    }
    if (link->stage == KEEP) {
        job->held = first != 0;
        return false;
    }
    job->held = cacher_store_pg_number(result, 0, 2) != 0;
    *(link->stage == EXPIRE ? &job->expired : &job->evicted) += first;
    job->freed += second;
    if (first >= job->most)
        job->more = true;
    return false;
}

static void retain_ended(struct pg_link *link, int err)
{
    const struct store_job *job = link->job;

    if (err == 0 && link->stage == KEEP && job->held)
        start_retain(link, EXPIRE);
    else if (err == 0 && link->stage == EXPIRE && job->held && job->excess > job->freed)
        start_retain(link, EVICT);
    else
        end_job(link, err);
}

/* ---- a job ---- */

static void start(struct pg_link *link, const struct pg_task *like, uint64_t ms)
{
    link->own = *like;
    link->own.ms = ms;
    cacher_store_pg_start(link, &link->own);
}

static void start_retain(struct pg_link *link, unsigned stage)
{
    static const struct pg_task task = {send_retain, on_retain, retain_ended, 0, true};

    link->stage = stage;
    start(link, &task, link->pg->options->store_query_ms);
}

void cacher_store_pg_run(struct pg_link *link, struct store_job *job)
{
    static const struct pg_task tasks[] = {
        [STORE_GET] = {send_get, on_rows, end_job, 0, false},
        [STORE_WRITE] = {send_write, NULL, end_job, 0, true},
        [STORE_PURGE] = {send_purge, on_purge, purge_ended, 0, true},
        [STORE_RECENT] = {send_recent, on_rows, end_job, 0, true},
    };
    const struct cacher_store_options *options = link->pg->options;

    link->job = job;
    if (job->kind == STORE_RETAIN) {
        job->held = link->pg->keeper == link;
        start_retain(link, job->held || link->pg->pooled ? EXPIRE : KEEP);
        return;
    }
    start(link, &tasks[job->kind],
          job->kind == STORE_GET ? options->store_get_ms : options->store_query_ms);
}
