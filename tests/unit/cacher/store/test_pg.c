#include "cacher/store/pg.h"
#include "tests/unit/cacher/store/contract.h"
#include "tests/unit/cacher/store/server.h"

#include <sys/mount.h>

static char url_text[200];
static const char *const url = url_text;

/* Raises an error of class 23 for one width. */
static void refuse_width(unsigned width)
{
    char text[200];

    snprintf(text, sizeof text,
             "ALTER TABLE siftmesh.results ADD CONSTRAINT refuse CHECK (width <> %u)",
             width);
    sql(text);
}

static void accept_all(void)
{
    sql("ALTER TABLE siftmesh.results DROP CONSTRAINT refuse");
}

/* ---- URLs ---- */

static void what_is_no_url_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"postgres://u:secret@h/db?x=y",
                                      "postgres://[::1/db", "postgres://h%zz/db",
                                      "postgres://a,b/db"};
    struct cacher_store_options options = quick_options();
    struct cacher_tier *tier;

    for (unsigned i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(cacher_store_open(&loop, bad[i], &options, &tier), -EINVAL);
}

/* A get that fails, and the reason in last_error. */
static void fails_with(const char *where, const char *reason)
{
    struct cacher_store_options options = quick_options();
    struct cacher_store *store = open_with(where, &options);
    struct got got = get(store, 1);

    assert_int_equal(got.found, CACHER_FAILED);
    if (!last_error_has(store, reason))
        fail_msg("%s: %s", where, store->last_error);
    assert_int_equal(counters(store)->errors, 1);
    char *text = description(store);
    assert_null(strstr(text, "hunter2"));
    free(text);
    close_it(store);
}

static void who_cannot_be_reached_is_told(void **state)
{
    (void)state;
    char where[200];

    snprintf(where, sizeof where, "postgres://siftmesh:hunter2@127.0.0.1:%d/postgres",
             server_port);
    fails_with(where, "authentication failed");
    snprintf(where, sizeof where,
             "postgres://siftmesh:" SERVER_PASSWORD "@127.0.0.1:%d/no", server_port);
    fails_with(where, "does not exist");
    snprintf(where, sizeof where, "postgres://siftmesh:hunter2@127.0.0.1:%d/postgres",
             free_port());
    fails_with(where, "refused");
    fails_with("postgres://siftmesh:hunter2@no-such-host.invalid/postgres",
               "cannot find host no-such-host.invalid");
}

/* At the start, not at the first picture; and once, however often it is tried. */
static void wrong_credentials_are_told_before_anybody_asks(void **state)
{
    (void)state;
    struct cacher_store_options options = quick_options();
    char where[200];

    snprintf(where, sizeof where, "postgres://siftmesh:hunter2@127.0.0.1:%d/postgres",
             server_port);
    struct cacher_store *store = open_with(where, &options);
    WAIT(last_error_has(store, "authentication failed"));
    assert_false(store->usable);
    assert_int_not_equal(store->reads.state, BREAKER_CLOSED);
    assert_int_not_equal(store->writes.state, BREAKER_CLOSED);
    close_it(store);
}

static void logins_that_fail_come_ever_more_slowly(void **state)
{
    (void)state;
    struct cacher_store_options options = quick_options();
    char where[200];

    snprintf(where, sizeof where, "postgres://siftmesh:hunter2@127.0.0.1:%d/postgres",
             server_port);
    struct cacher_store *store = open_with(where, &options);
    const struct pg *pg = (const struct pg *)store->home;
    struct got got[32] = {{0}};
    uint64_t begun_us = uv_hrtime() / 1000;
    while (pg->failures < 6) { /* as many as may ask */
        for (unsigned i = 0; i < 32; i++)
            if (got[i].calls == 1 || got[i].number == 0)
                if (ask(store, i + 1, &got[i]) < 0)
                    got[i].calls = 1;
        uv_run(&loop, UV_RUN_ONCE);
    }
    assert_true(uv_hrtime() / 1000 - begun_us >=
                PG_LOGIN_MS * UINT64_C(1000) * (1 + 2 + 4 + 8 + 16));
    close_it(store);
}

