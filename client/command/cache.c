/*
 * cache.c - `siftmesh cache`: what the cache keeps, and what it is to forget.
 */
#include "client/command/command.h"
#include "proto/tags.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#define ASK_TIMEOUT_MS                                                                   \
    15000 /* one step: PURGE_MS, or a page of a warm-up, and a margin */
#define PURGE_STEPS_MAX 100000

struct cache_command {
    struct command_mesh mesh;
    bool json, dry_run, all;
    const char *key, *prefix, *tag, *older, *out;
    const char *word; /* the argument behind the subcommand, or NULL */
};

static const char usage[] =
    "Usage: siftmesh cache stats [--json]\n"
    "       siftmesh cache get KEY [--out FILE]\n"
    "       siftmesh cache purge --key KEY | --prefix HEX | --tag TAG |\n"
    "                            --older-than 7d | --all  [--dry-run]\n"
    "       siftmesh cache warm\n"
    "       siftmesh cache plan [--json]\n"
    "\n"
    "  stats  the tiers: memory, Redis, the durable store\n"
    "  get    a result as it is kept: a feature blob or a PNG\n"
    "  purge  forget results in every tier and every gateway; never another\n"
    "         application's keys. --dry-run counts and removes nothing\n"
    "  warm   load the most recently used results of the store into memory, and memory "
    "into Redis\n"
    "  plan   how much memory the traffic of now needs, and what more or less would "
    "give\n\n" COMMAND_MESH_HELP;

/* ---- words ---------------------------------------------------------------------- */

static int bad_usage(const char *what, const char *value)
{
    fprintf(stderr, "siftmesh cache: %s%s%s; --help tells more\n", what,
            value != NULL ? ": " : "", value != NULL ? command_shown(value) : "");
    return EX_USAGE;
}

static int bad_older(const char *value)
{
    fprintf(stderr,
            "siftmesh cache: --older-than is \"%s\", must be a number with s, m, h or d, "
            "as 7d; --help tells more\n",
            command_shown(value));
    return EX_USAGE;
}

/* 0, an exit code, or -1 for --help. */
static int parse(struct cache_command *command, int argc, char **argv)
{
    static const struct option options[] = {COMMAND_MESH_OPTIONS,
                                            {"json", no_argument, NULL, 'j'},
                                            {"dry-run", no_argument, NULL, 'n'},
                                            {"all", no_argument, NULL, 'a'},
                                            {"key", required_argument, NULL, 'k'},
                                            {"prefix", required_argument, NULL, 'p'},
                                            {"tag", required_argument, NULL, 't'},
                                            {"older-than", required_argument, NULL, 'o'},
                                            {"out", required_argument, NULL, 'f'},
                                            {"help", no_argument, NULL, 'h'},
                                            {0}};
    int c, which = 0;

    while ((c = getopt_long(argc, argv, "h", options, &which)) != -1) {
        switch (c) {
        case 'm':
            (void)command_mesh_option(&command->mesh, options[which].name, optarg);
            break;
        case 'j':
            command->json = true;
            break;
        case 'n':
            command->dry_run = true;
            break;
        case 'a':
            command->all = true;
            break;
        case 'k':
            command->key = optarg;
            break;
        case 'p':
            command->prefix = optarg;
            break;
        case 't':
            command->tag = optarg;
            break;
        case 'o':
            command->older = optarg;
            break;
        case 'f':
            command->out = optarg;
            break;
        case 'h':
            return -1;
        default:
            return EX_USAGE;
        }
    }
    command->word = optind < argc ? argv[optind] : NULL;
    if (optind + 1 < argc)
        return bad_usage("unknown argument", argv[optind + 1]);
    if (command->word != NULL && strcmp(argv[0], "get") != 0)
        return bad_usage("unknown argument", command->word);
    return command_mesh_find(&command->mesh);
}

