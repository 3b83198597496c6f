#include "cacher/store/pg.h"

#include <errno.h>
#include <libpq-fe.h>
#include <stdlib.h>
#include <string.h>

static void on_timer(uv_timer_t *timer);
static void on_poll(uv_poll_t *poll, int status, int events);

/* ---- the end ---- */

static void on_poll_closed(uv_handle_t *handle)
{
    struct pg *pg = handle->data;

    free(handle);
    cacher_store_pg_freed(pg);
}

/* libpq closes and opens sockets while it connects, maybe under the same number: libuv
 * must have let go of the old one before. */
static void drop_poll(struct pg_link *link)
{
    if (link->poll == NULL)
        return;
    (void)uv_poll_stop(link->poll);
    link->poll->data = link->pg;
    uv_close((uv_handle_t *)link->poll, on_poll_closed);
    link->poll = NULL;
}

static void let_go(struct pg_link *link)
{
    struct pg *pg = link->pg;

    if (--link->uses > 0)
        return;
    free(link);
    cacher_store_pg_freed(pg);
}

static void on_timer_closed(uv_handle_t *handle)
{
    let_go(handle->data);
}

void cacher_store_pg_close(struct pg_link *link)
{
    struct pg_link **at = &link->pg->links;

    while (*at != link)
        at = &(*at)->next;
    *at = link->next;
    if (link->pg->keeper == link)
        link->pg->keeper = NULL;
    if (link->state == PG_RESOLVING)
        (void)uv_cancel((uv_req_t *)&link->resolver);
    link->state = PG_CLOSED;
    drop_poll(link);
    PQfinish(link->db);
    link->db = NULL;
    uv_close((uv_handle_t *)&link->timer, on_timer_closed);
}

/* Told to the pool from the timer, so that nobody is told from inside a call. */
static void broken(struct pg_link *link, int err, const char *text)
{
    if (link->state == PG_BROKEN)
        return;
    link->state = PG_BROKEN;
    if (link->err == 0) {
        link->err = err;
        cacher_store_error_copy(
            text != NULL && text[0] != '\0' ? text : "connection lost", link->error);
    }
    drop_poll(link);
    uv_timer_start(&link->timer, on_timer, 0, 0);
}

static void on_timer(uv_timer_t *timer)
{
    struct pg_link *link = timer->data;

    if (link->state != PG_BROKEN) {
        bool lives = link->lives;
        link->err = -ETIMEDOUT;
        snprintf(link->error, sizeof link->error, "%s",
                 lives ? "no answer in time" : "no connection in time");
        link->state = PG_BROKEN;
        drop_poll(link);
    }
    cacher_store_pg_is_down(link);
}

/* ---- connecting ---- */

static void watch(struct pg_link *link, int events)
{
    int fd = PQsocket(link->db);

    if (link->poll == NULL) {
        link->poll = calloc(1, sizeof *link->poll);
        if (link->poll == NULL || fd < 0 ||
            uv_poll_init(link->pg->loop, link->poll, fd) < 0) {
            free(link->poll);
            link->poll = NULL;
            broken(link, -ENOMEM, "cannot watch the socket");
            return;
        }
        link->poll->data = link;
        link->pg->uses++;
    }
    (void)uv_poll_start(link->poll, events, on_poll);
}

static void connected(struct pg_link *link)
{
    if (PQsetnonblocking(link->db, 1) != 0 || PQenterPipelineMode(link->db) != 1) {
        broken(link, -EIO, "no pipeline mode");
        return;
    }
    link->pg->server_version = PQserverVersion(link->db);
    link->state = PG_SETTING_UP;
    cacher_store_pg_set_up(link);
}

static void go_on_connecting(struct pg_link *link, PostgresPollingStatusType status)
{
    if (status == PGRES_POLLING_READING)
        watch(link, UV_READABLE);
    else if (status == PGRES_POLLING_WRITING)
        watch(link, UV_WRITABLE);
    else if (status == PGRES_POLLING_OK)
        connected(link);
    else
        broken(link, -ECONNREFUSED, PQerrorMessage(link->db));
}

/* Notices are for people at a terminal; a link that ends says why by its error. */
static void no_notice(void *arg, const PGresult *result)
{
    (void)arg;
    (void)result;
}

