#include "cacher/store/pg.h"

#include <arpa/inet.h>
#include <errno.h>
#include <libpq-fe.h>
#include <stdlib.h>
#include <string.h>

static uint64_t now_us(void)
{
    return uv_hrtime() / 1000;
}

/* ---- what there is ---- */

struct census {
    unsigned all, coming, idle, used, living;
};

static struct census count(const struct pg *pg)
{
    struct census census = {0};

    for (const struct pg_link *link = pg->links; link != NULL; link = link->next) {
        census.all++;
        census.living += link->lives && link->state != PG_BROKEN;
        if (link->state <= PG_CHECKING)
            census.coming++;
        else if (link->state == PG_BUSY || link == pg->keeper)
            census.used++;
        else if (link->state == PG_IDLE)
            census.idle++;
    }
    return census;
}

/* No link is up, and the last login failed in a way that the next one hardly mends: jobs
 * that wait are failed at once. */
static bool is_in_vain(const struct pg *pg)
{
    struct census census = count(pg);

    return pg->hopeless && census.living == 0 && census.coming == 0 &&
           now_us() < pg->login_us;
}

/* ---- the line of jobs that wait ---- */

static void on_timer(uv_timer_t *timer);

static void arm(struct pg *pg)
{
    if (pg->closing)
        return;
    if (pg->waiting == NULL) {
        uv_timer_stop(&pg->timer);
        return;
    }
    uint64_t now = now_us(), age_ms = (now - pg->waiting->line_us) / 1000;
    uint64_t all_ms = pg->options->store_pool_wait_ms;
    uint64_t ms = age_ms < all_ms ? all_ms - age_ms : 0;
    uint64_t login_ms = now < pg->login_us ? (pg->login_us - now) / 1000 + 1 : ms;
    if (is_in_vain(pg))
        ms = 0;
    uv_timer_start(&pg->timer, on_timer, ms < login_ms ? ms : login_ms, 0);
}

static struct store_job *take(struct pg *pg)
{
    struct store_job *job = pg->waiting;

    pg->waiting = job->line;
    if (pg->waiting == NULL)
        pg->waiting_end = &pg->waiting;
    pg->waiting_count--;
    job->line = NULL;
    uint64_t waited_us = now_us() - job->line_us;
    if (waited_us > pg->wait_max_us)
        pg->wait_max_us = waited_us;
    return job;
}

static void append(struct pg *pg, struct store_job *job)
{
    job->line_us = now_us();
    job->line = NULL;
    *pg->waiting_end = job;
    pg->waiting_end = &job->line;
    pg->waiting_count++;
}

static void put_first(struct pg *pg, struct store_job *job)
{
    job->line_us = now_us();
    job->line = pg->waiting;
    if (pg->waiting == NULL)
        pg->waiting_end = &job->line;
    pg->waiting = job;
    pg->waiting_count++;
}

static void fail_first(struct pg *pg, int err, const char *error)
{
    struct store_job *job = take(pg);

    cacher_store_job_error(job, err, error);
    job->done(job);
}

/* Those of now: what their ends ask for is another matter. */
static void fail_waiting(struct pg *pg, int err, const char *error)
{
    for (unsigned left = pg->waiting_count; left > 0 && pg->waiting != NULL; left--)
        fail_first(pg, err, error);
}

/* ---- the pool ---- */

static bool is_old(const struct pg_link *link)
{
    return now_us() - link->born_us >= link->pg->options->store_pool_recycle_s * 1000000;
}

static int send_check(struct pg_link *link)
{
    return cacher_store_pg_send_text(link, "SELECT 1");
}

static void on_checked(struct pg_link *link, int err)
{
    if (err == 0)
        cacher_store_pg_is_up(link);
    else
        cacher_store_pg_is_down(link);
}

/* The one used last, so that the others' age shows; NULL when there is none. */
static struct pg_link *find_idle(struct pg *pg)
{
    struct pg_link *best = NULL;

    for (struct pg_link *link = pg->links; link != NULL; link = link->next)
        if (link->state == PG_IDLE && link != pg->keeper &&
            (best == NULL || link->idle_us > best->idle_us))
            best = link;
    return best;
}

static void retire(struct pg_link *link)
{
    if (link->lives)
        link->pg->disconnects++;
    cacher_store_pg_close(link);
}

static void give(struct pg_link *link, struct store_job *job)
{
    link->state = PG_BUSY;
    cacher_store_pg_run(link, job);
}

