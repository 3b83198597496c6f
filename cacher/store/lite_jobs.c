#include "cacher/store/lite.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Keys that a scan found, to be deleted after it. */
struct found {
    uint8_t (*keys)[PROTO_DIGEST_BYTES];
    unsigned count;
};

/* ---- statements ---- */

/* 0, or -errno said in the job. */
static int check(struct lite *lite, struct store_job *job, int code)
{
    int err = cacher_store_lite_errno(code);

    if (err != 0)
        cacher_store_job_error(job, err, sqlite3_errmsg(lite->db));
    return err;
}

static int exec(struct lite *lite, struct store_job *job, const char *sql)
{
    return check(lite, job, sqlite3_exec(lite->db, sql, NULL, NULL, NULL));
}

static void bind_key(sqlite3_stmt *statement, int at, const uint8_t *key)
{
    (void)sqlite3_bind_blob(statement, at, key, PROTO_DIGEST_BYTES, SQLITE_STATIC);
}

static void bind_number(sqlite3_stmt *statement, int at, uint64_t value)
{
    (void)sqlite3_bind_int64(statement, at, (sqlite3_int64)value);
}

static void done(sqlite3_stmt *statement)
{
    (void)sqlite3_reset(statement);
    (void)sqlite3_clear_bindings(statement);
}

/* Of a statement whose rows do not matter. */
static int run(struct lite *lite, struct store_job *job, sqlite3_stmt *statement)
{
    int err = check(lite, job, sqlite3_step(statement));

    done(statement);
    return err;
}

static int begin(struct lite *lite, struct store_job *job)
{
    return exec(lite, job, "BEGIN IMMEDIATE");
}

/* Commit if nothing failed, else take all of it back. */
static void end(struct lite *lite, struct store_job *job)
{
    if (job->err == 0)
        (void)exec(lite, job, "COMMIT");
    if (!sqlite3_get_autocommit(lite->db))
        (void)sqlite3_exec(lite->db, "ROLLBACK", NULL, NULL, NULL);
}

/* ---- reading ---- */

static size_t column(sqlite3_stmt *statement, int at, const void **bytes)
{
    *bytes = sqlite3_column_blob(statement, at);
    return (size_t)sqlite3_column_bytes(statement, at);
}

/* Copies the statement's row. What is in it is hostile: the sum decides. */
static const struct store_row *read_row(struct store_job *job, sqlite3_stmt *statement)
{
    const void *key, *params, *tags, *payload;
    size_t key_bytes = column(statement, 0, &key);
    size_t params_bytes = column(statement, 7, &params);
    size_t tags_bytes = column(statement, 8, &tags);
    size_t payload_bytes = column(statement, 10, &payload);
    bool fits = key_bytes == PROTO_DIGEST_BYTES &&
                params_bytes <= CACHER_RECORD_PARAMS_BYTES &&
                tags_bytes <= PROTO_TAGS_BYTES_MAX;
    struct store_row *row =
        cacher_store_row_new(job, fits ? params_bytes + tags_bytes + payload_bytes : 0);
    if (row == NULL)
        return NULL;

    memcpy(row->record.key, key_bytes == PROTO_DIGEST_BYTES ? key : job->key,
           PROTO_DIGEST_BYTES);
    row->last_use_s = (uint64_t)sqlite3_column_int64(statement, 2);
    row->expires_s = (uint64_t)sqlite3_column_int64(statement, 3);
    row->damaged = true;
    if (!fits)
        return row;
    struct cacher_record *record = &row->record;
    record->created_s = (uint64_t)sqlite3_column_int64(statement, 1);
    record->width_px = (uint32_t)sqlite3_column_int64(statement, 4);
    record->height_px = (uint32_t)sqlite3_column_int64(statement, 5);
    record->cost_us = (uint32_t)sqlite3_column_int64(statement, 6);
    record->params = row->bytes;
    record->params_bytes = (uint16_t)params_bytes;
    record->tags = (const char *)row->bytes + params_bytes;
    record->tags_bytes = (uint16_t)tags_bytes;
    record->payload = row->bytes + params_bytes + tags_bytes;
    record->payload_bytes = (uint32_t)payload_bytes;
    if (params_bytes > 0)
        memcpy(row->bytes, params, params_bytes);
    if (tags_bytes > 0)
        memcpy(row->bytes + params_bytes, tags, tags_bytes);
    if (payload_bytes > 0)
        memcpy(row->bytes + params_bytes + tags_bytes, payload, payload_bytes);
    row->damaged =
        !cacher_store_row_check(record, (uint64_t)sqlite3_column_int64(statement, 9));
    return row;
}

