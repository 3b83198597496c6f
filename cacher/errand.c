/*
 * Jobs that take their time: they are started, show progress each second, and end later.
 *
 * A purge empties memory, then goes through the tiers behind it in steps of some thousand
 * keys, for at most PURGE_MS; where it is then goes back to who asked, who asks again. So
 * it needs no memory here, and a purge of a billion keys blocks nobody.
 *
 * The cursor is "tier:most:count:cursor": the tier's name and its own cursor, and in
 * hexadecimal the most results that a tier before it had and what this one had until
 * now. A result is in several tiers; what is said in all is what the fullest one had.
 */
#include "cacher/state.h"
#include "proto/purge.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PURGE_MS 2000
#define WARM_MS  8000 /* with a page of the store below the broker's job_timeout */

/* ---- any errand ---- */

/* `size` bytes that begin with a cacher_errand; NULL: refused. */
static void *begin(struct cacher *cacher, const struct cacher_job *job, size_t size)
{
    struct cacher_errand *errand =
        cacher->errand_count < CACHER_ERRANDS_MAX ? calloc(1, size) : NULL;

    if (cacher->leaving) {
        free(errand);
        cacher_answer_leaving(cacher, &job->ticket);
        return NULL;
    }
    if (errand == NULL) {
        cacher_answer_end(cacher, &job->ticket, PROTO_STATUS_FULL,
                          "this cacher has as many purges and warm-ups under way as it "
                          "may");
        return NULL;
    }
    errand->cacher = cacher;
    errand->ticket = job->ticket;
    errand->next = cacher->errands;
    if (errand->next != NULL)
        errand->next->previous = errand;
    cacher->errands = errand;
    cacher->errand_count++;
    return errand;
}

/* With `why` it failed, and json is not looked at. Takes both the errand and json. */
static void end(struct cacher_errand *errand, enum proto_status status, const char *why,
                json_t *json)
{
    struct cacher *cacher = errand->cacher;

    *(errand->previous != NULL ? &errand->previous->next : &cacher->errands) =
        errand->next;
    if (errand->next != NULL)
        errand->next->previous = errand->previous;
    cacher->errand_count--;
    if (errand->unwanted || cacher->stopped) {
        json_decref(json);
    } else if (why != NULL) {
        json_decref(json);
        cacher_answer_end(cacher, &errand->ticket, status, why);
    } else {
        cacher_answer_json(cacher, &errand->ticket, json);
    }
    free(errand);
}

bool cacher_errand_abort(struct cacher *cacher, const struct proto_id *request,
                         uint8_t attempt)
{
    struct cacher_errand *at = cacher->errands;

    while (at != NULL && (memcmp(&at->ticket.request, request, sizeof *request) != 0 ||
                          at->ticket.attempt != attempt))
        at = at->next;
    if (at != NULL)
        at->unwanted = true;
    return at != NULL;
}

void cacher_errand_forget(struct cacher *cacher)
{
    for (struct cacher_errand *at = cacher->errands; at != NULL; at = at->next)
        at->unwanted = true;
}

/* ---- purge ---- */

struct purge {
    struct cacher_errand errand; /* first */
    struct cacher_filter filter;
    char cursor[CACHER_CURSOR_BYTES_MAX];
    unsigned at;                 /* the tier whose turn it is */
    uint64_t most, count, fresh; /* see above; `fresh`: of all, what this call adds */
    uint64_t end_us;
    uint64_t matched[1 + CACHER_TIERS_MAX], removed[1 + CACHER_TIERS_MAX]; /* 0: memory */
    int err; /* of the tier `failed` */
    const char *failed;
};

const char *cacher_errand_filter(const struct proto_purge *purge,
                                 struct cacher_filter *out)
{
    bool key = purge->key_bytes != 0, prefix = purge->prefix[0] != '\0';
    bool tag = purge->tag[0] != '\0', older = purge->older_s != 0;
    uint64_t now_s = cacher_wall_s();

    const char *wrong = proto_purge_check(purge);