/* Serve who waits by who is idle; what is old goes, what was idle for long is asked. */
static void serve(struct pg *pg)
{
    static const struct pg_task check = {send_check, NULL, on_checked, PG_PING_MS, false};
    struct pg_link *link;

    while (pg->waiting != NULL && (link = find_idle(pg)) != NULL) {
        uint64_t ping_us = pg->options->store_pool_ping_s * 1000000;
        if (is_old(link)) {
            retire(link);
        } else if (!link->checked &&
                   (link->suspect || now_us() - link->idle_us >= ping_us)) {
            link->state = PG_CHECKING;
            cacher_store_pg_start(link, &check);
        } else {
            link->checked = false;
            give(link, take(pg));
        }
    }
}

static void pump(struct pg *pg)
{
    if (pg->closing)
        return;
    serve(pg);
    uint64_t most = pg->options->store_pool_size + pg->options->store_pool_overflow;
    struct census census = count(pg);
    /* After a failure one alone tries, and not at once: a server that refuses logins is
     * not to be asked without end. */
    unsigned wanted = pg->failures > 0 && pg->waiting_count > 0 ? 1 : pg->waiting_count;
    while (census.coming < wanted && census.all < most && now_us() >= pg->login_us &&
           cacher_store_pg_connect(pg) != NULL) {
        census.coming++;
        census.all++;
    }
    arm(pg);
}

static void on_timer(uv_timer_t *timer)
{
    struct pg *pg = timer->data;
    uint64_t all_us = pg->options->store_pool_wait_ms * 1000;

    if (is_in_vain(pg))
        fail_waiting(pg, pg->why.err, pg->why.error);
    while (pg->waiting != NULL && now_us() - pg->waiting->line_us >= all_us)
        fail_first(pg, -ETIMEDOUT, "no connection of the pool is free");
    pump(pg);
}

/* ---- what links tell ---- */

void cacher_store_pg_is_up(struct pg_link *link)
{
    struct pg *pg = link->pg;

    if (!link->lives)
        pg->connects++;
    link->checked = link->lives; /* or it would be asked again at once */
    link->lives = true;
    pg->failures = 0;
    pg->login_us = 0;
    pg->hopeless = false;
    link->suspect = false;
    link->state = PG_IDLE;
    link->idle_us = now_us();
    if (pg->waiting == NULL && count(pg).all > pg->options->store_pool_size)
        retire(link);
    pump(pg);
}

static void login_failed(struct pg *pg, const struct store_job *why)
{
    uint64_t ms = PG_LOGIN_MS;

    if (now_us() < pg->login_us)
        return; /* it was under way with the one that failed before */
    for (unsigned i = 0; i < pg->failures && ms < PG_LOGIN_MS_MAX; i++)
        ms *= 2;
    pg->failures++;
    pg->login_us = now_us() + (ms < PG_LOGIN_MS_MAX ? ms : PG_LOGIN_MS_MAX) * 1000;
    pg->hopeless = why->err != -ECONNRESET || pg->failures > PG_TRIES;
    pg->why = *why;
}

/* Reading can be asked again. Of the rest the core knows better. */
static bool may_retry(const struct pg_link *link, const struct store_job *job)
{
    return (job->kind == STORE_GET || job->kind == STORE_RECENT) &&
           job->tries < PG_TRIES && link->lives && link->err != -ETIMEDOUT &&
           !link->pg->closing;
}

void cacher_store_pg_is_down(struct pg_link *link)
{
    struct pg *pg = link->pg;
    struct store_job *job = link->job;
    struct store_job why = {.err = 0};
    bool lived = link->lives, retry = job != NULL && may_retry(link, job);

    cacher_store_job_error(&why, link->err, link->error);
    retire(link);
    /* Often they all died, and the others' end was just not read yet: a job that is tried
     * again should not find the next dead one. */
    for (struct pg_link *other = pg->links; lived && other != NULL; other = other->next)
        other->suspect = true;
    if (retry) {
        pg->retries++;
        job->tries++;
        cacher_store_job_drop_rows(job);
        put_first(pg, job);
    } else if (job != NULL) {
        cacher_store_job_error(job, why.err, why.error);
        job->done(job);
    }
    /* Nothing works and nothing can be made: who waits need not wait for longer. But one
     * that was cut off once it was there may have met the end of another server. */
    if (!lived)
        login_failed(pg, &why);
    if (is_in_vain(pg))
        fail_waiting(pg, why.err, why.error);
    pump(pg);
}

