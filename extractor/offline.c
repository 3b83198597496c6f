#include "extractor/offline.h"

#include "extractor/decode/decode.h"
#include "extractor/pipeline.h"
#include "extractor/vision/kernels.h"

#include <errno.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>

#define REPEAT_MAX     10000
#define FILE_MAX_BYTES (1l << 30)
#define STAGES         3
#define NAME_MAX_CHARS 32

struct request {
    const char *image, *output, *denoise_png;
    long repeat;
    bool json, help;
    uint64_t pixels_max;
    unsigned cpu_off;
    struct proto_params params;
};

static const char *const stage_names[STAGES] = {"decode", "denoise", "sift"};

struct times {
    uint64_t *us[STAGES]; /* one for each repeat */
};

static void usage(FILE *to)
{
    const struct proto_param_spec *spec = proto_param_specs;

    fputs("usage: siftmesh-extractor --image PHOTO [options]\n"
          "Extract features in this process alone, and print the time of each stage.\n\n"
          "  --repeat N         run N times; minimum and median are printed\n"
          "  --json             print one JSON object\n"
          "  --output FILE      write the feature blob\n"
          "  --denoise-png FILE write the denoised picture, extract no features\n"
          "  --max-pixels N     refuse a larger picture (64000000)\n"
          "  --cpu LEVEL        kernels up to scalar, avx2, avx512 or neon (auto)\n\n"
          "Parameters, as --NAME VALUE or --NAME=VALUE:\n",
          to);
    for (; spec->name != NULL; spec++)
        fprintf(to, "  --%-16s %s\n", spec->name, spec->help);
}

static int complain(const char *what, const char *name)
{
    fprintf(stderr, "siftmesh-extractor: %s%s (--help tells more)\n", name, what);
    return -EINVAL;
}

static int set_number(const char *name, const char *text, uint64_t max, uint64_t *out)
{
    char *end;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (*text < '0' || *text > '9' || *end != '\0' || errno != 0 || value < 1 ||
        value > max)
        return complain(" takes a number from 1 up", name);
    *out = value;
    return 0;
}

static int set_cpu(struct request *r, const char *text)
{
    unsigned allowed;
    int err = vision_cpu_choose(text, &allowed);
    if (err == -ENOTSUP)
        return complain(" names instructions that this processor lacks", "--cpu");
    if (err < 0)
        return complain(" takes auto, scalar, avx2, avx512 or neon", "--cpu");
    r->cpu_off = ~allowed;
    return 0;
}

static int set_param(struct request *r, char *name, const char *text)
{
    struct proto_params_error why;
    for (char *c = name; *c != '\0'; c++)
        *c = *c == '-' ? '_' : *c;
    if (proto_params_set(&r->params, name, text, &why) == 0)
        return 0;
    fprintf(stderr, "siftmesh-extractor: %s\n", why.detail);
    return -EINVAL;
}

/* `name` without its dashes. */
static int set_option(struct request *r, char *name, const char *text)
{
    uint64_t number = 0;
    if (strcmp(name, "image") == 0) {
        r->image = text;
    } else if (strcmp(name, "output") == 0) {
        r->output = text;
    } else if (strcmp(name, "denoise-png") == 0) {
        r->denoise_png = text;
    } else if (strcmp(name, "max-pixels") == 0) {
        return set_number("--max-pixels", text, UINT32_MAX, &r->pixels_max);
    } else if (strcmp(name, "cpu") == 0) {
        return set_cpu(r, text);
    } else if (strcmp(name, "repeat") == 0) {
        int err = set_number("--repeat", text, REPEAT_MAX, &number);
        r->repeat = (long)number;
        return err;
    } else {
        return set_param(r, name, text);
    }
    return 0;
}

