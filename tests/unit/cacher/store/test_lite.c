#include "cacher/store/lite.h"
#include "tests/unit/cacher/store/contract.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char folder[64], path[100], url_text[120];
static const char *const url = url_text;

/* ---- behind its back ---- */

static sqlite3 *open_behind(const char *file)
{
    sqlite3 *db = NULL;

    assert_int_equal(sqlite3_open(file, &db), SQLITE_OK);
    (void)sqlite3_busy_timeout(db, 30000);
    return db;
}

static void sql_on(const char *file, const char *text)
{
    sqlite3 *db = open_behind(file);
    char *error = NULL;

    if (sqlite3_exec(db, text, NULL, NULL, &error) != SQLITE_OK)
        fail_msg("%s: %s", text, error);
    (void)sqlite3_close(db);
}

static void sql(const char *text)
{
    sql_on(path, text);
}

static long long sql_number(const char *text)
{
    sqlite3 *db = open_behind(path);
    sqlite3_stmt *statement = NULL;

    assert_int_equal(sqlite3_prepare_v2(db, text, -1, &statement, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(statement), SQLITE_ROW);
    long long value = sqlite3_column_int64(statement, 0);
    (void)sqlite3_finalize(statement);
    (void)sqlite3_close(db);
    return value;
}

static void refuse_width(unsigned width)
{
    char text[200];

    snprintf(text, sizeof text,
             "CREATE TRIGGER refuse BEFORE INSERT ON results WHEN new.width = %u"
             " BEGIN SELECT RAISE(ABORT, 'refused'); END",
             width);
    sql(text);
}

static void accept_all(void)
{
    sql("DROP TRIGGER refuse");
}

static void remove_files(const char *file)
{
    static const char *const suffixes[] = {"", "-wal", "-shm", ".lock", "-journal"};
    char name[200];

    for (unsigned i = 0; i < 5; i++) {
        snprintf(name, sizeof name, "%s%s", file, suffixes[i]);
        (void)unlink(name);
    }
}

static void empty(void)
{
    remove_files(path);
}

/* ---- opening ---- */

static int open_code(const char *text)
{
    struct cacher_store_options options = quick_options();
    struct cacher_tier *tier = NULL;
    int err = cacher_store_open(&loop, text, &options, &tier);

    if (err == 0)
        close_it((struct cacher_store *)tier);
    return err;
}

static void what_is_no_store_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"",
                                      "sqlite",
                                      "sqlite:/x/y.db",
                                      "sqlite://",
                                      "sqlite:///",
                                      "sqlite://relative.db",
                                      "sqlite:///tmp/",
                                      "mysql://h/db",
                                      "redis://h",
                                      "file:///tmp/x.db"};
    char text[5100];

    for (unsigned i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(open_code(bad[i]), -EINVAL);
    memset(text, 'x', sizeof text);
    memcpy(text, "sqlite:///", 10);
    text[sizeof text - 1] = '\0';
    assert_int_equal(open_code(text), -EINVAL);
}

/* Both breakers are open before anybody has asked. */
static struct cacher_store *open_unusable(const char *where, const char *why)
{
    struct cacher_store_options options = quick_options();
    struct cacher_store *store = open_with(where, &options);

    WAIT(store->last_error[0] != '\0');
    if (!last_error_has(store, why))
        fail_msg("%s: %s", where, store->last_error);
    assert_int_not_equal(store->reads.state, BREAKER_CLOSED);
    assert_int_not_equal(store->writes.state, BREAKER_CLOSED);
    assert_false(store->usable);
    return store;
}

static void is_unusable(const char *where, const char *why)
{
    close_it(open_unusable(where, why));
}

/* It is found although nobody asks. */
static void comes_back(struct cacher_store *store)
{
    WAIT(store->reads.state == BREAKER_CLOSED && store->writes.state == BREAKER_CLOSED);
    assert_int_equal(put(store, &(struct given){.number = 7, .payload_bytes = 100}), 0);
    WAIT(counters(store)->puts == 1);
    assert_true(has(store, 7));
    close_it(store);
}

static void a_folder_that_is_missing_is_waited_for(void **state)
{
    (void)state;
    char missing[100], where[200];

    is_unusable("sqlite:///dev/null/x.db", "Not a directory");
    snprintf(missing, sizeof missing, "%s/later", folder);
    snprintf(where, sizeof where, "sqlite://%s/x.db", missing);
    struct cacher_store *store = open_unusable(where, "later/x.db.lock: No such file");
    assert_int_equal(mkdir(missing, 0700), 0);
    comes_back(store);
    snprintf(where, sizeof where, "%s/x.db", missing);
    remove_files(where);
    assert_int_equal(rmdir(missing), 0);
}