static void hosts_have_names_and_folders_too(void **state)
{
    (void)state;
    struct cacher_store_options options = quick_options();
    char where[300];

    snprintf(where, sizeof where,
             "postgresql://siftmesh:" SERVER_PASSWORD "@localhost:%d/postgres",
             server_port);
    struct cacher_store *store = open_with(where, &options);
    put_many(store, 0, 1);
    char *text = description(store);
    assert_non_null(strstr(text, "localhost"));
    assert_null(strstr(text, "secret"));
    assert_non_null(strstr(text, "\"pool\""));
    free(text);
    close_it(store);
    snprintf(
        where, sizeof where,
        "postgres:///postgres?host=%s&port=%d&user=siftmesh&password=" SERVER_PASSWORD,
        server_folder, server_port);
    store = open_with(where, &options);
    assert_true(has(store, 0));
    close_it(store);
}

/* ---- schema ---- */

static void a_newer_schema_is_refused_and_told(void **state)
{
    (void)state;
    struct cacher_store_options options = quick_options();
    struct cacher_store *store = open_with(url, &options);

    put_many(store, 0, 1);
    close_it(store);
    sql("UPDATE siftmesh.schema SET version = 99");
    store = open_with(url, &options);
    struct got got = get(store, 0);
    assert_int_equal(got.found, CACHER_FAILED);
    assert_true(last_error_has(store, "schema 99 is newer than 1"));
    assert_int_equal(put(store, &(struct given){.number = 1}), 0);
    WAIT(store->writes.state == BREAKER_OPEN);
    assert_int_equal(sql_number("SELECT version FROM siftmesh.schema"), 99);
    /* The operator mends it: no restart is needed. */
    sql("UPDATE siftmesh.schema SET version = 1");
    WAIT(counters(store)->puts == 1);
    assert_true(has(store, 0));
    close_it(store);
}

static void a_user_without_rights_uses_a_schema_made_for_it(void **state)
{
    (void)state;
    struct cacher_store_options options = quick_options();
    char where[200];

    sql("DROP ROLE IF EXISTS plain");
    sql("CREATE ROLE plain LOGIN PASSWORD 'p'");
    snprintf(where, sizeof where, "postgres://plain:p@127.0.0.1:%d/postgres",
             server_port);
    fails_with(where, "permission denied");
    sql("CREATE SCHEMA siftmesh AUTHORIZATION plain");
    struct cacher_store *store = open_with(where, &options);
    put_many(store, 0, 1);
    assert_true(has(store, 0));
    close_it(store);
    empty();
    sql("DROP ROLE plain");
}

/* ---- the pool ---- */

static void the_pool_is_bounded_and_who_waits_too_long_is_told(void **state)
{
    (void)state;
    struct cacher_store_options options = quick_options();
    options.store_pool_size = 2;
    options.store_pool_overflow = 1;
    options.store_pool_wait_ms = 300;
    options.store_retention_every_s = 3600;
    options.store_breaker_failures = 100;
    struct cacher_store *store = open_with(url, &options);
    struct pg *pg = (struct pg *)store->home;
    struct got got[10];

    put_many(store, 0, 1);
    WAIT(store->keeper); /* has a connection of its own */
    PGconn *db = server_connect();
    (void)sql_with(db, "BEGIN; LOCK TABLE siftmesh.results IN ACCESS EXCLUSIVE MODE");
    for (unsigned i = 0; i < 10; i++)
        assert_int_equal(ask(store, 0, &got[i]), 0);
    /* One of three is retention's. A third may be on its way, waiting for our lock. */
    unsigned ended = 0;
    while (ended < 8) {
        uv_run(&loop, UV_RUN_ONCE);
        unsigned links = 0;
        for (const struct pg_link *link = pg->links; link != NULL; link = link->next)
            links++;
        assert_true(links <= 3);
        ended = 0;
        for (unsigned i = 0; i < 10; i++)
            ended += got[i].calls;
    }
    assert_int_equal(counters(store)->pool_waiting, 0);
    assert_true(counters(store)->pool_wait_max_us >= 300000);
    assert_true(last_error_has(store, "no connection of the pool is free"));
    (void)sql_with(db, "COMMIT");
    PQfinish(db);
    for (unsigned i = 0; i < 10; i++)
        WAIT(got[i].calls == 1);
    assert_int_equal(got[0].found, CACHER_FOUND);
    assert_int_equal(got[9].found, CACHER_FAILED);
    /* What was above the size is closed. */
    WAIT(counters(store)->pool_used == 1 && counters(store)->pool_idle == 1);
    assert_non_null(pg->keeper);
    assert_int_equal(counters(store)->errors + counters(store)->hits, 10);
    close_it(store);
}

