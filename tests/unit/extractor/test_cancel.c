/*
 * How much work a slot still does after it was told to stop: at most CANCEL_MAX_MS of it
 * at 640x480, wherever in the job it is told.
 * (With sift=vlfeat more.)
 *
 * Work is the processor time of the thread, so that neighbours on the machine do not
 * count. A timer on that clock sets the cancel flag in the midst of the job, the job says
 * when it came back; at many places over the whole length of each kind of job.
 */
#include "extractor/decode/decode.h"
#include "extractor/pipeline.h"
#include "extractor/vision/kernels.h"
#include "tests/harness/harness.h"
#include "tests/unit/extractor/scene.h"

#include <jpeglib.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { W = 640, H = 480, PLACES = 12 };
#define CANCEL_MAX_MS 50

static struct vision_control control;
static uint64_t told_us; /* on the thread's clock */

static uint64_t work_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static void on_timer(int number)
{
    (void)number;
    told_us = work_us();
    atomic_store(&control.cancel, 1);
}

static timer_t timer_new(void)
{
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
    struct sigaction action = {.sa_handler = on_timer, .sa_flags = SA_RESTART};
    timer_t timer;

    assert_int_equal(sigaction(SIGUSR1, &action, NULL), 0);
    assert_int_equal(timer_create(CLOCK_THREAD_CPUTIME_ID, &event, &timer), 0);
    return timer;
}

/* Work of the whole job. */
static uint64_t whole_us(const struct extractor_job *job)
{
    struct extractor_result result;
    struct extractor_error error;
    uint64_t start_us = work_us();

    control = (struct vision_control){0};
    assert_int_equal(extractor_pipeline_run(job, &control, &result, &error), 0);
    extractor_result_free(&result);
    return work_us() - start_us;
}

/* Work done after the flag was set `after_us` into the job; 0 where it had ended before.
 */
static uint64_t late_us(const struct extractor_job *job, timer_t timer, uint64_t after_us)
{
    struct itimerspec when = {.it_value = {(time_t)(after_us / 1000000),
                                           (long)(after_us % 1000000) * 1000 + 1}};
    struct extractor_result result;
    struct extractor_error error;

    control = (struct vision_control){0};
    told_us = 0;
    timer_settime(timer, 0, &when, NULL);
    int err = extractor_pipeline_run(job, &control, &result, &error);
    uint64_t end_us = work_us();
    timer_settime(timer, 0, &(struct itimerspec){0}, NULL);
    if (err == 0) {
        extractor_result_free(&result); /* it ended before it was told, or as it was */
    } else {
        assert_int_equal(error.status, PROTO_STATUS_CANCELLED);
        assert_int_not_equal(told_us, 0);
    }
    return told_us == 0 ? 0 : end_us - told_us;
}

/* `times`: of CANCEL_MAX_MS that are allowed. */
static void check(const char *what, const struct extractor_job *job, unsigned times)
{
    const char *slowness = getenv("SIFTMESH_TEST_SLOWNESS");
    double most_ms =
        times * CANCEL_MAX_MS * (slowness != NULL ? strtod(slowness, NULL) : 1.0);
    uint64_t whole = whole_us(job), most = 0;
    timer_t timer = timer_new();

    for (unsigned i = 0; i < PLACES; i++) {
        uint64_t late = late_us(job, timer, whole * i / PLACES);
        most = late > most ? late : most;
    }
    timer_delete(timer);
    print_message("%-28s %7.1f ms of work, at most %5.1f ms after it was told to stop\n",
                  what, (double)whole / 1e3, (double)most / 1e3);
    assert_true((double)most / 1e3 < most_ms);
}

static struct vision_image picture(unsigned depth_bits)
{
    struct vision_image image = scene_spots(W, H, depth_bits, 400, 5);
    return image;
}

static struct extractor_job png_job(unsigned depth_bits)
{
    struct extractor_job job = {.kind = PROTO_KIND_FEATURES,
                                .pixels_max = DECODE_PIXELS_MAX};
    struct vision_image image = picture(depth_bits);
    uint8_t *bytes;

    proto_params_init(&job.params);
    assert_int_equal(decode_png_write(&image, NULL, &bytes, &job.image_bytes), 0);
    job.image = bytes;
    free(image.pixels);
    return job;
}

/* Progressive: the whole is read before a row comes out. */
static struct extractor_job jpeg_job(void)
{
    struct extractor_job job = {.kind = PROTO_KIND_FEATURES,
                                .pixels_max = DECODE_PIXELS_MAX};
    struct vision_image image = picture(8);
    struct jpeg_compress_struct c;
    struct jpeg_error_mgr errors;
    unsigned char *bytes = NULL;
    unsigned long size = 0;

