#include "cacher/store/lite.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

/* ---- schema ---- */

/* One text for each version, from the one before. Never changed once released.
 *
 * Payloads are apart, since SQLite writes a row anew when last_use changes. Triggers keep
 * the rest right, also for somebody with a shell: payload and tags go with their result,
 * and totals need no scan. */
static const char *const migrations[LITE_SCHEMA] = {
    "CREATE TABLE siftmesh_schema (version INTEGER NOT NULL);"
    "INSERT INTO siftmesh_schema VALUES (0);"
    "CREATE TABLE results ("
    " id INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, created INTEGER NOT NULL,"
    " last_use INTEGER NOT NULL, expires INTEGER NOT NULL, width INTEGER NOT NULL,"
    " height INTEGER NOT NULL, cost_us INTEGER NOT NULL, params BLOB NOT NULL,"
    " tags TEXT NOT NULL, bytes INTEGER NOT NULL, crc INTEGER NOT NULL);"
    "CREATE INDEX results_last_use ON results (last_use, key);"
    "CREATE INDEX results_created ON results (created, key);"
    "CREATE INDEX results_expires ON results (expires) WHERE expires > 0;"
    "CREATE TABLE payloads (id INTEGER PRIMARY KEY, payload BLOB NOT NULL);"
    "CREATE TABLE tags (tag TEXT NOT NULL, key BLOB NOT NULL, PRIMARY KEY (tag, key))"
    " WITHOUT ROWID;"
    "CREATE INDEX tags_key ON tags (key);"
    "CREATE TABLE totals (entries INTEGER NOT NULL, bytes INTEGER NOT NULL);"
    "INSERT INTO totals VALUES (0, 0);"
    "CREATE TRIGGER results_added AFTER INSERT ON results BEGIN"
    " UPDATE totals SET entries = entries + 1, bytes = bytes + new.bytes; END;"
    "CREATE TRIGGER results_changed AFTER UPDATE OF bytes ON results BEGIN"
    " UPDATE totals SET bytes = bytes + new.bytes - old.bytes; END;"
    "CREATE TRIGGER results_removed AFTER DELETE ON results BEGIN"
    " DELETE FROM payloads WHERE id = old.id;"
    " DELETE FROM tags WHERE key = old.key;"
    " UPDATE totals SET entries = entries - 1, bytes = bytes - old.bytes; END;",
};

#define COLUMNS                                                                          \
    "r.key, r.created, r.last_use, r.expires, r.width, r.height, r.cost_us, r.params, "  \
    "r.tags, r.crc, p.payload FROM results r LEFT JOIN payloads p ON p.id = r.id "

static const char *const texts[LITE_STATEMENTS] = {
    [LITE_GET] = "SELECT " COLUMNS "WHERE r.key = ?1",
    [LITE_PUT] = "INSERT INTO results (key, created, last_use, expires, width, height,"
                 " cost_us, params, tags, bytes, crc)"
                 " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)"
                 " ON CONFLICT (key) DO UPDATE SET created = excluded.created,"
                 " last_use = excluded.last_use, expires = excluded.expires,"
                 " width = excluded.width, height = excluded.height,"
                 " cost_us = excluded.cost_us, params = excluded.params,"
                 " tags = excluded.tags, bytes = excluded.bytes, crc = excluded.crc"
                 " RETURNING id",
    [LITE_PUT_PAYLOAD] = "REPLACE INTO payloads (id, payload) VALUES (?1, ?2)",
    [LITE_TAGS_DROP] = "DELETE FROM tags WHERE key = ?1",
    [LITE_TAG_ADD] = "INSERT OR IGNORE INTO tags (tag, key) VALUES (?1, ?2)",
    [LITE_TOUCH] = "UPDATE results SET last_use = ?2 WHERE key = ?1 AND last_use <= ?3",
    [LITE_RECENT] = "SELECT " COLUMNS "WHERE (r.last_use, r.key) < (?1, ?2)"
                    " ORDER BY r.last_use DESC, r.key DESC LIMIT ?3",
    [LITE_BY_KEY] = "SELECT key, 0 FROM results WHERE key BETWEEN ?2 AND ?3 AND key > ?4"
                    " ORDER BY key LIMIT ?5",
    [LITE_BY_TAG] = "SELECT key, 0 FROM tags WHERE tag = ?1 AND key > ?4"
                    " ORDER BY key LIMIT ?5",
    [LITE_BY_AGE] = "SELECT key, created FROM results WHERE created < ?1"
                    " AND (created, key) > (?2, ?4) ORDER BY created, key LIMIT ?5",
    [LITE_DELETE] = "DELETE FROM results WHERE key = ?1",
    [LITE_EXPIRED] = "SELECT key, bytes FROM results WHERE expires > 0 AND expires <= ?1"
                     " ORDER BY expires LIMIT ?2",
    [LITE_CREATED] = "SELECT key, bytes FROM results WHERE created < ?1"
                     " ORDER BY created LIMIT ?2",
    [LITE_UNUSED] = "SELECT key, bytes FROM results ORDER BY last_use, key LIMIT ?2",
    [LITE_TOTALS] = "SELECT entries, bytes FROM totals",
};

