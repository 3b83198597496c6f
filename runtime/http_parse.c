/*
 * http_parse.c - understand a complete head, or say what is wrong with it.
 *
 * llhttp, in strict mode and with no lenient flag, finds the lines and knows the methods.
 * Round it stand the rules that llhttp 8.1 lets pass: the request line's single spaces, a
 * fragment, HTTP/0.9 and RTSP, empty names, Host, exactly "chunked". Names and values
 * stay where the head was collected.
 */
#include "runtime/http_internal.h"

#include <ctype.h>
#include <errno.h>
#include <llhttp.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static int refuse(struct http_refusal *why, enum proto_status status, const char *detail)
{
    *why = (struct http_refusal){status, detail, 0, 0};
    return -EINVAL;
}

static int bad(struct http_refusal *why, const char *detail)
{
    return refuse(why, PROTO_STATUS_BAD_REQUEST, detail);
}

/* tchar of RFC 9110, 5.6.2. */
static bool is_token_byte(uint8_t byte)
{
    return isalnum(byte) || (byte != 0 && strchr("!#$%&'*+-.^_`|~", byte) != NULL);
}

static bool is_token(const char *text, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if (!is_token_byte((uint8_t)text[i]))
            return false;
    return size > 0;
}

static int check_version(const char *text, size_t size, struct http_refusal *why)
{
    bool shaped = size == 8 && memcmp(text, "HTTP/", 5) == 0 &&
                  isdigit((unsigned char)text[5]) && text[6] == '.' &&
                  isdigit((unsigned char)text[7]);

    if (!shaped)
        return bad(why, "the request line does not end with an HTTP version");
    if (text[5] != '1' || text[7] > '1')
        return refuse(why, PROTO_STATUS_BAD_VERSION, "only HTTP/1.0 and HTTP/1.1");
    return 0;
}

static int check_target(const char *target, size_t size, struct http_refusal *why)
{
    if (size == 0)
        return bad(why, "no request target, or more than one space before it");
    for (size_t i = 0; i < size; i++) {
        uint8_t byte = (uint8_t)target[i];
        if (byte <= 0x20 || byte >= 0x7f)
            return bad(why, "a space or a byte outside ASCII in the request target");
        if (byte == '#')
            return bad(why, "a fragment in the request target");
    }
    return 0;
}

/* Where the path of an absolute target begins ("http://host/path", RFC 9112, 3.2.2). */
static char *skip_authority(char *target)
{
    static char root[] = "/"; /* never written: it holds no '?' */

    if (strncasecmp(target, "http://", 7) == 0)
        target += 7;
    else if (strncasecmp(target, "https://", 8) == 0)
        target += 8;
    else
        return target;
    target += strcspn(target, "/?");
    return *target == '\0' ? root : target;
}

static void split_target(struct http_head *head, char *target)
{
    char *path = skip_authority(target), *mark = strchr(path, '?');

    head->query = "";
    if (mark != NULL) {
        *mark = '\0';
        head->query = mark + 1;
    }
    head->path = *path == '\0' ? "/" : path;
}

/* method SP target SP version, each space single. */
static int check_request_line(const struct http_head *head, struct http_refusal *why,
                              size_t *target_at, size_t *target_size)
{
    const char *line = head->bytes;
    const char *end = memchr(line, '\r', head->size);
    const char *first = memchr(line, ' ', (size_t)(end - line));
    const char *last = memrchr(line, ' ', (size_t)(end - line));

    if (first == NULL || first == last)
        return bad(why, "the request line is not \"method target version\"");
    if (!is_token(line, (size_t)(first - line)))
        return bad(why, "the method is no token");
    int err = check_version(last + 1, (size_t)(end - last - 1), why);
    if (err == 0)
        err = check_target(first + 1, (size_t)(last - first - 1), why);
    if (err < 0)
        return err;
    *target_at = (size_t)(first + 1 - line);
    *target_size = (size_t)(last - first - 1);
    return 0;
}

/* ---- llhttp --------------------------------------------------------------------- */

struct parse {
    struct http_head *head;
    size_t lines_max;
    bool complete;
};

