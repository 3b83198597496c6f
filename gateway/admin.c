#include "gateway/admin.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define STATUS_US 5000000u  /* for the broker's answer to STATS and PURGE */
#define PURGE_US  10000000u /* for the cacher's */

/* ---- the token ------------------------------------------------------------------ */

static int check_token(const char *path, const char *token)
{
    size_t size = strlen(token);

    if (size >= GATEWAY_ADMIN_TOKEN_BYTES_MIN && size < GATEWAY_ADMIN_TOKEN_BYTES_MAX)
        return 0;
    log_event(LOG_ERROR, "the admin token is too short or too long",
              "file=\"%s\" bytes=%zu min=%d max=%d", path, size,
              GATEWAY_ADMIN_TOKEN_BYTES_MIN, GATEWAY_ADMIN_TOKEN_BYTES_MAX - 1);
    return -EINVAL;
}

int gateway_admin_read_token(struct gateway *gateway, const char *path)
{
    char *token = gateway->admin_token;
    struct stat status;

    if (path[0] == '\0')
        return 0;
    FILE *file = fopen(path, "re");
    if (file == NULL || fgets(token, GATEWAY_ADMIN_TOKEN_BYTES_MAX + 1, file) == NULL ||
        fstat(fileno(file), &status) < 0) {
        int err = file == NULL || errno != 0 ? errno : ENODATA;
        log_event(LOG_ERROR, "cannot read the admin token", "file=\"%s\" error=\"%s\"",
                  path, strerror(err));
        if (file != NULL)
            fclose(file);
        return -err;
    }
    fclose(file);
    if ((status.st_mode & 077) != 0)
        log_event(LOG_WARNING, "others can read the admin token",
                  "file=\"%s\" mode=%03o wanted=600", path,
                  (unsigned)(status.st_mode & 0777));
    token[strcspn(token, "\r\n")] = '\0';
    return check_token(path, token);
}

/* RFC 6750: "Bearer TOKEN". Compared in a time that tells nothing of the token. */
static bool shows_token(const struct gateway_request *request)
{
    static const char scheme[] = "Bearer ";
    const char *given = http_header(request->http, "authorization");
    const char *token = request->gateway->admin_token;
    char padded[GATEWAY_ADMIN_TOKEN_BYTES_MAX + 1] = "";

    if (given == NULL || strncasecmp(given, scheme, sizeof scheme - 1) != 0)
        return false;
    given += sizeof scheme - 1;
    if (strlen(given) >= sizeof padded)
        return false;
    strcpy(padded, given);
    return CRYPTO_memcmp(padded, token, sizeof padded) == 0;
}

static bool is_admin(struct gateway_request *request)
{
    static const struct gateway_refusal off = {.status = PROTO_STATUS_FORBIDDEN};
    static const struct gateway_refusal who = {.status = PROTO_STATUS_UNAUTHORIZED,
                                               .headers = "WWW-Authenticate: Bearer\r\n"};

    if (request->gateway->admin_token[0] == '\0')
        gateway_request_refuse(request, &off,
                               "this gateway has no admin_token_file: nobody may delete");
    else if (!shows_token(request))
        gateway_request_refuse(request, &who,
                               "this needs Authorization: Bearer and the admin token");
    else
        return true;
    return false;
}

/* ---- errands -------------------------------------------------------------------- */

static void open_errand(struct gateway_request *request, uint64_t us)
{
    struct gateway *gateway = request->gateway;

    request->errand.open = true;
    request->errand.until_us = service_now_us(gateway->service) + us;
    gateway_wake(gateway);
}

static void refuse(struct gateway_request *request, enum proto_status status,
                   const char *detail)
{
    struct gateway_refusal why = {
        .status = status, .retry_after_ms = 1000, .is_page = true};

    request->errand = (struct gateway_errand){0};
    gateway_request_refuse(request, &why, "%s", detail);
}

/* A control verb, whose answer has the same id. False: refused. */
static bool send_control(struct gateway_request *request, enum proto_verb verb,
                         const void *body)
{
    struct gateway *gateway = request->gateway;
    struct proto_envelope envelope = {
        .verb = (uint8_t)verb, .priority = PROTO_PRIORITY_HIGH, .trace = request->trace};

    request->errand.verb = verb;
    request->errand.id = envelope.request = session_new_id(gateway->session);
    if (session_send(gateway->session, &envelope, body, NULL) == 0)
        return true;
    refuse(request, PROTO_STATUS_UNAVAILABLE, "the broker does not answer");
    return false;
}

