#include "gateway/routes.h"

#include "gateway/admin.h"
#include "gateway/features.h"
#include "gateway/pages.h"

#include <stdio.h>
#include <string.h>

typedef void handler_fn(struct gateway_request *request, const char *rest);

struct route {
    const char *path;   /* whole, or with a slash at its end what it begins with */
    handler_fn *get;    /* HEAD too */
    handler_fn *post;   /* PUT too */
    handler_fn *remove; /* DELETE */
};

/* `curl -T photo.jpg URL/` appends the file's name, which means nothing here. A key is no
 * such name: a result cannot be put. */
static bool is_upload_name(const struct gateway_request *request, const char *rest)
{
    uint8_t key[PROTO_DIGEST_BYTES];

    if (*rest == '\0')
        return true;
    return strcmp(http_method(request->http), "PUT") == 0 && strchr(rest, '/') == NULL &&
           proto_unhex(rest, strlen(rest), key) < 0;
}

static void refuse_method(struct gateway_request *request, const char *allow)
{
    char header[64];
    struct gateway_refusal why = {.status = PROTO_STATUS_BAD_METHOD, .headers = header};

    snprintf(header, sizeof header, "Allow: %s\r\n", allow);
    gateway_request_refuse(request, &why, "this resource has %s only", allow);
}

static void features_begin_named(struct gateway_request *request, const char *rest)
{
    if (is_upload_name(request, rest))
        gateway_features_begin(request, rest);
    else
        refuse_method(request, "GET, HEAD, DELETE");
}

static void denoise_begin_named(struct gateway_request *request, const char *rest)
{
    if (is_upload_name(request, rest))
        gateway_denoise_begin(request, rest);
    else
        refuse_method(request, "PUT");
}

/* The first that matches: what begins with a path is before the path itself. */
static const struct route routes[] = {
    {"/v1/features/", gateway_features_look_up, features_begin_named,
     gateway_admin_delete},
    {"/v1/features", NULL, gateway_features_begin, NULL},
    {"/v1/denoise/", NULL, denoise_begin_named, NULL},
    {"/v1/denoise", NULL, gateway_denoise_begin, NULL},
    {"/v1/status", gateway_admin_status, NULL, NULL},
    {"/livez", gateway_page_livez, NULL, NULL},
    {"/readyz", gateway_page_readyz, NULL, NULL},
    {"/metrics", gateway_page_metrics, NULL, NULL},
    {"/version", gateway_page_version, NULL, NULL},
    {"/", gateway_page_index, NULL, NULL},
};

/* The rest of `path` behind the route's; NULL where it does not match. A slash at the
 * end of a whole path changes nothing. */
static const char *match(const struct route *route, const char *path)
{
    size_t size = strlen(route->path);

    if (strncmp(path, route->path, size) != 0)
        return NULL;
    bool is_prefix = size > 1 && route->path[size - 1] == '/';
    bool is_whole = path[size] == '\0' || strcmp(path + size, "/") == 0;
    return is_whole || is_prefix ? path + size : NULL;
}

static handler_fn *handler_of(const struct route *route, const char *method)
{
    if (strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0)
        return route->get;
    if (strcmp(method, "POST") == 0 || strcmp(method, "PUT") == 0)
        return route->post;
    return strcmp(method, "DELETE") == 0 ? route->remove : NULL;
}

static void dispatch(struct gateway_request *request, const struct route *route,
                     const char *rest)
{
    handler_fn *handler = handler_of(route, http_method(request->http));
    const char *allow = route->remove != NULL ? "GET, HEAD, DELETE"
                        : route->post != NULL ? "POST, PUT"
                                              : "GET, HEAD";

    if (handler != NULL)
        handler(request, rest);
    else
        refuse_method(request, allow);
}

void gateway_route(struct gateway_request *request)
{
    static const struct gateway_refusal unknown = {.status = PROTO_STATUS_NOT_FOUND};
    const char *path = http_path(request->http);

    for (size_t i = 0; i < sizeof routes / sizeof routes[0]; i++) {
        const char *rest = match(&routes[i], path);
        if (rest != NULL) {
            dispatch(request, &routes[i], rest);
            return;
        }
    }
    gateway_request_refuse(request, &unknown,
                           "there is no such resource; GET / lists them");
}
