/*
 * accept.h - which of the served formats a client wants (RFC 9110, section 12.5.1).
 *
 * Parameters of a media range other than q are ignored: no offer has variants. What is
 * not well-formed in the header is skipped like a range that matches nothing. Pure,
 * thread-safe, no allocation.
 */
#ifndef GATEWAY_ACCEPT_H
#define GATEWAY_ACCEPT_H

#include <stddef.h>

#define GATEWAY_OFFERS_MAX 16

/*
 * The index of the best of `count` <= GATEWAY_OFFERS_MAX offers (lower-case media types,
 * the server's favourite first) for the Accept header `accept`; NULL or empty accepts
 * all. -ENOENT when none is acceptable.
 */
int gateway_accept_choose(const char *accept, const char *const *offers, size_t count);

#endif
