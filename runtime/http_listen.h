/*
 * http_listen.h - "HOST:PORT" of an option, as http_server_open() takes it.
 *
 * HOST is an IPv4 address, an IPv6 address in brackets, a name (resolved once, which may
 * block: for the start), or nothing: all IPv4 addresses of the host.
 */
#ifndef RUNTIME_HTTP_LISTEN_H
#define RUNTIME_HTTP_LISTEN_H

#include <stddef.h>
#include <stdint.h>

#define HTTP_LISTEN_HOST_BYTES 256

struct http_listen {
    char host[HTTP_LISTEN_HOST_BYTES]; /* an address, without brackets */
    uint16_t port;
};

/* NULL, or why not: a sentence, borrowed for ever. */
const char *http_listen_parse(const char *text, struct http_listen *out);

#endif