/* "90s", "30m", "12h", "7d" in seconds; 0: it is none of these. */
static uint64_t parse_age(const char *text)
{
    static const struct {
        char unit;
        uint64_t seconds;
    } units[] = {{'s', 1}, {'m', 60}, {'h', 3600}, {'d', 86400}};
    char *end;
    unsigned long long count = strtoull(text, &end, 10);

    if (text[0] < '0' || text[0] > '9' || count > 1000000000 || strlen(end) != 1)
        return 0;
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++)
        if (units[i].unit == *end)
            return count * units[i].seconds;
    return 0;
}

static bool parse_key(const char *text, uint8_t key[PROTO_DIGEST_BYTES])
{
    return text != NULL && proto_unhex(text, strlen(text), key) == 0;
}

/* ---- asking --------------------------------------------------------------------- */

static int report(const char *what, int err, const struct siftmesh_result *result)
{
    if (err < 0) {
        fprintf(stderr, "siftmesh cache %s: no answer: %s\n", what, strerror(-err));
        return EX_TEMPFAIL;
    }
    if (result->status == PROTO_STATUS_OK)
        return EX_OK;
    if (result->status == PROTO_STATUS_MISS && strcmp(what, "get") == 0) {
        fprintf(stderr, "siftmesh cache get: no result is known under this key\n");
        return EX_UNAVAILABLE;
    }
    fprintf(stderr, "siftmesh cache %s: %s: %s\n", what,
            proto_status_code(result->status),
            result->outcome.detail[0] != '\0' ? result->outcome.detail
                                              : proto_status_title(result->status));
    return result->status == PROTO_STATUS_MISS ? EX_UNAVAILABLE
                                               : command_exit_code(result->status);
}

/* A method of the service "cache"; its JSON, or NULL with `code` set. */
static json_t *ask(struct siftmesh *mesh, const char *method, const void *payload,
                   size_t size, int *code)
{
    struct proto_submit body = {.service = "cache", .key_bytes = PROTO_DIGEST_BYTES};
    struct siftmesh_result result = {0};
    json_t *json = NULL;

    snprintf(body.method, sizeof body.method, "%s", method);
    int err = siftmesh_submit(mesh, &body, payload, size, ASK_TIMEOUT_MS, &result);
    *code = report(method, err, &result);
    if (*code == EX_OK && result.bytes != NULL)
        json = json_loadb((const char *)result.bytes, result.size, 0, NULL);
    if (*code == EX_OK && json == NULL) {
        fprintf(stderr, "siftmesh cache %s: the answer is no JSON\n", method);
        *code = EX_PROTOCOL;
    }
    siftmesh_result_free(&result);
    return json;
}

static double number(const json_t *object, const char *name)
{
    return json_number_value(json_object_get(object, name));
}

static const char *text(const json_t *object, const char *name)
{
    const char *value = json_string_value(json_object_get(object, name));

    return value != NULL ? command_shown(value) : "-";
}

/* ---- stats ---------------------------------------------------------------------- */

static void print_tier(const json_t *tier)
{
    double asked = number(tier, "hits") + number(tier, "misses");
    const char *error = text(tier, "last_error");
    char entries[24] = "-", mib[24] = "-"; /* a tier that does not know */

    if (json_object_get(tier, "entries") != NULL) {
        snprintf(entries, sizeof entries, "%.0f", number(tier, "entries"));
        snprintf(mib, sizeof mib, "%.1f", number(tier, "bytes") / 1048576);
    }
    printf("  %-9s %-9s %10s %10s %10.0f %10.0f %6.1f %7.0f", text(tier, "name"),
           text(tier, "breaker"), entries, mib, number(tier, "hits"),
           number(tier, "misses"), asked > 0 ? 100 * number(tier, "hits") / asked : 0.0,
           number(tier, "errors"));
    if (json_object_get(tier, "get_p50_us") != NULL)
        printf(" %8.2f %8.2f", number(tier, "get_p50_us") / 1000,
               number(tier, "get_p99_us") / 1000);
    if (error[0] != '\0' && error[0] != '-')
        printf("\n            last error: %s", error);
    putchar('\n');
}

