/*
 * log.h - one line an event on stderr: logfmt on a terminal, JSON elsewhere.
 *
 *     log_event(LOG_INFO, "worker up", "worker=%s slots=%u", name, slots);
 *
 * The format's text is a list of key=value pairs separated by one space; a value with
 * spaces is given as key="%s". In JSON the pairs become members, numbers
 * where the format has a decimal conversion (%u, not %x or %s). Pairs are told apart in
 * the format, never in what is put into it, so bytes from peers cannot add or end one;
 * they are escaped. "" is no pairs. A line is at most LOG_LINE_BYTES, longer ones are cut
 * and say so. Loop thread only, but log_event() itself may be called from any thread.
 *
 * No line waits for who reads stderr: what cannot be written is kept within a bound
 * (runtime/log_sink.h), beyond it dropped and counted.
 */
#ifndef RUNTIME_LOG_H
#define RUNTIME_LOG_H

#include <stdbool.h>
#include <stdint.h>

#define LOG_LINE_BYTES 2048

/* An event without pairs is no mistake. */
#pragma GCC diagnostic ignored "-Wformat-zero-length"

enum log_level { LOG_ERROR, LOG_WARNING, LOG_NOTICE, LOG_INFO, LOG_DEBUG };

/* Until this is called: "siftmesh", info, logfmt. `service` is borrowed for ever. What is
 * stderr now is written to.
 * `format`: "auto", "logfmt" or "json". -EINVAL else. */
int log_init(const char *service, const char *level, const char *format);
void log_event(enum log_level level, const char *what, const char *pairs, ...)
    __attribute__((format(printf, 3, 4)));
bool log_wants(enum log_level level);

/* Write what was kept, as far as it goes; true: nothing is left. Services call it while
 * lines wait. */
bool log_flush(void);
/* The same at a process's end, waiting for the reader for LOG_FINISH_MS at most. */
#define LOG_FINISH_MS 200
void log_finish(void);
uint64_t log_dropped(void); /* lines, since the start */

/* Zeroed is ready. Lets LOG_BURST lines a LOG_PERIOD_S pass, then counts silently; the
 * next line that passes says how many were left out. */
#define LOG_BURST    5
#define LOG_PERIOD_S 10
struct log_limit {
    uint64_t period, count, suppressed;
};
void log_limited(enum log_level level, struct log_limit *limit, uint64_t now_us,
                 const char *what, const char *pairs, ...)
    __attribute__((format(printf, 5, 6)));

#endif
