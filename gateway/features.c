#include "gateway/features.h"

#include "gateway/accept.h"
#include "gateway/upload.h"

#include <errno.h>
#include <string.h>

/* ---- admission ------------------------------------------------------------------ */

static bool check_query(struct gateway_request *request, enum gateway_query_scope scope)
{
    static const struct gateway_refusal bad = {.status = PROTO_STATUS_BAD_PARAMETER};
    struct proto_params_error error;

    if (gateway_query_parse(http_query(request->http), scope, &request->query, &error) ==
        0)
        return true;
    gateway_request_refuse(request, &bad, "%s", error.detail);
    return false;
}

static bool choose_png(struct gateway_request *request)
{
    static const char *const offer = "image/png";
    static const struct gateway_refusal none = {.status = PROTO_STATUS_NOT_ACCEPTABLE};

    request->variant = (struct gateway_variant){.png = true};
    if (gateway_accept_choose(http_header(request->http, "accept"), &offer, 1) == 0)
        return true;
    gateway_request_refuse(request, &none, "the answer is image/png");
    return false;
}

static bool choose_format(struct gateway_request *request)
{
    static const struct gateway_refusal none = {.status = PROTO_STATUS_NOT_ACCEPTABLE};
    static const struct gateway_refusal bad = {.status = PROTO_STATUS_BAD_PARAMETER};
    const char *offers[PROTO_FORMAT_COUNT];
    size_t count = gateway_answer_offers(offers);
    int choice =
        gateway_accept_choose(http_header(request->http, "accept"), offers, count);

    if (choice < 0) {
        gateway_request_refuse(request, &none,
                               "the answer can be %s, %s, %s, %s, %s or %s", offers[0],
                               offers[1], offers[2], offers[3], offers[4], offers[5]);
        return false;
    }
    request->variant = (struct gateway_variant){
        .format = (enum proto_format)choice, .descriptors = request->query.descriptors};
    if (!request->query.has_descriptors || choice == PROTO_FORMAT_JSON)
        return true;
    gateway_request_refuse(request, &bad,
                           "descriptors is for application/json; the answer would be %s",
                           offers[choice]);
    return false;
}

static bool check_priority(struct gateway_request *request)
{
    static const struct gateway_refusal bad = {.status = PROTO_STATUS_BAD_PARAMETER};
    const char *text = http_header(request->http, "x-siftmesh-priority");
    bool high = request->gateway->options->allow_high;

    request->priority = PROTO_PRIORITY_NORMAL;
    if (text == NULL || strcmp(text, "normal") == 0)
        return true;
    if (strcmp(text, "batch") == 0) {
        request->priority = PROTO_PRIORITY_BATCH;
        return true;
    }
    if (high && strcmp(text, "high") == 0) {
        request->priority = PROTO_PRIORITY_HIGH;
        return true;
    }
    if (strcmp(text, "high") == 0)
        gateway_request_refuse(request, &bad,
                               "X-Siftmesh-Priority: high needs allow_high of the "
                               "gateway; without it normal or batch");
    else
        gateway_request_refuse(request, &bad,
                               "X-Siftmesh-Priority must be %snormal or batch",
                               high ? "high, " : "");
    return false;
}

/* X-Cache-Tag into `tags`, without the blanks beside commas (RFC 9110 section 5.6.1).
 * Returns NULL, or what is wrong with it. */
static const char *read_tags(struct gateway_request *request,
                             char tags[PROTO_TAGS_BYTES_MAX + 1])
{
    const char *text = http_header(request->http, "x-cache-tag");
    size_t size = 0;

    for (; text != NULL && *text != '\0'; text++) {
        const char *next = text + strspn(text, " \t");
        bool is_inside =
            size > 0 && tags[size - 1] != ',' && *next != ',' && *next != '\0';
        if (next != text && !is_inside) {
            text = next - 1;
            continue;
        }
        if (size == PROTO_TAGS_BYTES_MAX)
            return "there are more than 511 bytes";
        tags[size++] = *text;
    }
    tags[size] = '\0';
    return proto_tags_check(tags, size);
}