static int on_field(llhttp_t *parser, const char *at, size_t size)
{
    struct parse *parse = parser->data;
    struct http_head *head = parse->head;

    if (head->count >= parse->lines_max)
        return -1;
    struct http_line *line = &head->lines[head->count];
    if (line->name == NULL)
        line->name = head->bytes + (at - head->bytes);
    line->name_size = (size_t)(at + size - line->name);
    return 0;
}

static int on_value(llhttp_t *parser, const char *at, size_t size)
{
    struct http_head *head = ((struct parse *)parser->data)->head;
    struct http_line *line = &head->lines[head->count];

    if (line->value == NULL)
        line->value = head->bytes + (at - head->bytes);
    line->value_size = (size_t)(at + size - line->value);
    return 0;
}

static int on_value_complete(llhttp_t *parser)
{
    struct parse *parse = parser->data;

    parse->head->count++;
    if (parse->head->count < parse->lines_max)
        parse->head->lines[parse->head->count] = (struct http_line){0};
    return 0;
}

static int on_headers_complete(llhttp_t *parser)
{
    struct http_head *head = ((struct parse *)parser->data)->head;

    head->method = llhttp_method_name(parser->method);
    head->is_head = parser->method == HTTP_HEAD;
    head->keep_alive = llhttp_should_keep_alive(parser) != 0;
    /* An offer to upgrade is ignored (RFC 9110, 7.8), and CONNECT is a method that no
     * resource has; the body is http_body.c's. */
    parser->upgrade = 0;
    return 1;
}

static int on_message_complete(llhttp_t *parser)
{
    ((struct parse *)parser->data)->complete = true;
    return 0;
}

static int run_llhttp(struct http_head *head, size_t lines_max, struct http_refusal *why)
{
    static const llhttp_settings_t settings = {
        .on_header_field = on_field,
        .on_header_value = on_value,
        .on_header_value_complete = on_value_complete,
        .on_headers_complete = on_headers_complete,
        .on_message_complete = on_message_complete,
    };
    struct parse parse = {head, lines_max, false};
    llhttp_t parser;

    head->count = 0;
    head->lines[0] = (struct http_line){0};
    llhttp_init(&parser, HTTP_REQUEST, &settings);
    parser.data = &parse;
    llhttp_errno_t err = llhttp_execute(&parser, head->bytes, head->size);
    if (err == HPE_INVALID_METHOD)
        return refuse(why, PROTO_STATUS_NOT_IMPLEMENTED, "this method is not known");
    if (err != HPE_OK || !parse.complete) {
        const char *reason = llhttp_get_error_reason(&parser);
        return bad(why, reason != NULL && *reason != '\0' ? reason : "a malformed head");
    }
    return 0;
}

/* ---- the rules on top ----------------------------------------------------------- */

static int tidy_lines(struct http_head *head, struct http_refusal *why)
{
    for (size_t i = 0; i < head->count; i++) {
        struct http_line *line = &head->lines[i];
        if (line->name == NULL || !is_token(line->name, line->name_size))
            return bad(why, "a header's name is no token");
        if (line->name[line->name_size] != ':')
            return bad(why, "no colon right after a header's name");
        for (size_t k = 0; k < line->name_size; k++)
            line->name[k] = (char)tolower((unsigned char)line->name[k]);
        line->name[line->name_size] = '\0';
        /* llhttp finds an empty value at the start of the next line: use the NUL here. */
        if (line->value_size == 0)
            line->value = line->name + line->name_size;
        while (line->value_size > 0 && (line->value[line->value_size - 1] == ' ' ||
                                        line->value[line->value_size - 1] == '\t'))
            line->value_size--;
        line->value[line->value_size] = '\0';
    }
    return 0;
}

static bool same_name(const struct http_line *a, const struct http_line *b)
{
    return a->name_size == b->name_size && memcmp(a->name, b->name, a->name_size) == 0;
}

static bool is_named(const struct http_line *line, const char *name)
{
    return strcmp(line->name, name) == 0;
}

/* Write the values of `first` and of the lines that repeat it at `out`; hide those. */
static char *join_lines(struct http_head *head, struct http_line *first, char *out)
{
    struct http_line *end = head->lines + head->count;
    char *begin = out;

    out = stpcpy(out, first->value);
    for (struct http_line *line = first + 1; line < end; line++) {
        if (!same_name(first, line))
            continue;
        out = stpcpy(stpcpy(out, ", "), line->value);
        line->name_size = 0;
    }
    first->value = begin;
    first->value_size = (size_t)(out - begin);
    return out + 1;
}