static void a_disk_that_is_read_only_is_waited_for(void **state)
{
    (void)state;
    char disk[100], where[200];

    snprintf(disk, sizeof disk, "%s/disk", folder);
    snprintf(where, sizeof where, "sqlite://%s/s.db", disk);
    assert_int_equal(mkdir(disk, 0700), 0);
    if (mount("tmpfs", disk, "tmpfs", MS_RDONLY, "size=8m") != 0) {
        rmdir(disk);
        print_message("skipped: no right to mount a small disk\n");
        skip();
    }
    struct cacher_store *store = open_unusable(where, "Read-only file system");
    assert_int_equal(mount("tmpfs", disk, "tmpfs", MS_REMOUNT, "size=8m"), 0);
    comes_back(store);
    assert_int_equal(umount(disk), 0);
    assert_int_equal(rmdir(disk), 0);
}

static void another_programs_file_is_left_alone_and_waited_for(void **state)
{
    (void)state;
    sql("CREATE TABLE theirs (x)");
    struct cacher_store *store =
        open_unusable(url, "the file is another program's database");
    assert_int_equal(sql_number("SELECT count(*) FROM sqlite_schema"), 1);
    sql("DROP TABLE theirs");
    comes_back(store);
    empty();

    FILE *file = fopen(path, "w");
    assert_non_null(file);
    for (unsigned i = 0; i < 1000; i++)
        fprintf(file, "This is a letter, not a database.\n");
    fclose(file);
    is_unusable(url, "file is not a database");
    struct stat status;
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_size, 34000);
}

static void is_usable(void)
{
    struct cacher_store_options options = quick_options();
    struct cacher_store *store = open_with(url, &options);

    WAIT(store->usable);
    assert_int_equal(store->reads.state, BREAKER_CLOSED);
    close_it(store);
}

static void a_newer_schema_is_refused_and_an_older_one_migrated(void **state)
{
    (void)state;
    is_usable();
    assert_int_equal(sql_number("SELECT version FROM siftmesh_schema"), LITE_SCHEMA);
    sql("UPDATE siftmesh_schema SET version = 99");
    is_unusable(url, "schema 99 is newer than 1");
    assert_int_equal(sql_number("SELECT version FROM siftmesh_schema"), 99);
    struct stat status;
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_mode & 0777, 0600);
    empty();
    /* Version 0: a crash between making the file and its first migration. */
    sql("CREATE TABLE siftmesh_schema (version INTEGER NOT NULL);"
        "INSERT INTO siftmesh_schema VALUES (0); DROP TABLE siftmesh_schema");
    is_usable();
    assert_int_equal(sql_number("SELECT count(*) FROM results"), 0);
}

/* ---- processes ---- */

static void forget_loop(void)
{
    /* A child's own; the parent's stays as it is. */
    memset(&loop, 0, sizeof loop);
    fixture_init();
}

/* Writes for ever, and tells how many the store has acknowledged. */
static void write_for_ever(int pipe_end)
{
    struct cacher_store_options options = quick_options();

    forget_loop();
    struct cacher_store *store = open_with(url, &options);
    for (unsigned number = 0;; number++) {
        while (put(store, &(struct given){.number = number, .payload_bytes = 3000}) < 0)
            uv_run(&loop, UV_RUN_ONCE);
        if (number % 16 == 0)
            uv_run(&loop, UV_RUN_NOWAIT);
        uint64_t puts = counters(store)->puts;
        if (write(pipe_end, &puts, sizeof puts) != sizeof puts)
            _exit(1);
    }
}

static void what_was_acknowledged_survives_kill_9(void **state)
{
    (void)state;
    struct cacher_store_options options = quick_options();

    for (unsigned round = 0; round < 3; round++) {
        int ends[2];
        uint64_t acknowledged = 0, puts;
        empty();
        assert_int_equal(pipe(ends), 0);
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0)
            write_for_ever(ends[1]);
        close(ends[1]);
        while (acknowledged < 300 + 700 * round &&
               read(ends[0], &puts, sizeof puts) == sizeof puts)
            acknowledged = puts;
        assert_int_equal(kill(child, SIGKILL), 0);
        while (read(ends[0], &puts, sizeof puts) == sizeof puts)
            acknowledged = puts; /* said before it died */
        assert_int_equal(waitpid(child, NULL, 0), child);
        close(ends[0]);
        assert_true(acknowledged >= 300);

        struct cacher_store *store = open_with(url, &options);
        for (unsigned i = 0; i < acknowledged; i++)
            assert_true(has(store, i));
        close_it(store);
    }
}

