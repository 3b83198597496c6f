#include "monitor/state.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CONNECTIONS_MAX      64
#define CONNECTIONS_PER_PEER 32
#define BODY_BYTES_MAX       4096 /* read and thrown away: nothing here takes one */
#define HEADERS_BYTES        512

/* ---- pages ---- */

static char *no_text(const struct monitor *monitor, size_t *size)
{
    (void)monitor;
    *size = 3;
    return strdup("ok\n");
}

static char *html(const struct monitor *monitor, size_t *size)
{
    (void)monitor;
    *size = strlen(monitor_page);
    return strdup(monitor_page);
}

/* Ready when it sees memory and the broker: what it decides is known and arrives. */
static bool is_ready(const struct monitor *monitor)
{
    return monitor->sample.memory_known && session_is_up(monitor->session) &&
           !service_draining(monitor->service);
}

static char *readiness(const struct monitor *monitor, size_t *size)
{
    char text[MONITOR_WHY_BYTES + 32];

    if (is_ready(monitor))
        snprintf(text, sizeof text, "ready\n");
    else if (!session_is_up(monitor->session))
        snprintf(text, sizeof text, "no broker\n");
    else
        snprintf(text, sizeof text, "no memory sample: %s\n", monitor->sample.why);
    *size = strlen(text);
    return strdup(text);
}

#define TEXT "text/plain; charset=utf-8"
#define JSON "application/json"

static const struct route {
    const char *path, *media;
    char *(*make)(const struct monitor *monitor, size_t *size);
} routes[] = {
    {"/", "text/html; charset=utf-8", html},
    {"/metrics", "text/plain; version=0.0.4; charset=utf-8", monitor_report_metrics},
    {"/status", JSON, monitor_report_status},
    {"/decisions", JSON, monitor_report_decisions},
    {"/livez", TEXT, no_text},
    {"/readyz", TEXT, readiness},
};

/* ---- answers ---- */

/* No script or style of others, no frame of others: what peers say of themselves is
 * shown here. */
#define SAFE                                                                             \
    "Cache-Control: no-store\r\n"                                                        \
    "X-Content-Type-Options: nosniff\r\n"                                                \
    "Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'; "           \
    "script-src 'unsafe-inline'; connect-src 'self'; frame-ancestors 'none'\r\n"

static size_t problem(char *buffer, size_t capacity, enum proto_status status,
                      const char *detail)
{
    json_t *json =
        json_pack("{s:s, s:s, s:i, s:s, s:s}", "type", "about:blank", "title",
                  proto_status_title(status), "status", proto_status_http(status), "code",
                  proto_status_code(status), "detail", detail);
    size_t size = json != NULL ? json_dumpb(json, buffer, capacity,
                                            JSON_COMPACT | JSON_ENSURE_ASCII)
                               : 0;

    json_decref(json);
    return size <= capacity ? size : 0;
}

static void refuse(struct http_request *request, enum proto_status status,
                   const char *extra, const char *detail)
{
    char text[1024], headers[HEADERS_BYTES];
    size_t size = problem(text, sizeof text, status, detail);

    snprintf(headers, sizeof headers, SAFE "%sContent-Type: application/problem+json\r\n",
             extra);
    http_respond_copy(request, proto_status_http(status), headers, text, size);
}

static void release_text(void *text)
{
    free(text);
}

static void answer(struct monitor *monitor, struct http_request *request,
                   const struct route *route)
{
    char headers[HEADERS_BYTES];
    size_t size = 0;
    bool ready = route->make != readiness || is_ready(monitor);
    char *text = route->make(monitor, &size);

    if (text == NULL) {
        refuse(request, PROTO_STATUS_INTERNAL, "", "out of memory");
        return;
    }
    struct http_piece piece = {text, size, release_text, text};
    snprintf(headers, sizeof headers, SAFE "Content-Type: %s\r\n", route->media);
    http_respond(request, ready ? 200 : 503, headers, &piece, 1);
}

static void route(struct monitor *monitor, struct http_request *request)
{
    const char *method = http_method(request);

    for (size_t i = 0; i < sizeof routes / sizeof routes[0]; i++) {
        if (strcmp(http_path(request), routes[i].path) != 0)
            continue;
        if (strcmp(method, "GET") != 0 && strcmp(method, "HEAD") != 0)
            refuse(request, PROTO_STATUS_BAD_METHOD, "Allow: GET, HEAD\r\n",
                   "this page can only be read");
        else
            answer(monitor, request, &routes[i]);
        return;
    }
    refuse(request, PROTO_STATUS_NOT_FOUND, "",
           "there are /, /status, /decisions, /metrics, /livez and /readyz");
}

static void on_complete(struct http_request *request, void *arg)
{
    struct monitor *monitor = arg;
    char why[BROWSER_WHY_BYTES];

    monitor->metrics->http_answers++;
    switch (browser_meet(&monitor->browser, request, why)) {
    case BROWSER_REFUSED:
        refuse(request, PROTO_STATUS_FORBIDDEN, "", why);
        break;
    case BROWSER_PREFLIGHT:
        http_respond_copy(request, 204, SAFE, NULL, 0);
        break;
    default:
        route(monitor, request);
    }
}

static void on_head(struct http_request *request, void *arg)
{
    (void)request;
    (void)arg;
}

static void on_body(struct http_request *request, const uint8_t *bytes, size_t size,
                    void *arg)
{
    (void)request;
    (void)bytes;
    (void)size;
    (void)arg;
}

/* Answers are made at once, so nobody waits that could go, and nothing is kept. */
static void on_over(struct http_request *request, void *arg)
{
    (void)request;
    (void)arg;
}

static size_t on_refuse(const struct http_refusal *why, struct http_request *request,
                        char headers[HTTP_REFUSAL_HEADERS_BYTES], char *buffer,
                        size_t capacity, void *arg)
{
    (void)request;
    (void)headers;
    (void)arg;
    return problem(buffer, capacity, why->status, why->detail);
}

/* ---- listening ---- */

int monitor_web_open(struct monitor *monitor)
{
    static const struct http_callbacks callbacks = {on_head, on_body, on_complete,
                                                    on_over, on_over, on_refuse};
    struct http_limits limits;

    monitor->browser = (struct browser_rules){
        monitor->options->listen, monitor->at.host, monitor->options->hosts_allowed,
        monitor->options->cors_origins, "GET, HEAD"};
    http_limits_init(&limits);
    limits.connections_max = CONNECTIONS_MAX;
    limits.connections_per_peer = CONNECTIONS_PER_PEER;
    limits.body_bytes_max = BODY_BYTES_MAX;
    const char *why = http_listen_parse(monitor->options->listen, &monitor->at);
    int err = why != NULL ? -EINVAL
                          : http_server_open(service_loop(monitor->service),
                                             monitor->at.host, monitor->at.port, &limits,
                                             &callbacks, monitor, &monitor->server);
    if (err < 0)
        log_event(LOG_ERROR, "cannot listen", "listen=\"%s\" error=\"%s\"",
                  monitor->options->listen, why != NULL ? why : strerror(-err));
    return err;
}

void monitor_web_close(struct monitor *monitor)
{
    http_server_close(monitor->server);
}
