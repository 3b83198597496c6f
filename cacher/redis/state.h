/*
 * state.h - what the files of this folder share.
 *
 *   redis.c    the tier: options, gets, counters, the end
 *   put.c      puts and their tags
 *   op.c       one operation: sent, sent again, redirected, ended once
 *   node.c     one server: its connections, its breaker, what waits for it
 *   conn.c     one connection: resolved, connected, used, watched
 *   greet.c    what it is asked first
 *   io.c       hiredis on libuv, and what it may be told
 *   cluster.c  which server has which slot
 *   purge.c    one step of a purge
 *
 * How things end: an operation belongs to one list at a time, a node's `urgent` or `bulk`
 * or a connection's `sent`, and redis_op_end() is its only end. A connection is never
 * freed inside one of hiredis' callbacks: it becomes BROKEN, and its node's timer, which
 * is due at once, frees it.
 *
 * A timer of a node's own does all that has a time: deadlines, pings, new connections.
 * Times are microseconds of uv_hrtime().
 */
#ifndef CACHER_REDIS_STATE_H
#define CACHER_REDIS_STATE_H

#include "cacher/redis/redis.h"
#include "cacher/redis/slot.h"
#include "cacher/redis/url.h"
#include "runtime/log.h"

#include <hiredis/async.h>
#include <hiredis/hiredis.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#define REDIS_FEAT           "siftmesh:feat:"
#define REDIS_TAG            "siftmesh:tag:"
#define REDIS_KEY_BYTES      80 /* of a key of ours, with its NUL: 78 digits and letters */
#define REDIS_OP_COMMANDS    3
#define REDIS_TRIES          2     /* of an operation */
#define REDIS_REDIRECTIONS   5     /* of a try */
#define REDIS_NODES_MAX      128   /* of a cluster */
#define REDIS_NO_NODE        0xff  /* in the slot map */
#define REDIS_REFRESH_MS     1000  /* between two looks at the slot map, at least */
#define REDIS_REDIRECTED_S   60    /* a server without slots is kept so long for ASK */
#define REDIS_PUT_WAIT_MS    5000  /* a put waits for its turn */
#define REDIS_BYTES_PER_MS   10000 /* the slowest network that a put is sent over */
#define REDIS_STALL_TIMEOUTS 8     /* a reply may come slowly for so many time-outs */
#define REDIS_PIPELINE_BYTES                                                             \
    (1u << 20)                /* puts under way on a connection, and one more            \
                               */
#define REDIS_PURGES_MAX    4 /* steps at once */
#define REDIS_ERROR_BYTES   200
#define REDIS_ADDRESS_BYTES 140 /* host:port or a path, with its NUL */

struct redis_tier;
struct redis_node;
struct redis_conn;
struct redis_op;

/* `reply` is NULL when there will be none; tier->error says why. */
typedef void redis_op_done_fn(struct redis_op *op, const redisReply *reply);

struct redis_op {
    struct redis_op *next; /* in a node's list */
    struct redis_tier *tier;
    struct redis_node *fixed; /* this server and no other; NULL: by slot */
    struct redis_node *on;    /* that it was given to for this try */
    int slot;                 /* of a cluster; -1: any */
    bool put, get;            /* counted in tier->puts or tier->gets */
    bool ask;                 /* ASKING first */
    unsigned tries, redirections;
    uint64_t asked_us, deadline_us; /* the deadline is this try's */
    char *command[REDIS_OP_COMMANDS];
    size_t command_bytes[REDIS_OP_COMMANDS];
    unsigned commands;              /* the last one's reply is the operation's */
    struct hotcache_value *payload; /* ends the last command, with CR LF after it */
    size_t bytes;                   /* all of it */
    redis_op_done_fn *done;
    uint8_t key[PROTO_DIGEST_BYTES]; /* of a get */
    cacher_tier_got_fn *got;
    size_t index; /* of a key in a purge's step */
    void *arg;
};

struct redis_list {
    struct redis_op *head, **tail; /* tail NULL or &head when empty */
    unsigned count;
};

/* Commands under way; in the order of their replies. */
struct redis_sent {
    struct redis_sent *next;
    struct redis_conn *conn;
    struct redis_op *op; /* NULL: a ping, or its operation waits no longer */
    unsigned left;       /* replies */
    size_t bytes, put_bytes;
    uint64_t at_us;
};

/* hiredis' context on libuv. Freed by libuv after the context. */
struct redis_io {
    uv_poll_t poll;
    redisAsyncContext *ac; /* NULL: gone */
    int events;
    redisReplyObjectFunctions made_by, guarded;
    size_t reply_bytes_max, reply_bytes, reply_objects;
    size_t unread;       /* of a reply that is not whole */
    uint64_t moved_us;   /* when bytes of it came last */
    const char *refused; /* why the reader gave up, where that was us */
};