/* One argument, or two where the value is a word of its own. Returns how many, or < 0. */
static int take_argument(struct request *r, int left, char **argv)
{
    const char *word = argv[0];
    char name[NAME_MAX_CHARS + 1];

    if (strcmp(word, "--json") == 0 || strcmp(word, "--help") == 0) {
        *(word[2] == 'j' ? &r->json : &r->help) = true;
        return 1;
    }
    size_t length = strcspn(word, "=");
    if (strncmp(word, "--", 2) != 0 || length - 2 > NAME_MAX_CHARS)
        return complain(" is no option", word);
    memcpy(name, word + 2, length - 2);
    name[length - 2] = '\0';

    if (word[length] == '=')
        return set_option(r, name, word + length + 1) < 0 ? -EINVAL : 1;
    if (left < 2)
        return complain(" needs a value", word);
    return set_option(r, name, argv[1]) < 0 ? -EINVAL : 2;
}

static int parse(struct request *r, int argc, char **argv)
{
    struct proto_params_error why;
    *r = (struct request){.repeat = 1, .pixels_max = DECODE_PIXELS_MAX};
    proto_params_init(&r->params);

    for (int i = 1; i < argc;) {
        int taken = take_argument(r, argc - i, argv + i);
        if (taken < 0)
            return taken;
        i += taken;
    }
    if (!r->help && r->image == NULL)
        return complain("--image is missing", "");
    if (r->output != NULL && r->denoise_png != NULL)
        return complain("--output and --denoise-png exclude each other", "");
    if (proto_params_check(&r->params, &why) == 0)
        return 0;
    fprintf(stderr, "siftmesh-extractor: %s\n", why.detail);
    return -EINVAL;
}

/* `*out` is malloc'd. 0, or a negative errno. */
static int read_file(const char *path, uint8_t **out, size_t *size)
{
    struct stat status;
    FILE *file = fopen(path, "rb");
    if (file == NULL)
        return -errno;

    int err = fstat(fileno(file), &status) < 0 ? -errno : 0;
    if (err == 0 && !S_ISREG(status.st_mode))
        err = S_ISDIR(status.st_mode) ? -EISDIR : -EINVAL;
    if (err == 0 && status.st_size > FILE_MAX_BYTES)
        err = -EFBIG;
    uint8_t *bytes = err == 0 ? malloc((size_t)status.st_size + 1) : NULL;
    if (err == 0 && bytes == NULL)
        err = -ENOMEM;
    if (err == 0 &&
        fread(bytes, 1, (size_t)status.st_size, file) != (size_t)status.st_size)
        err = -EIO;
    fclose(file);
    if (err < 0) {
        free(bytes);
        return err;
    }
    *out = bytes;
    *size = (size_t)status.st_size;
    return 0;
}

static int write_file(const char *path, const struct extractor_result *result)
{
    FILE *file = fopen(path, "wb");
    size_t written = file == NULL ? 0 : fwrite(result->bytes, 1, result->size, file);
    int err = file == NULL || written != result->size ? -errno : 0;
    if (file != NULL && fclose(file) != 0 && err == 0)
        err = -errno;
    if (err < 0)
        fprintf(stderr, "siftmesh-extractor: %s: %s\n", path, strerror(-err));
    return err;
}

static int ascending(const void *left, const void *right)
{
    const uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;
    return (a > b) - (a < b);
}

static uint64_t median(const uint64_t *sorted, long n)
{
    return (sorted[(n - 1) / 2] + sorted[n / 2]) / 2;
}

static void print_text(const struct request *r, const struct extractor_result *result,
                       const struct times *times)
{
    printf("%s: %" PRIu32 " x %" PRIu32 " pixels, %" PRIu32 " keypoints\n", r->image,
           result->width_px, result->height_px, result->count);
    printf("  %-8s %12s %12s\n", "stage", "minimum", "median");
    for (int stage = 0; stage < STAGES; stage++)
        printf("  %-8s %9.3f ms %9.3f ms\n", stage_names[stage],
               (double)times->us[stage][0] / 1000,
               (double)median(times->us[stage], r->repeat) / 1000);
}

