/*
 * browser.c - judges a request by Host, Origin and Sec-Fetch-*, and answers for CORS.
 *
 * Called by gateway and monitor for each request, before its route. It never answers a
 * request itself: it gives a verdict, and adds headers to whatever the answer will be.
 */
#include "runtime/browser.h"

#include "proto/text.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#define HOST_BYTES    256
#define HEADERS_BYTES 1024
#define ITEM_BYTES    256 /* of a list; browser_meet() takes no longer one */
#define LETTERS       "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
#define NAME_BYTES    LETTERS "._-"
#define SCHEME_BYTES  LETTERS "+.-"

/* ---- lists ---------------------------------------------------------------------- */

static bool has(const char *list, const char *word)
{
    size_t size = strlen(word);

    for (const char *at = list; *at != '\0';) {
        at += strspn(at, " \t,");
        size_t bytes = strcspn(at, " \t,");
        if ((bytes == 1 && *at == '*') ||
            (size > 0 && bytes == size && strncasecmp(at, word, size) == 0))
            return true;
        at += bytes;
    }
    return false;
}

typedef bool item_fn(const char *item);

/* The first item that does not fit, cut to what a complaint needs; false: all do. */
static bool find_wrong(const char *list, item_fn *fits, char item[ITEM_BYTES])
{
    while (*list != '\0') {
        list += strspn(list, " \t,");
        size_t size = strcspn(list, ",");
        const char *end = list + size;
        while (size > 0 && (list[size - 1] == ' ' || list[size - 1] == '\t'))
            size--;
        bool is_long = size >= ITEM_BYTES;
        snprintf(item, ITEM_BYTES, "%.*s", (int)size, list);
        if (size > 0 && (is_long || (strcmp(item, "*") != 0 && !fits(item))))
            return true;
        list = end;
    }
    return false;
}

static bool is_name(const char *text, size_t size)
{
    return size > 0 && strspn(text, NAME_BYTES) >= size && text[size - 1] != '.';
}

/* As strip() makes a Host. */
static bool is_host(const char *item)
{
    unsigned char bytes[16];

    return inet_pton(AF_INET6, item, bytes) == 1 || is_name(item, strlen(item));
}

/* Browsers leave out the port that the scheme has by itself. */
static bool is_port(const char *text, bool is_https, bool is_http)
{
    size_t digits = strspn(text, "0123456789");
    int port = digits > 0 && digits < 6 && text[digits] == '\0' ? atoi(text) : 0;

    return port > 0 && port <= 65535 && !(is_https && port == 443) &&
           !(is_http && port == 80);
}

static bool is_origin(const char *item)
{
    const char *scheme = strstr(item, "://");

    if (scheme == NULL || scheme == item)
        return strcmp(item, "null") == 0; /* a page without an origin says so */
    const char *host = scheme + 3, *end = host + strcspn(host, ":");
    if (*host == '[') {
        char address[ITEM_BYTES];
        end = host + strcspn(host, "]");
        snprintf(address, sizeof address, "%.*s", (int)(end - host - 1), host + 1);
        if (*end != ']' || strchr(address, ':') == NULL || !is_host(address))
            return false;
        end++;
    } else if (!is_name(host, (size_t)(end - host)))
        return false;
    return strspn(item, SCHEME_BYTES) >= (size_t)(scheme - item) &&
           (*end == '\0' ||
            (*end == ':' && is_port(end + 1, strncasecmp(item, "https:", 6) == 0,
                                    strncasecmp(item, "http:", 5) == 0)));
}

bool browser_hosts_wrong(const char *list, char why[BROWSER_WHY_BYTES])
{
    char item[ITEM_BYTES];

    if (!find_wrong(list, is_host, item))
        return false;
    snprintf(why, BROWSER_WHY_BYTES,
             "\"%.64s\" matches no Host, must be a name or address without scheme, port "
             "and path, as app.example.org, or *; commas join several",
             item);
    return true;
}

bool browser_origins_wrong(const char *list, char why[BROWSER_WHY_BYTES])
{
    char item[ITEM_BYTES];

    if (!find_wrong(list, is_origin, item))
        return false;
    snprintf(
        why, BROWSER_WHY_BYTES,
        "\"%.64s\" matches no Origin, must be scheme://host or scheme://host:port, as "
        "https://app.example.org, without path and the scheme's own port, or *; commas "
        "join several",
        item);
    return true;
}

/* ---- Host ----------------------------------------------------------------------- */

/* "name:80", "[::1]:80" without port, brackets and a last dot. */
static void strip(const char *text, char out[HOST_BYTES])
{
    size_t size = strcspn(text, ":");

    if (*text == '[')
        size = strcspn(++text, "]");
    if (size > 0 && text[size - 1] == '.')
        size--;
    snprintf(out, HOST_BYTES, "%.*s", (int)(size < HOST_BYTES ? size : 0), text);
}

