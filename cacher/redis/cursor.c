#include "cacher/redis/cursor.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* Digits, without a sign or zeros before; moves *text past them. */
static bool read_number(const char **text, uint64_t *out)
{
    uint64_t value = 0;
    const char *at = *text;

    for (; *at >= '0' && *at <= '9'; at++) {
        uint64_t digit = (uint64_t)(*at - '0');
        if (value > (UINT64_MAX - digit) / 10)
            return false;
        value = value * 10 + digit;
    }
    if (at == *text || (**text == '0' && at > *text + 1))
        return false;
    *text = at;
    *out = value;
    return true;
}

bool redis_cursor_read(const char *text, bool tag, struct redis_cursor *out)
{
    const char *name = tag ? "tag:" : "scan:";
    struct redis_cursor cursor = {.tag = tag};

    if (text[0] != '\0') {
        if (strncmp(text, name, strlen(name)) != 0)
            return false;
        text += strlen(name);
        if (!read_number(&text, &cursor.at))
            return false;
        if (tag ? text[0] != '\0'
                : text[0] != ':' || text[1] == '\0' ||
                      strlen(text + 1) >= sizeof cursor.server)
            return false;
        if (!tag)
            (void)snprintf(cursor.server, sizeof cursor.server, "%s", text + 1);
    }
    *out = cursor;
    return true;
}

void redis_cursor_write(const struct redis_cursor *cursor,
                        char out[CACHER_CURSOR_BYTES_MAX])
{
    if (cursor->tag)
        (void)snprintf(out, CACHER_CURSOR_BYTES_MAX, "tag:%" PRIu64, cursor->at);
    else
        (void)snprintf(out, CACHER_CURSOR_BYTES_MAX, "scan:%" PRIu64 ":%s", cursor->at,
                       cursor->server);
}
