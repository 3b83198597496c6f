/*
 * http_forward.c - the client's address, as a proxy tells it.
 *
 * X-Forwarded-For, Forwarded (RFC 7239) and the PROXY protocol, versions 1 and 2
 * (haproxy.org/download/2.9/doc/proxy-protocol.txt). Only a trusted peer is believed, and
 * only as far as each hop before it is trusted too: the client is the first one, from the
 * right, that is not. What is said beyond that is the client's own word. Pure.
 */
#include "runtime/http_internal.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* Proxies one behind the other; more is somebody's game. */
#define HOPS_MAX 16u

/* ---- addresses ------------------------------------------------------------------ */

static void map_ipv4(uint8_t out[16], const uint8_t ipv4[4])
{
    memset(out, 0, 10);
    out[10] = out[11] = 0xff;
    memcpy(out + 12, ipv4, 4);
}

/* An address without port and brackets. 4 or 6, or 0 for what is none. */
static int parse_bare(const char *text, size_t size, uint8_t out[16])
{
    char copy[INET6_ADDRSTRLEN];
    uint8_t ipv4[4], ipv6[16];

    if (size == 0 || size >= sizeof copy)
        return 0;
    memcpy(copy, text, size);
    copy[size] = '\0';
    if (strlen(copy) != size)
        return 0;
    if (inet_pton(AF_INET, copy, ipv4) == 1) {
        map_ipv4(out, ipv4);
        return 4;
    }
    if (inet_pton(AF_INET6, copy, ipv6) != 1)
        return 0;
    memcpy(out, ipv6, sizeof ipv6);
    return 6;
}

static bool is_port(const char *text, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if (!isdigit((unsigned char)text[i]))
            return false;
    return size > 0 && size <= 5;
}

/* "192.0.2.1", "192.0.2.1:80", "2001:db8::1", "[2001:db8::1]", "[2001:db8::1]:80". */
bool http_parse_node(const char *text, size_t size, uint8_t out[16])
{
    if (size > 0 && text[0] == '[') {
        const char *end = memchr(text, ']', size);
        if (end == NULL || parse_bare(text + 1, (size_t)(end - text) - 1, out) != 6)
            return false;
        size_t rest = size - (size_t)(end + 1 - text);
        return rest == 0 || (end[1] == ':' && is_port(end + 2, rest - 1));
    }
    if (parse_bare(text, size, out) != 0)
        return true;
    const char *colon = memchr(text, ':', size);
    return colon != NULL && is_port(colon + 1, size - (size_t)(colon + 1 - text)) &&
           parse_bare(text, (size_t)(colon - text), out) == 4;
}

/* ---- the trusted ---------------------------------------------------------------- */

static bool parse_bits(const char *text, size_t size, int family, unsigned *bits)
{
    unsigned most = family == 4 ? 32 : 128, value = 0;

    if (size == 0 || size > 3)
        return false;
    for (size_t i = 0; i < size; i++) {
        if (!isdigit((unsigned char)text[i]))
            return false;
        value = value * 10 + (unsigned)(text[i] - '0');
    }
    *bits = 128 - most + value;
    return value <= most;
}

static bool parse_block(const char *text, size_t size, struct http_block *out)
{
    const char *slash = memchr(text, '/', size);
    size_t address = slash == NULL ? size : (size_t)(slash - text);
    int family = parse_bare(text, address, out->address);

    out->bits = 128;
    return family != 0 && (slash == NULL ||
                           parse_bits(slash + 1, size - address - 1, family, &out->bits));
}

int http_trusted_parse(const char *list, struct http_trusted *out,
                       char wrong[HTTP_TRUSTED_TEXT_BYTES])
{
    static const char separators[] = ", \t";

    *out = (struct http_trusted){0};
    for (const char *at = list + strspn(list, separators); *at != '\0';) {
        size_t size = strcspn(at, separators);
        if (out->count == HTTP_TRUSTED_MAX ||
            !parse_block(at, size, &out->blocks[out->count])) {
            size_t shown = size < HTTP_TRUSTED_TEXT_BYTES - 1
                               ? size
                               : (size_t)HTTP_TRUSTED_TEXT_BYTES - 1;
            memcpy(wrong, at, shown);
            wrong[shown] = '\0';
            return -EINVAL;
        }
        out->count++;
        at += size;
        at += strspn(at, separators);
    }
    return 0;
}

int http_trusted_check(const char *list, char wrong[HTTP_TRUSTED_TEXT_BYTES])
{
    struct http_trusted trusted;

    return http_trusted_parse(list, &trusted, wrong);
}

static bool is_in_block(const struct http_block *block, const uint8_t address[16])
{
    size_t whole = block->bits / 8;
    unsigned rest = block->bits % 8;

    return memcmp(block->address, address, whole) == 0 &&
           (rest == 0 || ((block->address[whole] ^ address[whole]) >> (8 - rest)) == 0);
}