/* ---- errors ---- */

int cacher_store_lite_errno(int code)
{
    switch (code & 0xff) {
    case SQLITE_OK:
    case SQLITE_ROW:
    case SQLITE_DONE:
        return 0;
    case SQLITE_FULL:
        return -ENOSPC;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return -EAGAIN;
    case SQLITE_NOMEM:
        return -ENOMEM;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return -EUCLEAN;
    case SQLITE_READONLY:
        return -EROFS;
    case SQLITE_INTERRUPT:
        return -ECANCELED;
    case SQLITE_TOOBIG:
    case SQLITE_CONSTRAINT:
    case SQLITE_MISMATCH:
        return -EINVAL;
    default:
        return -EIO;
    }
}

static int failed(struct lite *lite, int err, const char *what,
                  char error[STORE_ERROR_BYTES])
{
    if (what != NULL)
        snprintf(error, STORE_ERROR_BYTES, "%s", what);
    else if (lite->db != NULL)
        snprintf(error, STORE_ERROR_BYTES, "%s", sqlite3_errmsg(lite->db));
    return err;
}

static int open_failed(const char *path, char error[STORE_ERROR_BYTES])
{
    int err = -errno;

    snprintf(error, STORE_ERROR_BYTES, "%s: %s", path, strerror(-err));
    return err;
}

/* ---- locks ---- */

static bool lock_byte(const struct lite *lite, off_t byte, short type)
{
    struct flock lock = {
        .l_type = type, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};

    return fcntl(lite->lock_fd, F_OFD_SETLK, &lock) == 0;
}

bool cacher_store_lite_keep(struct lite *lite)
{
    if (!lite->keeper)
        lite->keeper = lock_byte(lite, 0, F_WRLCK);
    return lite->keeper;
}

/* ---- opening ---- */

static int exec(struct lite *lite, const char *sql, char error[STORE_ERROR_BYTES])
{
    int code = sqlite3_exec(lite->db, sql, NULL, NULL, NULL);

    return failed(lite, cacher_store_lite_errno(code), NULL, error);
}

/* The first column of the first row; -1 without one, or when it fails. */
static int64_t number(struct lite *lite, const char *sql)
{
    sqlite3_stmt *statement = NULL;
    int64_t value = -1;

    if (sqlite3_prepare_v2(lite->db, sql, -1, &statement, NULL) == SQLITE_OK &&
        sqlite3_step(statement) == SQLITE_ROW)
        value = sqlite3_column_int64(statement, 0);
    (void)sqlite3_finalize(statement);
    return value;
}