enum redis_conn_state {
    REDIS_CONN_OFF,
    REDIS_CONN_RESOLVING,
    REDIS_CONN_GREETING, /* connecting, and what is asked first */
    REDIS_CONN_READY,
    REDIS_CONN_GOING, /* hiredis is freeing it */
    REDIS_CONN_BROKEN /* the timer will free it */
};

struct redis_resolve {
    uv_getaddrinfo_t request;
    struct redis_conn *conn; /* NULL: nobody waits */
};

struct redis_conn {
    struct redis_node *node;
    enum redis_conn_state state;
    struct redis_io *io;
    struct redis_resolve *resolve;
    unsigned address, addresses; /* of those that the name has */
    uint64_t due_us;             /* OFF: connect; READY: ping; else: give up */
    uint64_t ready_us;           /* 0: it never was, in this life */
    unsigned pause_ms;           /* before the next connect, should this one fail */
    struct redis_sent *sent, **sent_tail;
    unsigned sent_count;
    size_t sent_bytes, put_bytes; /* put_bytes: those of puts among them */
    uint64_t moved_us; /* when something was answered or began to be waited for */
    size_t unwritten;  /* when it was last looked at */
    bool failed;       /* by us: it did not answer, or not well */
    bool final;        /* it was refused: asking again soon is no use */
    bool left;         /* by us: its server is the wrong one */
};

struct redis_node {
    struct redis_tier *tier;
    char address[REDIS_ADDRESS_BYTES]; /* host:port, or a path: its name */
    char host[REDIS_HOST_BYTES_MAX];
    unsigned port;
    unsigned slots;         /* of a cluster's map */
    uint64_t redirected_us; /* when a redirection named it last */
    bool gone;
    bool said; /* in the log, that it does not answer */
    uint64_t said_us;
    struct log_limit said_ill, said_well, said_left;
    uint64_t left_us; /* when it was left last */
    struct breaker breaker;
    char error[REDIS_ERROR_BYTES]; /* the last one, for people */
    char version[32];
    struct redis_list urgent, bulk;
    struct redis_conn *conns;
    unsigned ready; /* connections */
    uv_timer_t timer;
    uint64_t due_us; /* the timer's; UINT64_MAX: stopped */
};

struct redis_tier {
    struct cacher_tier tier; /* first */
    uv_loop_t *loop;
    struct redis_url url;
    struct cacher_redis_options options;
    struct cacher_tier_counters counters;
    char error[REDIS_ERROR_BYTES + REDIS_ADDRESS_BYTES + 8];
    struct redis_node *nodes[REDIS_NODES_MAX]; /* 0: the one of the URL; may have holes */
    unsigned gets, puts, purges;               /* under way; puts: tags, too */
    unsigned records;                          /* of the puts */
    uint64_t tag_ttl_s;                        /* the longest life given so far */
    bool full;                                 /* it refuses writes */
    struct log_limit said_full, said_room;
    /* cluster */
    bool cluster, refreshing, refresh_wanted;
    uint64_t refreshed_us;
    unsigned refresh_turn;
    uint8_t map[REDIS_SLOTS];
    /* the end */
    uv_timer_t timer; /* refreshes, and the end */
    bool closing, closing_now;
    uint64_t close_us;
    unsigned handles; /* of libuv, still open */
    void (*closed)(void *arg);
    void *closed_arg;
};

/* ---- redis.c ---- */

uint64_t redis_now_us(void);
/* Keeps `why`, cleaned, for describe(), of the tier and of `node` where not NULL. */
void redis_say(struct redis_tier *tier, struct redis_node *node, const char *why, ...)
    __attribute__((format(printf, 3, 4)));
/* A put or a get ended, or a server changed: whether the end can come. */
void redis_tier_look(struct redis_tier *tier);

/* ---- op.c ---- */

/* Zeroed but for its tier and time; NULL: out of memory. */
struct redis_op *redis_op_new(struct redis_tier *tier, redis_op_done_fn *done, void *arg);
/* One more command, as redisFormatCommand(3) makes it (%s and %b are one argument each);
 * or of NUL-ended arguments. False: out of memory. */
