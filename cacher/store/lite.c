#include "cacher/store/lite.h"

#include "runtime/log.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* ---- the queue ---- */

static void append(struct store_job ***end, struct store_job *job)
{
    job->line = NULL;
    **end = job;
    *end = &job->line;
}

static struct store_job *take(struct store_job **list, struct store_job ***end)
{
    struct store_job *job = *list;

    *list = job->line;
    if (*list == NULL)
        *end = list;
    return job;
}

static void finish(struct lite *lite, struct store_job *job)
{
    uv_mutex_lock(&lite->mutex);
    append(&lite->ended_end, job);
    lite->running = false;
    uv_mutex_unlock(&lite->mutex);
    (void)uv_async_send(&lite->async);
}

/* ---- the thread ---- */

/* Gets first, since somebody waits; but not always, or writing would never end. */
static struct store_job *next_job(struct lite *lite, unsigned *gets_in_row)
{
    struct store_job *job = NULL;

    uv_mutex_lock(&lite->mutex);
    while (!lite->stop && lite->gets == NULL && lite->others == NULL)
        uv_cond_wait(&lite->work, &lite->mutex);
    if (lite->gets != NULL &&
        (lite->others == NULL || *gets_in_row < LITE_GETS_IN_ROW || lite->stop)) {
        job = take(&lite->gets, &lite->gets_end);
        ++*gets_in_row;
    } else if (lite->others != NULL) {
        job = take(&lite->others, &lite->others_end);
        *gets_in_row = 0;
    }
    lite->running = job != NULL;
    if (job != NULL && lite->stop)
        cacher_store_job_error(job, -ECANCELED, "closing");
    uv_mutex_unlock(&lite->mutex);
    return job;
}

static void run(void *arg)
{
    struct lite *lite = arg;
    struct store_job *job;
    unsigned gets_in_row = 0;

    while ((job = next_job(lite, &gets_in_row)) != NULL) {
        if (job->err == 0)
            cacher_store_lite_run(lite, job);
        finish(lite, job);
    }
    cacher_store_lite_disconnect(lite);
    uv_mutex_lock(&lite->mutex);
    lite->gone = true;
    uv_mutex_unlock(&lite->mutex);
    (void)uv_async_send(&lite->async);
}

/* Signals are the loop's: a service's thread takes none. */
static int start_thread(struct lite *lite)
{
    sigset_t all, before;

    sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    int err = uv_thread_create(&lite->thread, run, lite);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    return err;
}

/* ---- the loop's side ---- */

static void free_lite(struct lite *lite)
{
    cacher_store_lite_disconnect(lite);
    uv_cond_destroy(&lite->work);
    uv_mutex_destroy(&lite->mutex);
    free(lite->path);
    free(lite->lock_path);
    free(lite);
}

static void on_async_closed(uv_handle_t *handle)
{
    struct lite *lite = handle->data;
    void (*closed)(void *arg) = lite->closed;
    void *arg = lite->closed_arg;

    free_lite(lite);
    if (closed != NULL)
        closed(arg);
}

static void on_async(uv_async_t *async)
{
    struct lite *lite = async->data;

    uv_mutex_lock(&lite->mutex);
    struct store_job *job = lite->ended;
    bool gone = lite->gone;
    lite->ended = NULL;
    lite->ended_end = &lite->ended;
    uv_mutex_unlock(&lite->mutex);
    while (job != NULL) {
        struct store_job *next = job->line;
        job->line = NULL;
        job->done(job);
        job = next;
    }
    if (gone) {
        (void)uv_thread_join(&lite->thread); /* its last act was to say so */
        uv_close((uv_handle_t *)async, on_async_closed);
    }
}

static void submit(struct store_home *home, struct store_job *job)
{
    struct lite *lite = (struct lite *)home;

    uv_mutex_lock(&lite->mutex);
    append(job->kind == STORE_GET ? &lite->gets_end : &lite->others_end, job);
    uv_cond_signal(&lite->work);
    uv_mutex_unlock(&lite->mutex);
}

