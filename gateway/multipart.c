/*
 * multipart.c - one pass, one byte of look-ahead less than the delimiter.
 *
 * PREAMBLE -> AFTER -> HEADER -> FILE -> AFTER -> ... -> EPILOGUE. The delimiter is
 * CR LF "--" boundary; the start of the body counts as a CR LF seen. A CR stands nowhere
 * but at the delimiter's start, so after a mismatch no shorter match can be under way and
 * what was held back is the delimiter's own beginning: nothing has to be kept.
 */
#include "gateway/multipart.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

enum state { PREAMBLE, AFTER, AFTER_DASH, AFTER_CR, HEADER, FILE_DATA, EPILOGUE };

static int fail(struct gateway_multipart *multipart, const char *detail)
{
    snprintf(multipart->detail, sizeof multipart->detail, "%s", detail);
    return -EINVAL;
}

/* ---- parameters of a header's value --------------------------------------------- */

static bool is_space(char c)
{
    return c == ' ' || c == '\t';
}

/* One parameter's value, quoted or a token, into `out`; returns what follows it, or NULL
 * when it is not well-formed or too long. */
static const char *read_value(const char *at, char *out, size_t capacity)
{
    bool quoted = *at == '"';
    size_t size = 0;

    for (at += quoted; *at != '\0'; at++) {
        if (quoted ? *at == '"' : *at == ';' || is_space(*at))
            break;
        if (quoted && *at == '\\' && at[1] != '\0')
            at++;
        if (size + 1 >= capacity)
            return NULL;
        out[size++] = *at;
    }
    if (quoted && *at++ != '"')
        return NULL;
    out[size] = '\0';
    return at;
}

/* The parameter `name` of "type; a=b; c=\"d\"". 0, -ENOENT or -EINVAL. */
static int find_param(const char *value, const char *name, char *out, size_t capacity)
{
    size_t name_size = strlen(name);
    /* Values that are not asked for may be long: a file's name. */
    char skipped[GATEWAY_PART_HEADER_BYTES_MAX];

    for (const char *at = strchr(value, ';'); at != NULL && *at == ';';) {
        do
            at++;
        while (is_space(*at));
        size_t size = strcspn(at, "=; \t\"");
        if (at[size] != '=')
            return *at == '\0' ? -ENOENT : -EINVAL;
        bool wanted = size == name_size && strncasecmp(at, name, size) == 0;
        at = read_value(at + size + 1, wanted ? out : skipped,
                        wanted ? capacity : sizeof skipped);
        if (at == NULL)
            return -EINVAL;
        if (wanted)
            return 0;
        while (is_space(*at))
            at++;
    }
    return -ENOENT;
}

