/*
 * extract.c - `siftmesh extract`: photos to a mesh, features to files.
 *
 * Every answer comes as the binary blob and is rendered here, so that all formats are the
 * same over HTTP and ZeroMQ. A few threads with a connection each keep the slots busy.
 */
#include "client/command/extract.h"
#include "proto/render.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
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
    struct command_mesh mesh;
    struct extract_way way;
    char query[1024]; /* parameters given, as a query string */
    struct proto_params params;
    int jobs;
    atomic_int next, exit_code;
    atomic_bool gone; /* the mesh: what is left is not sent */
    bool progress;
    struct timespec started;
    pthread_mutex_t print; /* also of done and failed */
    int done, failed;
};

/* ---- results ---- */

static void set_exit_code(struct extract *x, int code)
{
    int none = EX_OK;
    atomic_compare_exchange_strong(&x->exit_code, &none, code); /* the first one stays */
}

static double seconds_since(const struct timespec *start)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)(now.tv_sec - start->tv_sec) +
           (double)(now.tv_nsec - start->tv_nsec) / 1e9;
}

/* Count a photo, and say why it failed unless `why` is NULL. */
static void count_photo(struct extract *x, const char *photo, int code, const char *why)
{
    pthread_mutex_lock(&x->print);
    x->done++;
    x->failed += code != EX_OK;
    if (code != EX_OK && why != NULL)
        fprintf(stderr, "%ssiftmesh extract: %s: %s\n", x->progress ? "\r\033[K" : "",
                command_shown(photo), command_shown(why));
    if (x->progress) {
        double seconds = seconds_since(&x->started);
        fprintf(stderr, "\r\033[K%d of %d photos, %d failed, %.1f/s", x->done, x->count,
                x->failed, x->done / (seconds > 0 ? seconds : 1));
    }
    pthread_mutex_unlock(&x->print);
    if (code != EX_OK)
        set_exit_code(x, code);
}

/* False: too long. */
static bool output_path(const struct extract *x, const char *photo, char path[PATH_MAX])
{
    const char *base = strrchr(photo, '/');
    int size;

    if (!x->to_folder)
        size = snprintf(path, PATH_MAX, "%s", x->output != NULL ? x->output : "-");
    else
        size = snprintf(path, PATH_MAX, "%s/%s%s", x->output != NULL ? x->output : ".",
                        base != NULL ? base + 1 : photo, proto_format_suffix(x->format));
    return size < PATH_MAX;
}

static int write_features(struct extract *x, const char *photo,
                          const struct extract_answer *answer, char *why,
                          size_t why_bytes)
{
    char path[PATH_MAX];
    uint8_t *text = NULL;
    size_t size = 0;
    int code = EX_OK;

    if (proto_render(answer->blob, answer->size, x->format, x->descriptors, &text,
                     &size) < 0) {
        snprintf(why, why_bytes, "the mesh sent no valid features");
        code = EX_PROTOCOL;
    } else if (!output_path(x, photo, path) || !command_write_file(path, text, size)) {
        snprintf(why, why_bytes, "not written");
        code = EX_CANTCREAT;
    }
    free(text);
    return code;
}

static void one_photo(struct extract *x, struct siftmesh **mesh, const char *photo)
{
    struct extract_answer answer = {0};
    size_t size = 0;
    uint8_t *image = command_read_file(photo, &size);

    if (image == NULL) {
        count_photo(x, photo, EX_NOINPUT, NULL); /* said there */
        return;
    }
    int code = extract_send(&x->way, mesh, image, size, &answer);
    if (code == EX_OK)
        code = write_features(x, photo, &answer, answer.why, sizeof answer.why);
    if (answer.gone)
        atomic_store(&x->gone, true);
    count_photo(x, photo, code, answer.why);
    free(answer.blob);
    free(image);
}

static void *work(void *arg)
{
    struct extract *x = arg;
    struct siftmesh *mesh = NULL;
    int i;

    while (!atomic_load(&x->gone) && (i = atomic_fetch_add(&x->next, 1)) < x->count)
        one_photo(x, &mesh, x->photos[i]);
    siftmesh_close(mesh);
    command_http_close();
    return NULL;
}

/* Every photo is accounted for, also those that the mesh was not there for. */
static void summarize(const struct extract *x)
{
    if (x->done < x->count)
        fprintf(stderr, "%ssiftmesh extract: the mesh is away: %d photos were not sent\n",
                x->progress ? "\r\033[K" : "", x->count - x->done);
    if (x->count > 1)
        fprintf(stderr, "%s%d photos, %d failed, %.1f s\n", x->progress ? "\r\033[K" : "",
                x->count, x->failed + x->count - x->done, seconds_since(&x->started));
}

/* A mesh that is not there is said once, before the threads begin. */
static bool is_there(struct extract *x)
{
    if (x->way.http != NULL)
        return true; /* the first photo shows it */
    struct siftmesh *mesh = command_connect(&x->mesh);
    siftmesh_close(mesh);
    return mesh != NULL;
}

static int run_all(struct extract *x)
{
    pthread_t threads[JOBS_MAX];
    int jobs = x->jobs < x->count ? x->jobs : x->count, started = 0;

    clock_gettime(CLOCK_MONOTONIC, &x->started);
    pthread_mutex_init(&x->print, NULL);
    if (!is_there(x)) {
        summarize(x);
        return EX_UNAVAILABLE;
    }
    while (started < jobs && pthread_create(&threads[started], NULL, work, x) == 0)
        started++;
    if (started == 0) {
        fprintf(stderr, "siftmesh extract: no thread: %s\n", strerror(errno));
        return EX_OSERR;
    }
    for (int i = 0; i < started; i++)
        pthread_join(threads[i], NULL);
    summarize(x);
    return atomic_load(&x->exit_code);
}