static bool check_tags(struct gateway_request *request)
{
    static const struct gateway_refusal bad = {.status = PROTO_STATUS_BAD_PARAMETER};
    char tags[PROTO_TAGS_BYTES_MAX + 1];
    const char *wrong = read_tags(request, tags);

    if (wrong == NULL)
        return true;
    gateway_request_refuse(request, &bad, "X-Cache-Tag: %s", wrong);
    return false;
}

static bool is_draining(struct gateway_request *request)
{
    static const struct gateway_refusal why = {.status = PROTO_STATUS_DRAINING};

    if (!gateway_is_leaving(request->gateway))
        return false;
    gateway_request_refuse(request, &why, "the gateway is shutting down");
    return true;
}

void gateway_features_begin(struct gateway_request *request, const char *rest)
{
    (void)rest;
    request->kind = PROTO_KIND_FEATURES;
    if (!is_draining(request) && check_query(request, GATEWAY_QUERY_FEATURES) &&
        choose_format(request) && check_priority(request) && check_tags(request))
        (void)gateway_upload_begin(request);
}

void gateway_denoise_begin(struct gateway_request *request, const char *rest)
{
    (void)rest;
    request->kind = PROTO_KIND_DENOISE;
    if (!is_draining(request) && check_query(request, GATEWAY_QUERY_DENOISE) &&
        choose_png(request) && check_priority(request) && check_tags(request))
        (void)gateway_upload_begin(request);
}

/* ---- answers -------------------------------------------------------------------- */

/* A result for a GET may turn out to be what the client has already. */
static bool is_known_to_client(struct gateway_request *request, bool any)
{
    const char *tags = http_header(request->http, "if-none-match");
    char etag[GATEWAY_ETAG_BYTES];

    if (tags == NULL || request->kind != 0)
        return false;
    if (any && strcmp(tags, "*") == 0)
        return true;
    gateway_answer_etag(request->key, &request->variant, etag);
    return gateway_answer_etag_matches(tags, etag);
}

static void answer(struct gateway_request *request, struct hotcache_value *value,
                   enum gateway_source source, const struct gateway_result *result)
{
    struct http_request *http = request->http;
    bool by_key = request->kind == 0;
    struct gateway_answer whole = {
        .http_status = value != NULL ? 200 : 304,
        .key = request->key,
        .variant = &request->variant,
        .source = source,
        .by_key = by_key,
        .hot = result == NULL,
        .recv_us = by_key ? 0 : http_received_us(http) - http_started_us(http),
        .result = result,
    };

    gateway_request_answer(request, value, &whole);
}

/* The answer is too large, or there is no room for it: `err` of outgoing.h. */
static void refuse_bytes(struct gateway_request *request, int err,
                         const struct gateway_asking *asking)
{
    struct gateway_refusal why = {.limit = asking->limit, .actual = asking->actual};

    if (err == -EFBIG) {
        why.status = PROTO_STATUS_ANSWER_TOO_LARGE;
        gateway_request_refuse(request, &why,
                               "the answer would have too many bytes; max_features, a "
                               "binary format or descriptors=none make it smaller");
        return;
    }
    why.status = PROTO_STATUS_FULL;
    gateway_request_refuse(request, &why,
                           "as many bytes of answers are on their way as may be");
}

/* With a reference to `value`, which is taken. */
static void answer_value(struct gateway_request *request, struct hotcache_value *value,
                         enum gateway_source source, const struct gateway_result *result,
                         struct gateway_asking *asking)
{
    int err;

    if (is_known_to_client(request, true)) {
        hotcache_value_unref(value);
        answer(request, NULL, source, result);
        return;
    }
    err = gateway_outgoing_may_send(request->gateway, asking, value);
    if (err == 0) {
        answer(request, value, source, result);
        return;
    }
    hotcache_value_unref(value);
    refuse_bytes(request, err, asking);
}

static void refuse_result(struct gateway_request *request,
                          const struct gateway_result *result)
{
    struct gateway_refusal why = {result->status,         result->limit, result->actual,
                                  result->retry_after_ms, NULL,          false};

    gateway_request_refuse(
        request, &why, "%s",
        result->detail[0] != '\0' ? result->detail : proto_status_title(result->status));
}

static void on_done(struct gateway_waiter *waiter, struct gateway_result *result,
                    enum gateway_source source)
{
    struct gateway_request *request =
        (struct gateway_request *)(void *)((char *)waiter -
                                           offsetof(struct gateway_request, waiter));
    struct gateway_refusal why = {.status = PROTO_STATUS_INTERNAL};
    struct gateway_asking asking = {.client = http_client_of(request->http)};
    struct hotcache_value *value = NULL;