static struct pg_link *idle_link(struct cacher_store *store)
{
    const struct pg *pg = (const struct pg *)store->home;

    for (struct pg_link *link = pg->links; link != NULL; link = link->next)
        if (link->state == PG_IDLE && link != pg->keeper)
            return link;
    return NULL;
}

static void old_connections_are_replaced_and_idle_ones_checked(void **state)
{
    (void)state;
    struct cacher_store_options options = quick_options();
    options.store_retention_every_s = 3600;
    struct cacher_store *store = open_with(url, &options);

    put_many(store, 0, 1);
    WAIT(store->keeper);
    assert_true(has(store, 0));
    WAIT(store->touches->count == 0 && store->batch == NULL);
    uint64_t connects = counters(store)->connects;
    struct pg_link *link = idle_link(store);
    assert_non_null(link);
    int pid = PQbackendPID(link->db);
    link->born_us -= 3600 * 1000000ull;
    assert_true(has(store, 0));
    while (idle_link(store) == NULL)
        uv_run(&loop, UV_RUN_ONCE);
    assert_int_not_equal(PQbackendPID(idle_link(store)->db), pid);
    assert_true(counters(store)->connects > connects);

    /* Idle for long, and its server does not answer: another one is made. */
    WAIT(store->touches->count == 0 && store->batch == NULL);
    while ((link = idle_link(store)) == NULL)
        uv_run(&loop, UV_RUN_ONCE);
    for (struct pg_link *at = ((struct pg *)store->home)->links; at != NULL;
         at = at->next)
        at->idle_us -= 31 * 1000000ull;
    pid = PQbackendPID(link->db);
    connects = counters(store)->connects;
    bool may = kill(pid, SIGSTOP) == 0;
    assert_true(has(store, 0));
    if (may)
        assert_int_equal(kill(pid, SIGCONT), 0);
    assert_int_equal(counters(store)->errors, 0);
    if (may)
        assert_true(counters(store)->connects > connects);
    close_it(store);
}

static void a_get_ends_in_its_time(void **state)
{
    (void)state;
    struct cacher_store_options options = quick_options();
    options.store_get_ms = 50;
    options.store_breaker_failures = 3;
    struct cacher_store *store = open_with(url, &options);
    struct got got[5];

    WAIT(store->keeper); /* connected */
    PGconn *db = server_connect();
    (void)sql_with(db, "BEGIN; LOCK TABLE siftmesh.results IN ACCESS EXCLUSIVE MODE");
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(ask(store, i, &got[i]), 0);
        WAIT(got[i].calls == 1);
        assert_int_equal(got[i].found, CACHER_FAILED);
    }
    assert_int_equal(counters(store)->timeouts, 3);
    assert_true(counters(store)->breaker_opened >= 1);
    (void)sql_with(db, "COMMIT");
    PQfinish(db);
    struct got last = {.found = CACHER_FAILED};
    while (last.found == CACHER_FAILED) { /* the breaker lets one ask now and then */
        WAIT(ask(store, 0, &last) == 0);
        WAIT(last.calls == 1);
    }
    assert_int_equal(store->reads.state, BREAKER_CLOSED);
    close_it(store);
}

/* ---- faults ---- */

/* Until the store answers: for stores that come back. */
static bool has_at_last(struct cacher_store *store, unsigned number)
{
    struct got got = {.found = CACHER_FAILED};

    while (got.found == CACHER_FAILED) {
        WAIT(ask(store, number, &got) == 0);
        WAIT(got.calls == 1);
    }
    return got.found == CACHER_FOUND;
}

