/*
 * http_client.c - clients by address, so that a bound for one of them costs no walk.
 *
 * An entry lives as long as something refers to it: its connections, a request that a
 * proxy passed on for it, an answer that is kept for it. An address of IPv6 counts by its
 * /64, which is what one subscriber has.
 */
#include "runtime/http_internal.h"

#include <stdlib.h>
#include <string.h>

#define IPV6_PREFIX_BYTES 8u

static void set_key(uint8_t key[16], const uint8_t address[16])
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};

    memcpy(key, address, 16);
    if (memcmp(address, mapped, sizeof mapped) != 0)
        memset(key + IPV6_PREFIX_BYTES, 0, 16 - IPV6_PREFIX_BYTES);
}

/* FNV-1a, begun with a number that no client knows. */
static struct http_client **bucket_of(struct http_clients *clients, const uint8_t key[16])
{
    uint64_t hash = clients->seed ^ UINT64_C(0xcbf29ce484222325);

    for (size_t i = 0; i < 16; i++)
        hash = (hash ^ key[i]) * UINT64_C(0x100000001b3);
    return &clients->buckets[(hash >> 32) % HTTP_CLIENT_BUCKETS];
}

struct http_client *http_client_get(struct http_clients *clients,
                                    const uint8_t address[16])
{
    uint8_t key[16];

    set_key(key, address);
    struct http_client **bucket = bucket_of(clients, key), *client = *bucket;
    while (client != NULL && memcmp(client->key, key, sizeof key) != 0)
        client = client->chain;
    if (client == NULL) {
        client = calloc(1, sizeof *client);
        if (client == NULL)
            return NULL;
        memcpy(client->key, key, sizeof key);
        client->clients = clients;
        client->chain = *bucket;
        *bucket = client;
        clients->count++;
    }
    client->references++;
    return client;
}

struct http_client *http_client_ref(struct http_client *client)
{
    client->references++;
    return client;
}

uint64_t *http_client_bytes(struct http_client *client)
{
    return &client->bytes;
}

void http_client_unref(struct http_client *client)
{
    if (client == NULL || --client->references > 0)
        return;
    struct http_client **at = bucket_of(client->clients, client->key);
    while (*at != client)
        at = &(*at)->chain;
    *at = client->chain;
    client->clients->count--;
    free(client);
}
