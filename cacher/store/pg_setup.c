/*
 * What a new connection does first: the schema, then, unless a pooler is in between, the
 * statements and a bound on their time. Each connection looks at the schema's version, so
 * that a database that was restored or made anew while we ran is noticed.
 *
 * The schema is made and migrated in one transaction under an advisory lock: of two
 * cachers that start at once the second one finds the work done.
 */
#include "cacher/store/pg.h"

#include <errno.h>
#include <libpq-fe.h>
#include <stdlib.h>
#include <string.h>

#define STEPS_MAX 16 /* statements of one migration */

/* The statements of each version, from the one before. Never changed once released.
 * Payloads hardly compress; EXTERNAL spares the attempt. */
static const char *const migrations[PG_SCHEMA][STEPS_MAX] = {
    {
        "CREATE TABLE siftmesh.results (key bytea PRIMARY KEY, created bigint NOT NULL,"
        " last_use bigint NOT NULL, expires bigint NOT NULL, width bigint NOT NULL,"
        " height bigint NOT NULL, cost_us bigint NOT NULL, params bytea NOT NULL,"
        " tags text NOT NULL, bytes bigint NOT NULL, crc bigint NOT NULL,"
        " payload bytea NOT NULL)",
        "ALTER TABLE siftmesh.results ALTER payload SET STORAGE EXTERNAL",
        "CREATE INDEX results_last_use ON siftmesh.results (last_use, key)"
        " INCLUDE (bytes)",
        "CREATE INDEX results_created ON siftmesh.results (created, key)",
        "CREATE INDEX results_expires ON siftmesh.results (expires) WHERE expires > 0",
        "CREATE TABLE siftmesh.tags (tag text NOT NULL, key bytea NOT NULL"
        " REFERENCES siftmesh.results ON DELETE CASCADE, PRIMARY KEY (tag, key))",
        "CREATE INDEX tags_key ON siftmesh.tags (key)",
    },
};

static void next_stage(struct pg_link *link, int err);

/* ---- stage 0: what is there ---- */

static int send_look(struct pg_link *link)
{
    return cacher_store_pg_send_text(
        link, "SELECT (to_regnamespace('siftmesh') IS NOT NULL)::int::bigint,"
              " (to_regclass('siftmesh.schema') IS NOT NULL)::int::bigint,"
              " pg_backend_pid()::bigint");
}

static bool on_look(struct pg_link *link, unsigned index, PGresult *result)
{
    bool pooled = cacher_store_pg_number(result, 0, 2) != PQbackendPID(link->db);
    (void)index;

    link->namespace = cacher_store_pg_number(result, 0, 0) != 0;
    link->version = cacher_store_pg_number(result, 0, 1) != 0 ? -1 : 0;
    if (pooled != link->pg->pooled)
        log_event(LOG_NOTICE, pooled ? "a pooler is before the store" : "no pooler",
                  "where=\"%s\"", link->pg->where);
    link->pg->pooled = pooled;
    return false;
}

/* ---- stage 1: the version ---- */

static int send_version(struct pg_link *link)
{
    return cacher_store_pg_send_text(link, "SELECT version FROM siftmesh.schema");
}

static bool on_version(struct pg_link *link, unsigned index, PGresult *result)
{
    (void)index;
    if (PQfnumber(result, "version") == 0)
        link->version = PQntuples(result) == 1 ? cacher_store_pg_number(result, 0, 0) : 0;
    return false;
}

/* ---- stage 2: the lock, and the version under it ---- */

static int send_lock(struct pg_link *link)
{
    static const char *const texts[] = {
        "BEGIN",
        NULL, /* the bound */
        "SELECT pg_advisory_xact_lock(" PG_LOCK_MIGRATE ")",
        "CREATE SCHEMA IF NOT EXISTS siftmesh",
        "CREATE TABLE IF NOT EXISTS siftmesh.schema (version bigint NOT NULL)",
        "SELECT version FROM siftmesh.schema",
    };

    for (unsigned i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        /* Making one that is there needs a right that its user may not have. */
        if (i == 3 && link->namespace)
            continue;
        int err = texts[i] != NULL ? cacher_store_pg_send_text(link, texts[i])
                                   : cacher_store_pg_send_bound(link, false);
        if (err < 0)
            return err;
    }
    return 0;
}

