#include "gateway/multipart.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

struct sunk {
    char bytes[8192];
    size_t size;
};

static int sink(void *arg, const uint8_t *bytes, size_t size)
{
    struct sunk *sunk = arg;

    assert_true(size > 0);
    assert_true(sunk->size + size < sizeof sunk->bytes);
    memcpy(sunk->bytes + sunk->size, bytes, size);
    sunk->size += size;
    sunk->bytes[sunk->size] = '\0';
    return 0;
}

/* Feed `body` in runs of `run` bytes, each in a place of its own. */
static int parse(const char *type, const char *body, size_t run, struct sunk *sunk,
                 struct gateway_multipart *multipart)
{
    size_t size = strlen(body);
    int err = gateway_multipart_init(multipart, type);

    memset(sunk, 0, sizeof *sunk);
    for (size_t at = 0; at < size && err == 0; at += run)
        err = gateway_multipart_feed(multipart, (const uint8_t *)body + at,
                                     size - at < run ? size - at : run, sink, sunk);
    return err < 0 ? err : gateway_multipart_finish(multipart);
}

#define TYPE "multipart/form-data; boundary=XyZ"
#define HEAD "--XyZ\r\nContent-Disposition: form-data; name=\"file\"\r\n\r\n"
#define MASK "--XyZ\r\nContent-Disposition: form-data; name=\"mask\"\r\n\r\n"
#define TAIL "\r\n--XyZ--\r\n"

static void the_file_comes_out_however_the_body_is_cut(void **state)
{
    static const char body[] =
        "a preamble\r\n--XyZ\r\nContent-Type: "
        "image/png\r\ncontent-disposition:form-data; "
        "filename=\"a;b\\\".png\"; name=\"file\"\r\n\r\n"
        "data\r\n--Xy\r\n-\r\r\n--XyZ--\r\nan epilogue\r\n--XyZ\r\n";
    struct gateway_multipart multipart;
    struct sunk sunk;

    (void)state;
    for (size_t run = 1; run <= strlen(body); run++) {
        assert_int_equal(parse(TYPE, body, run, &sunk, &multipart), 0);
        assert_string_equal(sunk.bytes, "data\r\n--Xy\r\n-\r");
    }
}

static void a_body_may_hold_almost_delimiters_at_every_cut(void **state)
{
    static const char *const data[] = {
        "\r",       "\r\n",      "\r\n-", "\r\n--",
        "\r\n--X",  "\r\n--XyY", "--XyZ", "\r\r\n--Xy\r\n--Xy",
        "\n--XyZ\n"};
    struct gateway_multipart multipart;
    struct sunk sunk;
    char body[512];

    (void)state;
    for (size_t i = 0; i < sizeof data / sizeof data[0]; i++) {
        snprintf(body, sizeof body, HEAD "%s" TAIL, data[i]);
        for (size_t run = 1; run < 12; run++) {
            assert_int_equal(parse(TYPE, body, run, &sunk, &multipart), 0);
            assert_string_equal(sunk.bytes, data[i]);
        }
    }
}

static void an_empty_file_is_a_form_with_nothing_in_it(void **state)
{
    struct gateway_multipart multipart;
    struct sunk sunk;

    (void)state;
    assert_int_equal(parse(TYPE, HEAD TAIL, 7, &sunk, &multipart), 0);
    assert_int_equal(sunk.size, 0);
}

static void a_boundary_may_be_quoted_and_padded(void **state)
{
    struct gateway_multipart multipart;
    struct sunk sunk;

    (void)state;
    assert_int_equal(
        parse("multipart/form-data; charset=x; BOUNDARY=\"a b:c\"",
              "--a b:c \t\r\nContent-Disposition: form-data; name=file\r\n\r\n"
              "x\r\n--a b:c--",
              3, &sunk, &multipart),
        0);
    assert_string_equal(sunk.bytes, "x");
}

static void a_truncated_form_is_refused_wherever_it_ends(void **state)
{
    static const char whole[] = HEAD "data" TAIL;
    struct gateway_multipart multipart;
    struct sunk sunk;
    char body[256];

    (void)state;
    for (size_t size = 0; size < sizeof whole - 1 - 2; size++) {
        snprintf(body, sizeof body, "%.*s", (int)size, whole);
        assert_int_equal(parse(TYPE, body, 5, &sunk, &multipart), -EINVAL);
        assert_string_equal(multipart.detail, "the form ends before its last boundary");
    }
}

static void a_mask_follows_its_file(void **state)
{
    struct gateway_multipart multipart;
    struct sunk sunk;

    (void)state;
    assert_int_equal(parse(TYPE, HEAD "picture" TAIL, 3, &sunk, &multipart), 0);
    assert_false(multipart.in_mask);
    assert_int_equal(
        parse(TYPE, HEAD "picture\r\n" MASK "mask" TAIL, 3, &sunk, &multipart), 0);
    assert_true(multipart.in_mask);
    assert_string_equal(sunk.bytes, "picturemask");
}

static void refuses(const char *type, const char *body, const char *why)
{
    struct gateway_multipart multipart;
    struct sunk sunk;

    assert_int_equal(parse(type, body, 4, &sunk, &multipart), -EINVAL);
    assert_non_null(strstr(multipart.detail, why));
}

static void other_fields_are_refused_by_name(void **state)
{
    (void)state;
    refuses(TYPE, MASK "x" TAIL, "'mask'"); /* before the file */
    refuses(TYPE, HEAD "a\r\n" MASK "b\r\n" MASK "c" TAIL, "'mask'");
    refuses(TYPE, HEAD "a\r\n" MASK "b\r\n" HEAD "c" TAIL, "'file'");
    refuses(TYPE,
            "--XyZ\r\nContent-Disposition: form-data; name=\"a\x01\xff'\"\r\n\r\n" TAIL,
            "'a?\?''");
    refuses(TYPE, HEAD "a\r\n" HEAD "b" TAIL, "'file'");
    refuses(TYPE, "--XyZ--\r\n", "no field 'file'");
}

