#include "cacher/tiers.h"

#include "cacher/value.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct look {
    struct cacher_tiers *tiers;
    uint8_t key[PROTO_DIGEST_BYTES];
    enum proto_kind kind;
    uint64_t lease;
    unsigned at; /* the tier that is asked */
    cacher_looked_fn *looked;
    void *arg;
};

const char *cacher_role_name(unsigned role)
{
    static const char *const names[] = {"redis", "store"};

    return role < sizeof names / sizeof names[0] ? names[role] : "unknown";
}

void cacher_tiers_add(struct cacher_tiers *tiers, enum cacher_role role,
                      struct cacher_tier *tier)
{
    assert(tiers->count < CACHER_TIERS_MAX);
    tiers->behind[tiers->count++] =
        (struct cacher_behind){.tiers = tiers, .tier = tier, .role = role};
}

struct cacher_tier *cacher_tiers_by_role(const struct cacher_tiers *tiers,
                                         enum cacher_role role)
{
    for (unsigned i = 0; i < tiers->count; i++)
        if (tiers->behind[i].role == role)
            return tiers->behind[i].tier;
    return NULL;
}

bool cacher_tiers_any(const struct cacher_tiers *tiers)
{
    return tiers->count > 0 && !tiers->closing;
}

/* ---- looking ---- */

static void end_look(struct look *look, struct hotcache_value *value,
                     enum cacher_role from)
{
    look->tiers->looks--;
    look->looked(look->key, look->lease, value, from, look->arg);
    free(look);
}

static void on_got(enum cacher_found found, const struct cacher_record *record,
                   void *arg);

/* Ask the first tier from look->at on that can be asked now. */
static int ask_next(struct look *look)
{
    struct cacher_tiers *tiers = look->tiers;

    for (; look->at < tiers->count && !tiers->closing; look->at++) {
        struct cacher_behind *behind = &tiers->behind[look->at];
        if (behind->tier->class->get(behind->tier, look->key, on_got, look) == 0)
            return 0;
        behind->passed_by++;
    }
    return -EHOSTDOWN;
}

/* NULL: not a result of the key, or no memory. */
static struct hotcache_value *take(struct look *look, const struct cacher_record *record)
{
    if (memcmp(record->key, look->key, PROTO_DIGEST_BYTES) != 0 ||
        !cacher_value_fits(look->key, look->kind, record->payload,
                           record->payload_bytes)) {
        look->tiers->behind[look->at].refused++;
        return NULL;
    }
    return cacher_result_new(record);
}

static void refill(struct look *look, struct hotcache_value *value)
{
    struct cacher_record record;

    cacher_result_record(value, look->key, &record);
    for (unsigned i = 0; i < look->at; i++) {
        struct cacher_tier *tier = look->tiers->behind[i].tier;
        (void)tier->class->put(tier, &record, value, 0); /* counted there */
    }
}

static void on_got(enum cacher_found found, const struct cacher_record *record, void *arg)
{
    struct look *look = arg;
    struct hotcache_value *value = found == CACHER_FOUND ? take(look, record) : NULL;

    if (value != NULL) {
        if (!look->tiers->closing)
            refill(look, value);
        end_look(look, value, look->tiers->behind[look->at].role);
        hotcache_value_unref(value);
        return;
    }
    look->at++;
    if (ask_next(look) < 0)
        end_look(look, NULL, CACHER_ROLE_REDIS);
}

int cacher_tiers_look(struct cacher_tiers *tiers, const uint8_t key[PROTO_DIGEST_BYTES],
                      enum proto_kind kind, uint64_t lease, cacher_looked_fn *looked,
                      void *arg)
{
    struct look *look = malloc(sizeof *look);

    if (look == NULL)
        return -ENOMEM;
    *look = (struct look){
        .tiers = tiers, .kind = kind, .lease = lease, .looked = looked, .arg = arg};
    memcpy(look->key, key, PROTO_DIGEST_BYTES);
    if (ask_next(look) < 0) {
        free(look);
        return -EHOSTDOWN;
    }
    tiers->looks++;
    return 0;
}

/* ---- writing ---- */

void cacher_tiers_put(struct cacher_tiers *tiers, const uint8_t key[PROTO_DIGEST_BYTES],
                      struct hotcache_value *value)
{
    struct cacher_record record;

    cacher_result_record(value, key, &record);
    for (unsigned i = 0; i < tiers->count && !tiers->closing; i++) {
        struct cacher_tier *tier = tiers->behind[i].tier;
        (void)tier->class->put(tier, &record, value, 0); /* counted there */
    }
}

void cacher_tiers_touch(struct cacher_tiers *tiers, const uint8_t key[PROTO_DIGEST_BYTES])
{
    for (unsigned i = 0; i < tiers->count && !tiers->closing; i++) {
        struct cacher_tier *tier = tiers->behind[i].tier;
        if (tier->class->touch != NULL)
            tier->class->touch(tier, key);
    }
}

/* ---- the end ---- */

static void one_closed(struct cacher_tiers *tiers)
{
    if (--tiers->closes == 0)
        tiers->closed(tiers->closed_arg);
}

static void on_closed(void *arg)
{
    struct cacher_behind *behind = arg;

    behind->tier = NULL;
    one_closed(behind->tiers);
}

void cacher_tiers_close(struct cacher_tiers *tiers, uint64_t ms,
                        void (*closed)(void *arg), void *arg)
{
    tiers->closing = true;
    tiers->closed = closed;
    tiers->closed_arg = arg;
    tiers->closes = tiers->count + 1; /* one for this call */
    for (unsigned i = 0; i < tiers->count; i++) {
        struct cacher_tier *tier = tiers->behind[i].tier;
        tier->class->close(tier, ms, on_closed, &tiers->behind[i]);
    }
    one_closed(tiers);
}
