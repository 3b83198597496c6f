#include "gateway/routes.h"

#include "gateway/features.h"
#include "gateway/pages.h"

#include <string.h>

typedef void handler_fn(struct gateway_request *request, const char *rest);

struct route {
    const char *path; /* whole, or with a slash at its end what it begins with */
    handler_fn *get;  /* HEAD too */
    handler_fn *post;
};

static const struct route routes[] = {
    {"/v1/features", NULL, gateway_features_begin},
    {"/v1/features/", gateway_features_look_up, NULL},
    {"/v1/denoise", NULL, gateway_denoise_begin},
    {"/livez", gateway_page_livez, NULL},
    {"/readyz", gateway_page_readyz, NULL},
    {"/metrics", gateway_page_metrics, NULL},
    {"/version", gateway_page_version, NULL},
    {"/", gateway_page_index, NULL},
};

/* What of `path` is left behind the route's; NULL where it does not match. */
static const char *match(const struct route *route, const char *path)
{
    size_t size = strlen(route->path);

    if (strncmp(path, route->path, size) != 0)
        return NULL;
    bool is_prefix = size > 1 && route->path[size - 1] == '/';
    return path[size] == '\0' || is_prefix ? path + size : NULL;
}

static void dispatch(struct gateway_request *request, const struct route *route,
                     const char *rest)
{
    const char *method = http_method(request->http);
    struct gateway_refusal why = {.status = PROTO_STATUS_BAD_METHOD,
                                  .headers = "Allow: POST\r\n"};

    if (route->get != NULL &&
        (strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0)) {
        route->get(request, rest);
    } else if (route->post != NULL && strcmp(method, "POST") == 0) {
        route->post(request, rest);
    } else {
        if (route->get != NULL)
            why.headers = "Allow: GET, HEAD\r\n";
        gateway_request_refuse(request, &why, "this resource has %s only",
                               route->get != NULL ? "GET and HEAD" : "POST");
    }
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
