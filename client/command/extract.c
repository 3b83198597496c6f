/*
 * extract.c - `siftmesh extract`: photos to a mesh, features to files.
 *
 * Every answer comes as the binary blob and is rendered here, so that all formats are the
 * same over HTTP and ZeroMQ. A few threads with a connection each keep the slots busy.
 */
#include "client/command/command.h"
#include "proto/render.h"

#include <errno.h>
#include <jansson.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

#define JOBS_DEFAULT 4
#define JOBS_MAX     64
#define TIMEOUT_S    60
#define TIMEOUT_MAX  3600

struct extract {
    char **photos;
    int count;
    enum proto_format format;
    enum proto_descriptors descriptors;
    const char *output;
    bool to_folder;
    char front[512];
    struct command_keys keys;
    const char *http;
    char query[1024]; /* parameters given, as a query string */
    struct proto_params params;
    int jobs, timeout_ms;
    atomic_int next, done, failed, exit_code;
    bool progress;
    struct timespec started;
    pthread_mutex_t print;
};

/* ---- results ---- */

static void set_exit_code(struct extract *x, int code)
{
    int none = EX_OK;
    atomic_compare_exchange_strong(&x->exit_code, &none, code); /* the first one stays */
}

static void complain(struct extract *x, const char *photo, int code, const char *what)
{
    pthread_mutex_lock(&x->print);
    fprintf(stderr, "%ssiftmesh extract: %s: %s\n", x->progress ? "\r\033[K" : "", photo,
            what);
    pthread_mutex_unlock(&x->print);
    atomic_fetch_add(&x->failed, 1);
    set_exit_code(x, code);
}

static double seconds_since(const struct timespec *start)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)(now.tv_sec - start->tv_sec) +
           (double)(now.tv_nsec - start->tv_nsec) / 1e9;
}

static void show_progress(struct extract *x)
{
    int done = atomic_fetch_add(&x->done, 1) + 1;
    double seconds = seconds_since(&x->started);

    if (!x->progress)
        return;
    pthread_mutex_lock(&x->print);
    fprintf(stderr, "\r\033[K%d of %d photos, %d failed, %.1f/s", done, x->count,
            atomic_load(&x->failed), done / (seconds > 0 ? seconds : 1));
    if (done == x->count)
        fputc('\n', stderr);
    pthread_mutex_unlock(&x->print);
}

static const char *output_path(const struct extract *x, const char *photo, char *path,
                               size_t capacity)
{
    const char *base = strrchr(photo, '/');

    if (!x->to_folder)
        return x->output != NULL ? x->output : "-";
    snprintf(path, capacity, "%s/%s%s", x->output != NULL ? x->output : ".",
             base != NULL ? base + 1 : photo, proto_format_suffix(x->format));
    return path;
}

static void write_features(struct extract *x, const char *photo, const uint8_t *blob,
                           size_t blob_bytes)
{
    char path[4096];
    uint8_t *text = NULL;
    size_t size = 0;

    int err = proto_render(blob, blob_bytes, x->format, x->descriptors, &text, &size);
    if (err < 0)
        complain(x, photo, EX_PROTOCOL, "the mesh sent no valid features");
    else if (!command_write_file(output_path(x, photo, path, sizeof path), text, size)) {
        atomic_fetch_add(&x->failed, 1);
        set_exit_code(x, EX_CANTCREAT);
    }
    free(text);
}

/* ---- one photo ---- */

static void by_zmq(struct extract *x, struct siftmesh *mesh, const char *photo,
                   const uint8_t *image, size_t size)
{
    struct siftmesh_result result;
    char what[400];
    int err = siftmesh_features(mesh, image, size, &x->params, x->timeout_ms, &result);

    if (err < 0) {
        snprintf(what, sizeof what, "no answer from the mesh: %s", strerror(-err));
        complain(x, photo, EX_TEMPFAIL, what);
    } else if (result.status != PROTO_STATUS_OK) {
        snprintf(what, sizeof what, "%s: %s", proto_status_code(result.status),
                 result.outcome.detail);
        complain(x, photo, command_exit_code(result.status), what);
    } else {
        write_features(x, photo, result.bytes, result.size);
    }
    siftmesh_result_free(&result);
}

static enum proto_status status_of_code(const char *code)
{
    for (unsigned s = 0; s < PROTO_STATUS_COUNT; s++)
        if (strcmp(proto_status_code(s), code) == 0)
            return (enum proto_status)s;
    return PROTO_STATUS_INTERNAL;
}

static void complain_problem(struct extract *x, const char *photo,
                             const struct command_http *http)
{
    char what[512];
    json_t *problem = json_loadb((const char *)http->body, http->size, 0, NULL);
    const char *code = json_string_value(json_object_get(problem, "code"));
    const char *detail = json_string_value(json_object_get(problem, "detail"));

    snprintf(what, sizeof what, "HTTP %ld %s: %s", http->status, code ? code : "",
             detail ? detail : "no detail");
    complain(x, photo, code ? command_exit_code(status_of_code(code)) : EX_UNAVAILABLE,
             what);
    json_decref(problem);
}