static void a_backend_terminated_in_mid_query_costs_nothing(void **state)
{
    (void)state;
    struct cacher_store_options options = quick_options();
    struct cacher_store *store = open_with(url, &options);
    struct got got, warm[4];

    put_many(store, 0, 5);
    for (unsigned i = 0; i < 4; i++) /* connections: a new one would wait for the lock */
        assert_int_equal(ask(store, i, &warm[i]), 0);
    WAIT(counters(store)->hits == 4 && counters(store)->pool_idle >= 3);
    PGconn *db = server_connect();
    (void)sql_with(db, "BEGIN; LOCK TABLE siftmesh.results IN ACCESS EXCLUSIVE MODE");
    assert_int_equal(ask(store, 3, &got), 0);
    for (unsigned i = 5; i < 10; i++)
        assert_int_equal(put(store, &(struct given){.number = i, .payload_bytes = 1000}),
                         0);
    WAIT(sql_with(db, BLOCKED) >= 2);
    assert_true(sql_with(db, TERMINATE) >= 2);
    WAIT(counters(store)->disconnects >= 2);
    assert_int_equal(counters(store)->puts, 5);
    (void)sql_with(db, "COMMIT");
    PQfinish(db);
    WAIT(got.calls == 1);
    assert_int_equal(got.found, CACHER_FOUND);
    WAIT(counters(store)->puts == 10);
    assert_int_equal(counters(store)->errors, 0);
    assert_true(counters(store)->retries >= 2);
    for (unsigned i = 0; i < 10; i++)
        assert_true(has(store, i));
    close_it(store);
}

static void termination_while_idle_is_not_even_noticed(void **state)
{
    (void)state;
    struct cacher_store_options options = quick_options();
    struct cacher_store *store = open_with(url, &options);

    put_many(store, 0, 5);
    for (unsigned i = 0; i < 10; i++) {
        uint64_t gone = counters(store)->disconnects;
        WAIT(sql_number(TERMINATE) > 0);
        WAIT(counters(store)->disconnects > gone);
        assert_true(has(store, i % 5));
    }
    assert_int_equal(counters(store)->errors, 0);
    close_it(store);
}

static unsigned first_missing(unsigned count)
{
    PGconn *db = server_connect();
    char text[200];
    unsigned number = 0;

    for (; number < count; number++) {
        char hex[65];
        hex_prefix(number, 64, hex);
        snprintf(text, sizeof text,
                 "SELECT count(*) FROM siftmesh.results WHERE key = decode('%s', 'hex')",
                 hex);
        if (sql_with(db, text) != 1)
            break;
    }
    PQfinish(db);
    return number;
}

static void a_restart_under_writes_loses_nothing_acknowledged(void **state)
{
    (void)state;
    static const int signals[] = {SIGQUIT, SIGINT, SIGKILL};
    struct cacher_store_options options = quick_options();
    options.store_batch_records_max = 20;
    options.store_queue_records_max = 100000;
    struct cacher_store *store = open_with(url, &options);
    unsigned number = 0;

    for (unsigned round = 0; round < 3; round++) {
        uint64_t target = counters(store)->puts + 200;
        while (counters(store)->puts < target) {
            if (counters(store)->queued_puts < 100)
                assert_int_equal(put(store, &(struct given){.number = number++,
                                                            .payload_bytes = 3000}),
                                 0);
            uv_run(&loop, UV_RUN_NOWAIT);
        }
        if (signals[round] == SIGKILL) /* the postmaster alone: the rest must follow */
            WAIT(kill(server_pid, 0) == 0);
        server_stop(signals[round]);
        /* What it said is not more than what it has done. Puts go in order. */
        for (unsigned i = 0; i < 200; i++) {
            assert_int_equal(
                put(store, &(struct given){.number = number++, .payload_bytes = 3000}),
                0);
            uv_run(&loop, UV_RUN_NOWAIT);
        }
        WAIT(store->writes.state == BREAKER_OPEN);
        uint64_t acknowledged = counters(store)->puts;
        assert_true(acknowledged < number);
        server_start();
        assert_true(first_missing((unsigned)acknowledged) >= acknowledged);
        WAIT(counters(store)->queued_puts == 0);
        assert_int_equal(counters(store)->puts, number);
    }
    for (unsigned i = 0; i < number; i++)
        assert_true(has_at_last(store, i));
    assert_int_equal(counters(store)->puts_lost, 0);
    close_it(store);
}