/* ---- the command line ---- */

static void print_usage(void)
{
    printf(
        "Usage: siftmesh extract [OPTION...] PHOTO...\n"
        "Send photos to a mesh and write their features; - reads a photo from stdin.\n\n"
        "  --format F         json (default), msgpack, bin, npz, colmap or lowe\n"
        "  --descriptors D    in JSON: array (default), base64 or none\n"
        "  -o FILE|DIR        one photo: the file (stdout); several: the folder (.), "
        "where\n"
        "                     PHOTO.jpg becomes PHOTO.jpg.json; two photos of one name\n"
        "                     are refused\n"
        "  --jobs N           photos in flight at once (%d)\n"
        "  --timeout S        seconds for one photo (%d), with all that is waited and "
        "tried\n"
        "                     again where the mesh is full or restarted\n"
        "  --http URL         a gateway instead, e.g. "
        "http://127.0.0.1:8080\n" COMMAND_MESH_HELP "  --help             print this\n\n"
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
        fprintf(stderr, "siftmesh extract: %s\n", command_shown(error.detail));
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
        fprintf(stderr, "siftmesh extract: %s is %s, must be 1 to %d\n", name,
                command_shown(text), max);
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
        x->way.http = value;
    } else if (command_mesh_option(&x->mesh, name, value)) {
        return true;
    } else if (strcmp(name, "jobs") == 0) {
        return set_number("--jobs", value, JOBS_MAX, &x->jobs);
    } else if (strcmp(name, "timeout") == 0) {
        bool ok = set_number("--timeout", value, TIMEOUT_MAX, &x->way.timeout_ms);
        x->way.timeout_ms *= 1000;
        return ok;
    } else if (strcmp(name, "format") == 0) {
        if (proto_format_by_name(value, &x->format) == 0)
            return true;
        fprintf(stderr,
                "siftmesh extract: no format '%s': json, msgpack, bin, npz, "
                "colmap or lowe\n",
                command_shown(value));
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
            fprintf(stderr, "siftmesh extract: %s needs a value\n",
                    command_shown(argv[i]));
            return false;
        }
        snprintf(name, sizeof name, "%.*s",
                 equals != NULL ? (int)(equals - word) : (int)strlen(word), word);
        if (!set_option(x, name, equals != NULL ? equals + 1 : argv[++i]))
            return false;
    }
    return true;
}

static int by_base(const void *a, const void *b)
{
    const char *one = *(char *const *)a, *other = *(char *const *)b;
    const char *p = strrchr(one, '/'), *q = strrchr(other, '/');

    return strcmp(p != NULL ? p + 1 : one, q != NULL ? q + 1 : other);
}

/* Two photos of one name would be one file. */
static bool names_differ(const struct extract *x)
{
    char **sorted = calloc((size_t)x->count, sizeof sorted[0]);
    char path[PATH_MAX];
    bool differ = sorted != NULL;

    if (sorted == NULL)
        return false;
    memcpy(sorted, x->photos, (size_t)x->count * sizeof sorted[0]);
    qsort(sorted, (size_t)x->count, sizeof sorted[0], by_base);
    for (int i = 1; i < x->count && differ; i++)
        if (by_base(&sorted[i - 1], &sorted[i]) == 0 && output_path(x, sorted[i], path)) {
            fprintf(stderr,
                    "siftmesh extract: %s and %s would both be written to %s; send them "
                    "one after the other, each with a folder of its own (-o)\n",
                    command_shown(sorted[i - 1]), command_shown(sorted[i]),
                    command_shown(path));
            differ = false;
        }
    free(sorted);
    return differ;
}

static bool check(struct extract *x)
{
    struct proto_params_error error;
    struct stat st;
    bool binary = x->format != PROTO_FORMAT_JSON && x->format != PROTO_FORMAT_COLMAP &&
                  x->format != PROTO_FORMAT_LOWE;

    if (proto_params_check(&x->params, &error) < 0) {
        fprintf(stderr, "siftmesh extract: %s\n", command_shown(error.detail));
        return false;
    }
    if (x->count == 0) {
        fprintf(stderr, "siftmesh extract: no photo given; --help tells more\n");
        return false;
    }
    x->to_folder = x->count > 1 || (x->output != NULL && stat(x->output, &st) == 0 &&
                                    S_ISDIR(st.st_mode));
    if (x->count > 1 && !names_differ(x))
        return false;
    if (x->count > 1 && x->output != NULL && mkdir(x->output, 0777) < 0 &&
        errno != EEXIST) {
        fprintf(stderr, "siftmesh extract: %s: %s\n", command_shown(x->output),
                strerror(errno));
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
    struct extract x = {.jobs = JOBS_DEFAULT, .way.timeout_ms = TIMEOUT_S * 1000};
    int code = EX_USAGE;

    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            print_usage();
            return EX_OK;
        }
    proto_params_init(&x.params);
    x.photos = calloc((size_t)argc, sizeof x.photos[0]);
    x.way.mesh = &x.mesh;
    x.way.query = x.query;
    x.way.params = &x.params;
    if (x.photos == NULL)
        code = EX_OSERR;
    else if (parse(&x, argc, argv) && check(&x)) {
        code = x.way.http != NULL ? EX_OK : command_mesh_find(&x.mesh);
        code = code == EX_OK ? run_all(&x) : code;
    }
    command_mesh_wipe(&x.mesh);
    free(x.photos);
    return code;
}
