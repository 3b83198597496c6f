/*
 * log_sink.h - lines to a descriptor that may be a pipe, a terminal or a socket whose
 * reader stalls: no call waits for it.
 *
 * A line that cannot be written at once is kept, up to LOG_SINK_BYTES of them; beyond
 * that it is dropped and counted, and a line that tells how many were goes before the
 * next one that passes. Lines stay whole and in order. The flags of the descriptor, which
 * others share, are left alone: a pipe or a terminal is opened a second time by
 * /proc/self/fd, without blocking; where that is refused (a pipe of another user), it is
 * asked before each line whether there is room.
 */
#ifndef RUNTIME_LOG_SINK_H
#define RUNTIME_LOG_SINK_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LOG_SINK_BYTES      (256u << 10)
#define LOG_SINK_LINE_BYTES 4096u /* PIPE_BUF: what a pipe takes whole or not at all */

/* How its descriptor is written to; found out at the first line. */
enum log_sink_how {
    LOG_SINK_UNKNOWN,
    LOG_SINK_PLAIN,
    LOG_SINK_SOCKET,
    LOG_SINK_NONBLOCKING,
    LOG_SINK_ASKED
};

struct log_sink {
    int fd;
    enum log_sink_how how;
    pthread_mutex_t lock;
    uint64_t dropped, unsaid; /* lines dropped; of those, not told of yet */
    /* The line that tells of `count` dropped ones, with its end of line, into `out`;
     * returns its length. NULL: nothing is told. */
    size_t (*tell)(uint64_t count, char *out, size_t capacity);
    size_t head, used;
    char *bytes; /* LOG_SINK_BYTES of them */
};

#define LOG_SINK_INIT(descriptor, buffer, tell_dropped)                                  \
    {                                                                                    \
        .fd = (descriptor), .bytes = (buffer), .lock = PTHREAD_MUTEX_INITIALIZER,        \
        .tell = (tell_dropped)                                                           \
    }

/* One line with its end of line, at most LOG_SINK_LINE_BYTES. Any thread. */
void log_sink_write(struct log_sink *sink, const char *line, size_t size);
/* Write what was kept, as far as it goes. True: nothing is left. Any thread. */
bool log_sink_flush(struct log_sink *sink);
/* The same, waiting for the reader at most `timeout_ms`: for the end of a process. */
void log_sink_finish(struct log_sink *sink, int timeout_ms);
/* To `fd` from now on, which may be another file under the number it had before. */
void log_sink_reopen(struct log_sink *sink, int fd);
uint64_t log_sink_dropped(struct log_sink *sink);

#endif