static void a_part_without_a_readable_name_is_refused(void **state)
{
    (void)state;
    refuses(TYPE, "--XyZ\r\nContent-Disposition: form-data\r\n\r\nx" TAIL, "no name");
    refuses(TYPE, "--XyZ\r\nContent-Disposition: form-data; name=\"file\r\n\r\nx" TAIL,
            "cannot be read");
    refuses(TYPE, "--XyZ\r\nContent-Disposition: attachment; name=\"file\"\r\n\r\nx" TAIL,
            "not form-data");
    refuses(TYPE, "--XyZ\r\nContent-Type: image/png\r\n\r\nx" TAIL,
            "no Content-Disposition");
    refuses(TYPE, "--XyZ\r\n\r\nx" TAIL, "no Content-Disposition");
}

static void huge_headers_and_nuls_in_them_are_refused(void **state)
{
    static const char nul[] =
        "--XyZ\r\nContent-Disposition: form-data\0; name=\"file\"\r\n";
    static char body[3 * GATEWAY_PART_HEADER_BYTES_MAX];
    struct gateway_multipart multipart;
    struct sunk sunk = {.size = 0};

    (void)state;
    snprintf(body, sizeof body, "--XyZ\r\nX: %0*d", 2 * GATEWAY_PART_HEADER_BYTES_MAX, 0);
    refuses(TYPE, body, "over 4096 bytes");
    assert_int_equal(gateway_multipart_init(&multipart, TYPE), 0);
    assert_int_equal(gateway_multipart_feed(&multipart, (const uint8_t *)nul,
                                            sizeof nul - 1, sink, &sunk),
                     -EINVAL);
    assert_non_null(strstr(multipart.detail, "NUL"));
}

static void the_largest_header_block_is_read(void **state)
{
    static char body[2 * GATEWAY_PART_HEADER_BYTES_MAX];
    static const char fixed[] =
        "Content-Disposition: form-data; name=file\r\nX: \r\n\r\n";
    int pad = GATEWAY_PART_HEADER_BYTES_MAX - (int)(sizeof fixed - 1);
    struct gateway_multipart multipart;
    struct sunk sunk;

    (void)state;
    snprintf(
        body, sizeof body,
        "--XyZ\r\nContent-Disposition: form-data; name=file\r\nX: %0*d\r\n\r\nd" TAIL,
        pad, 0);
    assert_int_equal(parse(TYPE, body, 100, &sunk, &multipart), 0);
    assert_string_equal(sunk.bytes, "d");
    snprintf(
        body, sizeof body,
        "--XyZ\r\nContent-Disposition: form-data; name=file\r\nX: %0*d\r\n\r\nd" TAIL,
        pad + 1, 0);
    refuses(TYPE, body, "over 4096 bytes");
}

static void text_behind_a_boundary_is_refused(void **state)
{
    (void)state;
    refuses(TYPE, "--XyZZ\r\n", "behind a boundary");
    refuses(TYPE, "--XyZ-\r\n", "behind a boundary");
    refuses(TYPE, "--XyZ\n", "behind a boundary");
}

static void a_missing_or_bad_boundary_is_refused(void **state)
{
    static const char *const types[] = {
        "multipart/form-data",
        "multipart/form-data;",
        "multipart/form-data; boundary",
        "multipart/form-data; boundary=",
        "multipart/form-data; boundary=\"\"",
        "multipart/form-data; boundary=\"abc",
        "multipart/form-data; boundary=\"abc \"",
        "multipart/form-data; boundary=a\x80",
        "multipart/form-data; boundary=a\rb",
        ("multipart/form-data; boundary=0123456789012345678901234567890123456789"
         "01234567890123456789012345678901234567890")};
    struct gateway_multipart multipart;

    (void)state;
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        assert_int_equal(gateway_multipart_init(&multipart, types[i]), -EINVAL);
        assert_non_null(strstr(multipart.detail, "boundary"));
    }
}

static int refusing_sink(void *arg, const uint8_t *bytes, size_t size)
{
    (void)arg;
    (void)bytes;
    (void)size;
    return -ENOBUFS;
}

static void an_error_of_the_sink_ends_the_feed(void **state)
{
    static const char body[] = HEAD "data" TAIL;
    struct gateway_multipart multipart;

    (void)state;
    assert_int_equal(gateway_multipart_init(&multipart, TYPE), 0);
    assert_int_equal(gateway_multipart_feed(&multipart, (const uint8_t *)body,
                                            sizeof body - 1, refusing_sink, NULL),
                     -ENOBUFS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_file_comes_out_however_the_body_is_cut),
        cmocka_unit_test(a_body_may_hold_almost_delimiters_at_every_cut),
        cmocka_unit_test(an_empty_file_is_a_form_with_nothing_in_it),
        cmocka_unit_test(a_boundary_may_be_quoted_and_padded),
        cmocka_unit_test(a_truncated_form_is_refused_wherever_it_ends),
        cmocka_unit_test(a_mask_follows_its_file),
        cmocka_unit_test(other_fields_are_refused_by_name),
        cmocka_unit_test(a_part_without_a_readable_name_is_refused),
        cmocka_unit_test(huge_headers_and_nuls_in_them_are_refused),
        cmocka_unit_test(the_largest_header_block_is_read),
        cmocka_unit_test(text_behind_a_boundary_is_refused),
        cmocka_unit_test(a_missing_or_bad_boundary_is_refused),
        cmocka_unit_test(an_error_of_the_sink_ends_the_feed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
