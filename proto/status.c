#include "proto/status.h"

#include <stddef.h>

struct ending {
    const char *code;
    const char *title;
    int http;
};

static const struct ending endings[PROTO_STATUS_COUNT] = {
#define STATUS(name, number, http, code, title) [number] = {code, title, http},
#include "proto/statuses.tbl"
};

/* NULL for a number outside the table, a gap in it included. */
static const struct ending *find(unsigned status)
{
    if (status >= PROTO_STATUS_COUNT || endings[status].code == NULL)
        return NULL;
    return &endings[status];
}

bool proto_status_is_known(unsigned status)
{
    return find(status) != NULL;
}

const char *proto_status_code(unsigned status)
{
    const struct ending *ending = find(status);
    return ending != NULL ? ending->code : "unknown";
}

const char *proto_status_title(unsigned status)
{
    const struct ending *ending = find(status);
    return ending != NULL ? ending->title : "unknown";
}

int proto_status_http(unsigned status)
{
    const struct ending *ending = find(status);
    return ending != NULL ? ending->http : 500;
}

bool proto_status_is_of_input(unsigned status)
{
    return status == PROTO_STATUS_UNDECODABLE || status == PROTO_STATUS_TOO_MANY_PIXELS ||
           status == PROTO_STATUS_BAD_TYPE || status == PROTO_STATUS_TOO_MANY_FEATURES;
}