/* After a job that may have got the lock: the link stays with retention. */
static void settle(struct pg_link *link, const struct store_job *job)
{
    struct pg *pg = link->pg;

    link->state = PG_IDLE;
    link->idle_us = now_us();
    if (pg->pooled) {
        /* The lock went with its transaction. */
    } else if (job->kind == STORE_RETAIN && (job->err != 0 || !job->held)) {
        /* Unsure, or a lock that is not ours: its end is certain to leave none. */
        if (pg->keeper == link || job->err != 0) {
            retire(link);
            return;
        }
    } else if (job->kind == STORE_RETAIN) {
        pg->keeper = link;
    }
    bool spare = link != pg->keeper && pg->waiting == NULL &&
                 count(pg).all > pg->options->store_pool_size;
    if (link->heavy || spare || (link == pg->keeper && is_old(link)))
        retire(link);
}

void cacher_store_pg_job_ended(struct pg_link *link)
{
    struct pg *pg = link->pg;
    struct store_job *job = link->job;

    link->job = NULL;
    settle(link, job);
    job->done(job);
    pump(pg);
}

/* ---- the home ---- */

static void submit(struct store_home *home, struct store_job *job)
{
    struct pg *pg = (struct pg *)home;

    if (job->kind == STORE_RETAIN && pg->keeper != NULL && !pg->closing) {
        give(pg->keeper, job);
        return;
    }
    append(pg, job);
    pump(pg);
}

static void gauges(struct store_home *home, struct cacher_tier_counters *counters)
{
    const struct pg *pg = (const struct pg *)home;
    struct census census = count(pg);

    counters->pool_used = census.used;
    counters->pool_idle = census.idle;
    counters->pool_waiting = pg->waiting_count;
    counters->pool_wait_max_us = pg->wait_max_us;
    counters->connects = pg->connects;
    counters->disconnects = pg->disconnects;
    counters->retries += pg->retries;
}

static void describe(struct store_home *home, json_t *object)
{
    const struct pg *pg = (const struct pg *)home;
    struct census census = count(pg);
    json_t *pool = json_object();

    json_object_set_new(object, "where", json_string(pg->where));
    json_object_set_new(object, "schema", json_integer(PG_SCHEMA));
    json_object_set_new(object, "pooler", json_boolean(pg->pooled));
    json_object_set_new(object, "server_version", json_integer(pg->server_version));
    json_object_set_new(pool, "used", json_integer(census.used));
    json_object_set_new(pool, "idle", json_integer(census.idle));
    json_object_set_new(pool, "coming", json_integer(census.coming));
    json_object_set_new(pool, "waiting", json_integer(pg->waiting_count));
    json_object_set_new(pool, "size",
                        json_integer((json_int_t)pg->options->store_pool_size));
    json_object_set_new(pool, "overflow",
                        json_integer((json_int_t)pg->options->store_pool_overflow));
    json_object_set_new(object, "pool", pool);
}

/* ---- closing ---- */

static void free_pg(struct pg *pg)
{
    for (size_t i = 0; pg->keywords != NULL && pg->keywords[i] != NULL; i++) {
        free(pg->keywords[i]);
        free(pg->values[i]);
    }
    free(pg->keywords);
    free(pg->values);
    free(pg->where);
    free(pg);
}

void cacher_store_pg_freed(struct pg *pg)
{
    if (--pg->uses > 0)
        return;
    void (*closed)(void *arg) = pg->closed;
    void *arg = pg->closed_arg;
    free_pg(pg);
    if (closed != NULL)
        closed(arg);
}

static void on_pg_timer_closed(uv_handle_t *handle)
{
    cacher_store_pg_freed(handle->data);
}

static void on_close_timer(uv_timer_t *timer)
{
    struct pg *pg = timer->data;

    fail_waiting(pg, -ECANCELED, "closing");
    while (pg->links != NULL) {
        struct store_job *job = pg->links->job;
        retire(pg->links);
        if (job != NULL) {
            cacher_store_job_error(job, -ECANCELED, "closing");
            job->done(job);
        }
    }
    uv_close((uv_handle_t *)timer, on_pg_timer_closed);
}

static void close_home(struct store_home *home, void (*closed)(void *arg), void *arg)
{
    struct pg *pg = (struct pg *)home;

    pg->closing = true;
    pg->closed = closed;
    pg->closed_arg = arg;
    uv_timer_start(&pg->timer, on_close_timer, 0, 0);
}

static const struct store_home_class pg_class = {.name = "postgres",
                                                 .submit = submit,
                                                 .gauges = gauges,
                                                 .describe = describe,
                                                 .close = close_home};

