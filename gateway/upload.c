#include "gateway/upload.h"

#include "proto/mask.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static const char *const media[] = {
    "image/jpeg",
    "image/png",
    "image/webp",
    "image/x-portable-anymap",
    "image/x-portable-graymap",
    "image/x-portable-pixmap",
    "image/x-portable-bitmap",
    "application/octet-stream",
    "application/x-www-form-urlencoded", /* what curl says unless it is told otherwise */
};
#define MEDIA_CHOICES                                                                    \
    "image/jpeg, image/png, image/webp, image/x-portable-anymap, "                       \
    "application/octet-stream or multipart/form-data with a field 'file'"

/* ---- before the body ------------------------------------------------------------ */

static bool refuse_budget(struct gateway_request *request, int err, uint64_t wanted)
{
    const struct gateway_budget *budget = request->gateway->budget;
    struct gateway_refusal why = {.status = PROTO_STATUS_FULL};

    if (err == -ENOMEM) {
        gateway_request_refuse(request, &why, "out of memory");
        return false;
    }
    why.limit = proto_priority_limit(gateway_budget_limit(budget),
                                     gateway_budget_used(budget), request->priority);
    why.actual = gateway_budget_used(budget) + wanted;
    gateway_request_refuse(request, &why,
                           "the gateway holds as many bytes of bodies as "
                           "it may");
    return false;
}

static bool begin_multipart(struct gateway_request *request, const char *type)
{
    static const struct gateway_refusal bad = {.status = PROTO_STATUS_BAD_REQUEST};

    request->multipart = malloc(sizeof *request->multipart);
    if (request->multipart == NULL)
        return refuse_budget(request, -ENOMEM, 0);
    if (gateway_multipart_init(request->multipart, type) == 0)
        return true;
    gateway_request_refuse(request, &bad, "%s", request->multipart->detail);
    return false;
}

/* Only what cannot be meant as a picture is refused: the content decides what it is. */
static bool check_type(struct gateway_request *request)
{
    static const struct gateway_refusal bad = {.status = PROTO_STATUS_BAD_TYPE};
    const char *type = http_header(request->http, "content-type");

    if (type == NULL || *type == '\0')
        return true;
    size_t size = strcspn(type, "; \t");
    for (size_t i = 0; i < sizeof media / sizeof media[0]; i++)
        if (strlen(media[i]) == size && strncasecmp(type, media[i], size) == 0)
            return true;
    if (size == 19 && strncasecmp(type, "multipart/form-data", 19) == 0)
        return begin_multipart(request, type);
    gateway_request_refuse(request, &bad, "the type %.*s is not taken; it is to be %s",
                           size < 80 ? (int)size : 80, type, MEDIA_CHOICES);
    return false;
}

static bool check_length(struct gateway_request *request)
{
    static const struct gateway_refusal none = {.status = PROTO_STATUS_NO_LENGTH};
    static const struct gateway_refusal empty = {.status = PROTO_STATUS_BAD_REQUEST};
    uint64_t limit = request->gateway->options->body_bytes_max;
    int64_t length = http_content_length(request->http);

    if (http_is_chunked(request->http))
        return true;
    if (!http_has_length(request->http)) {
        gateway_request_refuse(request, &none,
                               "the picture needs a Content-Length, or to "
                               "be sent chunked");
        return false;
    }
    if (length == 0) {
        gateway_request_refuse(request, &empty,
                               "the body is empty; it is to be a picture");
        return false;
    }
    if ((uint64_t)length > limit) { /* the server refuses this by itself, earlier */
        struct gateway_refusal large = {
            PROTO_STATUS_TOO_LARGE, limit, (uint64_t)length, 0, NULL, false};
        char text[GATEWAY_LARGE_BYTES];
        gateway_request_refuse(request, &large, "%s",
                               gateway_request_large(limit, (uint64_t)length, text));
        return false;
    }
    return true;
}

/* A full budget is told of before a byte of the body is read. */
static bool check_room(struct gateway_request *request)
{
    const struct gateway_budget *budget = request->gateway->budget;
    size_t limit = gateway_budget_limit(budget), used;

    do {
        used = gateway_budget_used(budget);
        if (used < proto_priority_limit(limit, used, request->priority))
            return true;
    } while (http_end_slowest_body(request->gateway->server, request->http));
    return refuse_budget(request, -ENOBUFS, 1);
}

