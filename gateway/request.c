/*
 * request.c - one HTTP request.
 *
 * on_head makes it and asks the routes; from there features.c or a page ends it, or the
 * client does by going away, or its time. Whatever the way, account() sees it once, and
 * on_end takes it apart.
 */
#include "gateway/request.h"

#include "gateway/admin.h"
#include "gateway/features.h"
#include "gateway/problem.h"
#include "gateway/routes.h"
#include "gateway/upload.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

/* Requests kept for reuse: with their digest they are half a kilobyte and worth three
 * allocations each. */
#define SPARE_MAX 256u
/* A 503 for want of something that nobody can tell when it comes back: a broker, a cache,
 * or another gateway where this one shuts down. */
#define RETRY_MS 1000u

/* ---- beginning ------------------------------------------------------------------ */

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* An id that a client gave: exactly 32 hexadecimal digits, else it is not used. */
static bool read_id(const char *text, struct proto_id *out)
{
    struct proto_id id;

    if (text == NULL || strlen(text) != 2 * PROTO_ID_BYTES)
        return false;
    for (size_t i = 0; i < PROTO_ID_BYTES; i++) {
        int high = hex_digit(text[2 * i]), low = hex_digit(text[2 * i + 1]);
        if (high < 0 || low < 0)
            return false;
        id.bytes[i] = (uint8_t)(high << 4 | low);
    }
    *out = id;
    return true;
}

static struct proto_id new_id(struct gateway *gateway)
{
    struct proto_id id;
    uint64_t count = ++gateway->ids;

    memcpy(id.bytes, gateway->id_prefix, 8);
    for (size_t i = 0; i < 8; i++)
        id.bytes[8 + i] = (uint8_t)(count >> (56 - 8 * i));
    return id;
}

static struct gateway_request *take_spare(struct gateway *gateway)
{
    struct gateway_request *request = gateway->spare;

    if (request == NULL)
        return calloc(1, sizeof *request);
    gateway->spare = request->next;
    gateway->spare_count--;
    EVP_MD_CTX *digest = request->digest;
    memset(request, 0, sizeof *request);
    request->digest = digest;
    return request;
}

static struct gateway_request *new_request(struct gateway *gateway,
                                           struct http_request *http)
{
    struct gateway_request *request = take_spare(gateway);

    if (request == NULL)
        return NULL;
    request->gateway = gateway;
    request->http = http;
    if (!read_id(http_header(http, "x-request-id"), &request->trace))
        request->trace = new_id(gateway);
    proto_id_hex(&request->trace, request->id);
    request->deadline_us =
        http_started_us(http) + gateway->options->request_timeout_ms * 1000;
    request->next = gateway->requests;
    if (request->next != NULL)
        request->next->previous = request;
    gateway->requests = request;
    http_set_data(http, request);
    return request;
}

void gateway_request_on_head(struct http_request *http, void *arg)
{
    static const struct gateway_refusal foreign = {.status = PROTO_STATUS_FORBIDDEN};
    struct gateway *gateway = arg;
    struct gateway_request *request = new_request(gateway, http);
    char why[BROWSER_WHY_BYTES];

    if (request == NULL) {
        http_respond_copy(http, 503, "Retry-After: 1\r\n", "out of memory\n", 14);
        return;
    }
    switch (browser_meet(&gateway->browser, http, why)) {
    case BROWSER_REFUSED:
        gateway_request_refuse(request, &foreign, "%s", why);
        break;
    case BROWSER_PREFLIGHT:
        gateway_request_page(request, 204, "text/plain", NULL, 0);
        break;
    default:
        gateway_route(request);
    }
}

void gateway_request_on_body(struct http_request *http, const uint8_t *bytes, size_t size,
                             void *arg)
{
    struct gateway_request *request = http_data(http);

    (void)arg;
    /* The body of a GET means nothing, RFC 9110 section 9.3.1: it is read over. */
    if (request == NULL || request->ended || request->kind == 0)
        return;
    request->bytes_in += size;
    gateway_upload_feed(request, bytes, size);
}

void gateway_request_on_complete(struct http_request *http, void *arg)
{
    struct gateway_request *request = http_data(http);

    (void)arg;
    if (request != NULL && !request->ended && request->kind != 0)
        gateway_features_complete(request);
}

/* ---- the end -------------------------------------------------------------------- */

struct account {
    enum proto_status status;
    int http_status;
    size_t bytes_out;
    const struct gateway_answer *answer; /* NULL: no result */
    bool is_page;
};

static bool is_logged(const struct gateway *gateway, const struct account *account)
{
    switch (gateway->access_log) {
    case GATEWAY_LOG_ALL:
        return true;
    case GATEWAY_LOG_NONE:
        return false;
    case GATEWAY_LOG_ERRORS:
        return account->status != PROTO_STATUS_OK && !account->is_page;
    default:
        return !account->is_page && (account->answer == NULL || !account->answer->hot);
    }
}

