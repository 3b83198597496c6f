#include "gateway/admin.h"

#include "proto/secret.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define STATUS_US 5000000u /* for the broker's answer to STATS */

/* ---- the token ------------------------------------------------------------------ */

/* NULL, or why no Authorization header can carry it. */
static const char *token_wrong(const char *token, size_t size)
{
    if (size < GATEWAY_ADMIN_TOKEN_BYTES_MIN || size >= GATEWAY_ADMIN_TOKEN_BYTES_MAX)
        return "it is too short or too long";
    for (size_t i = 0; i < size; i++)
        if (token[i] <= ' ' || token[i] > '~')
            return "it has bytes other than visible ASCII";
    return NULL;
}

static int check_token(const char *path, const char *token, const struct stat *file)
{
    size_t size = strlen(token);
    const char *wrong = token_wrong(token, size);
    int err = wrong != NULL ? -EINVAL : -EPERM;

    if (wrong == NULL)
        wrong = proto_secret_wrong(file, geteuid());
    if (wrong == NULL)
        return 0;
    log_event(LOG_ERROR, "the admin token is refused",
              "file=\"%s\" error=\"%s\" mode=%03o bytes=%zu min=%d max=%d", path, wrong,
              (unsigned)(file->st_mode & 0777), size, GATEWAY_ADMIN_TOKEN_BYTES_MIN,
              GATEWAY_ADMIN_TOKEN_BYTES_MAX - 1);
    return err;
}

int gateway_admin_read_token(struct gateway *gateway, const char *path)
{
    char *token = gateway->admin_token;
    struct stat status;

    if (path[0] == '\0')
        return 0;
    service_hide_memory();
    errno = 0;
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
    size_t size = strcspn(token, "\r\n");
    while (size > 0 && (token[size - 1] == ' ' || token[size - 1] == '\t'))
        size--;
    /* shows_token() compares the whole of it. */
    memset(token + size, 0, sizeof gateway->admin_token - size);
    return check_token(path, token, &status);
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

static void refuse(struct gateway_request *request, enum proto_status status,
                   const char *detail)
{
    struct gateway_refusal why = {
        .status = status, .retry_after_ms = 1000, .is_page = true};

    request->errand = (struct gateway_errand){0};
    gateway_request_refuse(request, &why, "%s", detail);
}

void gateway_admin_leave(struct gateway_request *request)
{
    if (request->errand.purge != NULL)
        gateway_purge_leave(request->errand.purge);
    request->errand = (struct gateway_errand){0};
}

void gateway_admin_sweep(struct gateway_request *request, uint64_t now_us)
{
    if (!request->errand.stats || now_us < request->errand.until_us)
        return;
    refuse(request, PROTO_STATUS_EXPIRED, "the mesh did not answer in time");
}

/* ---- the mesh's status ---------------------------------------------------------- */

bool gateway_admin_on_stats(struct gateway *gateway, const struct mesh_msg *msg)
{
    struct gateway_request *request = gateway->requests;
    const struct proto_id *id = &msg->envelope.request;

    while (request != NULL &&
           (!request->errand.stats || memcmp(&request->errand.id, id, sizeof *id) != 0))
        request = request->next;
    if (request == NULL)
        return false;
    request->errand = (struct gateway_errand){0};
    gateway_request_page(request, 200, "application/json",
                         zmq_msg_data((zmq_msg_t *)(uintptr_t)&msg->payload),
                         zmq_msg_size(&msg->payload));
    return true;
}

void gateway_admin_status(struct gateway_request *request, const char *rest)
{
    struct gateway *gateway = request->gateway;
    struct proto_envelope envelope = {.verb = PROTO_STATS,
                                      .priority = PROTO_PRIORITY_HIGH,
                                      .request = session_new_id(gateway->session),
                                      .trace = request->trace};

    (void)rest;
    request->errand =
        (struct gateway_errand){.stats = true,
                                .id = envelope.request,
                                .until_us = service_now_us(gateway->service) + STATUS_US};
    gateway_wake(gateway);
    if (session_send(gateway->session, &envelope, NULL, NULL) < 0)
        refuse(request, PROTO_STATUS_UNAVAILABLE, "the broker does not answer");
}

/* ---- a result to be forgotten --------------------------------------------------- */

static void on_purged(bool done, void *waiter)
{
    struct gateway_request *request = waiter;
    char hex[2 * PROTO_DIGEST_BYTES + 1], text[128];

    request->errand = (struct gateway_errand){0};
    proto_hex(request->key, hex);
    int size = snprintf(text, sizeof text, "{\"%s\":\"%s\"}\n",
                        done ? "purged" : "pending", hex);
    gateway_request_page(request, done ? 200 : 202, "application/json", text,
                         (size_t)size);
}

void gateway_admin_delete(struct gateway_request *request, const char *key_text)
{
    static const struct gateway_refusal none = {.status = PROTO_STATUS_NOT_FOUND};
    struct gateway *gateway = request->gateway;

    if (!is_admin(request))
        return;
    if (proto_unhex(key_text, strlen(key_text), request->key) < 0) {
        gateway_request_refuse(request, &none, "a key has 64 hexadecimal digits");
        return;
    }
    int err = gateway_purges_begin(gateway->purges, request->key, &request->trace,
                                   on_purged, request, service_now_us(gateway->service),
                                   &request->errand.purge);
    gateway_wake(gateway);
    if (err == -ENOBUFS)
        refuse(request, PROTO_STATUS_FULL,
               "too many results are to be forgotten already");
    else if (err < 0)
        refuse(request, PROTO_STATUS_UNAVAILABLE, "the broker does not answer");
}