static void print_cacher(const json_t *peer)
{
    const json_t *stats = json_object_get(peer, "stats");
    json_t *tier;
    size_t i;

    printf("%s\n  %-9s %-9s %10s %10s %10s %10s %6s %7s %8s %8s\n", text(peer, "name"),
           "tier", "breaker", "results", "MiB", "hits", "misses", "hit %", "errors",
           "p50 ms", "p99 ms");
    json_array_foreach (json_object_get(stats, "tiers"), i, tier)
        print_tier(tier);
    printf("  leases %.0f, waiting %.0f; granted %.0f, fulfilled %.0f, run out %.0f\n",
           number(stats, "leases_now"), number(stats, "parked_now"),
           number(stats, "leases_granted_total"), number(stats, "leases_fulfilled_total"),
           number(stats, "leases_expired_total"));
}

/* The cachers among the workers of the broker's STATS. */
static json_t *cachers_of(const json_t *stats)
{
    json_t *all = json_array(), *peer;
    size_t i;

    json_array_foreach (json_object_get(stats, "workers"), i, peer)
        if (strcmp(text(peer, "service"), "cache") == 0)
            json_array_append(all, peer);
    return all;
}

static int run_stats(struct cache_command *command, struct siftmesh *mesh)
{
    struct siftmesh_result result = {0};
    json_t *peer;
    size_t i;
    int err = siftmesh_control(mesh, PROTO_STATS, NULL, PROTO_STATS, NULL, ASK_TIMEOUT_MS,
                               &result);
    int code = report("stats", err, &result);
    json_t *stats = code == EX_OK && result.bytes != NULL
                        ? json_loadb((const char *)result.bytes, result.size, 0, NULL)
                        : NULL;
    json_t *cachers = cachers_of(stats);

    if (code == EX_OK && command->json) {
        command_print_json(cachers, JSON_INDENT(1));
    } else if (code == EX_OK) {
        json_array_foreach (cachers, i, peer)
            print_cacher(peer);
    }
    if (code == EX_OK && json_array_size(cachers) == 0) {
        fprintf(stderr, "siftmesh cache stats: there is no cacher in this mesh\n");
        code = EX_UNAVAILABLE;
    }
    json_decref(cachers);
    json_decref(stats);
    siftmesh_result_free(&result);
    return code;
}

/* ---- warm ----------------------------------------------------------------------- */

static int run_warm(struct cache_command *command, struct siftmesh *mesh)
{
    int code;
    json_t *answer = ask(mesh, "warm", NULL, 0, &code);

    if (answer == NULL)
        return code;
    if (command->json)
        json_dumpf(answer, stdout, JSON_ENSURE_ASCII);
    else
        printf("%.0f results, %.1f MiB loaded, %.0f written to Redis, in %.1f s (%s)",
               number(answer, "results"), number(answer, "bytes") / 1048576,
               number(answer, "redis"), number(answer, "ms") / 1000,
               text(answer, "ended"));
    putchar('\n');
    if (strcmp(text(answer, "ended"), "down") == 0) {
        fprintf(stderr, "siftmesh cache warm: the durable store or Redis did not answer; "
                        "`siftmesh cache stats` tells which\n");
        code = EX_UNAVAILABLE;
    }
    json_decref(answer);
    return code;
}

/* ---- plan ----------------------------------------------------------------------- */

#define PLOT_COLUMNS 50 /* of a hit ratio of 100 % */

static const char *size_text(double bytes, char out[24])
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    unsigned unit = 0;

    while (bytes >= 1024 && unit < 4) {
        bytes /= 1024;
        unit++;
    }
    snprintf(out, 24, "%.*f %s", bytes < 10 && unit > 0 ? 1 : 0, bytes, units[unit]);
    return out;
}

static void print_curve(const json_t *plan, double bound)
{
    static const char bar[PLOT_COLUMNS + 1] =
        "##################################################";
    json_t *point;
    size_t i;
    char size[24];

    printf("\nhit ratio that a memory of another bound would have (LRU, sampled)\n");
    json_array_foreach (json_object_get(plan, "curve"), i, point) {
        double bytes = number(point, "bytes"), ratio = number(point, "hit_ratio");
        int columns = (int)(ratio * PLOT_COLUMNS + 0.5);
        printf("%10s %5.1f %% |%-*.*s|%s\n", size_text(bytes, size), 100 * ratio,
               PLOT_COLUMNS, columns < PLOT_COLUMNS ? columns : PLOT_COLUMNS, bar,
               bytes == bound ? " now" : "");
    }
}

