#include "cacher/redis/url.h"

#include "cacher/redis/redis.h"

#include <stdio.h>
#include <string.h>

#define PORT_DEFAULT  6379
#define UNIX_PATH_MAX 107 /* bytes of sun_path, without its NUL */

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static const char *decode_secret(const char *from, const char *end, char *out)
{
    size_t length = 0;

    while (from < end) {
        char c = *from++;
        if (c == '%') {
            if (end - from < 2 || hex_digit(from[0]) < 0 || hex_digit(from[1]) < 0)
                return "a % in user or password is not followed by two hex digits";
            c = (char)(hex_digit(from[0]) << 4 | hex_digit(from[1]));
            from += 2;
        }
        if (c == '\0')
            return "user or password holds a NUL";
        if (length + 1 >= REDIS_SECRET_BYTES_MAX)
            return "user or password is longer than 255 bytes";
        out[length++] = c;
    }
    out[length] = '\0';
    return NULL;
}

/* Digits alone, at most `most`. */
static bool parse_number(const char *from, const char *end, unsigned most, unsigned *out)
{
    unsigned long value = 0;

    if (from == end)
        return false;
    for (; from < end; from++) {
        if (*from < '0' || *from > '9')
            return false;
        value = value * 10 + (unsigned)(*from - '0');
        if (value > most)
            return false;
    }
    *out = (unsigned)value;
    return true;
}

static const char *parse_login(const char *from, const char *end, struct redis_url *url)
{
    const char *colon = memchr(from, ':', (size_t)(end - from));
    const char *why;

    if (colon == NULL)
        return "before @ there is no colon: write :password@ or user:password@";
    if ((why = decode_secret(from, colon, url->user)) != NULL ||
        (why = decode_secret(colon + 1, end, url->password)) != NULL)
        return why;
    if (url->password[0] == '\0')
        return "the password is empty";
    return NULL;
}

static bool is_host_byte(char c, bool bracketed)
{
    if (bracketed) /* an IPv6 address, with its zone */
        return hex_digit(c) >= 0 || c == ':' || c == '.' || c == '%' ||
               (c >= 'a' && c <= 'z');
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           c == '.' || c == '-' || c == '_';
}

static const char *parse_host(const char *from, const char *end, bool bracketed,
                              struct redis_url *url)
{
    size_t length = (size_t)(end - from);

    if (length == 0)
        return "there is no host";
    if (length >= sizeof url->host)
        return "the host is longer than 127 bytes";
    for (size_t i = 0; i < length; i++)
        if (!is_host_byte(from[i], bracketed))
            return "the host has a character that is in no host";
    memcpy(url->host, from, length);
    url->host[length] = '\0';
    return NULL;
}

/* host[:port] or [v6][:port] */
static const char *parse_place(const char *from, const char *end, struct redis_url *url)
{
    bool bracketed = from < end && *from == '[';
    const char *host = bracketed ? from + 1 : from;
    const char *host_end = memchr(host, bracketed ? ']' : ':', (size_t)(end - host));
    const char *port, *why;

    if (bracketed && host_end == NULL)
        return "a [ is not closed";
    if (host_end == NULL)
        host_end = end;
    if ((why = parse_host(host, host_end, bracketed, url)) != NULL)
        return why;
    port = bracketed ? host_end + 1 : host_end;
    if (port == end)
        return NULL;
    if (*port != ':' || !parse_number(port + 1, end, 65535, &url->port) || url->port == 0)
        return "the port is not a number from 1 to 65535";
    return NULL;
}

static const char *parse_tcp(const char *from, struct redis_url *url)
{
    const char *end = from + strcspn(from, "/?#");
    const char *at = memrchr(from, '@', (size_t)(end - from));
    const char *why;

    if (at != NULL && (why = parse_login(from, at, url)) != NULL)
        return why;
    if ((why = parse_place(at != NULL ? at + 1 : from, end, url)) != NULL)
        return why;
    if (*end == '?' || *end == '#')
        return "nothing may follow after ? or #";
    if (end[0] == '/' && end[1] != '\0' &&
        !parse_number(end + 1, end + strlen(end), REDIS_DB_MAX, &url->db))
        return "the database is not a number from 0 to 65535";
    return NULL;
}

static const char *parse_unix(const char *from, struct redis_url *url)
{
    const char *end = from + strcspn(from, "?");
    size_t length = (size_t)(end - from);

    if (*from != '/')
        return "the path of a Unix socket is not absolute: write unix:///path";
    if (length > UNIX_PATH_MAX)
        return "the path of a Unix socket is longer than 107 bytes";
    if (*end == '?' &&
        (strncmp(end, "?db=", 4) != 0 ||
         !parse_number(end + 4, end + strlen(end), REDIS_DB_MAX, &url->db)))
        return "after ? only db= and a number from 0 to 65535 are known";
    for (size_t i = 0; i < length; i++)
        if (from[i] <= ' ' || from[i] == 0x7f)
            return "the path of a Unix socket has a space or a control character";
    memcpy(url->host, from, length);
    url->host[length] = '\0';
    url->local = true;
    url->port = 0;
    return NULL;
}

const char *redis_url_parse(const char *text, struct redis_url *out)
{
    static const char tcp[] = "redis://", unix_[] = "unix://", tls[] = "rediss://";
    struct redis_url url = {.port = PORT_DEFAULT};
    const char *why;

    if (strncmp(text, tcp, sizeof tcp - 1) == 0)
        why = parse_tcp(text + sizeof tcp - 1, &url);
    else if (strncmp(text, unix_, sizeof unix_ - 1) == 0)
        why = parse_unix(text + sizeof unix_ - 1, &url);
    else if (strncmp(text, tls, sizeof tls - 1) == 0)
        why = "TLS is not supported: use a local proxy, and redis://";
    else
        why = "it begins with neither redis:// nor unix://";
    if (why == NULL)
        *out = url;
    return why;
}

const char *cacher_redis_url_check(const char *url)
{
    struct redis_url parsed;

    return redis_url_parse(url, &parsed);
}