static void write_log(const struct gateway_request *request,
                      const struct account *account, uint64_t total_us)
{
    static const struct gateway_result none;
    const struct gateway_answer *answer = account->answer;
    const struct gateway_result *result =
        answer != NULL && answer->result != NULL ? answer->result : &none;
    struct http_request *http = request->http;
    uint64_t started_us = http_started_us(http), received_us = http_received_us(http);

    log_event(LOG_INFO, "request",
              "id=%s method=%s path=\"%s\" status=%d code=%s in=%zu out=%zu cache=%s "
              "recv_ms=%.3f queue_ms=%.3f decode_ms=%.3f denoise_ms=%.3f sift_ms=%.3f "
              "total_ms=%.3f peer=%s",
              request->id, http_method(http), http_path(http), account->http_status,
              proto_status_code(account->status), request->bytes_in, account->bytes_out,
              answer != NULL ? gateway_source_name(answer->source) : "-",
              received_us > started_us ? (double)(received_us - started_us) / 1e3 : 0.0,
              (double)result->queue_us / 1e3, (double)result->decode_us / 1e3,
              (double)result->denoise_us / 1e3, (double)result->sift_us / 1e3,
              (double)total_us / 1e3, http_peer(http));
}

/* Every request that reached us ends through here, once, before its answer goes out. */
static void account(struct gateway_request *request, const struct account *account)
{
    struct gateway *gateway = request->gateway;
    struct gateway_metrics *metrics = gateway->metrics;
    uint64_t total_us = service_now_us(gateway->service) - http_started_us(request->http);

    request->ended = true;
    metrics->requests[account->status]++;
    if (account->answer != NULL) {
        metrics->results[account->answer->source]++;
        metrics_observe(account->answer->source == GATEWAY_HIT ? &metrics->hit_time
                                                               : &metrics->miss_time,
                        total_us);
    }
    if (is_logged(gateway, account) && log_wants(LOG_INFO))
        write_log(request, account, total_us);
}

/* Bodies in hand: each that ends makes room. */
static uint64_t bodies(const struct gateway *gateway)
{
    uint64_t count = 0;

    for (const struct gateway_request *at = gateway->requests; at != NULL; at = at->next)
        count += at->kind != 0;
    return count;
}

static uint64_t retry_after_s(const struct gateway *gateway,
                              const struct gateway_refusal *refusal)
{
    uint64_t ms = refusal->retry_after_ms;

    if (ms == 0 && refusal->status == PROTO_STATUS_FULL)
        ms = drain_ms(&gateway->ended, bodies(gateway), service_now_us(gateway->service));
    else if (ms == 0 && proto_status_http(refusal->status) == 503)
        ms = RETRY_MS;
    return (ms + 999) / 1000;
}

void gateway_request_refuse(struct gateway_request *request,
                            const struct gateway_refusal *refusal, const char *detail,
                            ...)
{
    char sentence[512], document[GATEWAY_PROBLEM_BYTES_MAX], headers[512], retry[48] = "";
    struct gateway_problem problem = {refusal->status, sentence, request->id,
                                      refusal->limit, refusal->actual};
    int http_status = proto_status_http(refusal->status);
    va_list args;

    va_start(args, detail);
    vsnprintf(sentence, sizeof sentence, detail, args);
    va_end(args);
    size_t size = gateway_problem_write(&problem, document, sizeof document);
    uint64_t retry_s = retry_after_s(request->gateway, refusal);
    if (retry_s > 0)
        snprintf(retry, sizeof retry, "Retry-After: %" PRIu64 "\r\n", retry_s);
    snprintf(headers, sizeof headers,
             "Content-Type: application/problem+json\r\n" HTTP_NO_SNIFF
             "Cache-Control: no-store\r\n"
             "X-Request-Id: %s\r\nVary: Accept\r\n%s%s",
             request->id, retry, refusal->headers != NULL ? refusal->headers : "");
    account(request, &(struct account){.status = refusal->status,
                                       .http_status = http_status,
                                       .bytes_out = size,
                                       .is_page = refusal->is_page});
    gateway_body_free(&request->body);
    http_respond_copy(request->http, http_status, headers, document, size);
}

void gateway_request_page(struct gateway_request *request, int http_status,
                          const char *media, const void *bytes, size_t size)
{
    char headers[256];

    snprintf(headers, sizeof headers,
             "Content-Type: %s\r\n" HTTP_NO_SNIFF
             "Cache-Control: no-store\r\nX-Request-Id: %s\r\n",
             media, request->id);
    account(request, &(struct account){.status = PROTO_STATUS_OK,
                                       .http_status = http_status,
                                       .bytes_out = size,
                                       .is_page = true});
    http_respond_copy(request->http, http_status, headers, bytes, size);
}

/* Before the request's on_end. */
static void release_value(void *owner)
{
    struct gateway_request *request = owner;

    gateway_outgoing_drop(request->gateway, request->sending);
    hotcache_value_unref(request->sending);
    request->sending = NULL;
}