static void by_http(struct extract *x, const char *photo, const uint8_t *image,
                    size_t size)
{
    char url[2048], error[300];
    struct command_http http;

    snprintf(url, sizeof url, "%s/v1/features%s%s", x->http, x->query[0] ? "?" : "",
             x->query);
    if (!command_http_post(url, proto_format_media(PROTO_FORMAT_BIN), image, size, &http,
                           error, sizeof error)) {
        complain(x, photo, EX_UNAVAILABLE, error);
        return;
    }
    if (http.status == 200)
        write_features(x, photo, http.body, http.size);
    else
        complain_problem(x, photo, &http);
    command_http_free(&http);
}

static void *work(void *arg)
{
    struct extract *x = arg;
    struct siftmesh *mesh = x->http == NULL ? command_connect(x->front, &x->keys) : NULL;
    int i;

    if (x->http == NULL && mesh == NULL) {
        set_exit_code(x, EX_UNAVAILABLE);
        return NULL;
    }
    while ((i = atomic_fetch_add(&x->next, 1)) < x->count) {
        size_t size = 0;
        uint8_t *image = command_read_file(x->photos[i], &size);
        if (image == NULL) {
            atomic_fetch_add(&x->failed, 1);
            set_exit_code(x, EX_NOINPUT);
        } else if (x->http != NULL) {
            by_http(x, x->photos[i], image, size);
        } else {
            by_zmq(x, mesh, x->photos[i], image, size);
        }
        free(image);
        show_progress(x);
    }
    siftmesh_close(mesh);
    command_http_close();
    return NULL;
}

static int run_all(struct extract *x)
{
    pthread_t threads[JOBS_MAX];
    int jobs = x->jobs < x->count ? x->jobs : x->count, started = 0;

    clock_gettime(CLOCK_MONOTONIC, &x->started);
    pthread_mutex_init(&x->print, NULL);
    while (started < jobs && pthread_create(&threads[started], NULL, work, x) == 0)
        started++;
    if (started == 0) {
        fprintf(stderr, "siftmesh extract: no thread: %s\n", strerror(errno));
        return EX_OSERR;
    }
    for (int i = 0; i < started; i++)
        pthread_join(threads[i], NULL);
    if (x->count > 1 && !x->progress)
        fprintf(stderr, "%d photos, %d failed, %.1f s\n", atomic_load(&x->done),
                atomic_load(&x->failed), seconds_since(&x->started));
    return atomic_load(&x->exit_code);
}

/* ---- the command line ---- */