static void a_store_opened_while_the_server_is_away_waits_for_it(void **state)
{
    (void)state;
    struct cacher_store_options options = quick_options();
    server_stop(SIGINT);
    struct cacher_store *store = open_with(url, &options);

    assert_int_equal(put(store, &(struct given){.number = 1, .payload_bytes = 10}), 0);
    struct got got = get(store, 1);
    assert_int_equal(got.found, CACHER_FAILED);
    WAIT(store->writes.state == BREAKER_OPEN);
    server_start();
    WAIT(counters(store)->puts == 1);
    assert_true(has_at_last(store, 1));
    close_it(store);

    /* Away again, and the store must end: what is left is counted, in its time. */
    store = open_with(url, &options);
    assert_true(has_at_last(store, 1));
    server_stop(SIGINT);
    assert_int_equal(put(store, &(struct given){.number = 2, .payload_bytes = 10}), 0);
    close_store_within(store, 100);
    server_start();
    store = open_with(url, &options);
    assert_false(has_at_last(store, 2));
    close_it(store);
}

static void a_full_disk_stops_writing_not_reading(void **state)
{
    (void)state;
    struct cacher_store_options options = quick_options();
    options.store_queue_records_max = 30;
    struct cacher_store *store = open_with(url, &options);

    put_many(store, 0, 5);
    sql("CREATE FUNCTION siftmesh.full() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " RAISE EXCEPTION 'could not extend file: No space left on device'"
        " USING ERRCODE = '53100'; END $$");
    sql("CREATE TRIGGER full_disk BEFORE INSERT ON siftmesh.results FOR EACH ROW"
        " EXECUTE FUNCTION siftmesh.full()");
    for (unsigned i = 5; i < 35; i++)
        assert_int_equal(put(store, &(struct given){.number = i, .payload_bytes = 100}),
                         0);
    assert_int_equal(put(store, &(struct given){.number = 99}), -ENOBUFS);
    WAIT(store->writes.state == BREAKER_OPEN);
    assert_true(last_error_has(store, "No space left"));
    for (unsigned i = 0; i < 5; i++)
        assert_true(has(store, i));
    assert_int_equal(store->reads.state, BREAKER_CLOSED);
    assert_int_equal(counters(store)->puts, 5);
    sql("DROP TRIGGER full_disk ON siftmesh.results");
    WAIT(counters(store)->puts == 35);
    for (unsigned i = 0; i < 35; i++)
        assert_true(has(store, i));
    assert_int_equal(store->writes.state, BREAKER_CLOSED);
    close_it(store);
}

/* The same with a disk that is really full. */
static void a_full_tablespace_loses_nothing_acknowledged(void **state)
{
    (void)state;
    struct cacher_store_options options = quick_options();
    options.store_batch_records_max = 5;
    options.store_queue_records_max = 50;
    char disk[100], text[200];
    unsigned number = 0;
    snprintf(disk, sizeof disk, "%s/disk", server_folder);
    assert_int_equal(mkdir(disk, 0700), 0);
    if (mount("tmpfs", disk, "tmpfs", 0, "size=8m") != 0) {
        print_message("skipped: no right to mount a small disk\n");
        skip();
    }
    assert_int_equal(chown(disk, server_user, server_group), 0);
    snprintf(text, sizeof text, "CREATE TABLESPACE small LOCATION '%s'", disk);
    sql(text);
    struct cacher_store *store = open_with(url, &options);
    put_many(store, number++, 1);
    sql("ALTER TABLE siftmesh.results SET TABLESPACE small");

    while (counters(store)->queued_puts < 50 || store->writes.state != BREAKER_OPEN) {
        if (counters(store)->queued_puts < 50)
            assert_int_equal(
                put(store, &(struct given){.number = number++, .payload_bytes = 50000}),
                0);
        uv_run(&loop, UV_RUN_NOWAIT);
        assert_true(number < 1000);
    }
    assert_true(last_error_has(store, "No space left on device"));
    uint64_t acknowledged = counters(store)->puts;
    assert_in_range(acknowledged, 20, 200);
    for (unsigned i = 0; i < acknowledged; i++)
        assert_true(has(store, i));
    assert_int_equal(mount("tmpfs", disk, "tmpfs", MS_REMOUNT, "size=64m"), 0);
    WAIT(counters(store)->queued_puts == 0);
    assert_int_equal(counters(store)->puts, number);
    for (unsigned i = 0; i < number; i++)
        assert_true(has(store, i));
    close_it(store);
    empty();
    sql("DROP TABLESPACE small");
    assert_int_equal(umount(disk), 0);
}

