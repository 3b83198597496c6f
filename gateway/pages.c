#include "gateway/pages.h"

#include <stdlib.h>
#include <string.h>

static void page(struct gateway_request *request, const char *media, const char *text)
{
    gateway_request_page(request, 200, media, text, strlen(text));
}

void gateway_page_index(struct gateway_request *request, const char *rest)
{
    static const char text[] =
        "{\"name\":\"siftmesh\",\"version\":\"" SIFTMESH_VERSION "\",\"routes\":{\n"
        "\"POST /v1/features\":\"a picture in, its SIFT features out\",\n"
        "\"GET /v1/features/{key}\":\"features that are known already\",\n"
        "\"DELETE /v1/features/{key}\":\"forget a result; needs the admin token\",\n"
        "\"POST /v1/denoise\":\"a picture in, a denoised PNG out\",\n"
        "\"GET /v1/status\":\"slots, queues, cache tiers, peers\",\n"
        "\"GET /livez\":\"the process answers\",\n"
        "\"GET /readyz\":\"the mesh can be reached\",\n"
        "\"GET /metrics\":\"counters, for Prometheus\",\n"
        "\"GET /version\":\"what runs here\"}}\n";

    (void)rest;
    page(request, "application/json", text);
}

void gateway_page_livez(struct gateway_request *request, const char *rest)
{
    (void)rest;
    page(request, "text/plain", "ok\n");
}

void gateway_page_readyz(struct gateway_request *request, const char *rest)
{
    const struct gateway *gateway = request->gateway;
    struct gateway_refusal why = {.status = PROTO_STATUS_UNAVAILABLE, .is_page = true};

    (void)rest;
    if (gateway_is_ready(gateway)) {
        page(request, "text/plain", "ready\n");
        return;
    }
    if (service_draining(gateway->service))
        why.status = PROTO_STATUS_DRAINING;
    gateway_request_refuse(request, &why, "%s",
                           why.status == PROTO_STATUS_DRAINING
                               ? "the gateway is shutting down"
                               : "the broker does not answer");
}

void gateway_page_metrics(struct gateway_request *request, const char *rest)
{
    static const struct gateway_refusal failed = {.status = PROTO_STATUS_INTERNAL};
    struct gateway *gateway = request->gateway;
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);

    (void)rest;
    if (out == NULL) {
        gateway_request_refuse(request, &failed, "out of memory");
        return;
    }
    gateway_refresh_metrics(gateway);
    metrics_prometheus(service_name(gateway->service),
                       service_metrics_spec(gateway->service), gateway->metrics, out);
    if (fclose(out) == 0)
        gateway_request_page(request, 200, "text/plain; version=0.0.4", text, size);
    else
        gateway_request_refuse(request, &failed, "out of memory");
    free(text);
}

void gateway_page_version(struct gateway_request *request, const char *rest)
{
    (void)rest;
    page(request, "application/json",
         "{\"name\":\"siftmesh\",\"version\":\"" SIFTMESH_VERSION
         "\",\"algorithm\":\"" PROTO_ALGORITHM "\",\"protocol\":\"SMP/1\"}\n");
}
