/*
 * pg.h - the home in PostgreSQL: a pool of libpq connections, non-blocking, in pipeline
 * mode. Loop thread only.
 *
 *   pg.c         the home: jobs in, the pool, who gets which connection
 *   pg_conn.c    one connection: connecting, one task at a time, its end
 *   pg_setup.c   what a new connection does first: settings, schema, statements
 *   pg_jobs.c    jobs as tasks: what is sent, what the results mean
 *
 * A task is one pipeline: commands, then a sync. Without BEGIN these are one implicit
 * transaction, committed by the sync: all of it happened when the sync's result comes
 * without an error before it, and nothing of it otherwise. When the connection breaks in
 * between nobody knows; what is sent is written so that it can be sent again.
 *
 * The pool: store_pool_size connections are kept, store_pool_overflow more are made when
 * those are in use, and closed after. A job waits store_pool_wait_ms. One older than
 * store_pool_recycle_s is replaced; one idle for store_pool_ping_s is asked "SELECT 1"
 * before it gets a job. An idle connection whose server goes away is seen at once. After
 * a login that failed the next one waits, twice as long each time, and goes alone.
 *
 * A pooler in between (PgBouncer) may give each transaction to another session of the
 * server. Then nothing is left in a session: statements have no names, the bound of their
 * time is their transaction's, and so is the lock of retention. It is told by the
 * session's process, which is not the one that the login named.
 */
#ifndef CACHER_STORE_PG_H
#define CACHER_STORE_PG_H

#include "cacher/store/home.h"
#include "runtime/log.h"

#define PG_TRIES        3 /* more, for a read or a connection whose server ended them */
#define PG_SCHEMA       1 /* the version that this program makes */
#define PG_PING_MS      1000 /* an answer to SELECT 1 takes at most */
#define PG_LOGIN_MS     20   /* after a login that failed, doubled each time, */
#define PG_LOGIN_MS_MAX 2000 /* up to this */
#define PG_HEAVY_BYTES                                                                   \
    (4u << 20) /* libpq's buffers grow to what they once held: a                         \
                * connection that carried more is not kept */
/* Advisory locks, which all programs of a database share: random numbers. */
#define PG_LOCK_MIGRATE   "6003684310811312500"
#define PG_LOCK_RETENTION "6003684310811312501"

struct pg_conn; /* libpq's, which calls it PGconn */
struct pg_result;
struct pg;
struct pg_link;

/* One pipeline on one connection. */
struct pg_task {
    /* Queue its commands; the sync is added. 0, or -errno. */
    int (*send)(struct pg_link *link);
    /* A result of command `index`; true: it is kept, and cleared by the task. */
    bool (*result)(struct pg_link *link, unsigned index, struct pg_result *result);
    /* All came, or err and link->error say why not; then link may be broken. */
    void (*ended)(struct pg_link *link, int err);
    uint64_t ms;  /* bound of all of it */
    bool bounded; /* at the server, too: its statements may take long */
};

enum pg_state {
    PG_RESOLVING,
    PG_CONNECTING,
    PG_SETTING_UP,
    PG_CHECKING, /* SELECT 1 */
    PG_IDLE,
    PG_BUSY,
    PG_BROKEN, /* said to the pool by the timer, never from inside a call */
    PG_CLOSED
};

/* One connection. */
struct pg_link {
    struct pg *pg;
    struct pg_link *next;
    enum pg_state state;
    struct pg_conn *db;
    uv_getaddrinfo_t resolver;
    uv_poll_t *poll; /* of the socket, which changes while connecting */
    int fd;
    uv_timer_t timer;
    unsigned uses; /* handles and requests that end later */
    uint64_t born_us, idle_us;
    bool lives; /* was set up */
    bool heavy;
    bool checked; /* just now */
    bool suspect; /* another one died since: to be checked */

    const struct pg_task *task;
    struct pg_task own; /* room for one */
    unsigned command;   /* of the task, whose results come; the bound's does not count */
    bool bounding;      /* the bound's result comes first */
    bool prepared;      /* the session has statements by their names, and the bound */
    int err;
    char error[STORE_ERROR_BYTES];
    struct store_job *job;
    unsigned stage;  /* of a job or the set-up with several tasks */
    int64_t version; /* of the schema that was found; -1: none */
    bool namespace;
};

struct pg {
    struct store_home home; /* first */
    uv_loop_t *loop;
    const struct cacher_store_options *options;
    char **keywords, **values; /* of the URL, ended by NULL; hostaddr may be added */
    const char *resolve;       /* a host's name to look up, or NULL */
    char *where;               /* for people: host:port/database */

    struct pg_link *links;
    struct pg_link *keeper; /* holds the lock of retention; in no other use */
    struct store_job *waiting, **waiting_end;
    unsigned waiting_count;
    unsigned failures; /* of connecting, in a row */
    uint64_t login_us; /* no login before */
    bool hopeless;     /* nobody need wait for one: `why` it failed */
    struct store_job why;
    bool pooled;      /* a pooler is in between */
    uv_timer_t timer; /* of the one that waits for longest */
    uint64_t connects, disconnects, retries, wait_max_us;
    int server_version;

    unsigned uses; /* links and the timer */
    bool closing;
    void (*closed)(void *arg);
    void *closed_arg;
};

/* pg_conn.c. A new link, connecting, in pg->links; NULL: out of memory. */
struct pg_link *cacher_store_pg_connect(struct pg *pg);
/* Starts a task. A failure is told later, as any other. */
void cacher_store_pg_start(struct pg_link *link, const struct pg_task *task);
/* Ends it, with what it does; frees itself once libuv lets go of it. */
void cacher_store_pg_close(struct pg_link *link);
/* Queue the bound of a statement's time, for the session or for the transaction. */
int cacher_store_pg_send_bound(struct pg_link *link, bool session);
/* Queue a command: a prepared statement (statements.c's number) or a text. Parameters are
 * binary. 0 or -EIO. */
struct pg_value {
    const void *bytes;
    size_t size;
};
int cacher_store_pg_send(struct pg_link *link, unsigned statement,
                         const struct pg_value *values, int count);
int cacher_store_pg_send_text(struct pg_link *link, const char *sql);
/* A number of a result's first row; 0 where there is none. Results are binary. */
int64_t cacher_store_pg_number(const struct pg_result *result, int row, int column);

/* pg_setup.c */
void cacher_store_pg_set_up(struct pg_link *link);

/* pg_jobs.c */
enum pg_statement {
    PG_GET,
    PG_PUT,
    PG_TAGS_DROP,
    PG_TAGS_ADD,
    PG_TOUCH,
    PG_RECENT,
    PG_BY_KEY,
    PG_BY_TAG,
    PG_BY_AGE,
    PG_KEEP,
    PG_EXPIRE,
    PG_EVICT,
    PG_COUNT,
    PG_STATEMENTS
};
extern const char *const cacher_store_pg_texts[PG_STATEMENTS];
void cacher_store_pg_run(struct pg_link *link, struct store_job *job);

/* pg.c: what the others tell the pool. */
void cacher_store_pg_is_up(struct pg_link *link);     /* set up, or checked: idle */
void cacher_store_pg_is_down(struct pg_link *link);   /* err and error say why */
void cacher_store_pg_job_ended(struct pg_link *link); /* link->job, which has its err */
void cacher_store_pg_freed(struct pg *pg);            /* one of pg->uses less */

#endif
