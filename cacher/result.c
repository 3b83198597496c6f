#include "cacher/result.h"

#include "runtime/endpoint.h"

#include <stdlib.h>
#include <string.h>

struct result {
    struct hotcache_value shared; /* first: destroy gets this */
    zmq_msg_t payload;
    uint64_t created_s, touched_s;
    uint32_t width_px, height_px, cost_us;
    uint16_t params_bytes, tags_bytes;
    char more[]; /* params, tags */
};

static void result_destroy(struct hotcache_value *shared)
{
    struct result *result = (struct result *)shared;
    zmq_msg_close(&result->payload);
    free(result);
}

struct hotcache_value *cacher_result_new(const struct cacher_record *record)
{
    size_t more = (size_t)record->params_bytes + record->tags_bytes;
    struct result *result = calloc(1, sizeof *result + more);

    if (result == NULL)
        return NULL;
    if (mesh_payload_copy(&result->payload, record->payload, record->payload_bytes) < 0) {
        free(result);
        return NULL;
    }
    result->shared = (struct hotcache_value){
        .bytes = zmq_msg_data(&result->payload),
        .size = record->payload_bytes,
        .overhead = (uint32_t)(sizeof *result - sizeof result->shared + more) +
                    MESH_MESSAGE_BYTES,
        .references = 1,
        .destroy = result_destroy};
    result->created_s = result->touched_s = record->created_s;
    result->width_px = record->width_px;
    result->height_px = record->height_px;
    result->cost_us = record->cost_us;
    result->params_bytes = record->params_bytes;
    result->tags_bytes = record->tags_bytes;
    if (record->params_bytes > 0)
        memcpy(result->more, record->params, record->params_bytes);
    if (record->tags_bytes > 0)
        memcpy(result->more + record->params_bytes, record->tags, record->tags_bytes);
    return &result->shared;
}

void cacher_result_record(const struct hotcache_value *value,
                          const uint8_t key[PROTO_DIGEST_BYTES],
                          struct cacher_record *record)
{
    const struct result *result = (const struct result *)value;

    *record = (struct cacher_record){
        .created_s = result->created_s,
        .width_px = result->width_px,
        .height_px = result->height_px,
        .cost_us = result->cost_us,
        .params = (const uint8_t *)result->more,
        .params_bytes = result->params_bytes,
        .tags = result->more + result->params_bytes,
        .tags_bytes = result->tags_bytes,
        .payload = value->bytes,
        .payload_bytes = (uint32_t)value->size,
    };
    memcpy(record->key, key, PROTO_DIGEST_BYTES);
}

zmq_msg_t *cacher_result_payload(struct hotcache_value *value)
{
    return &((struct result *)value)->payload;
}

bool cacher_result_touch(struct hotcache_value *value, uint64_t now_s, uint64_t seconds)
{
    struct result *result = (struct result *)value;

    if (now_s < result->touched_s + seconds)
        return false;
    result->touched_s = now_s;
    return true;
}

/* ---- refusals ---- */

struct refused {
    struct hotcache_value shared; /* first */
    struct cacher_refusal refusal;
};

static void refused_destroy(struct hotcache_value *shared)
{
    free(shared);
}

struct hotcache_value *cacher_refusal_new(const struct cacher_refusal *refusal)
{
    struct refused *refused = malloc(sizeof *refused);

    if (refused == NULL)
        return NULL;
    *refused = (struct refused){.shared = {.size = sizeof refused->refusal,
                                           .references = 1,
                                           .destroy = refused_destroy},
                                .refusal = *refusal};
    refused->shared.bytes = (const uint8_t *)&refused->refusal;
    return &refused->shared;
}

const struct cacher_refusal *cacher_refusal_of(const struct hotcache_value *value)
{
    return &((const struct refused *)value)->refusal;
}