static void keep_for_ever(int pipe_end)
{
    struct cacher_store_options options = quick_options();

    forget_loop();
    struct cacher_store *store = open_with(url, &options);
    WAIT(store->keeper);
    if (write(pipe_end, "k", 1) != 1)
        _exit(1);
    for (;;)
        uv_run(&loop, UV_RUN_ONCE);
}

static void retention_moves_when_its_process_is_killed(void **state)
{
    (void)state;
    struct cacher_store_options options = quick_options();
    int ends[2];
    char byte;

    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        keep_for_ever(ends[1]);
    close(ends[1]);
    assert_int_equal(read(ends[0], &byte, 1), 1);
    close(ends[0]);
    struct cacher_store *store = open_with(url, &options);
    put_many(store, 0, 3);
    WAIT(counters(store)->entries == 3); /* it has looked, and was not let */
    assert_false(store->keeper);
    assert_int_equal(kill(child, SIGKILL), 0);
    assert_int_equal(waitpid(child, NULL, 0), child);
    WAIT(store->keeper);
    close_it(store);
}

static void write_some(unsigned first)
{
    struct cacher_store_options options = quick_options();

    forget_loop();
    options.store_batch_records_max = 10;
    struct cacher_store *store = open_with(url, &options);
    for (unsigned i = 0; i < 300; i++) {
        if (put(store, &(struct given){.number = first + i, .payload_bytes = 500}) < 0)
            _exit(1);
        uv_run(&loop, UV_RUN_NOWAIT);
    }
    close_it(store);
    _exit(0);
}

