/*
 * log_sink.c - writes lines without waiting, keeps what does not go out, drops and counts
 * what is too much.
 *
 * Called by log.c from any thread, and by `siftmesh up` for what it prints. But for
 * log_sink_finish() it never waits, and it never changes the flags of its descriptor.
 */
#include "runtime/log_sink.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* A file of a disk never waits for a reader. */
static void look(struct log_sink *sink)
{
    struct stat st;
    char path[32];

    sink->how = LOG_SINK_PLAIN;
    if (fstat(sink->fd, &st) < 0)
        return;
    if (S_ISSOCK(st.st_mode)) {
        sink->how = LOG_SINK_SOCKET;
    } else if (S_ISFIFO(st.st_mode) || isatty(sink->fd)) {
        snprintf(path, sizeof path, "/proc/self/fd/%d", sink->fd);
        int own = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
        sink->how = own >= 0 ? LOG_SINK_NONBLOCKING : LOG_SINK_ASKED;
        sink->fd = own >= 0 ? own : sink->fd;
    }
}

/* Bytes taken, 0: not now, or -errno. */
static ssize_t try_write(struct log_sink *sink, const char *bytes, size_t size)
{
    struct pollfd item = {.fd = sink->fd, .events = POLLOUT};
    ssize_t n;

    if (sink->how == LOG_SINK_ASKED && poll(&item, 1, 0) == 0)
        return 0;
    do
        n = sink->how == LOG_SINK_SOCKET
                ? send(sink->fd, bytes, size, MSG_DONTWAIT | MSG_NOSIGNAL)
                : write(sink->fd, bytes, size);
    while (n < 0 && errno == EINTR);
    if (n >= 0)
        return n;
    return errno == EAGAIN || errno == ENOBUFS ? 0 : -errno;
}

static size_t line_end(const char *bytes, size_t used)
{
    const char *end = memchr(bytes, '\n', used);
    return end != NULL ? (size_t)(end - bytes) + 1 : used;
}

static void drop(struct log_sink *sink, uint64_t lines)
{
    sink->dropped += lines;
    sink->unsaid += lines;
}

/* The reader is gone, or the disk is full. */
static void drop_kept(struct log_sink *sink)
{
    while (sink->used > 0) {
        size_t size = line_end(sink->bytes + sink->head, sink->used);
        sink->head += size;
        sink->used -= size;
        drop(sink, 1);
    }
}

static void keep(struct log_sink *sink, const char *bytes, size_t size)
{
    if (sink->used + size > LOG_SINK_BYTES) {
        drop(sink, 1);
        return;
    }
    if (sink->head + sink->used + size > LOG_SINK_BYTES) {
        memmove(sink->bytes, sink->bytes + sink->head, sink->used);
        sink->head = 0;
    }
    memcpy(sink->bytes + sink->head + sink->used, bytes, size);
    sink->used += size;
}

/* A line at a time: more than PIPE_BUF could be cut in its middle by another process. */
static bool flush(struct log_sink *sink)
{
    while (sink->used > 0) {
        const char *line = sink->bytes + sink->head;
        ssize_t n = try_write(sink, line, line_end(line, sink->used));
        if (n == 0)
            return false;
        if (n < 0) {
            drop_kept(sink);
            break;
        }
        sink->head += (size_t)n;
        sink->used -= (size_t)n;
    }
    sink->head = 0;
    return true;
}

static void put(struct log_sink *sink, const char *line, size_t size)
{
    ssize_t n = flush(sink) ? try_write(sink, line, size) : 0;

    if (n < 0)
        drop(sink, 1);
    else if ((size_t)n < size)
        keep(sink, line + n, size - (size_t)n);
}

/* Where there is room again. */
static void tell_dropped(struct log_sink *sink)
{
    char line[512];
    uint64_t count = sink->unsaid;

    if (count == 0 || sink->tell == NULL || !flush(sink))
        return;
    sink->unsaid = 0;
    put(sink, line, sink->tell(count, line, sizeof line));
}

void log_sink_write(struct log_sink *sink, const char *line, size_t size)
{
    pthread_mutex_lock(&sink->lock);
    if (sink->how == LOG_SINK_UNKNOWN)
        look(sink);
    tell_dropped(sink);
    put(sink, line, size);
    pthread_mutex_unlock(&sink->lock);
}

bool log_sink_flush(struct log_sink *sink)
{
    pthread_mutex_lock(&sink->lock);
    bool all = flush(sink);
    if (all)
        tell_dropped(sink);
    pthread_mutex_unlock(&sink->lock);
    return all;
}

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

void log_sink_finish(struct log_sink *sink, int timeout_ms)
{
    int64_t end_ms = now_ms() + timeout_ms;
    int64_t left_ms = timeout_ms;

    while (!log_sink_flush(sink) && left_ms > 0) {
        struct pollfd item = {.fd = sink->fd, .events = POLLOUT};
        (void)poll(&item, 1, (int)left_ms);
        left_ms = end_ms - now_ms();
    }
}

void log_sink_reopen(struct log_sink *sink, int fd)
{
    pthread_mutex_lock(&sink->lock);
    if (sink->how == LOG_SINK_NONBLOCKING)
        close(sink->fd);
    sink->fd = fd;
    sink->how = LOG_SINK_UNKNOWN;
    pthread_mutex_unlock(&sink->lock);
}

uint64_t log_sink_dropped(struct log_sink *sink)
{
    pthread_mutex_lock(&sink->lock);
    uint64_t dropped = sink->dropped;
    pthread_mutex_unlock(&sink->lock);
    return dropped;
}
