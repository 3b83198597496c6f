/*
 * fixture.h - real redis-servers in a temporary folder, and a tier on a loop of its own.
 *
 * Everything asks until it is so, for at most FIXTURE_S. A server dies with the test.
 */
#ifndef TESTS_UNIT_CACHER_REDIS_FIXTURE_H
#define TESTS_UNIT_CACHER_REDIS_FIXTURE_H

#include "cacher/redis/redis.h"
#include "proto/key.h"
#include "runtime/log.h"
#include "tests/harness/harness.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <hiredis/hiredis.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#pragma GCC diagnostic ignored "-Wunused-function"

#define FIXTURE_S 60

static char fixture_dir[] = "/tmp/siftmesh-redis-XXXXXX";

/* ---- servers ---- */

struct server {
    pid_t pid;
    int port, bus; /* bus: of a cluster */
    char name[32]; /* of its own folder */
    redisContext *client;
};

static double seconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static int free_port(void)
{
    struct sockaddr_in at = {.sin_family = AF_INET,
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t bytes = sizeof at;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &bytes), 0);
    close(fd);
    return ntohs(at.sin_port);
}

/* A program on PATH, or the test is skipped. */
static void need_program(const char *name)
{
    char command[256];

    snprintf(command, sizeof command, "command -v %s >/dev/null 2>&1", name);
    if (system(command) != 0) {
        fprintf(stderr, "skipped: there is no %s\n", name);
        exit(77);
    }
}

static void spawn(struct server *server, const char *more)
{
    char command[1024];

    snprintf(command, sizeof command,
             "exec redis-server --port %d --bind 127.0.0.1 --save '' --appendonly no "
             "--dir %s/%s --logfile log --unixsocket sock %s",
             server->port, fixture_dir, server->name, more);
    server->pid = fork();
    assert_true(server->pid >= 0);
    if (server->pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        execl("/bin/sh", "sh", "-c", command, (char *)NULL);
        _exit(127);
    }
}

/* Whether who answers is ours, and not who took the port before it. */
static bool is_ours(struct server *server)
{
    redisReply *reply = redisCommand(server->client, "INFO server");
    char line[32];
    bool ok = reply != NULL;

    snprintf(line, sizeof line, "process_id:%d\r", (int)server->pid);
    if (ok && reply->type == REDIS_REPLY_STRING) /* with a password it does not tell */
        ok = strstr(reply->str, line) != NULL;
    if (reply != NULL)
        freeReplyObject(reply);
    return ok;
}

static bool answers(struct server *server)
{
    struct timeval wait = {.tv_sec = 1}, long_wait = {.tv_sec = 20};

    if (server->client != NULL)
        redisFree(server->client);
    server->client = redisConnectWithTimeout("127.0.0.1", server->port, wait);
    if (server->client == NULL || server->client->err != 0)
        return false;
    redisSetTimeout(server->client, long_wait);
    return is_ours(server);
}

/* False: it ended, its port was taken. */
static bool try_start(struct server *server, const char *more)
{
    double end = seconds() + FIXTURE_S;

    spawn(server, more);
    while (!answers(server)) {
        if (waitpid(server->pid, NULL, WNOHANG) == server->pid)
            return false;
        if (seconds() > end)
            fail_msg("redis-server does not answer");
        usleep(20000);
    }
    return true;
}

/* At the port that it had before. */
static void server_start_at(struct server *server, const char *more)
{
    if (!try_start(server, more))
        fail_msg("redis-server ended: see %s/%s/log", fixture_dir, server->name);
}

static void server_start(struct server *server, const char *more)
{
    static unsigned count;
    char path[128];

    *server = (struct server){0};
    snprintf(server->name, sizeof server->name, "server%u", count++);
    snprintf(path, sizeof path, "%s/%s", fixture_dir, server->name);
    assert_int_equal(mkdir(path, 0700), 0);
    for (unsigned tries = 0; tries < 5; tries++) {
        server->port = free_port();
        if (try_start(server, more))
            return;
    }
    fail_msg("redis-server ends: see %s/%s/log", fixture_dir, server->name);
}

static void server_kill(struct server *server, int how)
{
    if (server->pid > 0) {
        kill(server->pid, how);
        waitpid(server->pid, NULL, 0);
    }
    server->pid = 0;
    if (server->client != NULL)
        redisFree(server->client);
    server->client = NULL;
}

/* The reply of a command, as a number: of an integer its value, of a string its length,
 * of nil -1, of a status 0. An error fails the test. */