/* ---- the URL ---- */

static const char *value_of(const struct pg *pg, const char *keyword)
{
    const char *value = NULL;

    for (size_t i = 0; pg->keywords[i] != NULL; i++)
        if (strcmp(pg->keywords[i], keyword) == 0)
            value = pg->values[i];
    return value;
}

static int add(struct pg *pg, size_t *count, const char *keyword, const char *value)
{
    pg->keywords[*count] = strdup(keyword);
    pg->values[*count] = strdup(value);
    if (pg->keywords[*count] == NULL || pg->values[*count] == NULL)
        return -ENOMEM;
    ++*count;
    return 0;
}

/* What the URL does not say; libpq takes the last one of a name. A server that is gone
 * without a word is noticed after a minute. */
static int add_defaults(struct pg *pg, size_t *count)
{
    static const char *const defaults[][2] = {
        {"fallback_application_name", "siftmesh"},
        {"keepalives_idle", "30"},
        {"keepalives_interval", "10"},
        {"keepalives_count", "3"},
        {"tcp_user_timeout", "30000"},
    };
    const char *host = getenv("PGHOST");
    int err = 0;

    for (size_t i = 0; i < sizeof defaults / sizeof defaults[0] && err == 0; i++)
        err = add(pg, count, defaults[i][0], defaults[i][1]);
    return err == 0 && host != NULL ? add(pg, count, "host", host) : err;
}

static int take_options(struct pg *pg, const PQconninfoOption *options)
{
    size_t count = 0, room = 16;

    for (const PQconninfoOption *option = options; option->keyword != NULL; option++)
        room++;
    pg->keywords = calloc(room, sizeof *pg->keywords);
    pg->values = calloc(room, sizeof *pg->values);
    if (pg->keywords == NULL || pg->values == NULL)
        return -ENOMEM;
    int err = add_defaults(pg, &count);
    for (; options->keyword != NULL && err == 0; options++)
        if (options->val != NULL)
            err = add(pg, &count, options->keyword, options->val);
    return err;
}

/* A host's name that must be looked up; NULL for addresses and folders of sockets. */
static const char *name_of_host(const struct pg *pg)
{
    const char *host = value_of(pg, "host"), *address = value_of(pg, "hostaddr");
    uint8_t bytes[16];

    if (host == NULL || host[0] == '\0' || host[0] == '/' || host[0] == '@' ||
        (address != NULL && address[0] != '\0') || inet_pton(AF_INET, host, bytes) == 1 ||
        inet_pton(AF_INET6, host, bytes) == 1)
        return NULL;
    return host;
}

static int refuse(const char *why)
{
    log_event(LOG_ERROR, "no such store", "why=\"%s\"", why);
    return -EINVAL;
}

static int parse(struct pg *pg, const char *url)
{
    char *message = NULL, why[STORE_ERROR_BYTES];
    PQconninfoOption *options = PQconninfoParse(url, &message);

    if (options == NULL) {
        snprintf(why, sizeof why, "%s", message != NULL ? message : "not a URL");
        /* What follows is the URL, with its password. */
        why[strcspn(why, "\"\r\n")] = '\0';
        PQfreemem(message);
        return refuse(why);
    }
    int err = take_options(pg, options);
    PQconninfoFree(options);
    if (err < 0)
        return err;
    const char *host = value_of(pg, "host"), *port = value_of(pg, "port");
    const char *name = value_of(pg, "dbname");
    if (host != NULL && strchr(host, ',') != NULL)
        return refuse("a store has one host");
    pg->resolve = name_of_host(pg);
    if (asprintf(&pg->where, "%s:%s/%s", host != NULL ? host : "",
                 port != NULL ? port : "5432", name != NULL ? name : "") < 0) {
        pg->where = NULL;
        return -ENOMEM;
    }
    return 0;
}

int cacher_store_pg_open(uv_loop_t *loop, const char *url,
                         const struct cacher_store_options *options,
                         struct store_home **out)
{
    struct pg *pg = calloc(1, sizeof *pg);

    if (pg == NULL)
        return -ENOMEM;
    int err = parse(pg, url);
    if (err < 0) {
        free_pg(pg);
        return err;
    }
    pg->home.class = &pg_class;
    pg->loop = loop;
    pg->options = options;
    pg->waiting_end = &pg->waiting;
    (void)uv_timer_init(loop, &pg->timer);
    pg->timer.data = pg;
    pg->uses = 1;
    *out = &pg->home;
    return 0;
}
