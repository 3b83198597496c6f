/*
 * outgoing.c - the account of bytes that answers on their way hold.
 *
 * answer.c and features.c ask it before they render and send; request.c tells it when an
 * answer begins and ends. It never sends anything; to make room it ends the slowest one.
 */
#include "gateway/outgoing.h"

#include <errno.h>

static uint64_t held_bytes(const struct hotcache_value *value)
{
    return sizeof *value + value->size + value->overhead;
}

/* Room for `bytes` more, made where it is short. 0 or -ENOBUFS. */
static int make_room(struct gateway *gateway, struct gateway_asking *asking,
                     uint64_t bytes)
{
    const struct gateway_options *options = gateway->options;

    for (;;) {
        uint64_t own = *http_client_bytes(asking->client), all = gateway->outgoing_bytes;
        bool client_full = own > 0 && own + bytes > options->answers_bytes_per_peer;
        if (!client_full && (all == 0 || all + bytes <= options->answers_bytes_max))
            return 0;
        asking->limit =
            client_full ? options->answers_bytes_per_peer : options->answers_bytes_max;
        asking->actual = (client_full ? own : all) + bytes;
        if (!http_end_slowest_answer(gateway->server,
                                     client_full ? asking->client : NULL))
            return -ENOBUFS;
    }
}

/* 0 or -EFBIG. */
static int check_size(struct gateway *gateway, struct gateway_asking *asking,
                      uint64_t bytes)
{
    if (bytes <= gateway->options->answer_bytes_max)
        return 0;
    asking->limit = gateway->options->answer_bytes_max;
    asking->actual = bytes;
    return -EFBIG;
}

int gateway_outgoing_may_render(struct gateway *gateway, struct gateway_asking *asking,
                                const struct hotcache_value *blob,
                                enum proto_format format,
                                enum proto_descriptors descriptors)
{
    uint64_t least, most, limit = gateway->options->answer_bytes_max;
    int err =
        proto_render_bounds(blob->bytes, blob->size, format, descriptors, &least, &most);

    if (err == 0)
        err = check_size(gateway, asking, least);
    if (err == 0)
        err = make_room(gateway, asking, most < limit ? most : limit);
    return err;
}

int gateway_outgoing_may_send(struct gateway *gateway, struct gateway_asking *asking,
                              const struct hotcache_value *value)
{
    int err = check_size(gateway, asking, value->size);

    if (err < 0 || value->answers > 0) /* shared: it is held already */
        return err;
    return make_room(gateway, asking, held_bytes(value));
}

void gateway_outgoing_hold(struct gateway *gateway, struct hotcache_value *value,
                           struct http_client *client)
{
    if (value->answers++ > 0)
        return;
    value->payer = http_client_ref(client);
    gateway->outgoing_bytes += held_bytes(value);
    *http_client_bytes(client) += held_bytes(value);
}

void gateway_outgoing_drop(struct gateway *gateway, struct hotcache_value *value)
{
    struct http_client *client = value->payer;

    if (--value->answers > 0)
        return;
    value->payer = NULL;
    gateway->outgoing_bytes -= held_bytes(value);
    *http_client_bytes(client) -= held_bytes(value);
    http_client_unref(client);
}
