/*
 * url.h - where a Redis is, from text. Strict: what is not understood is refused, so that
 * a slip does not become another database. Pure; nothing allocated.
 */
#ifndef CACHER_REDIS_URL_H
#define CACHER_REDIS_URL_H

#include <stdbool.h>

#define REDIS_HOST_BYTES_MAX   128 /* of a name, an address or a path, with its NUL */
#define REDIS_SECRET_BYTES_MAX 256 /* of a user or a password, with its NUL */
#define REDIS_DB_MAX           65535

struct redis_url {
    char host[REDIS_HOST_BYTES_MAX]; /* without brackets; a path where `local` */
    bool local;                      /* a Unix socket */
    unsigned port, db;
    char user[REDIS_SECRET_BYTES_MAX];     /* "" is Redis' default user */
    char password[REDIS_SECRET_BYTES_MAX]; /* "" is none */
};

/* NULL, or why not: a static sentence that holds nothing of the text. */
const char *redis_url_parse(const char *text, struct redis_url *out);

#endif
