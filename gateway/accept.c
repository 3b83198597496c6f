#include "gateway/accept.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

/* How closely a range names an offer; a closer one decides, whatever its q. */
enum closeness { MISSES, ANYTHING, ANY_SUBTYPE, EXACT };

struct range {
    const char *type; /* "image/png", not terminated */
    size_t type_size;
    int q; /* thousandths; -1: not well-formed */
};

static const char *skip_space(const char *at, const char *end)
{
    while (at < end && (*at == ' ' || *at == '\t'))
        at++;
    return at;
}

static const char *trim_end(const char *begin, const char *end)
{
    while (end > begin && (end[-1] == ' ' || end[-1] == '\t'))
        end--;
    return end;
}

/* Up to `stop` or the end, over quoted strings. */
static const char *find_end(const char *at, const char *end, char stop)
{
    int quoted = 0;

    for (; at < end; at++) {
        if (quoted && *at == '\\' && at + 1 < end)
            at++;
        else if (*at == '"')
            quoted = !quoted;
        else if (!quoted && *at == stop)
            break;
    }
    return at;
}

/* "0.5" in thousandths; at most three digits after the point; -1 otherwise. */
static int parse_q(const char *at, const char *end)
{
    if (at == end || (*at != '0' && *at != '1'))
        return -1;
    int q = (*at++ - '0') * 1000;
    if (at == end)
        return q;
    if (*at++ != '.' || end - at > 3)
        return -1;
    for (int unit = 100; at < end; at++, unit /= 10) {
        if (*at < '0' || *at > '9')
            return -1;
        q += (*at - '0') * unit;
    }
    return q <= 1000 ? q : -1;
}

static struct range parse_range(const char *at, const char *end)
{
    const char *type_end = find_end(at, end, ';');
    struct range range = {.type = at, .q = 1000};

    range.type_size = (size_t)(trim_end(at, type_end) - at);
    for (at = type_end; at < end;) {
        at = skip_space(at + 1, end);
        const char *next = find_end(at, end, ';');
        if (next - at >= 2 && (at[0] == 'q' || at[0] == 'Q') && at[1] == '=')
            range.q = parse_q(at + 2, trim_end(at + 2, next));
        at = next;
    }
    return range;
}

static enum closeness compare(const struct range *range, const char *offer)
{
    size_t major = (size_t)(strchr(offer, '/') - offer) + 1;

    if (range->type_size == 3 && memcmp(range->type, "*/*", 3) == 0)
        return ANYTHING;
    if (range->type_size == major + 1 && range->type[major] == '*' &&
        strncasecmp(range->type, offer, major) == 0)
        return ANY_SUBTYPE;
    if (range->type_size == strlen(offer) &&
        strncasecmp(range->type, offer, range->type_size) == 0)
        return EXACT;
    return MISSES;
}

int gateway_accept_choose(const char *accept, const char *const *offers, size_t count)
{
    enum closeness closest[GATEWAY_OFFERS_MAX] = {MISSES};
    int q[GATEWAY_OFFERS_MAX] = {0}, best = -ENOENT;

    if (accept == NULL || *accept == '\0' || strcmp(accept, "*/*") == 0)
        return 0;
    const char *end = accept + strlen(accept);
    for (const char *at = accept; at < end; at++) {
        const char *stop = find_end(at, end, ',');
        struct range range = parse_range(skip_space(at, stop), stop);
        at = stop;
        for (size_t i = 0; range.q >= 0 && i < count; i++) {
            enum closeness close = compare(&range, offers[i]);
            if (close > closest[i]) {
                closest[i] = close;
                q[i] = range.q;
            }
        }
    }
    for (size_t i = 0; i < count; i++)
        if (q[i] > (best < 0 ? 0 : q[best]))
            best = (int)i;
    return best;
}