static bool is_boundary(const char *text)
{
    size_t size = strlen(text);

    /* bchars of RFC 2046; no CR among them is what the search stands on. */
    for (size_t i = 0; i < size; i++) {
        char c = text[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        if (!letter && !(c >= '0' && c <= '9') && strchr("'()+_,-./:=? ", c) == NULL)
            return false;
    }
    return size > 0 && text[size - 1] != ' ';
}

int gateway_multipart_init(struct gateway_multipart *multipart, const char *content_type)
{
    char boundary[GATEWAY_BOUNDARY_BYTES_MAX + 1];

    multipart->state = PREAMBLE;
    multipart->header_size = 0;
    multipart->has_file = multipart->in_mask = false;
    multipart->detail[0] = '\0';
    if (find_param(content_type, "boundary", boundary, sizeof boundary) < 0 ||
        !is_boundary(boundary))
        return fail(multipart, "the Content-Type has no boundary of 1 to 70 characters");
    multipart->delimiter_size = (size_t)snprintf(
        multipart->delimiter, sizeof multipart->delimiter, "\r\n--%s", boundary);
    multipart->matched = 2;
    return 0;
}

/* ---- a part's headers ----------------------------------------------------------- */

static int refuse_field(struct gateway_multipart *multipart, const char *name)
{
    char shown[40];
    size_t size = 0;

    for (; name[size] != '\0' && size + 1 < sizeof shown; size++) {
        char c = name[size];
        shown[size] = c < ' ' || c > '~' || c == '"' || c == '\\' ? '?' : c;
    }
    shown[size] = '\0';
    snprintf(
        multipart->detail, sizeof multipart->detail,
        "the form has a field '%s'; known are 'file' and, after it, 'mask', once each",
        shown);
    return -EINVAL;
}

static int check_disposition(struct gateway_multipart *multipart, const char *value)
{
    char name[64] = "";

    while (is_space(*value))
        value++;
    size_t size = strcspn(value, "; \t");
    if (size != 9 || strncasecmp(value, "form-data", 9) != 0)
        return fail(multipart, "a part's Content-Disposition is not form-data");
    int err = find_param(value, "name", name, sizeof name);
    if (err < 0)
        return fail(multipart, err == -ENOENT ? "a part of the form has no name"
                                              : "a part's name cannot be read");
    if (strcmp(name, "mask") == 0 && multipart->has_file && !multipart->in_mask) {
        multipart->in_mask = true;
        return 0;
    }
    if (strcmp(name, "file") != 0 || multipart->has_file)
        return refuse_field(multipart, name);
    multipart->has_file = true;
    return 0;
}

/* The header block is complete, with its last empty line. */
static int read_headers(struct gateway_multipart *multipart)
{
    static const char wanted[] = "content-disposition:";
    char *line = multipart->header;

    multipart->header[multipart->header_size] = '\0';
    for (char *end; (end = strstr(line, "\r\n")) != NULL; line = end + 2) {
        *end = '\0';
        if (strncasecmp(line, wanted, sizeof wanted - 1) == 0)
            return check_disposition(multipart, line + sizeof wanted - 1);
    }
    return fail(multipart, "a part of the form has no Content-Disposition");
}

static int take_header(struct gateway_multipart *multipart, uint8_t byte)
{
    if (multipart->header_size == GATEWAY_PART_HEADER_BYTES_MAX)
        return fail(multipart, "a part's headers are over 4096 bytes");
    if (byte == 0)
        return fail(multipart, "a part's headers hold a NUL");
    multipart->header[multipart->header_size++] = (char)byte;

    size_t size = multipart->header_size;
    const char *end = multipart->header + size;
    bool is_empty = size == 2 && memcmp(end - 2, "\r\n", 2) == 0;
    if (!is_empty && (size < 4 || memcmp(end - 4, "\r\n\r\n", 4) != 0))
        return 0;
    int err = read_headers(multipart);
    multipart->header_size = 0;
    multipart->state = FILE_DATA;
    multipart->matched = 0;
    return err;
}

/* ---- the stream ----------------------------------------------------------------- */

/* What follows a delimiter: "--" is the end, padding and CR LF begin a part. */
static int take_after(struct gateway_multipart *multipart, uint8_t byte)
{
    unsigned next = EPILOGUE + 1;

    if (multipart->state == AFTER && byte == '-')
        next = AFTER_DASH;
    else if (multipart->state == AFTER && byte == '\r')
        next = AFTER_CR;
    else if (multipart->state == AFTER && is_space((char)byte))
        next = AFTER;
    else if (multipart->state == AFTER_DASH && byte == '-')
        next = EPILOGUE;
    else if (multipart->state == AFTER_CR && byte == '\n')
        next = HEADER;
    if (next > EPILOGUE)
        return fail(multipart, "the form is broken behind a boundary");
    multipart->state = next;
    return 0;
}

/* Look for the delimiter in data or preamble; `used` bytes were dealt with. */
static int take_data(struct gateway_multipart *multipart, const uint8_t *bytes,
                     size_t size, size_t *used, gateway_multipart_sink *sink, void *arg)
{
    const uint8_t *run = bytes;
    size_t run_size = 0;

    if (multipart->matched == 0) {
        const uint8_t *cr = memchr(bytes, '\r', size);
        run_size = cr == NULL ? size : (size_t)(cr - bytes);
        multipart->matched = cr != NULL;
        *used = run_size + (cr != NULL);
    } else if (bytes[0] == (uint8_t)multipart->delimiter[multipart->matched]) {
        *used = 1;
        if (++multipart->matched == multipart->delimiter_size)
            multipart->state = AFTER;
        return 0;
    } else {
        run = (const uint8_t *)multipart->delimiter;
        run_size = multipart->matched;
        multipart->matched = 0;
        *used = 0;
    }
    return multipart->state == FILE_DATA && run_size > 0 ? sink(arg, run, run_size) : 0;
}

int gateway_multipart_feed(struct gateway_multipart *multipart, const uint8_t *bytes,
                           size_t size, gateway_multipart_sink *sink, void *arg)
{
    int err = 0;

    for (size_t at = 0, used; at < size && err == 0; at += used) {
        used = 1;
        switch (multipart->state) {
        case PREAMBLE:
        case FILE_DATA:
            err = take_data(multipart, bytes + at, size - at, &used, sink, arg);
            break;
        case HEADER:
            err = take_header(multipart, bytes[at]);
            break;
        case EPILOGUE:
            return 0;
        default:
            err = take_after(multipart, bytes[at]);
        }
    }
    return err;
}

int gateway_multipart_finish(struct gateway_multipart *multipart)
{
    if (multipart->state != EPILOGUE)
        return fail(multipart, "the form ends before its last boundary");
    if (!multipart->has_file)
        return fail(multipart, "the form has no field 'file'");
    return 0;
}
