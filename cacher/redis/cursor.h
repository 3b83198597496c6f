/*
 * cursor.h - where a purge goes on, as text that goes through hands that are not ours:
 *
 *   "scan:<cursor of SCAN>:<server>"   a walk over all keys, server after server
 *   "tag:<rank>"                       a walk over one tag's sorted set
 *
 * What is read is only ever a number and the name of a server, which has to be known.
 */
#ifndef CACHER_REDIS_CURSOR_H
#define CACHER_REDIS_CURSOR_H

#include "cacher/tier/tier.h"

#include <stdbool.h>
#include <stdint.h>

#define REDIS_CURSOR_SERVER_BYTES 132 /* with its NUL; fits CACHER_CURSOR_BYTES_MAX */

struct redis_cursor {
    bool tag;
    uint64_t at;
    char server[REDIS_CURSOR_SERVER_BYTES]; /* "" begins; of a tag: "" */
};

/* "" is the beginning of a `tag` walk or of one over all. False: it is no such cursor. */
bool redis_cursor_read(const char *text, bool tag, struct redis_cursor *out);
void redis_cursor_write(const struct redis_cursor *cursor,
                        char out[CACHER_CURSOR_BYTES_MAX]);

#endif