static void begin_connecting(struct pg_link *link, const char *address)
{
    struct pg *pg = link->pg;
    size_t count = 0;

    while (pg->keywords[count] != NULL)
        count++;
    const char **keywords = calloc(count + 2, sizeof *keywords);
    const char **values = calloc(count + 2, sizeof *values);
    if (keywords != NULL && values != NULL) {
        memcpy(keywords, pg->keywords, count * sizeof *keywords);
        memcpy(values, pg->values, count * sizeof *values);
        keywords[count] = address != NULL ? "hostaddr" : NULL;
        values[count] = address;
        link->db = PQconnectStartParams(keywords, values, 0);
    }
    free(keywords);
    free(values);
    if (link->db == NULL) {
        broken(link, -ENOMEM, "out of memory");
        return;
    }
    (void)PQsetNoticeReceiver(link->db, no_notice, NULL);
    link->state = PG_CONNECTING;
    go_on_connecting(link, PQstatus(link->db) == CONNECTION_BAD ? PGRES_POLLING_FAILED
                                                                : PGRES_POLLING_WRITING);
}

static void on_resolved(uv_getaddrinfo_t *resolver, int status, struct addrinfo *list)
{
    struct pg_link *link = resolver->data;
    char address[64] = "", text[STORE_ERROR_BYTES];

    if (link->state == PG_RESOLVING) {
        if (status == 0)
            status = uv_ip_name(list->ai_addr, address, sizeof address);
        if (status == 0) {
            begin_connecting(link, address);
        } else {
            snprintf(text, sizeof text, "cannot find host %s: %s", link->pg->resolve,
                     uv_strerror(status));
            broken(link, -EHOSTUNREACH, text);
        }
    }
    uv_freeaddrinfo(list);
    let_go(link);
}

struct pg_link *cacher_store_pg_connect(struct pg *pg)
{
    struct pg_link *link = calloc(1, sizeof *link);

    if (link == NULL)
        return NULL;
    link->pg = pg;
    link->next = pg->links;
    pg->links = link;
    pg->uses++;
    link->version = -1;
    link->born_us = uv_hrtime() / 1000;
    (void)uv_timer_init(pg->loop, &link->timer);
    link->timer.data = link;
    link->uses = 1;
    uv_timer_start(&link->timer, on_timer, pg->options->store_connect_ms, 0);
    if (pg->resolve == NULL) {
        begin_connecting(link, NULL);
        return link;
    }
    /* libpq would look the name up itself, and block. */
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    link->resolver.data = link;
    int err =
        uv_getaddrinfo(pg->loop, &link->resolver, on_resolved, pg->resolve, NULL, &hints);
    if (err == 0)
        link->uses++;
    else
        broken(link, err, "cannot look up the host");
    return link;
}

/* ---- a task ---- */

int cacher_store_pg_send(struct pg_link *link, unsigned statement,
                         const struct pg_value *values, int count)
{
    const char *bytes[16] = {NULL};
    int sizes[16] = {0}, formats[16];
    char name[16];

    for (int i = 0; i < count; i++) {
        /* A NULL pointer is NULL to libpq; what is empty is not. */
        bytes[i] = values[i].bytes != NULL ? values[i].bytes : "";
        sizes[i] = (int)values[i].size;
        formats[i] = 1;
        if (values[i].size > PG_HEAVY_BYTES)
            link->heavy = true;
    }
    snprintf(name, sizeof name, "s%u", statement);
    int sent = link->prepared
                   ? PQsendQueryPrepared(link->db, name, count, bytes, sizes, formats, 1)
                   : PQsendQueryParams(link->db, cacher_store_pg_texts[statement], count,
                                       NULL, bytes, sizes, formats, 1);
    return sent == 1 ? 0 : -EIO;
}

int cacher_store_pg_send_bound(struct pg_link *link, bool session)
{
    char sql[120];

    snprintf(sql, sizeof sql, "SELECT set_config('statement_timeout', '%llu', %s)",
             (unsigned long long)link->pg->options->store_query_ms,
             session ? "false" : "true");
    return cacher_store_pg_send_text(link, sql);
}

int cacher_store_pg_send_text(struct pg_link *link, const char *sql)
{
    return PQsendQueryParams(link->db, sql, 0, NULL, NULL, NULL, NULL, 1) == 1 ? 0 : -EIO;
}

int64_t cacher_store_pg_number(const struct pg_result *result, int row, int column)
{
    uint8_t bytes[8] = {0};

    if (row >= PQntuples(result) || column >= PQnfields(result) ||
        PQgetlength(result, row, column) != 8)
        return 0;
    memcpy(bytes, PQgetvalue(result, row, column), 8);
    uint64_t value = 0;
    for (unsigned i = 0; i < 8; i++) /* PostgreSQL's are big-endian */
        value = value << 8 | bytes[i];
    return (int64_t)value;
}

