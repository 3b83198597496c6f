/* The tiers behind memory, as the options name them. */
#include "cacher/redis/redis.h"
#include "cacher/state.h"
#include "cacher/store/store.h"

#include <string.h>

static int open_redis(struct cacher *cacher)
{
    const struct cacher_options *options = cacher->options;
    struct cacher_redis_options redis = {
        .url = options->redis,
        .connections = (unsigned)options->redis_connections,
        .timeout_ms = (unsigned)options->redis_timeout_ms,
        .connect_timeout_ms = (unsigned)options->redis_connect_ms,
        .ping_ms = (unsigned)options->redis_ping_ms,
        .ttl_s = (unsigned)options->ttl_s,
        .ttl_jitter_percent = (unsigned)options->ttl_jitter_percent,
        .value_bytes_max = options->redis_value_bytes_max,
        .gets_max = (unsigned)options->redis_gets_max,
        .puts_max = (unsigned)options->redis_queue_records_max,
        .queue_bytes_max = options->redis_queue_bytes_max};
    struct cacher_tier *tier;

    int err = cacher_redis_open(service_loop(cacher->service), &redis, &tier);
    if (err == 0)
        cacher_tiers_add(&cacher->tiers, CACHER_ROLE_REDIS, tier);
    return err;
}

static int open_store(struct cacher *cacher)
{
    const struct cacher_options *options = cacher->options;
    struct cacher_store_options store = {
#define INT(field, ...) .field = options->field,
#define STR(field, ...)
#define FLAG(field, ...) .field = options->field,
#include "cacher/store/options.tbl"

#include "runtime/options_end.h"
    };
    struct cacher_tier *tier;

    int err =
        cacher_store_open(service_loop(cacher->service), options->store, &store, &tier);
    if (err == 0)
        cacher_tiers_add(&cacher->tiers, CACHER_ROLE_STORE, tier);
    return err;
}

/* PostgreSQL's may also come from its own files and variables. */
static bool has_password(const struct cacher_options *options)
{
    return strchr(options->redis, '@') != NULL ||
           strncmp(options->store, "postgres", strlen("postgres")) == 0;
}

int cacher_open_tiers(struct cacher *cacher)
{
    const struct cacher_options *options = cacher->options;

    if (has_password(options))
        service_hide_memory();
    int err = options->redis[0] != '\0' ? open_redis(cacher) : 0;
    return err == 0 && options->store[0] != '\0' ? open_store(cacher) : err;
}