/* Lines of one name become one value. Quadratic in headers_max, which is small. */
static int join_repeated(struct http_head *head, struct http_refusal *why)
{
    char *out = NULL;

    for (size_t i = 0; i < head->count; i++) {
        struct http_line *line = &head->lines[i];
        bool repeated = false;
        for (size_t k = i + 1; k < head->count && line->name_size > 0 && !repeated; k++)
            repeated = same_name(line, &head->lines[k]);
        if (!repeated)
            continue;
        if (is_named(line, "host"))
            return bad(why, "more than one Host");
        if (is_named(line, "content-length"))
            return bad(why, "more than one Content-Length");
        if (is_named(line, "transfer-encoding"))
            return bad(why, "more than one Transfer-Encoding");
        if (head->joined == NULL) /* ", " needs no more room than name and CRLF had */
            out = head->joined = malloc(head->size + 2 * head->count);
        if (head->joined == NULL)
            return refuse(why, PROTO_STATUS_FULL, "out of memory");
        out = join_lines(head, line, out);
    }
    return 0;
}

static int check_host(const struct http_head *head, struct http_refusal *why)
{
    const char *host = http_head_find(head, "host");

    if (host == NULL)
        return head->is_1_0 ? 0 : bad(why, "no Host");
    for (; *host != '\0'; host++)
        if (!isalnum((unsigned char)*host) && strchr("-._~%!$&'()*+;=:[]", *host) == NULL)
            return bad(why, "a byte that no host name or port has in Host");
    return 0;
}

static int check_length(struct http_head *head, struct http_refusal *why)
{
    const char *text = http_head_find(head, "content-length");

    if (text == NULL)
        return 0;
    if (*text == '\0')
        return bad(why, "an empty Content-Length");
    for (; *text != '\0'; text++) {
        if (!isdigit((unsigned char)*text))
            return bad(why, "a Content-Length that is no number");
        uint64_t digit = (uint64_t)(*text - '0');
        if (head->length > (INT64_MAX - digit) / 10)
            return bad(why, "a Content-Length that fits no number");
        head->length = head->length * 10 + digit;
    }
    head->has_length = true;
    return 0;
}

static int check_coding(struct http_head *head, struct http_refusal *why)
{
    const char *coding = http_head_find(head, "transfer-encoding");

    if (coding == NULL)
        return 0;
    if (head->has_length)
        return bad(why, "Content-Length beside Transfer-Encoding");
    if (head->is_1_0)
        return bad(why, "Transfer-Encoding in HTTP/1.0");
    if (strcasecmp(coding, "chunked") != 0)
        return refuse(why, PROTO_STATUS_NOT_IMPLEMENTED,
                      "a Transfer-Encoding other than chunked");
    head->chunked = true;
    return 0;
}

static int check_expect(struct http_head *head, struct http_refusal *why)
{
    const char *expect = http_head_find(head, "expect");

    if (expect == NULL || head->is_1_0) /* RFC 9110, 10.1.1: ignored in 1.0 */
        return 0;
    if (strcasecmp(expect, "100-continue") != 0)
        return refuse(why, PROTO_STATUS_EXPECTATION, "an Expect other than 100-continue");
    head->expects_continue = true;
    return 0;
}

int http_parse_head(struct http_head *head, const struct http_limits *limits,
                    struct http_refusal *why)
{
    size_t target_at, target_size;

    int err = check_request_line(head, why, &target_at, &target_size);
    if (err == 0)
        err = run_llhttp(head, limits->headers_max, why);
    if (err < 0)
        return err;
    head->is_1_0 = head->bytes[target_at + target_size + 8] == '0'; /* " HTTP/1.0" */
    head->bytes[target_at + target_size] = '\0';
    split_target(head, head->bytes + target_at);

    err = tidy_lines(head, why);
    if (err == 0)
        err = join_repeated(head, why);
    if (err == 0)
        err = check_host(head, why);
    if (err == 0)
        err = check_length(head, why);
    if (err == 0)
        err = check_coding(head, why);
    if (err == 0)
        err = check_expect(head, why);
    return err;
}