static long long ask(struct server *server, const char *format, ...)
{
    va_list args;
    long long value = 0;

    va_start(args, format);
    redisReply *reply = redisvCommand(server->client, format, args);
    va_end(args);
    if (reply == NULL)
        fail_msg("%s: %s", format, server->client->errstr);
    if (reply->type == REDIS_REPLY_ERROR)
        fail_msg("%s: %s", format, reply->str);
    if (reply->type == REDIS_REPLY_INTEGER)
        value = reply->integer;
    else if (reply->type == REDIS_REPLY_STRING)
        value = (long long)reply->len;
    else if (reply->type == REDIS_REPLY_NIL)
        value = -1;
    freeReplyObject(reply);
    return value;
}

/* ---- a tier ---- */

struct rig {
    uv_loop_t loop;
    uv_timer_t tick; /* so that uv_run returns */
    struct cacher_tier *tier;
    bool closed;
};

static void on_tick(uv_timer_t *timer)
{
    (void)timer;
}

/* Runs the loop until the condition holds. */
#define UNTIL(rig, condition)                                                            \
    do {                                                                                 \
        double until_end = seconds() + FIXTURE_S;                                        \
        while (!(condition)) {                                                           \
            uv_run(&(rig)->loop, UV_RUN_ONCE);                                           \
            if (seconds() > until_end)                                                   \
                fail_msg("%s:%d: in vain: %s", __FILE__, __LINE__, #condition);          \
        }                                                                                \
    } while (0)

static void rig_open(struct rig *rig, const struct cacher_redis_options *options)
{
    *rig = (struct rig){0};
    assert_int_equal(uv_loop_init(&rig->loop), 0);
    assert_int_equal(uv_timer_init(&rig->loop, &rig->tick), 0);
    assert_int_equal(uv_timer_start(&rig->tick, on_tick, 5, 5), 0);
    assert_int_equal(cacher_redis_open(&rig->loop, options, &rig->tier), 0);
}

static const struct cacher_tier_counters *counters_of(struct rig *rig)
{
    return rig->tier->class->counters(rig->tier);
}

static unsigned ready_of(struct rig *rig)
{
    const struct cacher_tier_counters *c = counters_of(rig);

    return (unsigned)(c->pool_used + c->pool_idle);
}

static char *url_of(const struct server *server)
{
    static char url[64];

    snprintf(url, sizeof url, "redis://127.0.0.1:%d", server->port);
    return url;
}

/* With time-outs that a loaded machine keeps. */
static void rig_open_to(struct rig *rig, const struct server *server)
{
    rig_open(rig, &(struct cacher_redis_options){.url = url_of(server),
                                                 .timeout_ms = 10000,
                                                 .connect_timeout_ms = 10000});
    UNTIL(rig, ready_of(rig) == 4);
}

static void on_rig_closed(void *arg)
{
    ((struct rig *)arg)->closed = true;
}

/* Nothing of libuv may be left. */
static void rig_close(struct rig *rig, unsigned ms)
{
    rig->tier->class->close(rig->tier, ms, on_rig_closed, rig);
    assert_false(rig->closed);
    UNTIL(rig, rig->closed);
    uv_close((uv_handle_t *)&rig->tick, NULL);
    uv_run(&rig->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&rig->loop), 0);
}

/* ---- keys, values ---- */

static const uint8_t *key_of(unsigned n)
{
    static uint8_t key[PROTO_DIGEST_BYTES];

    assert_int_equal(proto_sha256(&n, sizeof n, key), 0);
    return key;
}

static const char *name_of(unsigned n)
{
    static char name[96] = "siftmesh:feat:";

    proto_hex(key_of(n), name + 14);
    return name;
}

static uint8_t byte_of(unsigned n, size_t i)
{
    return (uint8_t)(n * 31 + i * 7 + (i >> 8));
}

static int put_at(struct rig *rig, unsigned n, size_t bytes, const char *tags,
                  uint64_t ttl_s, uint64_t created_s)
{
    uint8_t *payload = malloc(bytes + 1);
    struct cacher_record record = {.created_s = created_s,
                                   .width_px = 640,
                                   .height_px = 480,
                                   .cost_us = n,
                                   .params = (const uint8_t *)"p=1",
                                   .params_bytes = 3,
                                   .tags = tags,
                                   .tags_bytes = (uint16_t)strlen(tags),
                                   .payload_bytes = (uint32_t)bytes};

    assert_non_null(payload);
    memcpy(record.key, key_of(n), sizeof record.key);
    for (size_t i = 0; i < bytes; i++)
        payload[i] = byte_of(n, i);
    record.payload = payload;
    struct hotcache_value *value = hotcache_value_new(payload, bytes);
    assert_non_null(value);
    int err = rig->tier->class->put(rig->tier, &record, value, ttl_s);
    hotcache_value_unref(value);
    return err;
}