void gateway_request_answer(struct gateway_request *request, struct hotcache_value *value,
                            const struct gateway_answer *answer)
{
    char headers[GATEWAY_HEADERS_BYTES_MAX];
    struct http_piece piece = {.release = release_value, .owner = request};

    if (value != NULL) {
        request->sending = value;
        gateway_outgoing_hold(request->gateway, value, http_client_of(request->http));
        piece.bytes = value->bytes;
        piece.size = value->size;
    }
    gateway_answer_headers(answer, request->id, headers);
    account(request, &(struct account){.status = PROTO_STATUS_OK,
                                       .http_status = answer->http_status,
                                       .bytes_out = piece.size,
                                       .answer = answer});
    gateway_body_free(&request->body);
    http_respond(request->http, answer->http_status, headers, &piece, value != NULL);
}

void gateway_request_on_gone(struct http_request *http, void *arg)
{
    struct gateway_request *request = http_data(http);
    struct gateway *gateway = arg;

    if (request != NULL && !request->ended) {
        uint64_t now_us = service_now_us(gateway->service);
        gateway_flights_leave(gateway->flights, &request->waiter, now_us);
        gateway_admin_leave(request);
        account(request,
                &(struct account){.status = PROTO_STATUS_CANCELLED, .http_status = 499});
    }
    http_respond_copy(http, 499, "", NULL, 0); /* owed, though nobody reads it */
}

void gateway_request_on_end(struct http_request *http, void *arg)
{
    struct gateway_request *request = http_data(http);
    struct gateway *gateway = arg;

    if (request == NULL)
        return;
    gateway_flights_leave(gateway->flights, &request->waiter,
                          service_now_us(gateway->service));
    gateway_admin_leave(request);
    if (request->kind != 0)
        drain_note(&gateway->ended, service_now_us(gateway->service));
    gateway_body_free(&request->body);
    free(request->multipart);
    if (request->next != NULL)
        request->next->previous = request->previous;
    if (request->previous != NULL)
        request->previous->next = request->next;
    else
        gateway->requests = request->next;
    if (gateway->spare_count == SPARE_MAX) {
        EVP_MD_CTX_free(request->digest);
        free(request);
        return;
    }
    request->next = gateway->spare;
    gateway->spare = request;
    gateway->spare_count++;
}

const char *gateway_request_large(uint64_t limit, uint64_t actual,
                                  char out[GATEWAY_LARGE_BYTES])
{
    snprintf(out, GATEWAY_LARGE_BYTES,
             "the body is too large: %" PRIu64 " bytes, body_bytes_max is %" PRIu64,
             actual, limit);
    return out;
}

/* A refusal of the server's own. A head that was not understood has no id yet. */
size_t gateway_request_on_refuse(const struct http_refusal *why,
                                 struct http_request *http,
                                 char headers[HTTP_REFUSAL_HEADERS_BYTES], char *buffer,
                                 size_t capacity, void *arg)
{
    struct gateway *gateway = arg;
    const struct gateway_request *request = http != NULL ? http_data(http) : NULL;
    struct proto_id trace = request != NULL ? request->trace : new_id(gateway);
    char id[2 * PROTO_ID_BYTES + 1];
    char large[GATEWAY_LARGE_BYTES];
    const char *detail = why->status == PROTO_STATUS_TOO_LARGE
                             ? gateway_request_large(why->limit, why->actual, large)
                             : why->detail;
    struct gateway_problem problem = {why->status, detail, id, why->limit, why->actual};

    proto_id_hex(&trace, id);
    gateway->metrics->requests[why->status]++;
    if (gateway->access_log != GATEWAY_LOG_NONE)
        log_limited(LOG_INFO, &gateway->malformed, service_now_us(gateway->service),
                    "request", "id=%s status=%d code=%s detail=\"%s\"", id,
                    proto_status_http(why->status), proto_status_code(why->status),
                    detail);
    snprintf(headers, HTTP_REFUSAL_HEADERS_BYTES,
             "Cache-Control: no-store\r\nX-Request-Id: %s\r\n", id);
    return gateway_problem_write(&problem, buffer, capacity);
}

/* ---- time and memory ------------------------------------------------------------ */

void gateway_requests_sweep(struct gateway *gateway, uint64_t now_us)
{
    static const struct gateway_refusal expired = {.status = PROTO_STATUS_EXPIRED};
    struct gateway_request *request = gateway->requests;

    while (request != NULL) {
        struct gateway_request *next = request->next; /* freed later, from the loop */
        if (request->waiter.flight != NULL && now_us >= request->deadline_us) {
            gateway_flights_leave(gateway->flights, &request->waiter, now_us);
            gateway_request_refuse(request, &expired, "the request's time ran out");
        } else {
            gateway_admin_sweep(request, now_us);
        }
        request = next;
    }
}

void gateway_requests_free(struct gateway *gateway)
{
    while (gateway->spare != NULL) {
        struct gateway_request *request = gateway->spare;
        gateway->spare = request->next;
        EVP_MD_CTX_free(request->digest);
        free(request);
    }
    gateway->spare_count = 0;
}