static void flush(struct pg_link *link)
{
    int left = PQflush(link->db);

    if (left < 0)
        broken(link, -ECONNRESET, PQerrorMessage(link->db));
    else
        watch(link, left > 0 ? UV_READABLE | UV_WRITABLE : UV_READABLE);
}

void cacher_store_pg_start(struct pg_link *link, const struct pg_task *task)
{
    link->task = task;
    link->command = 0;
    link->err = 0;
    link->error[0] = '\0';
    link->bounding = task->bounded && !link->prepared;
    if ((link->bounding && cacher_store_pg_send_bound(link, false) < 0) ||
        task->send(link) < 0 || PQpipelineSync(link->db) != 1) {
        broken(link, -EIO, PQerrorMessage(link->db));
        return;
    }
    uv_timer_start(&link->timer, on_timer, task->ms, 0);
    flush(link);
}

/* What an error means to a job; see store_job.err. */
static int errno_of(const char *state)
{
    static const struct {
        const char *state;
        int err;
    } known[] = {
        {"53100", -ENOSPC},    {"53200", -ENOMEM}, {"40001", -EAGAIN}, {"40P01", -EAGAIN},
        {"55P03", -EAGAIN},    {"25006", -EROFS},  {"42501", -EACCES}, {"28", -EACCES},
        {"57014", -ETIMEDOUT}, {"22", -EINVAL},    {"23", -EINVAL},    {"54", -EINVAL},
        {"57P", -ECONNRESET},
    };

    for (size_t i = 0; state != NULL && i < sizeof known / sizeof known[0]; i++)
        if (strncmp(state, known[i].state, strlen(known[i].state)) == 0)
            return known[i].err;
    return -EIO;
}

static void note_error(struct pg_link *link, const PGresult *result)
{
    if (link->err != 0)
        return;
    link->err = errno_of(PQresultErrorField(result, PG_DIAG_SQLSTATE));
    const char *text = PQresultErrorMessage(result);
    cacher_store_error_copy(text[0] != '\0' ? text : "failed", link->error);
}

static void end_task(struct pg_link *link)
{
    const struct pg_task *task = link->task;

    link->task = NULL;
    uv_timer_stop(&link->timer);
    task->ended(link, link->err);
}

/* One result of a task; false when the task, or the link, is at its end. */
static bool one_result(struct pg_link *link, PGresult *result)
{
    bool kept = false;

    switch (PQresultStatus(result)) {
    case PGRES_TUPLES_OK:
    case PGRES_COMMAND_OK:
        if (PQresultMemorySize(result) > PG_HEAVY_BYTES)
            link->heavy = true;
        if (link->err == 0 && link->task->result != NULL && !link->bounding)
            kept = link->task->result(link, link->command, result);
        break;
    case PGRES_PIPELINE_SYNC:
        PQclear(result);
        end_task(link);
        return false;
    case PGRES_PIPELINE_ABORTED:
        break; /* after an error that we have */
    default:
        note_error(link, result);
    }
    if (!kept)
        PQclear(result);
    return true;
}

static void read_results(struct pg_link *link)
{
    bool ended = false; /* a NULL was seen: the command's results are complete */

    while (link->task != NULL && link->state != PG_BROKEN && !PQisBusy(link->db)) {
        PGresult *result = PQgetResult(link->db);
        if (result == NULL) {
            if (ended || PQstatus(link->db) == CONNECTION_BAD)
                break;
            ended = true;
            link->command += !link->bounding;
            link->bounding = false;
            continue;
        }
        ended = false;
        if (!one_result(link, result))
            return;
    }
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
    struct pg_link *link = poll->data;

    if (link->state == PG_CONNECTING) {
        drop_poll(link);
        go_on_connecting(link, PQconnectPoll(link->db));
        return;
    }
    /* The last words of a server that ends are read before the end is noticed. */
    bool lost = status < 0 || PQconsumeInput(link->db) != 1;
    if (link->task != NULL)
        read_results(link);
    if (link->state == PG_BROKEN || link->state == PG_CLOSED)
        return;
    if (lost || PQstatus(link->db) == CONNECTION_BAD)
        broken(link, -ECONNRESET, PQerrorMessage(link->db));
    else if ((events & UV_WRITABLE) != 0)
        flush(link);
}