static int set_up(struct lite *lite, char error[STORE_ERROR_BYTES])
{
    char sql[400];

    (void)sqlite3_busy_timeout(lite->db, LITE_BUSY_MS);
    (void)sqlite3_extended_result_codes(lite->db, 1);
    /* A file may have been made by somebody else: its schema does nothing for us. */
    (void)sqlite3_db_config(lite->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    snprintf(sql, sizeof sql,
             "PRAGMA page_size=%d; PRAGMA auto_vacuum=INCREMENTAL;"
             "PRAGMA journal_mode=WAL; PRAGMA synchronous=%s; PRAGMA cache_size=-%d;"
             "PRAGMA wal_autocheckpoint=%d; PRAGMA journal_size_limit=%u;"
             "PRAGMA cell_size_check=ON; PRAGMA trusted_schema=OFF",
             LITE_PAGE_BYTES, lite->options->store_sqlite_full_sync ? "FULL" : "NORMAL",
             LITE_CACHE_KIB, LITE_WAL_PAGES, LITE_WAL_BYTES);
    return exec(lite, sql, error);
}

/* In one transaction, so that a crash leaves the version that was. */
static int migrate(struct lite *lite, char error[STORE_ERROR_BYTES])
{
    char text[STORE_ERROR_BYTES];
    int64_t version = 0;
    int err = 0;

    if (number(lite,
               "SELECT count(*) FROM sqlite_schema WHERE name = 'siftmesh_schema'") > 0)
        version = number(lite, "SELECT version FROM siftmesh_schema");
    else if (number(lite, "SELECT count(*) FROM sqlite_schema") > 0)
        return failed(lite, -EEXIST, "the file is another program's database", error);
    if (version < 0)
        return failed(lite, -EUCLEAN, "the file has no schema version", error);
    if (version > LITE_SCHEMA) {
        snprintf(text, sizeof text,
                 "schema %lld is newer than %d, the newest that this program knows",
                 (long long)version, LITE_SCHEMA);
        return failed(lite, -EPROTO, text, error);
    }
    for (; err == 0 && version < LITE_SCHEMA; version++)
        err = exec(lite, migrations[version], error);
    snprintf(text, sizeof text, "UPDATE siftmesh_schema SET version = %d", LITE_SCHEMA);
    return err != 0 ? err : exec(lite, text, error);
}

static int migrate_if_needed(struct lite *lite, char error[STORE_ERROR_BYTES])
{
    if (number(lite, "SELECT version FROM siftmesh_schema") == LITE_SCHEMA)
        return 0;
    int err = exec(lite, "BEGIN IMMEDIATE", error);
    if (err == 0)
        err = migrate(lite, error);
    if (err == 0)
        err = exec(lite, "COMMIT", error);
    if (err != 0)
        (void)sqlite3_exec(lite->db, "ROLLBACK", NULL, NULL, NULL);
    return err;
}

static int prepare(struct lite *lite, char error[STORE_ERROR_BYTES])
{
    for (unsigned i = 0; i < LITE_STATEMENTS; i++) {
        int code = sqlite3_prepare_v3(lite->db, texts[i], -1, SQLITE_PREPARE_PERSISTENT,
                                      &lite->statements[i], NULL);
        if (code != SQLITE_OK)
            return failed(lite, cacher_store_lite_errno(code), NULL, error);
    }
    return 0;
}

static int open_file(struct lite *lite, char error[STORE_ERROR_BYTES])
{
    sqlite3 *db = NULL;
    /* Results are their owners' business; SQLite's other files inherit the mode. */
    int fd = open(lite->path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return open_failed(lite->path, error);
    close(fd);

    int code = sqlite3_open_v2(lite->path, &db,
                               SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL);
    uv_mutex_lock(&lite->mutex);
    lite->db = db;
    uv_mutex_unlock(&lite->mutex);
    if (code != SQLITE_OK)
        return failed(lite, cacher_store_lite_errno(code), NULL, error);
    int err = set_up(lite, error);
    if (err == 0)
        err = migrate_if_needed(lite, error);
    return err != 0 ? err : prepare(lite, error);
}

/* Two that open a new file at once disturb each other in ways that SQLite's own waiting
 * does not cover (the change to WAL), so one at a time. */
static int open_locked(struct lite *lite, char error[STORE_ERROR_BYTES])
{
    lite->lock_fd = open(lite->lock_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (lite->lock_fd < 0)
        return open_failed(lite->lock_path, error);
    for (unsigned waited_ms = 0; !lock_byte(lite, 1, F_WRLCK); waited_ms += 10) {
        if (waited_ms >= LITE_OPEN_MS)
            return failed(lite, -EAGAIN, "another process is opening the file", error);
        (void)usleep(10000);
    }
    int err = open_file(lite, error);
    (void)lock_byte(lite, 1, F_UNLCK);
    return err;
}

int cacher_store_lite_connect(struct lite *lite, char error[STORE_ERROR_BYTES])
{
    if (lite->db != NULL)
        return 0;
    int err = open_locked(lite, error);
    if (err != 0)
        cacher_store_lite_disconnect(lite);
    return err;
}

void cacher_store_lite_disconnect(struct lite *lite)
{
    uv_mutex_lock(&lite->mutex);
    sqlite3 *db = lite->db;
    lite->db = NULL;
    uv_mutex_unlock(&lite->mutex);
    for (unsigned i = 0; i < LITE_STATEMENTS; i++) {
        (void)sqlite3_finalize(lite->statements[i]);
        lite->statements[i] = NULL;
    }
    (void)sqlite3_close(db);
    if (lite->lock_fd >= 0)
        close(lite->lock_fd);
    lite->lock_fd = -1;
    lite->keeper = false;
}
