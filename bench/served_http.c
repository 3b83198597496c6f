/*
 * served_http - what bare_http does, on runtime/http: the price of strictness, bounds and
 * deadlines is the ratio of the two.
 *
 *   served_http PORT ANSWER_BYTES
 */
#include "runtime/http.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct http_piece answer; /* static: never released */
static EVP_MD_CTX *idle_digest;  /* one is kept: requests overlap only under load */

static void on_head(struct http_request *request, void *arg)
{
    EVP_MD_CTX *digest = idle_digest != NULL ? idle_digest : EVP_MD_CTX_new();

    (void)arg;
    idle_digest = NULL;
    EVP_DigestInit_ex(digest, EVP_sha256(), NULL);
    http_set_data(request, digest);
}

static void on_body(struct http_request *request, const uint8_t *bytes, size_t size,
                    void *arg)
{
    (void)arg;
    EVP_DigestUpdate(http_data(request), bytes, size);
}

static void on_complete(struct http_request *request, void *arg)
{
    unsigned char sum[EVP_MAX_MD_SIZE];

    (void)arg;
    EVP_DigestFinal_ex(http_data(request), sum, NULL);
    http_respond(request, 200, "Content-Type: text/plain\r\n", &answer, 1);
}

static void on_gone(struct http_request *request, void *arg)
{
    (void)arg;
    http_respond(request, 499, "", NULL, 0);
}

static void on_end(struct http_request *request, void *arg)
{
    (void)arg;
    if (idle_digest != NULL)
        EVP_MD_CTX_free(http_data(request));
    else
        idle_digest = http_data(request);
}

static const struct http_callbacks callbacks = {
    .on_head = on_head,
    .on_body = on_body,
    .on_complete = on_complete,
    .on_gone = on_gone,
    .on_end = on_end,
};

int main(int argc, char **argv)
{
    size_t size = argc == 3 ? strtoul(argv[2], NULL, 10) : 0;
    char *body = size == 0 || size > (1u << 30) ? NULL : malloc(size);
    if (body == NULL) {
        fprintf(stderr, "usage: served_http PORT ANSWER_BYTES\n");
        return 64;
    }
    memset(body, 'x', size);
    answer = (struct http_piece){.bytes = body, .size = size};

    uv_loop_t *loop = uv_default_loop();
    struct http_limits limits;
    struct http_server *server;
    http_limits_init(&limits);
    int err = http_server_open(loop, "127.0.0.1", (uint16_t)atoi(argv[1]), &limits,
                               &callbacks, NULL, &server);
    if (err < 0) {
        fprintf(stderr, "served_http: port %s: %s\n", argv[1], strerror(-err));
        return 71;
    }
    return uv_run(loop, UV_RUN_DEFAULT);
}
