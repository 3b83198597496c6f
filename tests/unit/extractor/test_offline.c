#include "extractor/offline.h"

#include "proto/blob.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

#include <cmocka.h>

#define ARGUMENTS_MAX 16

static char folder[] = "/tmp/siftmesh-test-XXXXXX", photo[64], output[64];

static int make_photo(void **state)
{
    (void)state;
    if (mkdtemp(folder) == NULL)
        return -1;
    snprintf(photo, sizeof photo, "%s/photo.pgm", folder);
    snprintf(output, sizeof output, "%s/out", folder);
    FILE *file = fopen(photo, "wb");
    if (file == NULL)
        return -1;
    fputs("P5 64 64 255\n", file);
    for (int i = 0; i < 64 * 64; i++) /* a disc */
        fputc((i % 64 - 30) * (i % 64 - 30) + (i / 64 - 33) * (i / 64 - 33) < 64 ? 220
                                                                                 : 50,
              file);
    return fclose(file);
}

static int remove_photo(void **state)
{
    (void)state;
    unlink(photo);
    unlink(output);
    return rmdir(folder);
}

/* Run with these words, NULL last; what it prints is thrown away. */
static int run(const char *first, ...)
{
    const char *argv[ARGUMENTS_MAX] = {"siftmesh-extractor"};
    int argc = 1;
    va_list args;
    va_start(args, first);
    for (const char *word = first; word != NULL; word = va_arg(args, const char *))
        argv[argc++] = word;
    va_end(args);

    fflush(stdout);
    int out = dup(1), err = dup(2);
    assert_non_null(freopen("/dev/null", "w", stderr));
    assert_non_null(freopen("/dev/null", "w", stdout));
    int code = extractor_offline_main(argc, (char **)argv);
    fflush(stdout);
    dup2(out, 1);
    dup2(err, 2);
    close(out);
    close(err);
    return code;
}

static void a_photo_is_extracted_and_its_blob_written(void **state)
{
    (void)state;
    static uint8_t bytes[1 << 20];
    struct proto_blob blob;
    assert_int_equal(run("--image", photo, "--output", output, "--max_features=5",
                         "--denoise", "none", "--repeat=3", "--json", NULL),
                     EX_OK);
    FILE *file = fopen(output, "rb");
    assert_non_null(file);
    size_t size = fread(bytes, 1, sizeof bytes, file);
    fclose(file);
    assert_int_equal(proto_blob_decode(bytes, size, &blob), 0);
    assert_true(blob.count >= 1 && blob.count <= 5);
    assert_int_equal(blob.width_px, 64);
    assert_int_equal(blob.params.denoise, PROTO_DENOISE_NONE);
}

static void mistakes_in_the_words_are_usage(void **state)
{
    (void)state;
    assert_int_equal(run("--json", NULL), EX_USAGE);
    assert_int_equal(run("--image", NULL), EX_USAGE);
    assert_int_equal(run("--image", photo, "--nonsense", "1", NULL), EX_USAGE);
    assert_int_equal(run("--image", photo, "photo", NULL), EX_USAGE);
    assert_int_equal(run("--image", photo, "-", NULL), EX_USAGE);
    assert_int_equal(run("--image", photo, "--h=0", NULL), EX_USAGE);
    assert_int_equal(run("--image", photo, "--template", "4", NULL), EX_USAGE);
    assert_int_equal(run("--image", photo, "--repeat", "0", NULL), EX_USAGE);
    assert_int_equal(run("--image", photo, "--repeat", "3x", NULL), EX_USAGE);
    assert_int_equal(run("--image", photo, "--output=a", "--denoise-png=b", NULL),
                     EX_USAGE);
}

static void what_cannot_be_read_decoded_or_written_has_its_code(void **state)
{
    (void)state;
    assert_int_equal(run("--image", "/nonexistent/photo", NULL), EX_NOINPUT);
    assert_int_equal(run("--image", folder, NULL), EX_NOINPUT);
    assert_int_equal(run("--image", "/proc/self/status", NULL), EX_DATAERR);
    assert_int_equal(run("--image", photo, "--max-pixels=4095", NULL), EX_DATAERR);
    assert_int_equal(run("--image", photo, "--output", "/nonexistent/x", NULL),
                     EX_CANTCREAT);
}

static void the_mode_is_wanted_when_the_word_is_there(void **state)
{
    (void)state;
    const char *with[] = {"x", "--json", "--image", "p"}, *joined[] = {"x", "--image=p"};
    const char *without[] = {"x", "--images", "image"};
    assert_true(extractor_offline_wanted(4, (char **)with));
    assert_true(extractor_offline_wanted(2, (char **)joined));
    assert_false(extractor_offline_wanted(3, (char **)without));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_photo_is_extracted_and_its_blob_written),
        cmocka_unit_test(mistakes_in_the_words_are_usage),
        cmocka_unit_test(what_cannot_be_read_decoded_or_written_has_its_code),
        cmocka_unit_test(the_mode_is_wanted_when_the_word_is_there),
    };
    return cmocka_run_group_tests(tests, make_photo, remove_photo);
}