static void print_json(const struct request *r, const struct extractor_result *result,
                       const struct extractor_job *job, const struct times *times)
{
    char key[PROTO_HEX_BYTES], params[1024];
    proto_hex(job->key, key);
    if (proto_params_json(&r->params, params, sizeof params) < 0)
        snprintf(params, sizeof params, "{}");

    printf("{\"key\":\"%s\",\"width\":%" PRIu32 ",\"height\":%" PRIu32
           ",\"count\":%" PRIu32 ",\"repeat\":%ld,\"params\":%s",
           key, result->width_px, result->height_px, result->count, r->repeat, params);
    for (int stage = 0; stage < STAGES; stage++)
        printf(",\"%s_us\":{\"min\":%" PRIu64 ",\"median\":%" PRIu64 "}",
               stage_names[stage], times->us[stage][0],
               median(times->us[stage], r->repeat));
    puts("}");
}

static int exit_code(const struct extractor_error *error)
{
    switch (error->status) {
    case PROTO_STATUS_BAD_TYPE:
    case PROTO_STATUS_UNDECODABLE:
    case PROTO_STATUS_TOO_MANY_PIXELS:
    case PROTO_STATUS_TOO_MANY_FEATURES:
        return EX_DATAERR;
    default:
        return EX_SOFTWARE;
    }
}

/* Run the job r->repeat times; `result` is the last one's. Sorted times. */
static int run(const struct request *r, const struct extractor_job *job,
               struct times *times, struct extractor_result *result)
{
    struct extractor_error error;
    for (long i = 0; i < r->repeat; i++) {
        extractor_result_free(result);
        if (extractor_pipeline_run(job, NULL, result, &error) < 0) {
            fprintf(stderr, "siftmesh-extractor: %s: %s\n", r->image, error.detail);
            return exit_code(&error);
        }
        times->us[0][i] = result->decode_us;
        times->us[1][i] = result->denoise_us;
        times->us[2][i] = result->sift_us;
    }
    for (int stage = 0; stage < STAGES; stage++)
        qsort(times->us[stage], (size_t)r->repeat, sizeof(uint64_t), ascending);
    return EX_OK;
}

static int report(const struct request *r, const struct extractor_job *job)
{
    struct extractor_result result = {0};
    struct times times;
    const size_t n = (size_t)r->repeat;
    const char *path = r->denoise_png != NULL ? r->denoise_png : r->output;

    uint64_t *us = calloc(STAGES * n, sizeof *us);
    if (us == NULL)
        return EX_OSERR;
    for (int stage = 0; stage < STAGES; stage++)
        times.us[stage] = us + (size_t)stage * n;

    int code = run(r, job, &times, &result);
    if (code == EX_OK && path != NULL && write_file(path, &result) < 0)
        code = EX_CANTCREAT;
    if (code == EX_OK && r->json)
        print_json(r, &result, job, &times);
    else if (code == EX_OK)
        print_text(r, &result, &times);
    extractor_result_free(&result);
    free(us);
    return code;
}

static int run_photo(const struct request *r)
{
    struct extractor_job job = {
        .kind = r->denoise_png != NULL ? PROTO_KIND_DENOISE : PROTO_KIND_FEATURES,
        .params = r->params,
        .pixels_max = r->pixels_max,
        .cpu_off = r->cpu_off,
    };
    uint8_t *bytes = NULL;
    int code = EX_SOFTWARE;

    int err = read_file(r->image, &bytes, &job.image_bytes);
    if (err < 0) {
        fprintf(stderr, "siftmesh-extractor: %s: %s\n", r->image, strerror(-err));
        return EX_NOINPUT;
    }
    job.image = bytes;
    if (proto_sha256(bytes, job.image_bytes, job.image_sha256) == 0 &&
        proto_key(job.image_sha256, job.kind, &job.params, job.key) == 0)
        code = report(r, &job);
    free(bytes);
    return code;
}

bool extractor_offline_wanted(int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], "--image") == 0 || strncmp(argv[i], "--image=", 8) == 0)
            return true;
    return false;
}

int extractor_offline_main(int argc, char **argv)
{
    struct request request;
    if (parse(&request, argc, argv) < 0)
        return EX_USAGE;
    if (request.help) {
        usage(stdout);
        return EX_OK;
    }
    return run_photo(&request);
}