static void close_home(struct store_home *home, void (*closed)(void *arg), void *arg)
{
    struct lite *lite = (struct lite *)home;

    lite->closed = closed;
    lite->closed_arg = arg;
    uv_mutex_lock(&lite->mutex);
    lite->stop = true;
    /* What runs now has had its time. With nothing to interrupt it would be the closing
     * checkpoint that ends early. */
    if (lite->db != NULL && lite->running)
        sqlite3_interrupt(lite->db);
    uv_cond_signal(&lite->work);
    uv_mutex_unlock(&lite->mutex);
}

static void gauges(struct store_home *home, struct cacher_tier_counters *counters)
{
    (void)home;
    (void)counters; /* there is no pool */
}

static uint64_t file_bytes(const char *path, const char *suffix)
{
    char name[4096];
    struct stat status;

    snprintf(name, sizeof name, "%s%s", path, suffix);
    return stat(name, &status) == 0 ? (uint64_t)status.st_size : 0;
}

static void describe(struct store_home *home, json_t *object)
{
    const struct lite *lite = (const struct lite *)home;
    uint64_t bytes = file_bytes(lite->path, "") + file_bytes(lite->path, "-wal");

    json_object_set_new(object, "path", json_string(lite->path));
    json_object_set_new(object, "schema", json_integer(LITE_SCHEMA));
    json_object_set_new(object, "file_bytes", json_integer((json_int_t)bytes));
    json_object_set_new(
        object, "synchronous",
        json_string(lite->options->store_sqlite_full_sync ? "full" : "normal"));
}

static const struct store_home_class lite_class = {.name = "sqlite",
                                                   .submit = submit,
                                                   .gauges = gauges,
                                                   .describe = describe,
                                                   .close = close_home};

/* ---- opening ---- */

static struct lite *new_lite(uv_loop_t *loop, const char *path,
                             const struct cacher_store_options *options)
{
    struct lite *lite = calloc(1, sizeof *lite);

    if (lite == NULL)
        return NULL;
    lite->home.class = &lite_class;
    lite->options = options;
    lite->loop = loop;
    lite->lock_fd = -1;
    lite->gets_end = &lite->gets;
    lite->others_end = &lite->others;
    lite->ended_end = &lite->ended;
    lite->path = strdup(path);
    if (asprintf(&lite->lock_path, "%s.lock", path) < 0)
        lite->lock_path = NULL;
    if (lite->path != NULL && lite->lock_path != NULL &&
        uv_mutex_init(&lite->mutex) == 0) {
        if (uv_cond_init(&lite->work) == 0)
            return lite;
        uv_mutex_destroy(&lite->mutex);
    }
    free(lite->path);
    free(lite->lock_path);
    free(lite);
    return NULL;
}

int cacher_store_lite_open(uv_loop_t *loop, const char *url,
                           const struct cacher_store_options *options,
                           struct store_home **out)
{
    const char *path = url + strlen("sqlite://");
    int err;

    if (path[0] != '/' || path[1] == '\0' || path[strlen(path) - 1] == '/' ||
        strlen(path) > 4000) {
        log_event(LOG_ERROR, "no such store",
                  "url=\"%s\" why=\"a path is absolute: sqlite:///folder/file.db\"", url);
        return -EINVAL;
    }
    struct lite *lite = new_lite(loop, path, options);
    if (lite == NULL)
        return -ENOMEM;
    if ((err = uv_async_init(loop, &lite->async, on_async)) < 0) {
        free_lite(lite);
        return err;
    }
    lite->async.data = lite;
    if ((err = start_thread(lite)) < 0) {
        uv_close((uv_handle_t *)&lite->async, on_async_closed); /* frees it */
        return err;
    }
    *out = &lite->home;
    return 0;
}