    if (result->status != PROTO_STATUS_OK) {
        refuse_result(request, result);
        return;
    }
    int err =
        gateway_answer_render(request->gateway, request->key, &request->variant, result,
                              &asking, service_now_us(request->gateway->service), &value);
    if (err == 0) {
        answer_value(request, value, source, result, &asking);
    } else if (err == -EFBIG || err == -ENOBUFS) {
        refuse_bytes(request, err, &asking);
    } else if (err == -EPROTO && request->kind == 0) {
        why.status = PROTO_STATUS_NOT_FOUND;
        gateway_request_refuse(request, &why, "no features are known under this key");
    } else {
        gateway_request_refuse(request, &why, "the result could not be rendered");
    }
}

/* ---- the hot cache, or a flight ------------------------------------------------- */

/* True: the request has ended. */
static bool answer_hot(struct gateway_request *request, uint64_t now_us)
{
    struct gateway_asking asking = {.client = http_client_of(request->http)};
    int err;
    struct hotcache_value *value = gateway_answer_find(
        request->gateway, request->key, &request->variant, &asking, now_us, &err);

    if (value != NULL)
        answer_value(request, value, GATEWAY_HIT, NULL, &asking);
    else if (err == -EFBIG || err == -ENOBUFS)
        refuse_bytes(request, err, &asking);
    else
        return false;
    return true;
}

static void join(struct gateway_request *request, struct gateway_ask *ask,
                 uint64_t now_us)
{
    static const struct gateway_refusal full = {.status = PROTO_STATUS_FULL};
    struct gateway *gateway = request->gateway;

    memcpy(ask->key, request->key, PROTO_DIGEST_BYTES);
    ask->trace = request->trace;
    ask->priority = request->priority;
    ask->deadline_us = request->deadline_us;
    request->waiter.done = on_done;
    if (gateway_flights_join(gateway->flights, ask, &request->waiter, now_us) < 0)
        gateway_request_refuse(request, &full, "out of memory");
    gateway_wake(gateway);
}

static void fly(struct gateway_request *request, uint64_t now_us)
{
    static const struct gateway_refusal full = {.status = PROTO_STATUS_FULL};
    struct gateway_ask ask = {.kind = request->kind, .params = request->query.params};
    zmq_msg_t image;

    (void)read_tags(request, ask.tags); /* checked when the head came */
    memcpy(ask.image_sha256, request->image_sha256, PROTO_DIGEST_BYTES);
    if (gateway_body_wrap(&request->body, &image) < 0) {
        gateway_request_refuse(request, &full, "out of memory");
        return;
    }
    ask.image = &image;
    join(request, &ask, now_us);
    zmq_msg_close(&image); /* a follower's copy is not needed; a leader's was moved */
}

void gateway_features_complete(struct gateway_request *request)
{
    static const struct gateway_refusal full = {.status = PROTO_STATUS_FULL};
    uint64_t now_us = service_now_us(request->gateway->service);

    if (!gateway_upload_finish(request))
        return;
    if (proto_key(request->image_sha256, request->kind, &request->query.params,
                  request->key) < 0)
        gateway_request_refuse(request, &full, "out of memory");
    else if (!answer_hot(request, now_us))
        fly(request, now_us);
}

void gateway_features_look_up(struct gateway_request *request, const char *key_text)
{
    static const struct gateway_refusal none = {.status = PROTO_STATUS_NOT_FOUND};
    uint64_t now_us = service_now_us(request->gateway->service);
    struct gateway_ask ask = {.peek = true};

    if (proto_unhex(key_text, strlen(key_text), request->key) < 0) {
        gateway_request_refuse(request, &none, "a key has 64 hexadecimal digits");
        return;
    }
    if (!check_query(request, GATEWAY_QUERY_LOOKUP) || !choose_format(request) ||
        !check_priority(request))
        return;
    /* A key's bytes never change: who has them need not wait for them to be found. */
    if (is_known_to_client(request, false))
        answer(request, NULL, GATEWAY_HIT, NULL);
    else if (!answer_hot(request, now_us))
        join(request, &ask, now_us);
}
