/*
 * answer.h - results in the client's format: renderings, the hot cache, headers.
 */
#ifndef GATEWAY_ANSWER_H
#define GATEWAY_ANSWER_H

#include "gateway/flight.h"
#include "gateway/gateway.h"
#include "gateway/outgoing.h"
#include "proto/render.h"
#include "runtime/http.h"

/* What is sent of a result. */
struct gateway_variant {
    bool png; /* of PROTO_KIND_DENOISE; then the rest is unused */
    enum proto_format format;
    enum proto_descriptors descriptors; /* matters to JSON */
};

/* The offers of a route for gateway_accept_choose(), in enum proto_format's order. */
size_t gateway_answer_offers(const char *offers[PROTO_FORMAT_COUNT]);

/* From the hot cache, rendered if need be and if `asking` may have it: a reference, or
 * NULL and why: -ENOENT where it is not known, or as gateway_answer_render(). */
struct hotcache_value *gateway_answer_find(struct gateway *gateway,
                                           const uint8_t key[PROTO_DIGEST_BYTES],
                                           const struct gateway_variant *variant,
                                           struct gateway_asking *asking, uint64_t now_us,
                                           int *err);

/*
 * A flight's result in the client's format; both go to the hot cache. A reference in
 * `out`. 0; -EPROTO: the result is no set of features; -ENOMEM; -EFBIG or -ENOBUFS with
 * the bound in `asking`: outgoing.h.
 */
int gateway_answer_render(struct gateway *gateway, const uint8_t key[PROTO_DIGEST_BYTES],
                          const struct gateway_variant *variant,
                          struct gateway_result *result, struct gateway_asking *asking,
                          uint64_t now_us, struct hotcache_value **out);

/* PURGE came: the hot cache forgets what it names. It knows no tags and no ages: for
 * these it forgets everything. */
void gateway_answer_purge(struct gateway *gateway, const struct mesh_msg *msg);

#define GATEWAY_ETAG_BYTES 96 /* no entity tag is longer, with its NUL */
/* "key-format" with its quotes. */
void gateway_answer_etag(const uint8_t key[PROTO_DIGEST_BYTES],
                         const struct gateway_variant *variant,
                         char out[GATEWAY_ETAG_BYTES]);
/* Whether an If-None-Match names the tag (weak comparison, RFC 9110 section 13.1.2). */
bool gateway_answer_etag_matches(const char *if_none_match, const char *etag);

/* All that the headers of an answer tell. */
struct gateway_answer {
    int http_status; /* 200 or 304 */
    const uint8_t *key;
    const struct gateway_variant *variant;
    enum gateway_source source;
    bool by_key; /* GET: may be kept for ever */
    bool hot;    /* answered without the mesh */
    uint64_t recv_us;
    const struct gateway_result *result; /* NULL: no stage times */
};

#define GATEWAY_HEADERS_BYTES_MAX 1024
/* The header lines with a NUL; `request_id` of at most 32 bytes. */
void gateway_answer_headers(const struct gateway_answer *answer, const char *request_id,
                            char out[GATEWAY_HEADERS_BYTES_MAX]);

#endif