void gateway_admin_leave(struct gateway_request *request, uint64_t now_us)
{
    struct gateway_errand *errand = &request->errand;

    if (errand->exchange != NULL)
        gateway_mesh_cancel(request->gateway->mesh, errand->exchange, now_us);
    *errand = (struct gateway_errand){0};
}

void gateway_admin_sweep(struct gateway_request *request, uint64_t now_us)
{
    if (!request->errand.open || now_us < request->errand.until_us)
        return;
    gateway_admin_leave(request, now_us);
    refuse(request, PROTO_STATUS_EXPIRED, "the mesh did not answer in time");
}

static void page_purged(struct gateway_request *request)
{
    char hex[2 * PROTO_DIGEST_BYTES + 1], text[128];

    proto_hex(request->key, hex);
    int size = snprintf(text, sizeof text, "{\"purged\":\"%s\"}\n", hex);
    gateway_request_page(request, PROTO_STATUS_OK, "application/json", text,
                         (size_t)size);
}

bool gateway_admin_on_message(struct gateway *gateway, const struct mesh_msg *msg)
{
    struct gateway_request *request = gateway->requests;
    const struct proto_id *id = &msg->envelope.request;

    while (request != NULL && (request->errand.verb != msg->envelope.verb ||
                               memcmp(&request->errand.id, id, sizeof *id) != 0))
        request = request->next;
    if (request == NULL)
        return false;
    request->errand = (struct gateway_errand){0};
    if (msg->envelope.verb == PROTO_PURGE) {
        gateway_answer_purge(gateway, msg);
        page_purged(request);
    } else {
        gateway_request_page(request, PROTO_STATUS_OK, "application/json",
                             zmq_msg_data((zmq_msg_t *)(uintptr_t)&msg->payload),
                             zmq_msg_size(&msg->payload));
    }
    return true;
}

/* ---- the two of them ------------------------------------------------------------ */

void gateway_admin_status(struct gateway_request *request, const char *rest)
{
    (void)rest;
    open_errand(request, STATUS_US);
    (void)send_control(request, PROTO_STATS, NULL);
}

/* The tiers behind memory have let go: now all memories, by the broker. */
static void on_tiers_purged(const struct gateway_ending *ending, uint64_t now_us,
                            void *owner)
{
    struct gateway_request *request = owner;
    struct proto_purge purge = {.key_bytes = PROTO_DIGEST_BYTES};

    (void)now_us;
    request->errand.exchange = NULL;
    if (ending->status == PROTO_STATUS_OK || ending->status == PROTO_STATUS_UNAVAILABLE) {
        memcpy(purge.key, request->key, sizeof purge.key);
        (void)send_control(request, PROTO_PURGE, &purge);
    } else {
        refuse(request, PROTO_STATUS_UNAVAILABLE,
               ending->outcome->detail[0] != '\0' ? ending->outcome->detail
                                                  : "the cache does not answer");
    }
}

static bool send_purge(struct gateway_request *request)
{
    struct gateway *gateway = request->gateway;
    struct proto_submit body = {
        .service = "cache", .method = "purge", .key_bytes = PROTO_DIGEST_BYTES};
    struct proto_purge purge = {.key_bytes = PROTO_DIGEST_BYTES};
    uint8_t packed[PROTO_BODY_BYTES_MAX];
    zmq_msg_t payload;

    memcpy(purge.key, request->key, sizeof purge.key);
    int size = proto_body_encode(proto_purge_fields, &purge, packed, sizeof packed);
    if (size < 0 || mesh_payload_copy(&payload, packed, (size_t)size) < 0)
        return false;
    struct gateway_submit submit = {.body = &body,
                                    .payload = &payload,
                                    .trace = request->trace,
                                    .budget_us = PURGE_US,
                                    .priority = PROTO_PRIORITY_HIGH,
                                    .ended = on_tiers_purged,
                                    .owner = request};
    int err =
        gateway_mesh_submit(gateway->mesh, &submit, service_now_us(gateway->service),
                            &request->errand.exchange);
    zmq_msg_close(&payload);
    return err == 0;
}

void gateway_admin_delete(struct gateway_request *request, const char *key_text)
{
    static const struct gateway_refusal none = {.status = PROTO_STATUS_NOT_FOUND};

    if (!is_admin(request))
        return;
    if (proto_unhex(key_text, strlen(key_text), request->key) < 0) {
        gateway_request_refuse(request, &none, "a key has 64 hexadecimal digits");
        return;
    }
    open_errand(request, PURGE_US + STATUS_US);
    if (!send_purge(request))
        refuse(request, PROTO_STATUS_UNAVAILABLE, "the broker does not answer");
}