static void print_usage(void)
{
    printf(
        "Usage: siftmesh extract [OPTION...] PHOTO...\n"
        "Send photos to a mesh and write their features; - reads a photo from stdin.\n\n"
        "  --format F       json (default), msgpack, bin, npz, colmap or lowe\n"
        "  --descriptors D  in JSON: array (default), base64 or none\n"
        "  -o FILE|DIR      one photo: the file (stdout); several: the folder (.)\n"
        "  --zmq URL        the broker, e.g. tcp://127.0.0.1:5555 or ipc:///path "
        "(default:\n"
        "                   front.sock in the runtime folder)\n"
        "  --curve-key F    our keys, and\n"
        "  --curve-server F the broker's public one, for a broker on another host\n"
        "  --http URL       a gateway instead, e.g. http://127.0.0.1:8080\n"
        "  --jobs N         photos in flight at once (%d)\n"
        "  --timeout S      seconds for one photo (%d)\n"
        "  --help           print this\n\n"
        "Extraction parameters, with their defaults:\n",
        JOBS_DEFAULT, TIMEOUT_S);
#define INT(field, def, min, max, text)                                                  \
    printf("  --%-15s %s (%d)\n", #field, text, (int)(def));
#define NUM(field, def, min, max, text)                                                  \
    printf("  --%-15s %s (%g)\n", #field, text, (double)(def));
#define CHOICE(field, def, text, ...)                                                    \
    printf("  --%-15s %s (%s)\n", #field, text, ((const char *[]){__VA_ARGS__})[def]);
#include "proto/params.tbl"
}

/* The parameter into the struct and, as it was given, into the query string. */
static bool set_param(struct extract *x, const char *name, const char *value)
{
    struct proto_params_error error;
    char field[64];
    size_t used = strlen(x->query);

    snprintf(field, sizeof field, "%s", name);
    for (char *c = field; *c != '\0'; c++)
        *c = *c == '-' ? '_' : *c;
    if (proto_params_set(&x->params, field, value, &error) < 0) {
        fprintf(stderr, "siftmesh extract: %s\n", error.detail);
        return false;
    }
    int n = snprintf(x->query + used, sizeof x->query - used, "%s%s=%s",
                     used > 0 ? "&" : "", field, value);
    return n > 0 && (size_t)n < sizeof x->query - used;
}

static bool set_number(const char *name, const char *text, int max, int *out)
{
    char *end;
    long value = strtol(text, &end, 10);

    if (*text == '\0' || *end != '\0' || value < 1 || value > max) {
        fprintf(stderr, "siftmesh extract: %s is %s, must be 1 to %d\n", name, text, max);
        return false;
    }
    *out = (int)value;
    return true;
}

static bool set_option(struct extract *x, const char *name, const char *value)
{
    static const char *const kinds[] = {"array", "base64", "none"};

    if (strcmp(name, "o") == 0 || strcmp(name, "output") == 0) {
        x->output = value;
    } else if (strcmp(name, "http") == 0) {
        x->http = value;
    } else if (strcmp(name, "zmq") == 0) {
        return command_front(value, NULL, x->front, sizeof x->front);
    } else if (strcmp(name, "curve-key") == 0) {
        x->keys.own = value;
    } else if (strcmp(name, "curve-server") == 0) {
        x->keys.server = value;
    } else if (strcmp(name, "jobs") == 0) {
        return set_number("--jobs", value, JOBS_MAX, &x->jobs);
    } else if (strcmp(name, "timeout") == 0) {
        bool ok = set_number("--timeout", value, TIMEOUT_MAX, &x->timeout_ms);
        x->timeout_ms *= 1000;
        return ok;
    } else if (strcmp(name, "format") == 0) {
        if (proto_format_by_name(value, &x->format) == 0)
            return true;
        fprintf(stderr,
                "siftmesh extract: no format '%s': json, msgpack, bin, npz, "
                "colmap or lowe\n",
                value);
        return false;
    } else if (strcmp(name, "descriptors") == 0) {
        for (unsigned i = 0; i < 3; i++)
            if (strcmp(kinds[i], value) == 0) {
                x->descriptors = (enum proto_descriptors)i;
                return true;
            }
        fprintf(stderr,
                "siftmesh extract: --descriptors is %s, must be array, base64 "
                "or none\n",
                value);
        return false;
    } else {
        return set_param(x, name, value);
    }
    return true;
}

static bool parse(struct extract *x, int argc, char **argv)
{
    bool only_photos = false;

    for (int i = 1; i < argc; i++) {
        const char *word = argv[i];
        char name[64];
        if (only_photos || word[0] != '-' || word[1] == '\0') {
            x->photos[x->count++] = argv[i];
            continue;
        }
        if (strcmp(word, "--") == 0) {
            only_photos = true;
            continue;
        }
        word += word[1] == '-' ? 2 : 1;
        const char *equals = strchr(word, '=');
        if (equals == NULL && i + 1 >= argc) {
            fprintf(stderr, "siftmesh extract: %s needs a value\n", argv[i]);
            return false;
        }
        snprintf(name, sizeof name, "%.*s",
                 equals != NULL ? (int)(equals - word) : (int)strlen(word), word);
        if (!set_option(x, name, equals != NULL ? equals + 1 : argv[++i]))
            return false;
    }
    return true;
}

static bool check(struct extract *x)
{
    struct proto_params_error error;
    struct stat st;
    bool binary = x->format != PROTO_FORMAT_JSON && x->format != PROTO_FORMAT_COLMAP &&
                  x->format != PROTO_FORMAT_LOWE;

    if (proto_params_check(&x->params, &error) < 0) {
        fprintf(stderr, "siftmesh extract: %s\n", error.detail);
        return false;
    }
    if (x->count == 0) {
        fprintf(stderr, "siftmesh extract: no photo given; --help tells more\n");
        return false;
    }
    x->to_folder = x->count > 1 || (x->output != NULL && stat(x->output, &st) == 0 &&
                                    S_ISDIR(st.st_mode));
    if (x->count > 1 && x->output != NULL && mkdir(x->output, 0777) < 0 &&
        errno != EEXIST) {
        fprintf(stderr, "siftmesh extract: %s: %s\n", x->output, strerror(errno));
        return false;
    }
    if (!x->to_folder && x->output == NULL && binary && isatty(STDOUT_FILENO)) {
        fprintf(stderr, "siftmesh extract: %s is binary; name a file with -o\n",
                proto_format_name(x->format));
        return false;
    }
    x->progress = x->count > 1 && isatty(STDERR_FILENO);
    return true;
}

int command_extract(int argc, char **argv)
{
    struct extract x = {.jobs = JOBS_DEFAULT, .timeout_ms = TIMEOUT_S * 1000};
    int code = EX_USAGE;

    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            print_usage();
            return EX_OK;
        }
    proto_params_init(&x.params);
    x.photos = calloc((size_t)argc, sizeof x.photos[0]);
    if (x.photos == NULL || !command_front(NULL, NULL, x.front, sizeof x.front))
        code = EX_OSERR;
    else if (parse(&x, argc, argv) && check(&x))
        code = run_all(&x);
    free(x.photos);
    return code;
}