static bool is_address(const char *host)
{
    unsigned char bytes[16];

    return inet_pton(AF_INET, host, bytes) == 1 || inet_pton(AF_INET6, host, bytes) == 1;
}

static bool is_loopback(const char *host)
{
    struct in_addr ip;

    return strcasecmp(host, "localhost") == 0 || strcmp(host, "::1") == 0 ||
           (inet_pton(AF_INET, host, &ip) == 1 && ntohl(ip.s_addr) >> 24 == 127);
}

static bool is_own(const struct browser_rules *rules, const char *host)
{
    char name[HOST_BYTES] = "", listen[HOST_BYTES];
    bool all =
        strcmp(rules->address, "0.0.0.0") == 0 || strcmp(rules->address, "::") == 0;

    strip(rules->listen, listen);
    (void)gethostname(name, sizeof name - 1);
    return is_loopback(host) || strcasecmp(host, listen) == 0 ||
           strcasecmp(host, rules->address) == 0 || strcasecmp(host, name) == 0 ||
           (all && is_address(host));
}

static bool is_host_fine(const struct browser_rules *rules,
                         const struct http_request *request)
{
    const char *text = http_header(request, "host");
    char host[HOST_BYTES];

    if (text == NULL) /* HTTP/1.0, which no browser speaks */
        return true;
    strip(text, host);
    return has(rules->hosts, host) || is_own(rules, host);
}

/* ---- other sites ---------------------------------------------------------------- */

static bool is(const struct http_request *request, const char *header, const char *value)
{
    const char *text = http_header(request, header);

    return text != NULL && strcmp(text, value) == 0;
}

/* Of the page itself: browsers leave out the scheme's own port in both. A proxy may have
 * ended TLS, so the scheme does not count. */
static bool is_of_host(const char *origin, const char *host)
{
    const char *place = strstr(origin, "://");

    return place != NULL && host != NULL && strcasecmp(place + 3, host) == 0;
}

/* Browsers send Sec-Fetch-Site over https and to loopback alone; elsewhere the Origin of
 * what is no plain GET tells the same. */
static bool is_of_other_site(const struct http_request *request, const char *origin)
{
    const char *site = http_header(request, "sec-fetch-site");

    if (site != NULL)
        return strcmp(site, "cross-site") == 0;
    return origin != NULL && !is_of_host(origin, http_header(request, "host"));
}

static bool is_read(const struct http_request *request)
{
    return strcmp(http_method(request), "GET") == 0 || http_is_head(request);
}

static bool is_link(const struct http_request *request)
{
    return is_read(request) && is(request, "sec-fetch-mode", "navigate") &&
           is(request, "sec-fetch-dest", "document");
}

static void add_headers(const struct browser_rules *rules, struct http_request *request,
                        const char *origin, bool preflight)
{
    char lines[HEADERS_BYTES] = "Vary: Origin\r\n";
    size_t size = strlen(lines);

    if (origin != NULL)
        size += (size_t)snprintf(lines + size, sizeof lines - size,
                                 "Access-Control-Allow-Origin: %.255s\r\n"
                                 "Access-Control-Expose-Headers: ETag, Retry-After, "
                                 "Server-Timing, X-Cache, X-Request-Id\r\n",
                                 origin);
    if (preflight)
        snprintf(lines + size, sizeof lines - size,
                 "Access-Control-Allow-Methods: %s\r\n"
                 "Access-Control-Allow-Headers: Authorization, Content-Type, "
                 "If-None-Match, X-Cache-Tag, X-Request-Id, X-Siftmesh-Priority\r\n"
                 "Access-Control-Max-Age: 600\r\n",
                 rules->methods);
    http_add_headers(request, lines);
}

enum browser_verdict browser_meet(const struct browser_rules *rules,
                                  struct http_request *request,
                                  char why[BROWSER_WHY_BYTES])
{
    const char *origin = http_header(request, "origin");
    bool known = origin != NULL && strlen(origin) < 256 && has(rules->origins, origin);
    bool preflight = known && strcmp(http_method(request), "OPTIONS") == 0 &&
                     http_header(request, "access-control-request-method") != NULL;

    if (!is_host_fine(rules, request)) {
        snprintf(why, BROWSER_WHY_BYTES,
                 "the Host \"%.100s\" is none of this server's; hosts_allowed names more "
                 "of them",
                 http_header(request, "host"));
        proto_text_clean(why);
        return BROWSER_REFUSED;
    }
    if (rules->origins[0] != '\0')
        add_headers(rules, request, known ? origin : NULL, preflight);
    if (preflight)
        return BROWSER_PREFLIGHT;
    if (!known && is_of_other_site(request, origin) && !is_link(request)) {
        snprintf(
            why, BROWSER_WHY_BYTES, "%s",
            "a page of another site asks for this; cors_origins names those that may");
        return BROWSER_REFUSED;
    }
    return BROWSER_FINE;
}
