/*
 * sift_tool.c - the features of one PGM by either backend, as raw bytes; and the time.
 *
 *   sift_tool [-b native|vlfeat] [-c scalar|avx2|avx512|neon] [-r REPEATS] [-o FILE]
 *             [NAME=VALUE...] PGM
 *
 * NAME is a number of struct vision_sift_params: first_octave, octave_layers, contrast,
 * edge, sigma, max_features, upright, root. FILE gets count x 5 float32, then count x 128
 * bytes. Prints: count, fastest run in ms of CPU time, peak resident size in KB, digest
 * (FNV-1a).
 * For bench/quality.py and for measuring; not part of the product.
 */
#include "extractor/vision/sift_native.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

struct request {
    const char *pgm, *output;
    bool vlfeat;
    unsigned cpu;
    int repeats;
    struct vision_sift_params params;
};

static _Noreturn void die(const char *what)
{
    fprintf(stderr, "sift_tool: %s\n", what);
    exit(64);
}

/* CPU time: other work on the machine counts little. */
static double now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

/* Binary, 8 bits or 16, no comments. */
static struct vision_image read_pgm(const char *path)
{
    FILE *file = fopen(path, "rb");
    unsigned w, h, most;
    if (file == NULL || fscanf(file, "P5 %u %u %u", &w, &h, &most) != 3)
        die("cannot read the PGM");
    (void)fgetc(file);
    const size_t bytes = most > 255 ? 2 : 1;
    uint8_t *pixels = malloc((size_t)w * h * bytes);
    if (pixels == NULL || fread(pixels, (size_t)w * bytes, h, file) != h)
        die("short PGM");
    fclose(file);
    if (bytes == 2)
        for (size_t i = 0; i < (size_t)w * h; i++) {
            uint16_t v = (uint16_t)(pixels[2 * i] << 8 | pixels[2 * i + 1]);
            memcpy(pixels + 2 * i, &v, 2);
        }
    return (struct vision_image){pixels, w, h, w * bytes, (unsigned)bytes * 8};
}

static void set_param(struct vision_sift_params *p, const char *text)
{
    const char *equal = strchr(text, '=');
    const size_t n = (size_t)(equal - text);
    const double v = atof(equal + 1);
#define IS(name) (n == strlen(name) && strncmp(text, name, n) == 0)
    if (IS("first_octave"))
        p->first_octave = (int)v;
    else if (IS("octave_layers"))
        p->octave_layers = (int)v;
    else if (IS("contrast"))
        p->contrast = v;
    else if (IS("edge"))
        p->edge = v;
    else if (IS("sigma"))
        p->sigma = v;
    else if (IS("max_features"))
        p->max_features = (uint32_t)v;
    else if (IS("upright"))
        p->upright = v != 0;
    else if (IS("root"))
        p->norm = v != 0 ? VISION_NORM_ROOT : VISION_NORM_L2;
    else
        die("no such parameter");
#undef IS
}

static struct request parse(int argc, char **argv)
{
    struct request r = {.repeats = 1, .cpu = ~0u};
    r.params = (struct vision_sift_params){.first_octave = -1,
                                           .octave_layers = 3,
                                           .contrast = 0.04,
                                           .edge = 10,
                                           .sigma = 1.6};
    int option;
    while ((option = getopt(argc, argv, "b:c:r:o:")) != -1) {
        if (option == 'b')
            r.vlfeat = strcmp(optarg, "vlfeat") == 0;
        else if (option == 'r')
            r.repeats = atoi(optarg);
        else if (option == 'o')
            r.output = optarg;
        else if (option != 'c' || vision_cpu_parse(optarg, &r.cpu) < 0)
            die("see the top of sift_tool.c");
    }
    for (; optind < argc; optind++) {
        if (strchr(argv[optind], '=') != NULL && strchr(argv[optind], '/') == NULL)
            set_param(&r.params, argv[optind]);
        else
            r.pgm = argv[optind];
    }
    if (r.pgm == NULL)
        die("no PGM");
    return r;
}

static uint64_t digest(const struct vision_features *f)
{
    uint64_t hash = 14695981039346656037u;
    const unsigned char *bytes = (const void *)f->items;
    for (size_t i = 0; i < f->count * sizeof *f->items; i++)
        hash = (hash ^ bytes[i]) * 1099511628211u;
    return hash;
}

static void write_raw(const char *path, const struct vision_features *f)
{
    FILE *file = fopen(path, "wb");
    if (file == NULL)
        die("cannot write");
    for (size_t i = 0; i < f->count; i++)
        fwrite(&f->items[i], sizeof(float), 5, file);
    for (size_t i = 0; i < f->count; i++)
        fwrite(f->items[i].descriptor, VISION_DESCRIPTOR_BYTES, 1, file);
    fclose(file);
}

int main(int argc, char **argv)
{
    struct request r = parse(argc, argv);
    struct vision_image image = read_pgm(r.pgm);
    struct vision_features features = {0};
    struct vision_kernels k;
    struct rusage usage;
    double best = 1e300;

    vision_kernels_init(&k, r.cpu & vision_cpu_detect());
    for (int i = 0; i < r.repeats; i++) {
        vision_features_free(&features);
        double start = now_ms();
        int err = r.vlfeat ? vision_sift(&image, &r.params, NULL, &features)
                           : vision_sift_native(&k, &image, &r.params, NULL, &features);
        double took = now_ms() - start;
        if (err != 0)
            die(strerror(-err));
        best = took < best ? took : best;
    }
    getrusage(RUSAGE_SELF, &usage);
    printf("%zu %.3f %ld %016" PRIx64 "\n", features.count, best, usage.ru_maxrss,
           digest(&features));
    if (r.output != NULL)
        write_raw(r.output, &features);
    vision_features_free(&features);
    free(image.pixels);
    return 0;
}
