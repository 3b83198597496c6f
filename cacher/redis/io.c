/*
 * hiredis 0.14 on libuv.
 *
 * Not hiredis/adapters/libuv.h: that ignores what libuv reports as an error, so that a
 * refused connection would be noticed by its timeout only, and leaks where uv_poll_init
 * fails. Here an error is a reason to read and write, by which hiredis finds it.
 *
 * The reader's functions are guarded: 0.14 asserts that somebody waits for each reply,
 * and makes arrays of any size that a few bytes announce.
 */
#include "cacher/redis/state.h"

#include <hiredis/sds.h>
#include <stdlib.h>

#define READS_MAX         16         /* of 16 KiB each, of one wake-up */
#define REPLY_OBJECTS_MAX 200000     /* strings, numbers and arrays in one reply */
#define ARRAY_MAX         65536      /* elements */
#define BUFFER_KEPT_BYTES (1u << 20) /* of an idle reader; its default is 16 KiB */

static bool allowed(const redisReadTask *task, size_t bytes)
{
    struct redis_io *io = task->privdata;

    if (task->parent == NULL) {
        io->reply_objects = io->reply_bytes = 0;
        if (io->ac == NULL || io->ac->replies.head == NULL) {
            io->refused = "a reply that nobody asked for";
            return false;
        }
    }
    io->reply_bytes += bytes;
    io->reply_objects++;
    if (io->reply_objects <= REPLY_OBJECTS_MAX && io->reply_bytes <= io->reply_bytes_max)
        return true;
    io->refused = "a reply longer than any that was asked for";
    return false;
}

static void *create_string(const redisReadTask *task, char *text, size_t size)
{
    struct redis_io *io = task->privdata;

    return allowed(task, size) ? io->made_by.createString(task, text, size) : NULL;
}

static void *create_array(const redisReadTask *task, int elements)
{
    struct redis_io *io = task->privdata;

    if (elements > ARRAY_MAX) {
        io->refused = "an array longer than any that was asked for";
        return NULL;
    }
    return allowed(task, 0) ? io->made_by.createArray(task, elements) : NULL;
}

static void *create_integer(const redisReadTask *task, long long value)
{
    struct redis_io *io = task->privdata;

    return allowed(task, 0) ? io->made_by.createInteger(task, value) : NULL;
}

static void *create_nil(const redisReadTask *task)
{
    struct redis_io *io = task->privdata;

    return allowed(task, 0) ? io->made_by.createNil(task) : NULL;
}

static void guard(struct redis_io *io, redisReader *reader)
{
    io->made_by = *reader->fn;
    io->guarded = (redisReplyObjectFunctions){.createString = create_string,
                                              .createArray = create_array,
                                              .createInteger = create_integer,
                                              .createNil = create_nil,
                                              .freeObject = io->made_by.freeObject};
    reader->fn = &io->guarded;
    reader->privdata = io;
    /* 0 would keep the largest buffer for ever, 16 KiB make a new one for each value. */
    reader->maxbuf = BUFFER_KEPT_BYTES;
}

/* hiredis reads 16 KiB a call: go on while a reply is not whole. */
static void read_some(struct redis_io *io)
{
    for (unsigned i = 0; i < READS_MAX && io->ac != NULL; i++) {
        redisAsyncHandleRead(io->ac);
        if (io->ac == NULL)
            return;
        redisReader *reader = io->ac->c.reader;
        size_t unread = reader->len - reader->pos;
        bool more = unread > io->unread;
        if (unread != io->unread)
            io->moved_us = redis_now_us();
        io->unread = unread;
        if (unread > io->reply_bytes_max) {
            io->refused = "a reply longer than any that was asked for";
            redisAsyncFree(io->ac); /* not inside its callbacks here */
            return;
        }
        if (!more)
            return;
    }
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
    struct redis_io *io = poll->data;

    if (status < 0)
        events = UV_READABLE | UV_WRITABLE;
    if (io->ac != NULL && (events & UV_WRITABLE))
        redisAsyncHandleWrite(io->ac);
    if (io->ac != NULL && (events & UV_READABLE))
        read_some(io);
}

static void want(struct redis_io *io, int events)
{
    io->events = events;
    if (events != 0)
        (void)uv_poll_start(&io->poll, events, on_poll); /* cannot fail while open */
    else
        (void)uv_poll_stop(&io->poll);
}

static void add_read(void *arg)
{
    want(arg, ((struct redis_io *)arg)->events | UV_READABLE);
}

static void del_read(void *arg)
{
    want(arg, ((struct redis_io *)arg)->events & ~UV_READABLE);
}

static void add_write(void *arg)
{
    want(arg, ((struct redis_io *)arg)->events | UV_WRITABLE);
}

static void del_write(void *arg)
{
    want(arg, ((struct redis_io *)arg)->events & ~UV_WRITABLE);
}

static void on_closed(uv_handle_t *handle)
{
    free(handle->data);
}

static void cleanup(void *arg)
{
    struct redis_io *io = arg;

    io->ac = NULL;
    uv_close((uv_handle_t *)&io->poll, on_closed);
}

static int attach(struct redis_io *io, redisAsyncContext *ac, uv_loop_t *loop)
{
    int err = uv_poll_init(loop, &io->poll, ac->c.fd);

    if (err < 0)
        return err;
    io->poll.data = io;
    io->ac = ac;
    ac->ev.data = io;
    ac->ev.addRead = add_read;
    ac->ev.delRead = del_read;
    ac->ev.addWrite = add_write;
    ac->ev.delWrite = del_write;
    ac->ev.cleanup = cleanup;
    return 0;
}

struct redis_io *redis_io_new(struct redis_conn *conn, const char *host,
                              redisConnectCallback *on_connect,
                              redisDisconnectCallback *on_disconnect)
{
    struct redis_tier *tier = conn->node->tier;
    bool local = tier->url.local && conn->node == tier->nodes[0];
    struct redis_io *io = calloc(1, sizeof *io);
    redisAsyncContext *ac = NULL;

    if (io != NULL)
        ac = local ? redisAsyncConnectUnix(host)
                   : redisAsyncConnect(host, (int)conn->node->port);
    if (ac == NULL || ac->err != 0 || attach(io, ac, tier->loop) < 0) {
        redis_say(tier, conn->node, "%s",
                  ac != NULL && ac->err != 0 ? ac->errstr : "out of memory or files");
        if (ac != NULL)
            redisAsyncFree(ac);
        free(io);
        return NULL;
    }
    guard(io, ac->c.reader);
    io->reply_bytes_max = tier->options.value_bytes_max + (1u << 20);
    io->moved_us = redis_now_us();
    ac->data = conn;
    if (!local)
        (void)redisEnableKeepAlive(&ac->c); /* without it, the pings find out */
    redisAsyncSetConnectCallback(ac, on_connect);
    redisAsyncSetDisconnectCallback(ac, on_disconnect);
    return io;
}

size_t redis_io_unwritten(const struct redis_io *io)
{
    return io->ac != NULL ? sdslen(io->ac->c.obuf) : 0;
}
