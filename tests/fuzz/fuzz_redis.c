/*
 * The texts of the Redis tier: its URL, and the cursor of a purge, which comes back by
 * other hands. No crash; what is taken stays within its bounds, and a cursor is written
 * as it was read. (Replies are parsed by hiredis, behind a guard that test_hostile.c
 * tests.)
 */
#include "cacher/redis/cursor.h"
#include "cacher/redis/redis.h"
#include "cacher/redis/slot.h"
#include "cacher/redis/url.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int condition)
{
    if (!condition)
        abort();
}

static void check_url(const char *text)
{
    struct redis_url url;

    require((cacher_redis_url_check(text) == NULL) ==
            (redis_url_parse(text, &url) == NULL));
    if (redis_url_parse(text, &url) != NULL)
        return;
    require(url.host[0] != '\0' && strlen(url.host) < sizeof url.host);
    require(strlen(url.user) < sizeof url.user);
    require(strlen(url.password) < sizeof url.password);
    require(url.user[0] == '\0' || url.password[0] != '\0');
    require(url.db <= REDIS_DB_MAX && url.port <= 65535);
    require(url.local == (url.port == 0) && url.local == (url.host[0] == '/'));
}

static void check_cursor(const char *text, bool tag)
{
    struct redis_cursor cursor;
    char again[CACHER_CURSOR_BYTES_MAX];

    if (!redis_cursor_read(text, tag, &cursor) || text[0] == '\0')
        return;
    redis_cursor_write(&cursor, again);
    require(strcmp(again, text) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1);

    if (text == NULL)
        return 0;
    if (size > 0)
        memcpy(text, data, size);
    text[size] = '\0';
    require(redis_slot(text, size) < REDIS_SLOTS);
    check_url(text);
    check_cursor(text, false);
    check_cursor(text, true);
    free(text);
    return 0;
}