static void print_plan(const json_t *plan)
{
    const json_t *traffic = json_object_get(plan, "traffic");
    const json_t *entry = json_object_get(plan, "entry");
    const json_t *memory = json_object_get(plan, "memory");
    const json_t *redis = json_object_get(plan, "redis");
    const json_t *sample = json_object_get(plan, "sample");
    double bound = number(memory, "bytes_max");
    char a[24], b[24];

    printf("traffic   %.1f look-ups/s, %.1f new results/s, over the last %.0f s\n",
           number(traffic, "gets_per_s"), number(traffic, "new_results_per_s"),
           number(traffic, "window_s"));
    printf("results   mean %s (of %.0f new ones); in Redis %s with its overhead\n",
           size_text(number(entry, "mean_bytes"), a), number(entry, "results"),
           size_text(number(entry, "redis_bytes"), b));
    printf("memory    %s of %s, %.0f results, hit ratio %.1f %%\n",
           size_text(number(memory, "bytes"), a), size_text(bound, b),
           number(memory, "entries"), 100 * number(memory, "hit_ratio"));
    printf("Redis     needs %s for this traffic: %.0f results in %.0f s of life\n",
           size_text(number(redis, "bytes"), a), number(redis, "entries"),
           number(redis, "ttl_s"));
    printf("sample    %.0f keys, %.2g of all, over %.0f look-ups\n",
           number(sample, "keys"), number(sample, "rate"), number(sample, "requests"));
    if (number(sample, "requests") > 0)
        print_curve(plan, bound);
    else
        printf("\nno look-up has reached this cacher yet: no curve\n");
}

static int run_plan(struct cache_command *command, struct siftmesh *mesh)
{
    int code;
    json_t *answer = ask(mesh, "plan", NULL, 0, &code);

    if (answer == NULL)
        return code;
    if (command->json) {
        command_print_json(answer, JSON_INDENT(1));
    } else {
        print_plan(answer);
    }
    json_decref(answer);
    return EX_OK;
}

/* ---- get ------------------------------------------------------------------------ */

static int run_get(struct cache_command *command, struct siftmesh *mesh)
{
    struct proto_submit body = {
        .service = "cache", .method = "peek", .key_bytes = PROTO_DIGEST_BYTES};
    struct siftmesh_result result = {0};

    if (!parse_key(command->word, body.key))
        return bad_usage("KEY has 64 hexadecimal digits", command->word);
    if (command->out == NULL && isatty(STDOUT_FILENO))
        return bad_usage("a result is no text: say --out FILE, or redirect", NULL);
    int code = report(
        "get", siftmesh_submit(mesh, &body, NULL, 0, ASK_TIMEOUT_MS, &result), &result);
    if (code == EX_OK && !command_write_file(command->out != NULL ? command->out : "-",
                                             result.bytes, result.size))
        code = EX_IOERR;
    siftmesh_result_free(&result);
    return code;
}

/* ---- purge ---------------------------------------------------------------------- */

static int fill_purge(const struct cache_command *command, struct proto_purge *purge)
{
    int kinds = (command->key != NULL) + (command->prefix != NULL) +
                (command->tag != NULL) + (command->older != NULL) + command->all;

    if (kinds != 1)
        return bad_usage("say one of --key, --prefix, --tag, --older-than and --all",
                         NULL);
    purge->dry_run = command->dry_run;
    if (command->key != NULL) {
        purge->key_bytes = PROTO_DIGEST_BYTES;
        if (!parse_key(command->key, purge->key))
            return bad_usage("--key has 64 hexadecimal digits", command->key);
    } else if (command->prefix != NULL) {
        size_t size = strlen(command->prefix);
        if (size == 0 || size > sizeof purge->prefix - 1 ||
            strspn(command->prefix, "0123456789abcdef") != size)
            return bad_usage("--prefix has 1 to 64 lower-case hexadecimal digits",
                             command->prefix);
        strcpy(purge->prefix, command->prefix);
    } else if (command->tag != NULL) {
        const char *wrong = proto_tags_check(command->tag, strlen(command->tag));
        if (wrong != NULL || command->tag[0] == '\0' || strchr(command->tag, ',') != NULL)
            return bad_usage("--tag has 1 to 63 of A-Z a-z 0-9 . _ : -", command->tag);
        strcpy(purge->tag, command->tag);
    } else if (command->older != NULL) {
        purge->older_s = parse_age(command->older);
        if (purge->older_s == 0)
            return bad_older(command->older);
    }
    return 0;
}

