/*
 * bare_http - the floor for the gateway's figures: what libuv and llhttp cost by
 * themselves when they read a POST, hash its body and answer fixed bytes.
 *
 *   bare_http PORT ANSWER_BYTES
 *
 * No limits, no deadlines, no checks, no error answers: not a server for anybody. It
 * shares nothing with runtime/http, so a fault there cannot lower the bar. Load:
 *   wrk -t1 -c32 -d3 -s bench/post.lua http://127.0.0.1:PORT/ -- FILE
 */
#include <llhttp.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

struct client {
    uv_tcp_t tcp;
    uv_write_t write;
    llhttp_t parser;
    EVP_MD_CTX *digest;
};

static char read_buffer[64 << 10];
static uv_buf_t answer;

static void on_closed(uv_handle_t *handle)
{
    struct client *client = handle->data;

    EVP_MD_CTX_free(client->digest);
    free(client);
}

static void hang_up(struct client *client)
{
    if (!uv_is_closing((uv_handle_t *)&client->tcp))
        uv_close((uv_handle_t *)&client->tcp, on_closed);
}

static void on_written(uv_write_t *write, int status)
{
    if (status < 0)
        hang_up(write->data);
}

static int on_message_begin(llhttp_t *parser)
{
    struct client *client = parser->data;

    return EVP_DigestInit_ex(client->digest, EVP_sha256(), NULL) == 1 ? 0 : -1;
}

static int on_body(llhttp_t *parser, const char *at, size_t size)
{
    struct client *client = parser->data;

    return EVP_DigestUpdate(client->digest, at, size) == 1 ? 0 : -1;
}

static int on_message_complete(llhttp_t *parser)
{
    struct client *client = parser->data;
    uv_stream_t *stream = (uv_stream_t *)&client->tcp;
    unsigned char sum[EVP_MAX_MD_SIZE];

    EVP_DigestFinal_ex(client->digest, sum, NULL);
    int taken = uv_try_write(stream, &answer, 1);
    if (taken < 0 && taken != UV_EAGAIN)
        return -1;
    size_t done = taken < 0 ? 0 : (size_t)taken;
    if (done == answer.len)
        return 0;
    uv_buf_t rest = uv_buf_init(answer.base + done, (unsigned)(answer.len - done));
    client->write.data = client;
    return uv_write(&client->write, stream, &rest, 1, on_written) < 0 ? -1 : 0;
}

static const llhttp_settings_t settings = {
    .on_message_begin = on_message_begin,
    .on_body = on_body,
    .on_message_complete = on_message_complete,
};

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer)
{
    (void)handle;
    (void)suggested;
    *buffer = uv_buf_init(read_buffer, sizeof read_buffer);
}

static void on_read(uv_stream_t *stream, ssize_t size, const uv_buf_t *buffer)
{
    struct client *client = stream->data;

    if (size < 0 || (size > 0 && llhttp_execute(&client->parser, buffer->base,
                                                (size_t)size) != HPE_OK))
        hang_up(client);
}

static void on_connection(uv_stream_t *listener, int status)
{
    struct client *client = status < 0 ? NULL : calloc(1, sizeof *client);

    if (client == NULL)
        return;
    client->digest = EVP_MD_CTX_new();
    llhttp_init(&client->parser, HTTP_REQUEST, &settings);
    client->parser.data = client;
    uv_tcp_init(listener->loop, &client->tcp);
    client->tcp.data = client;
    if (uv_accept(listener, (uv_stream_t *)&client->tcp) < 0 ||
        uv_tcp_nodelay(&client->tcp, 1) < 0 ||
        uv_read_start((uv_stream_t *)&client->tcp, on_alloc, on_read) < 0)
        hang_up(client);
}

int main(int argc, char **argv)
{
    size_t body = argc == 3 ? strtoul(argv[2], NULL, 10) : 0;
    if (body == 0 || body > (1u << 30)) {
        fprintf(stderr, "usage: bare_http PORT ANSWER_BYTES\n");
        return 64;
    }
    answer.base = malloc(body + 128);
    if (answer.base == NULL)
        return 71;
    int head =
        sprintf(answer.base, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n", body);
    memset(answer.base + head, 'x', body);
    answer.len = (size_t)head + body;

    uv_loop_t *loop = uv_default_loop();
    uv_tcp_t listener;
    struct sockaddr_in address;
    uv_ip4_addr("127.0.0.1", atoi(argv[1]), &address);
    uv_tcp_init(loop, &listener);
    int err = uv_tcp_bind(&listener, (struct sockaddr *)&address, 0);
    if (err == 0)
        err = uv_listen((uv_stream_t *)&listener, 1024, on_connection);
    if (err < 0) {
        fprintf(stderr, "bare_http: port %s: %s\n", argv[1], uv_strerror(err));
        return 71;
    }
    return uv_run(loop, UV_RUN_DEFAULT);
}
