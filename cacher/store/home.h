/*
 * home.h - what the core asks of a home: SQLite (lite.h) or PostgreSQL (pg.h).
 */
#ifndef CACHER_STORE_HOME_H
#define CACHER_STORE_HOME_H

#include "cacher/store/job.h"
#include "cacher/store/store.h"

struct store_home;

struct store_home_class {
    const char *name;
    /* Takes the job; done() follows once, never from inside submit() or close(). The core
     * bounds how many there are at once. */
    void (*submit)(struct store_home *home, struct store_job *job);
    /* Pool numbers, connects, disconnects; its retries are added. */
    void (*gauges)(struct store_home *home, struct cacher_tier_counters *counters);
    void (*describe)(struct store_home *home, json_t *object);
    /* Every job ends, with -ECANCELED if not otherwise; then `closed`, and the home is
     * gone. */
    void (*close)(struct store_home *home, void (*closed)(void *arg), void *arg);
};

/* First member of each. */
struct store_home {
    const struct store_home_class *class;
};

/* `url` as for cacher_store_open; `options` is borrowed for the home's life. */
int cacher_store_lite_open(uv_loop_t *loop, const char *url,
                           const struct cacher_store_options *options,
                           struct store_home **out);
int cacher_store_pg_open(uv_loop_t *loop, const char *url,
                         const struct cacher_store_options *options,
                         struct store_home **out);

#endif