static void get(struct lite *lite, struct store_job *job)
{
    sqlite3_stmt *statement = lite->statements[LITE_GET];

    bind_key(statement, 1, job->key);
    int code = sqlite3_step(statement);
    if (check(lite, job, code) == 0 && code == SQLITE_ROW &&
        read_row(job, statement) == NULL)
        cacher_store_job_error(job, -ENOMEM, "out of memory");
    done(statement);
}

static void recent(struct lite *lite, struct store_job *job)
{
    sqlite3_stmt *statement = lite->statements[LITE_RECENT];
    struct store_cursor cursor = {0};
    uint64_t bytes = 0;
    unsigned count = 0;
    int code = SQLITE_DONE;

    bind_number(statement, 1, job->cursor.order_s);
    bind_key(statement, 2, job->cursor.key);
    bind_number(statement, 3, job->most);
    while (!cursor.set && (code = sqlite3_step(statement)) == SQLITE_ROW) {
        const struct store_row *row = read_row(job, statement);
        if (row == NULL) {
            cacher_store_job_error(job, -ENOMEM, "out of memory");
            break;
        }
        cursor.order_s = row->last_use_s;
        memcpy(cursor.key, row->record.key, PROTO_DIGEST_BYTES);
        bytes += cacher_store_weight(&row->record);
        cursor.set = ++count == job->most || bytes >= STORE_PAGE_BYTES;
    }
    (void)check(lite, job, code);
    done(statement);
    job->cursor = cursor;
}

/* ---- writing ---- */

static void put(struct lite *lite, struct store_job *job, const struct store_put *put)
{
    const struct cacher_record *record = &put->record;
    sqlite3_stmt *row = lite->statements[LITE_PUT];
    sqlite3_stmt *payload = lite->statements[LITE_PUT_PAYLOAD];

    bind_key(row, 1, record->key);
    bind_number(row, 2, record->created_s);
    bind_number(row, 3, job->now_s);
    bind_number(row, 4, put->expires_s);
    bind_number(row, 5, record->width_px);
    bind_number(row, 6, record->height_px);
    bind_number(row, 7, record->cost_us);
    (void)sqlite3_bind_blob(row, 8, record->params, record->params_bytes, SQLITE_STATIC);
    (void)sqlite3_bind_text(row, 9, record->tags, record->tags_bytes, SQLITE_STATIC);
    bind_number(row, 10, cacher_store_weight(record));
    bind_number(row, 11, cacher_store_sum(record));
    int code = sqlite3_step(row);
    uint64_t id = 0;
    if (code == SQLITE_ROW) {
        id = (uint64_t)sqlite3_column_int64(row, 0);
        code = sqlite3_step(row);
    }
    int err = check(lite, job, code);
    done(row);
    if (err != 0)
        return;
    bind_number(payload, 1, id);
    if (record->payload_bytes > 0) /* a NULL pointer would be NULL */
        (void)sqlite3_bind_blob64(payload, 2, record->payload, record->payload_bytes,
                                  SQLITE_STATIC);
    else
        (void)sqlite3_bind_zeroblob(payload, 2, 0);
    (void)run(lite, job, payload);
}

static void put_tags(struct lite *lite, struct store_job *job,
                     const struct cacher_record *record)
{
    sqlite3_stmt *drop = lite->statements[LITE_TAGS_DROP];
    sqlite3_stmt *add = lite->statements[LITE_TAG_ADD];
    const char *tags = record->tags, *tag;
    size_t left = record->tags_bytes, bytes;

    bind_key(drop, 1, record->key);
    (void)run(lite, job, drop);
    while (job->err == 0 && (tag = proto_tags_next(&tags, &left, &bytes)) != NULL) {
        (void)sqlite3_bind_text(add, 1, tag, (int)bytes, SQLITE_STATIC);
        bind_key(add, 2, record->key);
        (void)run(lite, job, add);
    }
}

static void touch(struct lite *lite, struct store_job *job, const uint8_t *key)
{
    sqlite3_stmt *statement = lite->statements[LITE_TOUCH];

    bind_key(statement, 1, key);
    bind_number(statement, 2, job->now_s);
    bind_number(statement, 3, job->now_s - STORE_TOUCH_S);
    (void)run(lite, job, statement);
}