    proto_params_init(&job.params);
    c.err = jpeg_std_error(&errors);
    jpeg_create_compress(&c);
    jpeg_mem_dest(&c, &bytes, &size);
    c.image_width = W;
    c.image_height = H;
    c.input_components = 1;
    c.in_color_space = JCS_GRAYSCALE;
    jpeg_set_defaults(&c);
    jpeg_simple_progression(&c);
    jpeg_start_compress(&c, TRUE);
    while (c.next_scanline < c.image_height) {
        JSAMPROW row = scene_row(&image, c.next_scanline);
        jpeg_write_scanlines(&c, &row, 1);
    }
    jpeg_finish_compress(&c);
    jpeg_destroy_compress(&c);
    free(image.pixels);
    job.image = bytes;
    job.image_bytes = size;
    return job;
}

static void a_job_with_the_defaults_stops_soon(void **state)
{
    struct extractor_job job = png_job(8);
    (void)state;

    check("png, nlm, sift", &job, 1);
    free((void *)job.image);
    job = jpeg_job();
    check("progressive jpeg, nlm, sift", &job, 1);
    free((void *)job.image);
}

static void wide_denoising_stops_soon(void **state)
{
    struct extractor_job job = png_job(8);
    (void)state;

    job.params.h = 40;
    job.params.template = 21;
    job.params.search = 35;
    check("nlm 21/35", &job, 1);
    job.kind = PROTO_KIND_DENOISE;
    job.params.template = 7;
    job.params.search = 21;
    check("nlm to png", &job, 1);
    free((void *)job.image);
}

static void the_scalar_kernels_stop_soon(void **state)
{
    struct extractor_job job = png_job(8);
    (void)state;

    job.cpu_off = ~0u;
    check("scalar nlm, sift", &job, 1);
    free((void *)job.image);
    job = png_job(16);
    check("16 bit nlm, sift", &job, 1);
    job.params.denoise = PROTO_DENOISE_NONE;
    job.params.octave_layers = 10;
    job.params.sigma = 10;
    check("sift, 10 layers, sigma 10", &job, 1);
    free((void *)job.image);
}

/* A portable grey map of noise, for shapes that nobody sends twice. */
static struct extractor_job noise_job(size_t width, size_t height)
{
    struct extractor_job job = {.kind = PROTO_KIND_FEATURES,
                                .pixels_max = DECODE_PIXELS_MAX};
    struct vision_image image = scene_blank(width, height, 8, 0);
    uint8_t *bytes = malloc(width * height + 64);
    int head;

    scene_noise(&image, 18);
    proto_params_init(&job.params);
    job.params.denoise = PROTO_DENOISE_NONE;
    head = sprintf((char *)bytes, "P5 %zu %zu 255\n", width, height);
    memcpy(bytes + head, image.pixels, width * height);
    job.image = bytes;
    job.image_bytes = (size_t)head + width * height;
    free(image.pixels);
    return job;
}

/* A row of the first octave is as long as 130,000 samples, and each ninth is a hit. */
static void noise_of_any_shape_stops_soon(void **state)
{
    struct extractor_job wide = noise_job(65000, 60), tall = noise_job(60, 65000);
    (void)state;

    check("wide noise", &wide, 1);
    check("tall noise", &tall, 1);
    free((void *)wide.image);
    wide = noise_job(16000, 30);
    wide.params.contrast = 0;
    wide.params.octave_layers = 10;
    wide.cpu_off = ~0u;
    check("wide noise, dense, scalar", &wide, 1);
    free((void *)wide.image);
    free((void *)tall.image);
}

static void wide_noise_takes_no_longer_than_tall_noise(void **state)
{
    struct extractor_job wide = noise_job(65000, 60), tall = noise_job(60, 65000);
    (void)state;

    uint64_t wide_us = whole_us(&wide), tall_us = whole_us(&tall);
    print_message("wide %.1f ms, tall %.1f ms\n", (double)wide_us / 1e3,
                  (double)tall_us / 1e3);
    assert_true(wide_us < 12 * tall_us); /* quadratic in the width, it was 200 times */
    free((void *)wide.image);
    free((void *)tall.image);
}

static void vlfeat_stops_soon(void **state)
{
    struct extractor_job job = png_job(8);
    (void)state;

    job.params.denoise = PROTO_DENOISE_NONE;
    job.params.sift = PROTO_SIFT_VLFEAT;
    /* A step of the library itself is an octave, and cannot be cut. */
    check("vlfeat", &job, 5);
    free((void *)job.image);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_job_with_the_defaults_stops_soon),
        cmocka_unit_test(wide_denoising_stops_soon),
        cmocka_unit_test(the_scalar_kernels_stop_soon),
        cmocka_unit_test(noise_of_any_shape_stops_soon),
        cmocka_unit_test(wide_noise_takes_no_longer_than_tall_noise),
        cmocka_unit_test(vlfeat_stops_soon),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
