/*
 * http_listen.c - HOST:PORT of an option as a numeric address, or a sentence why not.
 *
 * Called at the start of gateway and monitor, and by --check-config. It may ask a name
 * server, so it is never called while requests are served.
 */
#include "runtime/http_listen.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

static const char *parse_port(const char *text, uint16_t *port)
{
    char *end;

    if (*text < '0' || *text > '9')
        return "it must be HOST:PORT";
    unsigned long number = strtoul(text, &end, 10);
    if (*end != '\0')
        return "it must be HOST:PORT";
    if (number > UINT16_MAX)
        return "the port must be at most 65535";
    *port = (uint16_t)number;
    return NULL;
}

/* IPv4 first, which is what clients of "localhost" try in any case. */
static const char *resolve(const char *name, char *host, size_t capacity)
{
    static const int families[] = {AF_INET, AF_INET6};
    struct addrinfo *found = NULL;
    int err = EAI_NONAME;

    for (int i = 0; i < 2 && err != 0; i++) {
        struct addrinfo hints = {.ai_family = families[i], .ai_socktype = SOCK_STREAM};
        err = getaddrinfo(name, NULL, &hints, &found);
    }
    if (err != 0)
        return gai_strerror(err);
    err = getnameinfo(found->ai_addr, found->ai_addrlen, host, (socklen_t)capacity, NULL,
                      0, NI_NUMERICHOST);
    freeaddrinfo(found);
    return err != 0 ? gai_strerror(err) : NULL;
}

/* Of HOST alone. */
static const char *parse_host(const char *text, size_t size, char *host, size_t capacity)
{
    unsigned char address[sizeof(struct in6_addr)];
    char name[HTTP_LISTEN_HOST_BYTES];

    if (size >= sizeof name)
        return "its host is too long";
    snprintf(name, sizeof name, "%.*s", (int)size, size > 0 ? text : "");
    if (name[0] == '[' && name[size - 1] == ']') {
        snprintf(host, capacity, "%.*s", (int)size - 2, name + 1);
        return inet_pton(AF_INET6, host, address) == 1
                   ? NULL
                   : "what is in brackets is no IPv6 address";
    }
    if (strpbrk(name, "[]:") != NULL)
        return "an IPv6 address must be [ADDRESS]:PORT";
    snprintf(host, capacity, "%s", size > 0 ? name : "0.0.0.0");
    return inet_pton(AF_INET, host, address) == 1 ? NULL : resolve(name, host, capacity);
}

const char *http_listen_parse(const char *text, struct http_listen *out)
{
    struct http_listen made = {0};
    const char *colon = strrchr(text, ':');

    if (colon == NULL)
        return "it must be HOST:PORT";
    const char *why = parse_port(colon + 1, &made.port);
    if (why == NULL)
        why = parse_host(text, (size_t)(colon - text), made.host, sizeof made.host);
    if (why == NULL)
        *out = made;
    return why;
}
