/*
 * http_request.c - the questions an owner may ask about a request.
 */
#include "runtime/http_internal.h"

#include <errno.h>
#include <string.h>

static const struct http_head *head_of(const struct http_request *request)
{
    return &request->connection->head;
}

const char *http_method(const struct http_request *request)
{
    return head_of(request)->method;
}

const char *http_path(const struct http_request *request)
{
    return head_of(request)->path;
}

const char *http_query(const struct http_request *request)
{
    return head_of(request)->query;
}

const char *http_peer(const struct http_request *request)
{
    const struct http_connection *conn = request->connection;

    return conn->asker != NULL ? conn->asker_name : conn->peer;
}

struct http_client *http_client_of(const struct http_request *request)
{
    return http_conn_asker(request->connection);
}

const char *http_header(const struct http_request *request, const char *name)
{
    return http_head_find(head_of(request), name);
}

int64_t http_content_length(const struct http_request *request)
{
    return head_of(request)->chunked ? -1 : (int64_t)head_of(request)->length;
}

bool http_has_length(const struct http_request *request)
{
    return head_of(request)->has_length;
}

bool http_is_chunked(const struct http_request *request)
{
    return head_of(request)->chunked;
}

bool http_is_head(const struct http_request *request)
{
    return head_of(request)->is_head;
}

uint64_t http_started_us(const struct http_request *request)
{
    return request->started_us;
}

uint64_t http_received_us(const struct http_request *request)
{
    return request->received_us;
}

void http_set_data(struct http_request *request, void *data)
{
    request->data = data;
}

void *http_data(const struct http_request *request)
{
    return request->data;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

long http_unescape(char *text)
{
    char *out = text;

    for (const char *in = text; *in != '\0'; in++) {
        if (*in != '%') {
            *out++ = *in == '+' ? ' ' : *in;
            continue;
        }
        int high = hex_digit(in[1]);
        int low = high < 0 ? -1 : hex_digit(in[2]);
        if (low < 0 || (high == 0 && low == 0))
            return -EINVAL;
        *out++ = (char)(high * 16 + low);
        in += 2;
    }
    *out = '\0';
    return out - text;
}