static void processes_that_start_and_write_at_once_lose_nothing(void **state)
{
    (void)state;
    struct cacher_store_options options = quick_options();
    pid_t children[4];

    for (unsigned i = 0; i < 4; i++) {
        children[i] = fork();
        assert_true(children[i] >= 0);
        if (children[i] == 0)
            write_some(1000 * i);
    }
    for (unsigned i = 0; i < 4; i++) {
        int status = -1;
        assert_int_equal(waitpid(children[i], &status, 0), children[i]);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
    struct cacher_store *store = open_with(url, &options);
    for (unsigned i = 0; i < 1200; i++)
        assert_true(has(store, i / 300 * 1000 + i % 300));
    assert_int_equal(sql_number("SELECT entries FROM totals"), 1200);
    assert_int_equal(sql_number("SELECT bytes FROM totals"),
                     sql_number("SELECT sum(bytes) FROM results"));
    close_it(store);
}

/* ---- disks ---- */

static void a_full_disk_stops_writing_not_reading(void **state)
{
    (void)state;
    char disk[100], full_path[200], full_url[220];
    snprintf(disk, sizeof disk, "%s/disk", folder);
    snprintf(full_path, sizeof full_path, "%s/s.db", disk);
    snprintf(full_url, sizeof full_url, "sqlite://%s", full_path);
    assert_int_equal(mkdir(disk, 0700), 0);
    if (mount("tmpfs", disk, "tmpfs", 0, "size=8m") != 0) {
        rmdir(disk);
        print_message("skipped: no right to mount a small disk\n");
        skip();
    }

    struct cacher_store_options options = quick_options();
    options.store_queue_records_max = 50;
    options.store_batch_records_max = 5;
    struct cacher_store *store = open_with(full_url, &options);
    unsigned number = 0;
    while (counters(store)->queued_puts < 50 || store->writes.state != BREAKER_OPEN) {
        if (counters(store)->queued_puts < 50)
            assert_int_equal(
                put(store, &(struct given){.number = number++, .payload_bytes = 50000}),
                0);
        uv_run(&loop, UV_RUN_NOWAIT);
        assert_true(number < 1000);
    }
    assert_int_equal(put(store, &(struct given){.number = 5000}), -ENOBUFS);
    assert_true(last_error_has(store, "full"));
    uint64_t acknowledged = counters(store)->puts;
    assert_in_range(acknowledged, 20, 200);
    for (unsigned i = 0; i < acknowledged; i++)
        assert_true(has(store, i));
    assert_int_equal(store->reads.state, BREAKER_CLOSED);
    assert_int_equal(counters(store)->breaker, BREAKER_OPEN);
    assert_int_equal(counters(store)->puts, acknowledged);

    /* There is room again: what was taken is written. */
    assert_int_equal(mount("tmpfs", disk, "tmpfs", MS_REMOUNT, "size=64m"), 0);
    WAIT(counters(store)->queued_puts == 0);
    assert_int_equal(counters(store)->puts, acknowledged + 50);
    assert_int_equal(store->writes.state, BREAKER_CLOSED);
    for (unsigned i = 0; i < acknowledged + 50; i++)
        assert_true(has(store, i));
    close_it(store);
    assert_int_equal(umount(disk), 0);
    assert_int_equal(rmdir(disk), 0);
}

static void a_file_that_was_removed_is_made_anew(void **state)
{
    (void)state;
    struct cacher_store_options options = quick_options();
    struct cacher_store *store = open_with(url, &options);

    put_many(store, 0, 10);
    empty();
    put_many(store, 10, 10);
    assert_true(has(store, 15));
    assert_false(has(store, 5));
    assert_int_equal(sql_number("SELECT count(*) FROM results"), 10);
    close_it(store);
}

static void a_file_shrinks_after_a_large_purge(void **state)
{
    (void)state;
    struct cacher_store_options options = quick_options();
    struct cacher_store *store = open_with(url, &options);
    struct cacher_filter filter = {.kind = CACHER_FILTER_ALL};
    struct stat status;

    for (unsigned i = 0; i < 200; i++)
        assert_int_equal(
            put(store, &(struct given){.number = i, .payload_bytes = 100000}), 0);
    WAIT(counters(store)->puts == 200);
    WAIT(sql_number("PRAGMA page_count") > 2000);
    assert_int_equal(purge(store, &filter).removed, 200);
    WAIT(sql_number("PRAGMA page_count") < 700);
    WAIT(store->retaining == NULL && !store->retain_again);
    close_it(store);
    assert_int_equal(stat(path, &status), 0);
    assert_true(status.st_size < 700 * LITE_PAGE_BYTES);
}

static void describe_tells_where_and_how(void **state)
{
    (void)state;
    struct cacher_store_options options = quick_options();
    options.store_sqlite_full_sync = true;
    struct cacher_store *store = open_with(url, &options);

    put_many(store, 0, 1);
    char *text = description(store);
    assert_non_null(strstr(text, "\"kind\": \"sqlite\""));
    assert_non_null(strstr(text, path));
    assert_non_null(strstr(text, "\"schema\": 1"));
    assert_non_null(strstr(text, "\"synchronous\": \"full\""));
    assert_non_null(strstr(text, "\"writes\": \"closed\""));
    free(text);
    close_it(store);
}

/* A PostgreSQL that speaks Latin-1 must not hide the tier: JSON takes UTF-8 alone. */
static void a_servers_message_is_one_clean_line(void **state)
{
    char error[STORE_ERROR_BYTES];

    (void)state;
    cacher_store_error_copy("Datenbank \xbb"
                            "x\xab fehlt\x1b[31m\nDETAIL: y",
                            error);
    assert_string_equal(error, "Datenbank ?x? fehlt?[31m");
    cacher_store_error_copy("caf\xc3\xa9", error);
    assert_string_equal(error, "caf\xc3\xa9");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_servers_message_is_one_clean_line),
        CONTRACT_TESTS,
        CONTRACT(what_is_no_store_is_refused),
        CONTRACT(a_folder_that_is_missing_is_waited_for),
        CONTRACT(a_disk_that_is_read_only_is_waited_for),
        CONTRACT(another_programs_file_is_left_alone_and_waited_for),
        CONTRACT(a_newer_schema_is_refused_and_an_older_one_migrated),
        CONTRACT(what_was_acknowledged_survives_kill_9),
        CONTRACT(retention_moves_when_its_process_is_killed),
        CONTRACT(processes_that_start_and_write_at_once_lose_nothing),
        CONTRACT(a_full_disk_stops_writing_not_reading),
        CONTRACT(a_file_that_was_removed_is_made_anew),
        CONTRACT(a_file_shrinks_after_a_large_purge),
        CONTRACT(describe_tells_where_and_how),
    };

    strcpy(folder, "/tmp/siftmesh-lite-XXXXXX");
    if (mkdtemp(folder) == NULL)
        return 1;
    snprintf(path, sizeof path, "%s/store.db", folder);
    snprintf(url_text, sizeof url_text, "sqlite://%s", path);
    home.url = url;
    home.sql = sql;
    home.number = sql_number;
    home.refuse_width = refuse_width;
    home.accept_all = accept_all;
    home.empty = empty;
    home.damage_payload = "UPDATE payloads SET payload = zeroblob(50)";
    home.cut_payload = "DELETE FROM payloads";
    home.long_params = "UPDATE results SET params = zeroblob(70000)";
    fixture_init();
    cmocka_set_test_filter(getenv("TEST")); /* NULL: all */
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    empty();
    (void)rmdir(folder);
    if (failed == 0)
        fixture_free();
    return failed;
}