bool http_is_trusted(const struct http_trusted *trusted, const uint8_t address[16])
{
    for (size_t i = 0; i < trusted->count; i++)
        if (is_in_block(&trusted->blocks[i], address))
            return true;
    return false;
}

/* ---- X-Forwarded-For ------------------------------------------------------------ */

struct node {
    const char *text;
    size_t size;
};

static struct node trim(const char *text, size_t size)
{
    while (size > 0 && (*text == ' ' || *text == '\t')) {
        text++;
        size--;
    }
    while (size > 0 && (text[size - 1] == ' ' || text[size - 1] == '\t'))
        size--;
    return (struct node){text, size};
}

/* The last HOPS_MAX nodes, the nearest first. */
static size_t split_x_forwarded_for(const char *value, struct node out[HOPS_MAX])
{
    size_t count = 0, size = strlen(value);

    while (count < HOPS_MAX) {
        const char *comma = memrchr(value, ',', size);
        const char *begin = comma == NULL ? value : comma + 1;
        out[count++] = trim(begin, size - (size_t)(begin - value));
        if (comma == NULL)
            break;
        size = (size_t)(comma - value);
    }
    return count;
}

/* ---- Forwarded ------------------------------------------------------------------ */

/* A token or a quoted string without escapes, which no address has. The end; NULL where
 * it is neither. */
static const char *read_value(const char *at, struct node *out)
{
    if (*at == '"') {
        size_t size = strcspn(at + 1, "\"\\");
        *out = (struct node){at + 1, size};
        return at[1 + size] == '"' ? at + size + 2 : NULL;
    }
    size_t size = strcspn(at, ";, \t\"");
    *out = (struct node){at, size};
    return size > 0 ? at + size : NULL;
}

/* One element, "for=...;by=...", up to its comma. NULL where it is malformed. */
static const char *read_element(const char *at, struct node *out)
{
    *out = (struct node){"", 0};
    for (;;) {
        size_t name = strcspn(at, "=;, \t\"");
        struct node value;
        bool is_for = name == 3 && strncasecmp(at, "for", 3) == 0;
        if (name == 0 || at[name] != '=' || (is_for && out->size > 0))
            return NULL;
        at = read_value(at + name + 1, &value);
        if (at == NULL)
            return NULL;
        if (is_for)
            *out = value;
        at += strspn(at, " \t");
        if (*at != ';')
            return *at == ',' || *at == '\0' ? at : NULL;
        at++;
        at += strspn(at, " \t");
    }
}

/* As above; none where any element is malformed: quotes that are open hide the rest. */
static size_t split_forwarded(const char *value, struct node out[HOPS_MAX])
{
    struct node ring[HOPS_MAX];
    size_t count = 0;

    for (const char *at = value;; at++) {
        at += strspn(at, " \t");
        at = read_element(at, &ring[count % HOPS_MAX]);
        if (at == NULL)
            return 0;
        count++;
        if (*at == '\0')
            break;
    }
    size_t kept = count < HOPS_MAX ? count : HOPS_MAX;
    for (size_t i = 0; i < kept; i++)
        out[i] = ring[(count - 1 - i) % HOPS_MAX];
    return kept;
}

/* ---- the client ----------------------------------------------------------------- */

/* From the trusted peer on, hop by hop. */
static void walk_hops(const struct http_trusted *trusted, const struct node *nodes,
                      size_t count, uint8_t client[16])
{
    for (size_t i = 0; i < count; i++) {
        uint8_t hop[16];
        if (!http_parse_node(nodes[i].text, nodes[i].size, hop))
            return; /* "unknown", or a name: the proxy stands for it */
        memcpy(client, hop, sizeof hop);
        if (!http_is_trusted(trusted, hop))
            return;
    }
}

void http_forwarded_client(const struct http_trusted *trusted,
                           const char *x_forwarded_for, const char *forwarded,
                           const uint8_t peer[16], uint8_t out[16])
{
    struct node nodes[HOPS_MAX];
    uint8_t client[16], other[16];

    memcpy(client, peer, sizeof client);
    if (x_forwarded_for != NULL)
        walk_hops(trusted, nodes, split_x_forwarded_for(x_forwarded_for, nodes), client);
    memcpy(other, peer, sizeof other);
    if (forwarded != NULL)
        walk_hops(trusted, nodes, split_forwarded(forwarded, nodes), other);
    /* A proxy writes one of the two and passes the client's own word on in the other. */
    if (x_forwarded_for == NULL)
        memcpy(client, other, sizeof client);
    else if (forwarded != NULL && memcmp(client, other, sizeof client) != 0)
        memcpy(client, peer, sizeof client);
    memcpy(out, client, sizeof client);
}

/* ---- the PROXY protocol --------------------------------------------------------- */