    if (wrong != NULL)
        return wrong;
    *out = (struct cacher_filter){
        .kind = key      ? CACHER_FILTER_KEY
                : prefix ? CACHER_FILTER_PREFIX
                : tag    ? CACHER_FILTER_TAG
                : older  ? CACHER_FILTER_OLDER
                         : CACHER_FILTER_ALL,
        .before_s = older && purge->older_s < now_s ? now_s - purge->older_s : 0,
        .dry_run = purge->dry_run != 0};
    memcpy(out->key, purge->key, sizeof out->key);
    snprintf(out->prefix, sizeof out->prefix, "%s", purge->prefix);
    snprintf(out->tag, sizeof out->tag, "%s", purge->tag);
    return NULL;
}

/* The cursor of an earlier answer, or "" for the beginning. */
static const char *find_place(const struct cacher_tiers *tiers, const char *text,
                              struct purge *purge)
{
    if (text[0] == '\0')
        return NULL;
    int end = 0;
    size_t size = strcspn(text, ":");
    if (sscanf(text + size, ":%12" SCNx64 ":%12" SCNx64 ":%n", &purge->most,
               &purge->count, &end) != 2 ||
        end == 0 || strlen(text + size + end) >= sizeof purge->cursor)
        return "the cursor is malformed";
    for (unsigned i = 0; i < tiers->count; i++) {
        const char *name = cacher_role_name(tiers->behind[i].role);
        if (strncmp(text, name, size) != 0 || name[size] != '\0')
            continue;
        purge->at = i;
        strcpy(purge->cursor, text + size + end);
        return NULL;
    }
    return "the cursor names no tier of this cacher";
}

static json_t *counts(const char *const names[], const struct purge *purge,
                      unsigned count)
{
    json_t *all = json_object();

    for (unsigned i = 0; i < count; i++)
        json_object_set_new(all, names[i],
                            json_pack("{s:I, s:I}", "matched",
                                      (json_int_t)purge->matched[i], "removed",
                                      (json_int_t)purge->removed[i]));
    return all;
}

static void end_purge(struct purge *purge)
{
    struct cacher *cacher = purge->errand.cacher;
    const struct cacher_tiers *tiers = &cacher->tiers;
    const char *names[1 + CACHER_TIERS_MAX] = {"memory"};
    char cursor[CACHER_CURSOR_BYTES_MAX + 48] = "", why[160];

    for (unsigned i = 0; i < tiers->count; i++)
        names[1 + i] = cacher_role_name(tiers->behind[i].role);
    if (purge->at < tiers->count)
        snprintf(cursor, sizeof cursor, "%s:%" PRIx64 ":%" PRIx64 ":%s",
                 names[1 + purge->at], purge->most, purge->count, purge->cursor);
    if (purge->failed != NULL)
        snprintf(why, sizeof why, "%s could not be purged (%s); try again", purge->failed,
                 strerror(-purge->err));
    end(&purge->errand, PROTO_STATUS_INTERNAL, purge->failed != NULL ? why : NULL,
        json_pack("{s:I, s:I, s:s, s:o}", "matched", (json_int_t)purge->fresh, "removed",
                  (json_int_t)(purge->filter.dry_run ? 0 : purge->fresh), "cursor",
                  cursor, "tiers", counts(names, purge, 1 + tiers->count)));
}

static void on_purged(int err, uint64_t matched, uint64_t removed, const char *cursor,
                      void *arg);

/* `count` more of the tier whose turn it is, or of memory. */
static void add(struct purge *purge, unsigned row, uint64_t matched, uint64_t removed)
{
    uint64_t before = purge->count > purge->most ? purge->count : purge->most;

    purge->matched[row] += matched;
    purge->removed[row] += removed;
    purge->count += purge->filter.dry_run ? matched : removed;
    if (purge->count > before)
        purge->fresh += purge->count - before;
}

static void next_tier(struct purge *purge)
{
    if (purge->count > purge->most)
        purge->most = purge->count;
    purge->count = 0;
    purge->cursor[0] = '\0';
}

static void purge_fails(struct purge *purge, int err)
{
    const struct cacher_behind *behind = &purge->errand.cacher->tiers.behind[purge->at];

    purge->err = err;
    purge->failed = cacher_role_name(behind->role);
    purge->at++; /* the others are purged all the same */
    next_tier(purge);
}