bool gateway_upload_begin(struct gateway_request *request)
{
    struct gateway *gateway = request->gateway;

    if (!check_length(request) || !check_type(request))
        return false;
    request->body.priority = request->priority;
    if (!check_room(request))
        return false;
    gateway_body_begin(
        &request->body, gateway->budget,
        http_is_chunked(request->http) ? 0 : (size_t)http_content_length(request->http));
    if (request->digest == NULL)
        request->digest = EVP_MD_CTX_new();
    if (request->digest == NULL ||
        EVP_DigestInit_ex2(request->digest, gateway->sha256, NULL) != 1)
        return refuse_budget(request, -ENOMEM, 0);
    return true;
}

/* ---- the body ------------------------------------------------------------------- */

static int append(struct gateway_request *request, const uint8_t *bytes, size_t size)
{
    struct gateway *gateway = request->gateway;
    int err;

    do
        err = gateway_body_append(&request->body, bytes, size,
                                  gateway->options->body_bytes_max);
    while (err == -ENOBUFS && http_end_slowest_body(gateway->server, request->http));
    if (err == 0 && EVP_DigestUpdate(request->digest, bytes, size) != 1)
        err = -ENOMEM;
    return err;
}

static int take_field(void *arg, const uint8_t *bytes, size_t size)
{
    struct gateway_request *request = arg;

    if (request->multipart->in_mask)
        request->mask_bytes += size;
    return append(request, bytes, size);
}

static void refuse_piece(struct gateway_request *request, int err, size_t size)
{
    struct gateway_refusal why = {.status = PROTO_STATUS_BAD_REQUEST};
    uint64_t limit = request->gateway->options->body_bytes_max;

    if (err == -EINVAL) {
        gateway_request_refuse(request, &why, "%s", request->multipart->detail);
    } else if (err == -E2BIG) {
        why = (struct gateway_refusal){
            PROTO_STATUS_TOO_LARGE, limit, request->body.size + size, 0, NULL, false};
        char text[GATEWAY_LARGE_BYTES];
        gateway_request_refuse(request, &why, "%s",
                               gateway_request_large(limit, why.actual, text));
    } else {
        (void)refuse_budget(request, err, size);
    }
}

void gateway_upload_feed(struct gateway_request *request, const uint8_t *bytes,
                         size_t size)
{
    int err = request->multipart == NULL
                  ? append(request, bytes, size)
                  : gateway_multipart_feed(request->multipart, bytes, size, take_field,
                                           request);

    if (err < 0)
        refuse_piece(request, err, size);
}

/* Picture and mask become one run of bytes, proto/mask.h. */
static int end_mask(struct gateway_request *request)
{
    uint8_t trailer[PROTO_MASK_TRAILER_BYTES];

    if (request->mask_bytes == 0)
        return 0;
    proto_mask_trailer(request->mask_bytes, trailer);
    return append(request, trailer, sizeof trailer);
}

bool gateway_upload_finish(struct gateway_request *request)
{
    static const struct gateway_refusal empty = {.status = PROTO_STATUS_BAD_REQUEST};

    if (request->multipart != NULL && gateway_multipart_finish(request->multipart) < 0) {
        gateway_request_refuse(request, &empty, "%s", request->multipart->detail);
        return false;
    }
    if (request->body.size == 0) {
        gateway_request_refuse(request, &empty,
                               "the body is empty; it is to be a picture");
        return false;
    }
    if (request->multipart != NULL && request->multipart->in_mask &&
        request->mask_bytes == 0) {
        gateway_request_refuse(request, &empty, "the form's mask is empty");
        return false;
    }
    int err = end_mask(request);
    if (err < 0) {
        refuse_piece(request, err, PROTO_MASK_TRAILER_BYTES);
        return false;
    }
    if (EVP_DigestFinal_ex(request->digest, request->image_sha256, NULL) != 1)
        return refuse_budget(request, -ENOMEM, 0);
    return true;
}