static const char signature_1[] = "PROXY ";
static const uint8_t signature_2[12] = "\r\n\r\n\0\r\nQUIT\n";

enum {
    LINE_BYTES_MAX = 107, /* of version 1, its CRLF and a NUL */
    HEAD_2_BYTES = 16,
    COMMAND_LOCAL = 0,
    COMMAND_PROXY = 1,
    TCP_OVER_IPV4 = 0x11,
    TCP_OVER_IPV6 = 0x21,
    IPV4_BYTES = 12, /* two addresses, two ports */
    IPV6_BYTES = 36,
};

/* "TCP4 source target port port" of a line that is complete. */
static bool read_line(const char *line, size_t size, struct http_proxy_header *out)
{
    struct node words[5];
    size_t count = 0;
    const char *end = line + size;
    uint8_t target[16];

    if (size >= 7 && memcmp(line, "UNKNOWN", 7) == 0 && (size == 7 || line[7] == ' '))
        return true;
    for (const char *at = line; count < 5; at++) {
        const char *space = memchr(at, ' ', (size_t)(end - at));
        const char *stop = space == NULL ? end : space;
        words[count++] = (struct node){at, (size_t)(stop - at)};
        at = stop;
        if (stop == end)
            break;
    }
    if (count != 5 || words[4].text + words[4].size != end || words[0].size != 4 ||
        memcmp(words[0].text, "TCP", 3) != 0)
        return false;
    int family = words[0].text[3] == '4' ? 4 : words[0].text[3] == '6' ? 6 : -1;
    out->has_address = true;
    return parse_bare(words[1].text, words[1].size, out->address) == family &&
           parse_bare(words[2].text, words[2].size, target) == family &&
           is_port(words[3].text, words[3].size) && is_port(words[4].text, words[4].size);
}

static enum http_proxy_result parse_1(const uint8_t *bytes, size_t size,
                                      struct http_proxy_header *out)
{
    size_t seen = size < LINE_BYTES_MAX ? size : LINE_BYTES_MAX;
    const uint8_t *lf = memchr(bytes, '\n', seen);

    if (lf == NULL)
        return size >= LINE_BYTES_MAX ? HTTP_PROXY_BROKEN : HTTP_PROXY_MORE;
    const char *line = (const char *)bytes + sizeof signature_1 - 1;
    out->used = (size_t)(lf + 1 - bytes);
    if (lf[-1] != '\r' || !read_line(line, out->used - 2 - (sizeof signature_1 - 1), out))
        return HTTP_PROXY_BROKEN;
    return HTTP_PROXY_DONE;
}

static enum http_proxy_result parse_2(const uint8_t *bytes, size_t size,
                                      struct http_proxy_header *out)
{
    if (size < HEAD_2_BYTES)
        return HTTP_PROXY_MORE;
    unsigned version = bytes[12] >> 4, command = bytes[12] & 15, family = bytes[13];
    size_t length = (size_t)bytes[14] << 8 | bytes[15];
    const uint8_t *addresses = bytes + HEAD_2_BYTES;

    out->used = HEAD_2_BYTES + length;
    if (version != 2 || command > COMMAND_PROXY || out->used > HTTP_PROXY_BYTES_MAX)
        return HTTP_PROXY_BROKEN;
    if (size < out->used)
        return HTTP_PROXY_MORE;
    /* LOCAL is the proxy's own, a probe; what is not TCP has no address for us. What
     * follows the addresses is skipped. */
    if (command == COMMAND_LOCAL || (family != TCP_OVER_IPV4 && family != TCP_OVER_IPV6))
        return HTTP_PROXY_DONE;
    if (length < (family == TCP_OVER_IPV4 ? IPV4_BYTES : IPV6_BYTES))
        return HTTP_PROXY_BROKEN;
    out->has_address = true;
    if (family == TCP_OVER_IPV4)
        map_ipv4(out->address, addresses);
    else
        memcpy(out->address, addresses, sizeof out->address);
    return HTTP_PROXY_DONE;
}

static bool begins(const uint8_t *bytes, size_t size, const void *signature,
                   size_t signature_size)
{
    return memcmp(bytes, signature, size < signature_size ? size : signature_size) == 0;
}

enum http_proxy_result http_proxy_parse(const uint8_t *bytes, size_t size,
                                        struct http_proxy_header *out)
{
    bool is_1 = begins(bytes, size, signature_1, sizeof signature_1 - 1);
    bool is_2 = begins(bytes, size, signature_2, sizeof signature_2);

    *out = (struct http_proxy_header){0};
    if (!is_1 && !is_2)
        return HTTP_PROXY_NONE;
    if (size < (is_1 ? sizeof signature_1 - 1 : sizeof signature_2))
        return HTTP_PROXY_MORE;
    return is_1 ? parse_1(bytes, size, out) : parse_2(bytes, size, out);
}
