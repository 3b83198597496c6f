/*
 * request.h - one HTTP request's life in the gateway, and the one way it ends.
 */
#ifndef GATEWAY_REQUEST_H
#define GATEWAY_REQUEST_H

#include "gateway/answer.h"
#include "gateway/gateway.h"
#include "gateway/multipart.h"
#include "gateway/purges.h"
#include "gateway/query.h"

/* What a request waits for at the broker beside a flight; admin.h. Zeroed: nothing. */
struct gateway_errand {
    bool stats;         /* STATS of this id, */
    struct proto_id id; /* until */
    uint64_t until_us;
    struct gateway_purge *purge; /* or the first try of this one */
};

struct gateway_request {
    struct gateway *gateway;
    struct http_request *http;
    struct gateway_request *previous, *next; /* all of the gateway's */

    struct proto_id trace;
    char id[2 * PROTO_ID_BYTES + 1]; /* the trace in hexadecimal: X-Request-Id */
    uint64_t deadline_us;
    bool ended; /* http_respond() was called, or the server ended it */

    /* Of a request for a result; features.c and upload.c. */
    enum proto_kind kind; /* 0: none, there is no body to wait for */
    size_t bytes_in;      /* of the body */
    struct gateway_query query;
    struct gateway_variant variant;
    enum proto_priority priority;
    struct gateway_body body;
    struct gateway_multipart *multipart; /* NULL: the body is the picture */
    uint64_t mask_bytes;                 /* of a form's mask, behind the picture */
    EVP_MD_CTX *digest;                  /* kept over reuse */
    uint8_t image_sha256[PROTO_DIGEST_BYTES];
    uint8_t key[PROTO_DIGEST_BYTES];
    struct hotcache_value *sending; /* until libuv lets go of it */
    struct gateway_waiter waiter;
    struct gateway_errand errand;
};

/* For http_callbacks; `arg` is the gateway. */
void gateway_request_on_head(struct http_request *http, void *arg);
void gateway_request_on_body(struct http_request *http, const uint8_t *bytes, size_t size,
                             void *arg);
void gateway_request_on_complete(struct http_request *http, void *arg);
void gateway_request_on_gone(struct http_request *http, void *arg);
void gateway_request_on_end(struct http_request *http, void *arg);
/* The detail of a 413; returns `out`. */
#define GATEWAY_LARGE_BYTES 112
const char *gateway_request_large(uint64_t limit, uint64_t actual,
                                  char out[GATEWAY_LARGE_BYTES]);
size_t gateway_request_on_refuse(const struct http_refusal *why,
                                 struct http_request *http,
                                 char headers[HTTP_REFUSAL_HEADERS_BYTES], char *buffer,
                                 size_t capacity, void *arg);

/* ---- ends: each request takes exactly one ---------------------------------------- */

struct gateway_refusal {
    enum proto_status status;
    /* 0: not told; but a 503 always tells a time to come back, FULL that in which so much
     * as there is in hand will have ended. */
    uint64_t limit, actual, retry_after_ms;
    const char *headers; /* further header lines, or NULL */
    bool is_page;        /* health, which is asked again and again */
};

/* End with a problem document. */
void gateway_request_refuse(struct gateway_request *request,
                            const struct gateway_refusal *refusal, const char *detail,
                            ...) __attribute__((format(printf, 3, 4)));
/* End with a small page; the bytes are copied. `http_status` 200 or 202. */
void gateway_request_page(struct gateway_request *request, int http_status,
                          const char *media, const void *bytes, size_t size);
/* End with a result, or what stands for one (304). Takes the reference to `value`, which
 * gateway_outgoing_may_send(). */
void gateway_request_answer(struct gateway_request *request, struct hotcache_value *value,
                            const struct gateway_answer *answer);

/* End every waiting request whose time is up. */
void gateway_requests_sweep(struct gateway *gateway, uint64_t now_us);
/* Free what is kept for reuse. */
void gateway_requests_free(struct gateway *gateway);

#endif
