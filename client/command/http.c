#include "client/command/command.h"

#include <curl/curl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define ANSWER_BYTES_MAX  ((size_t)1 << 30)
#define CONNECT_TIMEOUT_S 5L

struct buffer {
    char *bytes;
    size_t size;
};

static size_t append(char *data, size_t unit, size_t count, void *arg)
{
    struct buffer *buffer = arg;
    size_t more = unit * count;

    if (buffer->size + more > ANSWER_BYTES_MAX)
        return 0;
    char *larger = realloc(buffer->bytes, buffer->size + more + 1);
    if (larger == NULL)
        return 0;
    memcpy(larger + buffer->size, data, more);
    buffer->bytes = larger;
    buffer->size += more;
    larger[buffer->size] = '\0';
    return more;
}

static void init_curl(void)
{
    curl_global_init(CURL_GLOBAL_DEFAULT);
}

/* One connection a thread, kept for the next request: a second POST shows the mesh's
 * time and not that of a handshake. */
static _Thread_local CURL *curl;

static CURL *handle(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    pthread_once(&once, init_curl);
    if (curl == NULL)
        curl = curl_easy_init();
    else
        curl_easy_reset(curl);
    return curl;
}

bool command_http_post(const char *url, const char *accept, const void *bytes,
                       size_t size, int timeout_ms, struct command_http *out, char *error,
                       size_t error_bytes)
{
    char accept_line[128], curl_error[CURL_ERROR_SIZE] = "";
    struct buffer body = {0}, headers = {0};

    *out = (struct command_http){0};
    if (handle() == NULL) {
        snprintf(error, error_bytes, "out of memory");
        return false;
    }
    snprintf(accept_line, sizeof accept_line, "Accept: %s", accept);
    struct curl_slist *lines = curl_slist_append(NULL, accept_line);
    lines = curl_slist_append(lines, "Content-Type: application/octet-stream");
    lines = curl_slist_append(lines, "Expect:"); /* no 100-continue: one trip less */
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, lines);
    curl_easy_setopt(curl, CURLOPT_POSTFIELDS, bytes);
    curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)size);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, append);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, &body);
    curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, append);
    curl_easy_setopt(curl, CURLOPT_HEADERDATA, &headers);
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, curl_error);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, (long)timeout_ms);
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, CONNECT_TIMEOUT_S);
    CURLcode code = curl_easy_perform(curl);
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &out->status);
    curl_easy_getinfo(curl, CURLINFO_TOTAL_TIME, &out->seconds);
    curl_slist_free_all(lines);
    out->body = (uint8_t *)body.bytes;
    out->size = body.size;
    out->headers = headers.bytes;
    if (code == CURLE_OK)
        return true;
    snprintf(error, error_bytes, "%s",
             curl_error[0] != '\0' ? curl_error : curl_easy_strerror(code));
    command_http_free(out);
    return false;
}

bool command_http_header(const struct command_http *http, const char *name, char *out,
                         size_t capacity)
{
    size_t length = strlen(name);
    const char *line = http->headers;

    while (line != NULL && *line != '\0') {
        const char *end = strchrnul(line, '\n');
        if (strncasecmp(line, name, length) == 0 && line[length] == ':') {
            const char *value = line + length + 1;
            value += strspn(value, " ");
            snprintf(out, capacity, "%.*s", (int)strcspn(value, "\r\n"), value);
            return true;
        }
        line = *end == '\n' ? end + 1 : NULL;
    }
    return false;
}

void command_http_free(struct command_http *http)
{
    free(http->body);
    free(http->headers);
    *http = (struct command_http){0};
}

void command_http_close(void)
{
    if (curl != NULL)
        curl_easy_cleanup(curl);
    curl = NULL;
}