static void write_batch(struct lite *lite, struct store_job *job)
{
    if (begin(lite, job) != 0)
        return;
    for (const struct store_put *at = job->puts; at != NULL && job->err == 0;
         at = at->next) {
        put(lite, job, at);
        if (job->err == 0)
            put_tags(lite, job, &at->record);
    }
    for (unsigned i = 0; i < job->touches_count && job->err == 0; i++)
        touch(lite, job, job->touches[i]);
    end(lite, job);
}

/* ---- removing ---- */

static void delete_found(struct lite *lite, struct store_job *job,
                         const struct found *found, uint64_t *removed)
{
    sqlite3_stmt *statement = lite->statements[LITE_DELETE];

    for (unsigned i = 0; i < found->count && job->err == 0; i++) {
        bind_key(statement, 1, found->keys[i]);
        if (run(lite, job, statement) == 0)
            *removed += (uint64_t)sqlite3_changes(lite->db);
    }
}

/* The next key of a scan into `found`, which has room. False at the end. */
static bool next_key(struct lite *lite, struct store_job *job, sqlite3_stmt *statement,
                     struct found *found)
{
    const void *key;
    int code = sqlite3_step(statement);

    if (check(lite, job, code) != 0 || code != SQLITE_ROW)
        return false;
    /* Of another length it is not ours; it stays, and is found by no get. */
    memset(found->keys[found->count], 0, PROTO_DIGEST_BYTES);
    size_t bytes = column(statement, 0, &key);
    if (key != NULL)
        memcpy(found->keys[found->count], key,
               bytes < PROTO_DIGEST_BYTES ? bytes : PROTO_DIGEST_BYTES);
    found->count++;
    return true;
}

static sqlite3_stmt *purge_statement(struct lite *lite, struct store_job *job,
                                     uint8_t low[PROTO_DIGEST_BYTES],
                                     uint8_t high[PROTO_DIGEST_BYTES])
{
    const struct cacher_filter *filter = &job->filter;
    sqlite3_stmt *statement;

    if (filter->kind == CACHER_FILTER_TAG) {
        statement = lite->statements[LITE_BY_TAG];
        (void)sqlite3_bind_text(statement, 1, filter->tag, -1, SQLITE_STATIC);
    } else if (filter->kind == CACHER_FILTER_OLDER) {
        statement = lite->statements[LITE_BY_AGE];
        bind_number(statement, 1, filter->before_s);
        bind_number(statement, 2, job->cursor.set ? job->cursor.order_s : 0);
    } else {
        statement = lite->statements[LITE_BY_KEY];
        cacher_store_range(filter, low, high);
        bind_key(statement, 2, low);
        bind_key(statement, 3, high);
    }
    /* Nothing is before an empty blob. */
    if (job->cursor.set)
        bind_key(statement, 4, job->cursor.key);
    else
        (void)sqlite3_bind_zeroblob(statement, 4, 0);
    bind_number(statement, 5, CACHER_STEP_KEYS);
    return statement;
}

static void purge(struct lite *lite, struct store_job *job)
{
    uint8_t low[PROTO_DIGEST_BYTES], high[PROTO_DIGEST_BYTES];
    struct found found = {.keys = calloc(CACHER_STEP_KEYS, PROTO_DIGEST_BYTES)};
    struct store_cursor cursor = {0};

    if (found.keys == NULL) {
        cacher_store_job_error(job, -ENOMEM, "out of memory");
        return;
    }
    if (!job->filter.dry_run && begin(lite, job) != 0) {
        free(found.keys);
        return;
    }
    sqlite3_stmt *statement = purge_statement(lite, job, low, high);
    while (found.count < CACHER_STEP_KEYS && next_key(lite, job, statement, &found)) {
        cursor.order_s = (uint64_t)sqlite3_column_int64(statement, 1);
        memcpy(cursor.key, found.keys[found.count - 1], PROTO_DIGEST_BYTES);
    }
    done(statement);
    cursor.set = found.count == CACHER_STEP_KEYS;
    uint64_t removed = 0;
    if (!job->filter.dry_run) {
        delete_found(lite, job, &found, &removed);
        end(lite, job);
    }
    if (job->err == 0) {
        job->matched += found.count;
        job->removed += removed;
        job->cursor = cursor;
    }
    free(found.keys);
}

/* ---- retention ---- */

/* Remove at most job->most rows that `statement` finds, until `bytes` are gone. Returns
 * how many there were. */
