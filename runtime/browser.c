/*
 * browser.c - judges a request by Host, Origin and Sec-Fetch-*, and answers for CORS.
 *
 * Called by gateway and monitor for each request, before its route. It never answers a
 * request itself: it gives a verdict, and adds headers to whatever the answer will be.
 */
#include "runtime/browser.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#define HOST_BYTES    256
#define HEADERS_BYTES 1024

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
                                  struct http_request *request, const char **why)
{
    const char *origin = http_header(request, "origin");
    bool known = origin != NULL && strlen(origin) < 256 && has(rules->origins, origin);
    bool preflight = known && strcmp(http_method(request), "OPTIONS") == 0 &&
                     http_header(request, "access-control-request-method") != NULL;

    if (!is_host_fine(rules, request)) {
        *why = "the Host is none of this server's; hosts_allowed names more of them";
        return BROWSER_REFUSED;
    }
    if (rules->origins[0] != '\0')
        add_headers(rules, request, known ? origin : NULL, preflight);
    if (preflight)
        return BROWSER_PREFLIGHT;
    if (!known && is(request, "sec-fetch-site", "cross-site") && !is_link(request)) {
        *why = "a page of another site asks for this; cors_origins names those that may";
        return BROWSER_REFUSED;
    }
    return BROWSER_FINE;
}