static int put(struct rig *rig, unsigned n, size_t bytes, const char *tags)
{
    return put_at(rig, n, bytes, tags, 0, 1000000 + n);
}

static void put_all(struct rig *rig, unsigned from, unsigned to, size_t bytes,
                    const char *tags)
{
    for (unsigned n = from; n < to; n++)
        assert_int_equal(put(rig, n, bytes, tags), 0);
    UNTIL(rig, counters_of(rig)->queued_bytes == 0); /* of tags, too */
}

struct got {
    unsigned n, calls;
    enum cacher_found found;
    size_t bytes;
    bool right;
};

static void on_got(enum cacher_found found, const struct cacher_record *record, void *arg)
{
    struct got *got = arg;

    got->calls++;
    got->found = found;
    if (found != CACHER_FOUND)
        return;
    got->bytes = record->payload_bytes;
    got->right = record->cost_us == got->n && record->params_bytes == 3 &&
                 record->width_px == 640 &&
                 memcmp(record->key, key_of(got->n), sizeof record->key) == 0;
    for (size_t i = 0; i < got->bytes; i++)
        got->right = got->right && record->payload[i] == byte_of(got->n, i);
}

static int begin_get(struct rig *rig, struct got *got, unsigned n)
{
    *got = (struct got){.n = n};
    int err = rig->tier->class->get(rig->tier, key_of(n), on_got, got);
    assert_int_equal(got->calls, 0);
    return err;
}

static struct got get(struct rig *rig, unsigned n)
{
    struct got got;

    if (begin_get(rig, &got, n) < 0)
        return (struct got){.n = n, .found = CACHER_FAILED};
    UNTIL(rig, got.calls > 0);
    assert_int_equal(got.calls, 1);
    assert_true(got.found != CACHER_FOUND || got.right);
    return got;
}

/* ---- purges ---- */

struct purged {
    unsigned calls;
    int err;
    uint64_t matched, removed;
    char cursor[CACHER_CURSOR_BYTES_MAX];
};

static void on_purged(int err, uint64_t matched, uint64_t removed, const char *cursor,
                      void *arg)
{
    struct purged *purged = arg;

    purged->calls++;
    purged->err = err;
    purged->matched += matched;
    purged->removed += removed;
    snprintf(purged->cursor, sizeof purged->cursor, "%s", cursor);
}

static struct purged purge(struct rig *rig, const struct cacher_filter *filter)
{
    struct purged purged = {0};
    unsigned steps = 0;

    do {
        char cursor[CACHER_CURSOR_BYTES_MAX];
        memcpy(cursor, purged.cursor, sizeof cursor);
        assert_int_equal(
            rig->tier->class->purge(rig->tier, filter, cursor, on_purged, &purged), 0);
        UNTIL(rig, purged.calls > steps);
        assert_int_equal(purged.calls, ++steps);
        assert_int_equal(purged.err, 0);
    } while (purged.cursor[0] != '\0');
    return purged;
}

/* ---- the log ---- */

static int fixture_stderr = -1;

static void log_capture(void)
{
    char path[64];

    snprintf(path, sizeof path, "%s/stderr", fixture_dir);
    fixture_stderr = dup(2);
    int fd = open(path, O_CREAT | O_TRUNC | O_RDWR, 0600);
    assert_true(fd >= 0 && fixture_stderr >= 0);
    dup2(fd, 2);
    close(fd);
    assert_int_equal(log_init("siftmesh", "info", "logfmt"), 0);
}

/* How many lines of it have this text. */
static unsigned log_count(const char *text)
{
    char path[64], line[4096];
    unsigned count = 0;

    snprintf(path, sizeof path, "%s/stderr", fixture_dir);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    while (fgets(line, sizeof line, file) != NULL)
        count += strstr(line, text) != NULL ? 1 : 0;
    fclose(file);
    return count;
}

/* A teardown: the log is stderr again, and shown. */
static int log_release(void **state)
{
    char command[128];

    (void)state;
    if (fixture_stderr < 0)
        return 0;
    fflush(stderr);
    dup2(fixture_stderr, 2);
    (void)log_init("siftmesh", "info", "logfmt");
    close(fixture_stderr);
    fixture_stderr = -1;
    snprintf(command, sizeof command, "cat %s/stderr >&2", fixture_dir);
    return system(command);
}

/* ---- all of it ---- */

static int fixture_begin(void **state)
{
    (void)state;
    signal(SIGPIPE, SIG_IGN);
    return mkdtemp(fixture_dir) != NULL ? 0 : -1;
}

static int fixture_end(void **state)
{
    char command[128];

    (void)state;
    snprintf(command, sizeof command, "rm -rf %s", fixture_dir);
    return system(command);
}

#endif