/* The tiers behind memory, step by step. */
static int purge_tiers(struct siftmesh *mesh, struct proto_purge *purge, double *matched,
                       double *removed)
{
    uint8_t packed[PROTO_BODY_BYTES_MAX];
    int code = EX_OK;

    for (int step = 0; step < PURGE_STEPS_MAX; step++) {
        int size = proto_body_encode(proto_purge_fields, purge, packed, sizeof packed);
        json_t *answer = ask(mesh, "purge", packed, (size_t)size, &code);
        if (answer == NULL)
            return code;
        const char *cursor = json_string_value(json_object_get(answer, "cursor"));
        snprintf(purge->cursor, sizeof purge->cursor, "%s", cursor != NULL ? cursor : "");
        *matched += number(answer, "matched");
        *removed += number(answer, "removed");
        json_decref(answer);
        if (isatty(STDERR_FILENO))
            fprintf(stderr, "\r%.0f matched, %.0f removed", *matched, *removed);
        if (purge->cursor[0] == '\0')
            break;
    }
    if (isatty(STDERR_FILENO))
        fputc('\n', stderr);
    return code;
}

static int run_purge(struct cache_command *command, struct siftmesh *mesh)
{
    struct proto_purge purge = {0}, echo;
    struct siftmesh_result result = {0};
    double matched = 0, removed = 0;
    int code = fill_purge(command, &purge);

    if (code != 0)
        return code;
    code = purge_tiers(mesh, &purge, &matched, &removed);
    if (code != EX_OK)
        return code;
    if (command->dry_run) {
        printf("%.0f results would be removed\n", matched);
        return EX_OK;
    }
    purge.cursor[0] = '\0';
    int err = siftmesh_control(mesh, PROTO_PURGE, &purge, PROTO_PURGE, &echo,
                               ASK_TIMEOUT_MS, &result);
    code = report("purge", err, &result);
    if (code == EX_OK)
        printf("%.0f results removed; every gateway and cacher was told\n", removed);
    siftmesh_result_free(&result);
    return code;
}

/* ---- the command ---------------------------------------------------------------- */

static const struct {
    const char *name;
    int (*run)(struct cache_command *command, struct siftmesh *mesh);
} subcommands[] = {{"stats", run_stats},
                   {"get", run_get},
                   {"purge", run_purge},
                   {"warm", run_warm},
                   {"plan", run_plan}};

int command_cache(int argc, char **argv)
{
    struct cache_command command = {0};
    size_t i = 0, count = sizeof subcommands / sizeof subcommands[0];

    if (argc < 2 || strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        fputs(usage, argc < 2 ? stderr : stdout);
        return argc < 2 ? EX_USAGE : EX_OK;
    }
    while (i < count && strcmp(argv[1], subcommands[i].name) != 0)
        i++;
    if (i == count)
        return bad_usage("no such subcommand", argv[1]);
    int code = parse(&command, argc - 1, argv + 1);
    if (code < 0)
        fputs(usage, stdout);
    if (code != 0)
        return code < 0 ? EX_OK : code;
    struct siftmesh *mesh = command_connect(&command.mesh);
    command_mesh_wipe(&command.mesh);
    if (mesh == NULL)
        return EX_UNAVAILABLE;
    code = subcommands[i].run(&command, mesh);
    siftmesh_close(mesh);
    return code;
}