static void retention_moves_when_its_session_is_terminated(void **state)
{
    (void)state;
    struct cacher_store_options options = quick_options();
    struct cacher_store *first = open_with(url, &options);
    put_many(first, 0, 1);
    WAIT(first->keeper);
    struct cacher_store *second = open_with(url, &options);

    assert_true(has(second, 0));
    WAIT(counters(second)->entries == 1);
    assert_false(second->keeper);
    /* As when its process dies: the session ends, and it does not come back at once. */
    uv_timer_stop(&first->timers[STORE_TIMER_RETAIN]);
    WAIT(first->retaining == NULL);
    uv_timer_stop(&first->timers[STORE_TIMER_RETAIN]);
    sql("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'");
    WAIT(second->keeper);
    assert_int_equal(
        sql_number("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"), 1);
    uv_timer_start(&first->timers[STORE_TIMER_RETAIN], cacher_store_on_retain_timer, 0,
                   0);
    WAIT(!first->keeper);
    close_it(second);
    WAIT(first->keeper);
    close_it(first);
}

static int make_server(void **state)
{
    (void)state;
    snprintf(url_text, sizeof url_text,
             "postgres://siftmesh:" SERVER_PASSWORD "@127.0.0.1:%d/postgres",
             server_port);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        CONTRACT_TESTS,
        CONTRACT(what_is_no_url_is_refused),
        CONTRACT(who_cannot_be_reached_is_told),
        CONTRACT(wrong_credentials_are_told_before_anybody_asks),
        CONTRACT(logins_that_fail_come_ever_more_slowly),
        CONTRACT(hosts_have_names_and_folders_too),
        CONTRACT(a_newer_schema_is_refused_and_told),
        CONTRACT(a_user_without_rights_uses_a_schema_made_for_it),
        CONTRACT(the_pool_is_bounded_and_who_waits_too_long_is_told),
        CONTRACT(old_connections_are_replaced_and_idle_ones_checked),
        CONTRACT(a_get_ends_in_its_time),
        CONTRACT(a_backend_terminated_in_mid_query_costs_nothing),
        CONTRACT(termination_while_idle_is_not_even_noticed),
        CONTRACT(a_restart_under_writes_loses_nothing_acknowledged),
        CONTRACT(a_store_opened_while_the_server_is_away_waits_for_it),
        CONTRACT(a_full_disk_stops_writing_not_reading),
        CONTRACT(a_full_tablespace_loses_nothing_acknowledged),
        CONTRACT(retention_moves_when_its_session_is_terminated),
    };

    home.url = url;
    home.sql = sql;
    home.number = sql_number;
    home.refuse_width = refuse_width;
    home.accept_all = accept_all;
    home.empty = empty;
    home.damage_payload = "UPDATE results SET payload = decode(repeat('00', 50), 'hex')";
    home.cut_payload = "UPDATE results SET payload = substring(payload FROM 2)";
    home.long_params = "UPDATE results SET params = decode(repeat('00', 70000), 'hex')";
    fixture_init();
    if (!server_make()) {
        printf("skipped: no PostgreSQL that could be started here\n");
        return 77;
    }
    cmocka_set_test_filter(getenv("TEST")); /* NULL: all */
    int failed = cmocka_run_group_tests(tests, make_server, NULL);
    server_remove();
    if (failed == 0)
        fixture_free();
    return failed;
}