bool redis_op_add(struct redis_op *op, const char *format, ...);
bool redis_op_add_argv(struct redis_op *op, int argc, const char **argv);
/* Give it to its server. 0, and it ends later; -EHOSTDOWN, and it is the caller's. */
int redis_op_submit(struct redis_op *op);
void redis_op_free(struct redis_op *op); /* NULL is fine; without its end */
/* By connections and nodes. An error reply may redirect it. */
void redis_op_answered(struct redis_op *op, const redisReply *reply);
/* No reply will come, or none came in time; perhaps another try. */
void redis_op_lost(struct redis_op *op, bool late);
void redis_op_end(struct redis_op *op, const redisReply *reply);
void redis_list_push(struct redis_list *list, struct redis_op *op);
void redis_list_push_front(struct redis_list *list, struct redis_op *op);
struct redis_op *redis_list_pop(struct redis_list *list); /* NULL: empty */

/* ---- node.c ---- */

/* NULL: out of memory. Connects at once. */
struct redis_node *redis_node_new(struct redis_tier *tier, const char *host,
                                  unsigned port);
/* Ends what waits for it and its connections; frees it later. */
void redis_node_drop(struct redis_node *node);
/* Whether an operation may be given to it; asks the breaker. */
bool redis_node_ask(struct redis_node *node);
/* `later`: not before the loop has looked at all sockets. Connections often die together,
 * and the second try is not for one that is dead, too. */
void redis_node_take(struct redis_node *node, struct redis_op *op, bool later);
void redis_node_pump(struct redis_node *node); /* send what can be sent */
void redis_node_wake(struct redis_node *node, uint64_t due_us);
void redis_node_ok(struct redis_node *node); /* it answered an operation */
/* `final`: the breaker opens at once. */
void redis_node_failed(struct redis_node *node, bool final);
/* It is the wrong server for writes: its connections are made anew, now and then. True:
 * they are, and what it refused may be asked again. */
bool redis_node_leave(struct redis_node *node);
/* How many connections it should have. */
unsigned redis_node_wanted(const struct redis_node *node);
void redis_node_conn_up(struct redis_node *node);
/* A connection ended; `failed`: not by its server alone. */
void redis_node_conn_down(struct redis_node *node, bool failed, bool final);
/* End what waits or is under way; `puts` too, or all else only. */
void redis_node_end_ops(struct redis_node *node, bool puts);

/* ---- conn.c ---- */

/* Do what is due and say when the next thing is. */
uint64_t redis_conn_run(struct redis_conn *conn, uint64_t now_us);
/* 0, or -ENOMEM: the operation stays the caller's, the connection is broken. */
int redis_conn_send(struct redis_conn *conn, struct redis_op *op);
/* It will be dropped; the breaker hears that it failed, `final`: for good. */
void redis_conn_break(struct redis_conn *conn, bool final);
/* The same, and nobody has failed: it is made anew, its name looked up again. */
void redis_conn_leave(struct redis_conn *conn);
/* Outside of hiredis' callbacks only. */
void redis_conn_drop(struct redis_conn *conn);
void redis_conn_end_ops(struct redis_conn *conn, bool puts);

/* ---- greet.c ---- */

void redis_conn_greet(struct redis_conn *conn);

/* ---- io.c ---- */

/* NULL, after redis_say(). on_connect and on_disconnect are hiredis'; ac->data is `conn`.
 * `host` is a numeric address, or a path. */
struct redis_io *redis_io_new(struct redis_conn *conn, const char *host,
                              redisConnectCallback *on_connect,
                              redisDisconnectCallback *on_disconnect);
size_t redis_io_unwritten(const struct redis_io *io); /* bytes */

/* ---- cluster.c ---- */

/* The server for an operation; NULL: none is known. */
struct redis_node *redis_cluster_node(struct redis_tier *tier, const struct redis_op *op);
/* What CLUSTER SLOTS answered; `from` answered it. */
void redis_cluster_learn(struct redis_tier *tier, struct redis_node *from,
                         const redisReply *reply);
/* "MOVED slot host:port" or "ASK slot host:port": the server, made where it is new. NULL:
 * it cannot be read, or there are too many. */
struct redis_node *redis_cluster_redirect(struct redis_node *from, const char *text,
                                          bool *ask);
void redis_cluster_refresh(struct redis_tier *tier);                  /* soon */
uint64_t redis_cluster_run(struct redis_tier *tier, uint64_t now_us); /* as a conn's */
/* The server with slots whose address comes next after `after` ("": the first), in the
 * order of strcmp; NULL: there is none. Without a cluster, the one server. */
struct redis_node *redis_cluster_next(struct redis_tier *tier, const char *after);
struct redis_node *redis_cluster_find(struct redis_tier *tier, const char *address);

/* ---- put.c and purge.c: as in tier.h ---- */

int redis_put(struct cacher_tier *tier, const struct cacher_record *record,
              struct hotcache_value *value, uint64_t ttl_s);

int redis_purge(struct cacher_tier *tier, const struct cacher_filter *filter,
                const char *cursor, cacher_tier_purged_fn *purged, void *arg);

#endif
