/*
 * gateway.h - HTTP in, mesh out: what the files of the gateway share.
 *
 *   gateway.c    the service: start, drain, stop, session, timer
 *   routes.c     which path and method is answered by what
 *   pages.c      the small pages: index, health, metrics, version
 *   admin.c      the mesh's status, and results to be forgotten
 *   features.c   pictures in, results out: admission, key, look-up, answer
 *   upload.c     a body, bare or multipart, into a buffer and a digest
 *   request.c    the life of one request; the one way it ends
 *   answer.c     results in the client's format, the hot cache, headers
 *   flight*.c    one flight a key: cache, computation, waiters      (no HTTP)
 *   cache.c      whether the cache service is worth asking          (no HTTP)
 *   purges.c     results to be forgotten, until all were told       (no HTTP)
 *   mesh.c       exchanges with the broker: ids, credit, deadlines  (no HTTP)
 *   outgoing.c   bytes of answers on their way
 *   body.c       upload buffers under one budget                    (no HTTP)
 *   accept.c multipart.c query.c problem.c                          (pure)
 *
 * One loop thread. docs/API.md is what clients see.
 */
#ifndef GATEWAY_GATEWAY_H
#define GATEWAY_GATEWAY_H

#include "gateway/body.h"
#include "gateway/flight.h"
#include "gateway/mesh.h"
#include "gateway/purges.h"
#include "runtime/browser.h"
#include "runtime/drain.h"
#include "runtime/hotcache.h"
#include "runtime/http.h"
#include "runtime/http_listen.h"
#include "runtime/service.h"
#include "runtime/session.h"

#include <openssl/evp.h>

struct gateway_options {
#include "runtime/options_struct.h"

#include "gateway/options.tbl"

#include "runtime/options_end.h"
};

struct gateway_metrics {
#include "runtime/metrics_struct.h"

#include "gateway/counters.tbl"

#include "runtime/metrics_end.h"
};

/* Least to most talkative. */
enum gateway_access_log {
    GATEWAY_LOG_NONE,
    GATEWAY_LOG_ERRORS,
    GATEWAY_LOG_MISSES,
    GATEWAY_LOG_ALL
};

struct gateway_request;

struct gateway {
    struct service *service;
    const struct gateway_options *options;
    struct gateway_metrics *metrics;
    enum gateway_access_log access_log;

    struct http_server *server;
    struct http_listen at;
    struct browser_rules browser;
    struct session *session;
    struct gateway_mesh *mesh;
    struct gateway_flights *flights;
    struct gateway_purges *purges;
    struct hotcache *hot;
    struct gateway_budget *budget;
    uint64_t outgoing_bytes; /* of answers on their way */
    EVP_MD
    *sha256; /* fetched once: a fetch for each request would cost more than the key */

    struct gateway_request *requests; /* all that have not ended */
    struct gateway_request *spare;    /* kept for reuse */
    unsigned spare_count;
    struct drain ended; /* requests with a body */

    uv_timer_t tick;
    uint64_t tick_ms; /* its interval now; 0: it does not run */
    bool has_tick;
    bool is_lame_duck;          /* asked to end, but whoever comes is served */
    uint64_t lame_until_us;     /* goes on accepting until then; 0: it does not */
    struct log_limit malformed; /* lines about requests that never came to be */
    uint8_t id_prefix[8];
    uint64_t ids;
    char admin_token[257]; /* of who may delete; empty: nobody */
};

extern const struct service_spec gateway_spec;

/* Something was opened that has a deadline: see that the timer runs. */
void gateway_wake(struct gateway *gateway);
/* Set the metrics that are counted elsewhere. */
void gateway_refresh_metrics(struct gateway *gateway);
/* Requests can be served: the session is up and nobody asked us to end. */
bool gateway_is_ready(const struct gateway *gateway);
/* Requests are refused, since we end. Not after a lame duck's time: who comes then had
 * connected before it was over. */
bool gateway_is_leaving(const struct gateway *gateway);

#endif