static uint64_t trim(struct lite *lite, struct store_job *job, enum lite_statement which,
                     uint64_t limit, uint64_t bytes)
{
    sqlite3_stmt *statement = lite->statements[which];
    struct found found = {.keys = calloc(job->most, PROTO_DIGEST_BYTES)};
    uint64_t gone = 0, removed = 0;

    if (found.keys == NULL) {
        cacher_store_job_error(job, -ENOMEM, "out of memory");
        return 0;
    }
    if (which != LITE_UNUSED)
        bind_number(statement, 1, limit);
    bind_number(statement, 2, job->most);
    while (found.count < job->most && gone < bytes &&
           next_key(lite, job, statement, &found))
        gone += (uint64_t)sqlite3_column_int64(statement, 1);
    done(statement);
    delete_found(lite, job, &found, &removed);
    if (found.count == job->most && removed > 0)
        job->more = true;
    job->freed += gone;
    free(found.keys);
    return removed;
}

static uint64_t pragma(struct lite *lite, const char *sql)
{
    sqlite3_stmt *statement = NULL;
    uint64_t value = 0;

    if (sqlite3_prepare_v2(lite->db, sql, -1, &statement, NULL) == SQLITE_OK &&
        sqlite3_step(statement) == SQLITE_ROW)
        value = (uint64_t)sqlite3_column_int64(statement, 0);
    (void)sqlite3_finalize(statement);
    return value;
}

/* When much of the file is free, the system gets some of it back. */
static void shrink(struct lite *lite, struct store_job *job)
{
    char sql[60];
    uint64_t unused = pragma(lite, "PRAGMA freelist_count");

    if (unused < LITE_VACUUM_PAGES || unused < pragma(lite, "PRAGMA page_count") / 4)
        return;
    snprintf(sql, sizeof sql, "PRAGMA incremental_vacuum(%d)", LITE_VACUUM_PAGES);
    if (exec(lite, job, sql) == 0)
        job->more = pragma(lite, "PRAGMA freelist_count") < unused;
}

static void count(struct lite *lite, struct store_job *job)
{
    sqlite3_stmt *statement = lite->statements[LITE_TOTALS];
    int code = sqlite3_step(statement);

    if (check(lite, job, code) == 0 && code == SQLITE_ROW) {
        job->entries = (uint64_t)sqlite3_column_int64(statement, 0);
        job->bytes = (uint64_t)sqlite3_column_int64(statement, 1);
    }
    done(statement);
}

static void retain(struct lite *lite, struct store_job *job)
{
    job->held = cacher_store_lite_keep(lite);
    if (job->held) {
        if (begin(lite, job) != 0)
            return;
        job->expired += trim(lite, job, LITE_EXPIRED, job->now_s, UINT64_MAX);
        if (job->created_s > 0 && job->err == 0)
            job->expired += trim(lite, job, LITE_CREATED, job->created_s, UINT64_MAX);
        if (job->excess > job->freed && job->err == 0)
            job->evicted += trim(lite, job, LITE_UNUSED, 0, job->excess - job->freed);
        end(lite, job);
        if (job->err == 0 && !job->more)
            shrink(lite, job);
    }
    if (job->count && job->err == 0)
        count(lite, job);
}

/* ---- a job ---- */

/* Somebody removed or replaced the file: what we would write is lost. */
static bool has_moved(struct lite *lite)
{
    int moved = 0;

    return sqlite3_file_control(lite->db, "main", SQLITE_FCNTL_HAS_MOVED, &moved) ==
               SQLITE_OK &&
           moved != 0;
}

void cacher_store_lite_run(struct lite *lite, struct store_job *job)
{
    static void (*const runs[])(struct lite * lite, struct store_job * job) = {
        [STORE_GET] = get,       [STORE_WRITE] = write_batch, [STORE_PURGE] = purge,
        [STORE_RECENT] = recent, [STORE_RETAIN] = retain,
    };
    char error[STORE_ERROR_BYTES] = "";

    if (lite->db != NULL && job->kind != STORE_GET && has_moved(lite))
        cacher_store_lite_disconnect(lite);
    int err = cacher_store_lite_connect(lite, error);
    if (err != 0) {
        cacher_store_job_error(job, err, error);
        return;
    }
    runs[job->kind](lite, job);
    if (job->err == -EIO || job->err == -EUCLEAN)
        cacher_store_lite_disconnect(lite); /* the next job opens it anew */
}
