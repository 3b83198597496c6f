/*
 * extract_send.c - one photo of `siftmesh extract`: sent, waited for, sent again.
 *
 * Called by the threads of extract.c, each with a handle of its own. It never takes
 * longer than the photo's time, whatever Retry-After the mesh tells, and writes no file.
 */
#include "client/command/extract.h"
#include "proto/render.h"

#include <errno.h>
#include <jansson.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <time.h>

#define WAIT_FIRST_MS 200 /* where no Retry-After is told, doubled up to WAIT_MAX_MS */
#define WAIT_MAX_MS   5000
#define PROBE_MS      2000 /* is there a mesh at all? */

/* An attempt's end: 0 and the answer holds the end, or the time until the next one. */
struct attempt {
    const struct extract_way *way;
    const uint8_t *image;
    size_t size;
    int left_ms;
    int code;         /* of sysexits.h */
    bool again;       /* it may go better later */
    int64_t after_ms; /* as the mesh told; 0: it did not */
};

static atomic_bool reached; /* a mesh has answered once */

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void sleep_ms(int64_t ms)
{
    struct timespec t = {ms / 1000, ms % 1000 * 1000000};
    while (nanosleep(&t, &t) < 0 && errno == EINTR)
        ;
}

/* ---- ZeroMQ ---- */

/* Whether this was the photo's own slowness, or there is no mesh any more. */
static bool is_gone(struct siftmesh *mesh)
{
    struct siftmesh_result ignored = {0};
    int err =
        siftmesh_control(mesh, PROTO_STATS, NULL, PROTO_STATS, NULL, PROBE_MS, &ignored);

    siftmesh_result_free(&ignored);
    return err < 0;
}

static void by_zmq(struct attempt *a, struct siftmesh **mesh, struct extract_answer *out)
{
    const struct extract_way *way = a->way;
    struct siftmesh_result result = {0};
    const struct command_mesh *m = way->mesh;
    int err = 0;

    if (*mesh == NULL)
        err = siftmesh_open_curve(m->front, m->curve ? &m->keys : NULL, a->left_ms, mesh);
    if (err == 0)
        err =
            siftmesh_features(*mesh, a->image, a->size, way->params, a->left_ms, &result);
    if (err < 0) {
        snprintf(out->why, sizeof out->why, "no answer from the mesh: %s",
                 err == -ETIMEDOUT ? "its time ran out" : strerror(-err));
        out->gone = *mesh == NULL || is_gone(*mesh);
        a->code = EX_TEMPFAIL;
    } else if (result.status == PROTO_STATUS_OK) {
        out->blob = result.bytes;
        out->size = result.size;
        result.bytes = NULL;
        a->code = EX_OK;
    } else {
        snprintf(out->why, sizeof out->why, "%s: %s", proto_status_code(result.status),
                 result.outcome.detail);
        a->code = command_exit_code(result.status);
        a->again = proto_status_http(result.status) == 503;
        a->after_ms = result.outcome.retry_after_ms < INT64_MAX
                          ? (int64_t)result.outcome.retry_after_ms
                          : INT64_MAX;
    }
    siftmesh_result_free(&result);
}

/* ---- HTTP ---- */

static enum proto_status status_of_code(const char *code)
{
    for (unsigned s = 0; s < PROTO_STATUS_COUNT; s++)
        if (strcmp(proto_status_code(s), code) == 0)
            return (enum proto_status)s;
    return PROTO_STATUS_INTERNAL;
}

static int explain_problem(const struct command_http *http, char *why, size_t why_bytes)
{
    json_t *problem = json_loadb((const char *)http->body, http->size, 0, NULL);
    const char *code = json_string_value(json_object_get(problem, "code"));
    const char *detail = json_string_value(json_object_get(problem, "detail"));

    snprintf(why, why_bytes, "HTTP %ld %s: %s", http->status, code ? code : "",
             detail ? detail : "no detail");
    int exit_code = code ? command_exit_code(status_of_code(code)) : EX_UNAVAILABLE;
    json_decref(problem);
    return exit_code;
}

/* Retry-After in seconds; a date is 0: not told. */
static int64_t seconds_ms(const char *text)
{
    long seconds = strtol(text, NULL, 10);

    return seconds < 0 ? 0 : seconds < INT_MAX ? (int64_t)seconds * 1000 : INT64_MAX;
}

static void by_http(struct attempt *a, struct extract_answer *out)
{
    char url[2048], after[32];
    struct command_http http;
    const struct extract_way *way = a->way;

    snprintf(url, sizeof url, "%s/v1/features%s%s", way->http, way->query[0] ? "?" : "",
             way->query);
    if (!command_http_post(url, proto_format_media(PROTO_FORMAT_BIN), a->image, a->size,
                           a->left_ms, &http, out->why, sizeof out->why)) {
        a->code = EX_UNAVAILABLE;
        a->again = atomic_load(&reached); /* a gateway that is restarted */
        out->gone = true;
        return;
    }
    atomic_store(&reached, true);
    out->gone = false;
    if (http.status == 200) {
        a->code = EX_OK;
        out->blob = http.body;
        out->size = http.size;
        http.body = NULL;
    } else {
        a->code = explain_problem(&http, out->why, sizeof out->why);
        a->again = http.status == 429 || http.status == 502 || http.status == 503;
        if (command_http_header(&http, "Retry-After", after, sizeof after))
            a->after_ms = seconds_ms(after);
    }
    command_http_free(&http);
}

/* ---- one photo ---- */

int extract_send(const struct extract_way *way, struct siftmesh **mesh,
                 const uint8_t *image, size_t size, struct extract_answer *out)
{
    int64_t until = now_ms() + way->timeout_ms, wait_ms = WAIT_FIRST_MS;
    int tries = 0;

    for (;;) {
        struct attempt a = {.way = way, .image = image, .size = size};
        int64_t left_ms = until - now_ms();
        a.left_ms = left_ms > 1 ? (int)left_ms : 1; /* 0 would be no bound at all */
        if (way->http != NULL)
            by_http(&a, out);
        else
            by_zmq(&a, mesh, out);
        int64_t after = a.after_ms > 0 ? a.after_ms : wait_ms;
        /* Compared without a sum: the mesh may tell any number. */
        if (!a.again || ++tries >= EXTRACT_TRIES_MAX || after >= until - now_ms())
            return a.code;
        sleep_ms(after);
        wait_ms = wait_ms * 2 < WAIT_MAX_MS ? wait_ms * 2 : WAIT_MAX_MS;
    }
}