/* ---- stage 3: migrate, or find it done ---- */

static int send_migrations(struct pg_link *link)
{
    char sql[80];

    for (int64_t version = link->version; version < PG_SCHEMA; version++)
        for (unsigned i = 0; i < STEPS_MAX && migrations[version][i] != NULL; i++)
            if (cacher_store_pg_send_text(link, migrations[version][i]) < 0)
                return -EIO;
    snprintf(sql, sizeof sql, "INSERT INTO siftmesh.schema VALUES (%d)", PG_SCHEMA);
    if (cacher_store_pg_send_text(link, "DELETE FROM siftmesh.schema") < 0 ||
        cacher_store_pg_send_text(link, sql) < 0)
        return -EIO;
    return cacher_store_pg_send_text(link, "COMMIT");
}

/* ---- stage 4: statements ---- */

static int send_prepare(struct pg_link *link)
{
    char name[16];

    if (cacher_store_pg_send_bound(link, true) < 0)
        return -EIO;
    for (unsigned i = 0; i < PG_STATEMENTS; i++) {
        snprintf(name, sizeof name, "s%u", i);
        if (PQsendPrepare(link->db, name, cacher_store_pg_texts[i], 0, NULL) != 1)
            return -EIO;
    }
    return 0;
}

/* ---- one after the other ---- */

enum { LOOK, VERSION, LOCK, MIGRATE, PREPARE, STAGES };

static void start_stage(struct pg_link *link, unsigned stage)
{
    static const struct {
        int (*send)(struct pg_link *link);
        bool (*result)(struct pg_link *link, unsigned index, PGresult *result);
    } stages[STAGES] = {
        [LOOK] = {send_look, on_look},    [VERSION] = {send_version, on_version},
        [LOCK] = {send_lock, on_version}, [MIGRATE] = {send_migrations, NULL},
        [PREPARE] = {send_prepare, NULL},
    };

    link->own = (struct pg_task){stages[stage].send, stages[stage].result, next_stage,
                                 link->pg->options->store_query_ms, false};
    link->stage = stage;
    cacher_store_pg_start(link, &link->own);
}

/* -EPROTO in the link when the schema is of a later program. */
static bool is_known(struct pg_link *link)
{
    if (link->version >= 0 && link->version <= PG_SCHEMA)
        return true;
    link->err = -EPROTO;
    snprintf(link->error, sizeof link->error,
             "schema %lld is newer than %d, the newest that this program knows",
             (long long)link->version, PG_SCHEMA);
    return false;
}

static void end_set_up(struct pg_link *link)
{
    if (link->pg->pooled)
        cacher_store_pg_is_up(link);
    else
        start_stage(link, PREPARE);
}

static void next_stage(struct pg_link *link, int err)
{
    if (err != 0 || (link->stage != LOOK && !is_known(link))) {
        cacher_store_pg_is_down(link);
        return;
    }
    switch (link->stage) {
    case LOOK:
        start_stage(link, link->version == -1 ? VERSION : LOCK);
        break;
    case VERSION:
        if (link->version == PG_SCHEMA)
            end_set_up(link);
        else
            start_stage(link, LOCK);
        break;
    case LOCK:
        start_stage(link, MIGRATE);
        break;
    case MIGRATE:
        link->version = PG_SCHEMA;
        end_set_up(link);
        break;
    default:
        link->prepared = true;
        cacher_store_pg_is_up(link);
    }
}

void cacher_store_pg_set_up(struct pg_link *link)
{
    start_stage(link, LOOK);
}
