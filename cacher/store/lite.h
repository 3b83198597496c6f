/*
 * lite.h - the home in one SQLite file.
 *
 * SQLite blocks, so it has a thread of its own: lite.c is the loop's side and the queue
 * between the two, lite_open.c and lite_jobs.c run on the thread. Its first job opens the
 * file; while that fails each job tries again.
 *
 * Files: PATH, PATH-wal, PATH-shm are SQLite's. PATH.lock is ours, with two locks on open
 * file descriptions, which the kernel drops when the holder ends: byte 0 is held by the
 * cacher that does retention, byte 1 for the time of opening and migrating.
 */
#ifndef CACHER_STORE_LITE_H
#define CACHER_STORE_LITE_H

#include "cacher/store/home.h"

#include <sqlite3.h>

#define LITE_BUSY_MS      2000        /* another cacher writes: wait at most */
#define LITE_OPEN_MS      10000       /* another cacher makes or migrates the file */
#define LITE_PAGE_BYTES   8192        /* results are large: fewer pages each */
#define LITE_CACHE_KIB    16384       /* SQLite's own page cache */
#define LITE_WAL_PAGES    2000        /* checkpoint (16 MiB of log) */
#define LITE_WAL_BYTES    (64u << 20) /* the log's file is cut to that */
#define LITE_VACUUM_PAGES 512         /* given back to the system in one step */
#define LITE_GETS_IN_ROW  16          /* then one of the others has its turn */
#define LITE_SCHEMA       1           /* the version that this program makes */

enum lite_statement {
    LITE_GET,
    LITE_PUT,
    LITE_PUT_PAYLOAD,
    LITE_TAGS_DROP,
    LITE_TAG_ADD,
    LITE_TOUCH,
    LITE_RECENT,
    LITE_BY_KEY,
    LITE_BY_TAG,
    LITE_BY_AGE,
    LITE_DELETE,
    LITE_EXPIRED,
    LITE_CREATED,
    LITE_UNUSED,
    LITE_TOTALS,
    LITE_STATEMENTS
};

struct lite {
    struct store_home home; /* first */
    const struct cacher_store_options *options;
    char *path, *lock_path;

    /* The thread's. db is written under the mutex, as close() interrupts it. */
    sqlite3 *db;
    sqlite3_stmt *statements[LITE_STATEMENTS];
    int lock_fd;
    bool keeper;

    /* Both sides', under the mutex. */
    uv_mutex_t mutex;
    uv_cond_t work;
    struct store_job *gets, **gets_end, *others, **others_end, *ended, **ended_end;
    bool running, stop, gone;

    /* The loop's. */
    uv_loop_t *loop;
    uv_async_t async;
    uv_thread_t thread;
    void (*closed)(void *arg);
    void *closed_arg;
};

/* Opens the file if it is not open. 0, or -errno with the reason in `error`. */
int cacher_store_lite_connect(struct lite *lite, char error[STORE_ERROR_BYTES]);
void cacher_store_lite_disconnect(struct lite *lite);
/* Try to get the lock of retention. */
bool cacher_store_lite_keep(struct lite *lite);
int cacher_store_lite_errno(int code); /* of SQLite's primary code */
/* Does the job; opens the file if need be, closes it where that may help. */
void cacher_store_lite_run(struct lite *lite, struct store_job *job);

#endif