static void purge_on(struct purge *purge)
{
    struct cacher *cacher = purge->errand.cacher;
    struct cacher_tiers *tiers = &cacher->tiers;

    while (purge->at < tiers->count && !tiers->closing && !purge->errand.unwanted &&
           uv_hrtime() / 1000 < purge->end_us) {
        struct cacher_tier *tier = tiers->behind[purge->at].tier;
        int err =
            tier->class->purge(tier, &purge->filter, purge->cursor, on_purged, purge);
        if (err == 0)
            return;
        purge_fails(purge, err);
    }
    end_purge(purge);
}

static void on_purged(int err, uint64_t matched, uint64_t removed, const char *cursor,
                      void *arg)
{
    struct purge *purge = arg;

    add(purge, 1 + purge->at, matched, removed);
    if (err < 0) {
        purge_fails(purge, err);
    } else if (cursor[0] == '\0' || strlen(cursor) >= sizeof purge->cursor) {
        purge->at++;
        next_tier(purge);
    } else {
        memmove(purge->cursor, cursor, strlen(cursor) + 1);
    }
    purge_on(purge);
}

void cacher_errand_purge(struct cacher *cacher, struct cacher_job *job)
{
    struct proto_purge body;
    struct cacher_filter filter = {0};
    size_t size = zmq_msg_size(job->payload);
    const char *wrong = "the payload is no purge";

    if (size <= PROTO_BODY_BYTES_MAX &&
        proto_body_decode(proto_purge_fields, zmq_msg_data(job->payload), size, &body) ==
            0)
        wrong = cacher_errand_filter(&body, &filter);
    if (wrong != NULL) {
        cacher_answer_bad(cacher, &job->ticket, wrong);
        return;
    }
    struct purge *purge = begin(cacher, job, sizeof *purge);
    if (purge == NULL)
        return;
    wrong = find_place(&cacher->tiers, body.cursor, purge);
    if (wrong != NULL) {
        end(&purge->errand, PROTO_STATUS_BAD_REQUEST, wrong, NULL);
        return;
    }
    purge->filter = filter;
    purge->end_us = uv_hrtime() / 1000 + PURGE_MS * 1000;
    if (body.cursor[0] == '\0') {
        uint64_t matched = cacher_memory_purge(&cacher->memory, &filter);
        add(purge, 0, matched, filter.dry_run ? 0 : matched);
        next_tier(purge);
    }
    cacher_answer_start(cacher, &purge->errand.ticket);
    purge_on(purge);
}

/* ---- warm ---- */

static void on_warmed(const struct cacher_warmed *warmed, void *arg)
{
    end(arg, PROTO_STATUS_OK, NULL,
        json_pack("{s:I, s:I, s:I, s:I, s:s}", "results", (json_int_t)warmed->results,
                  "bytes", (json_int_t)warmed->bytes, "redis", (json_int_t)warmed->redis,
                  "ms", (json_int_t)warmed->ms, "ended", warmed->why));
}

void cacher_errand_warm(struct cacher *cacher, struct cacher_job *job)
{
    struct cacher_errand *errand = begin(cacher, job, sizeof *errand);

    if (errand == NULL)
        return;
    int err = cacher_warm(cacher, WARM_MS, on_warmed, errand);
    if (err == 0)
        cacher_answer_start(cacher, &errand->ticket);
    else if (err == -ENOENT)
        end(errand, PROTO_STATUS_NOT_FOUND,
            "this cacher has neither a durable store nor Redis", NULL);
    else
        end(errand, PROTO_STATUS_INTERNAL, "the durable store does not answer", NULL);
}

/* ---- plan: at once ---- */

void cacher_errand_plan(struct cacher *cacher, struct cacher_job *job)
{
    const struct hotcache_counters *held = hotcache_counters(cacher->memory.results);
    struct cacher_plan_memory memory = {.bytes_max = cacher->memory.limits.bytes_max,
                                        .bytes = held->bytes,
                                        .entries = held->entries,
                                        .hits = cacher->metrics->memory_hits,
                                        .misses = cacher->metrics->memory_misses,
                                        .ttl_s = cacher->options->ttl_s};

    cacher_answer_json(cacher, &job->ticket, cacher_plan_json(&cacher->plan, &memory));
}
