#include "proto/render.h"

#include "tests/unit/proto/golden.h"

#include <errno.h>
#include <math.h>

#define PI 3.14159265358979323846

static uint8_t blob_bytes[4096];
static size_t blob_size;

static int load_blob(void **state)
{
    (void)state;
    blob_size = golden_load("blob", blob_bytes, sizeof blob_bytes);
    return 0;
}

static void assert_rendered(enum proto_format format, enum proto_descriptors descriptors,
                            const uint8_t *want, size_t want_size)
{
    uint8_t *out;
    size_t size;

    assert_int_equal(
        proto_render(blob_bytes, blob_size, format, descriptors, &out, &size), 0);
    assert_int_equal(size, want_size);
    assert_memory_equal(out, want, size);
    free(out);
}

static void assert_golden_text(enum proto_format format,
                               enum proto_descriptors descriptors, const char *name)
{
    uint8_t want[16384];

    assert_rendered(format, descriptors, want, golden_read(name, want, sizeof want));
}

static void json_is_the_golden_text(void **state)
{
    (void)state;
    assert_golden_text(PROTO_FORMAT_JSON, PROTO_DESCRIPTORS_ARRAY, "blob_array.json");
    assert_golden_text(PROTO_FORMAT_JSON, PROTO_DESCRIPTORS_BASE64, "blob_base64.json");
    assert_golden_text(PROTO_FORMAT_JSON, PROTO_DESCRIPTORS_NONE, "blob_none.json");
}

static void colmap_and_lowe_are_the_golden_texts(void **state)
{
    (void)state;
    assert_golden_text(PROTO_FORMAT_COLMAP, PROTO_DESCRIPTORS_ARRAY, "blob_colmap.txt");
    assert_golden_text(PROTO_FORMAT_LOWE, PROTO_DESCRIPTORS_ARRAY, "blob_lowe.sift");
}

static void msgpack_and_npz_are_what_python_writes(void **state)
{
    uint8_t want[16384];

    (void)state;
    assert_rendered(PROTO_FORMAT_MSGPACK, PROTO_DESCRIPTORS_ARRAY, want,
                    golden_load("blob_msgpack", want, sizeof want));
    assert_rendered(PROTO_FORMAT_NPZ, PROTO_DESCRIPTORS_ARRAY, want,
                    golden_load("blob_npz", want, sizeof want));
}

static void bin_is_the_blob_itself(void **state)
{
    (void)state;
    assert_rendered(PROTO_FORMAT_BIN, PROTO_DESCRIPTORS_NONE, blob_bytes, blob_size);
}

static void descriptors_matter_to_json_only(void **state)
{
    (void)state;
    for (int format = 0; format < PROTO_FORMAT_COUNT; format++) {
        uint8_t *with, *without;
        size_t with_size, without_size;
        proto_render(blob_bytes, blob_size, (enum proto_format)format,
                     PROTO_DESCRIPTORS_ARRAY, &with, &with_size);
        proto_render(blob_bytes, blob_size, (enum proto_format)format,
                     PROTO_DESCRIPTORS_NONE, &without, &without_size);
        assert_int_equal(with_size != without_size, format == PROTO_FORMAT_JSON);
        free(with);
        free(without);
    }
}

static void a_bad_blob_is_refused_in_every_format(void **state)
{
    uint8_t *out = NULL;
    size_t size;

    (void)state;
    for (int format = 0; format < PROTO_FORMAT_COUNT; format++)
        assert_int_equal(proto_render(blob_bytes, blob_size - 1,
                                      (enum proto_format)format, PROTO_DESCRIPTORS_ARRAY,
                                      &out, &size),
                         -EPROTO);
    assert_null(out);
}

static void a_blob_without_features_renders_in_every_format(void **state)
{
    uint8_t empty[PROTO_BLOB_HEADER_BYTES], *out;
    size_t size;

    (void)state;
    memcpy(empty, blob_bytes, sizeof empty);
    memset(empty + 8, 0, 4);
    for (int format = 0; format < PROTO_FORMAT_COUNT; format++) {
        for (int descriptors = 0; descriptors < 3; descriptors++) {
            assert_int_equal(proto_render(empty, sizeof empty, (enum proto_format)format,
                                          (enum proto_descriptors)descriptors, &out,
                                          &size),
                             0);
            if (format == PROTO_FORMAT_COLMAP || format == PROTO_FORMAT_LOWE)
                assert_memory_equal(out, "0 128\n", size);
            free(out);
        }
    }
    proto_render(empty, sizeof empty, PROTO_FORMAT_JSON, PROTO_DESCRIPTORS_ARRAY, &out,
                 &size);
    static const char end[] = "\"count\":0,\"keypoints\":[],\"descriptors\":[]}";
    assert_memory_equal(out + size - strlen(end), end, strlen(end));
    free(out);
}

/* A blob of `count` features of noise: any finite floats, all bytes. */
static uint8_t *noise_blob(uint32_t count, uint64_t *seed)
{
    uint8_t *bytes = malloc(proto_blob_bytes(count));

    memcpy(bytes, blob_bytes, PROTO_BLOB_HEADER_BYTES);
    for (int k = 0; k < 4; k++)
        bytes[8 + k] = (uint8_t)(count >> 8 * k);
    golden_noise(seed, bytes + PROTO_BLOB_HEADER_BYTES,
                 proto_blob_bytes(count) - PROTO_BLOB_HEADER_BYTES);
    for (size_t i = 0; i < (size_t)count * PROTO_KEYPOINT_FLOATS; i++)
        bytes[PROTO_BLOB_HEADER_BYTES + 4 * i + 3] &= 0xbf; /* exponent not all ones */
    return bytes;
}

static void a_rendering_s_size_is_inside_what_the_head_tells(void **state)
{
    static const uint32_t counts[] = {0, 1, 7, 300};
    uint64_t seed = 5, least, most;

    (void)state;
    for (size_t i = 0; i < 4; i++)
        for (int zero = 0; zero < 2; zero++)
            for (int format = 0; format < PROTO_FORMAT_COUNT; format++)
                for (int d = 0; d <= PROTO_DESCRIPTORS_NONE; d++) {
                    uint8_t *blob = noise_blob(counts[i], &seed), *out;
                    size_t size, blob_bytes_all = proto_blob_bytes(counts[i]);
                    if (zero) /* the shortest numbers */
                        memset(blob + PROTO_BLOB_HEADER_BYTES, 0,
                               blob_bytes_all - PROTO_BLOB_HEADER_BYTES);
                    assert_int_equal(proto_render(blob, blob_bytes_all,
                                                  (enum proto_format)format,
                                                  (enum proto_descriptors)d, &out, &size),
                                     0);
                    assert_int_equal(proto_render_bounds(
                                         blob, blob_bytes_all, (enum proto_format)format,
                                         (enum proto_descriptors)d, &least, &most),
                                     0);
                    assert_in_range(size, least, most);
                    free(out);
                    free(blob);
                }
    assert_int_equal(proto_render_bounds(blob_bytes, blob_size - 1, PROTO_FORMAT_JSON,
                                         PROTO_DESCRIPTORS_ARRAY, &least, &most),
                     -EPROTO);
}

static void the_longest_numbers_stay_inside_their_room(void **state)
{
    static const float longest[PROTO_KEYPOINT_FLOATS] = {
        -1.17549435e-38f, -3.40282347e+38f, -1.40129846e-45f, -9.99999944e+14f,
        -1.00000014e-05f};
    uint64_t seed = 9;
    const uint32_t count = 300;
    uint8_t *bytes = noise_blob(count, &seed), *out;
    size_t size;

    (void)state;
    for (uint32_t i = 0; i < count; i++)
        proto_blob_put_keypoint(bytes + PROTO_BLOB_HEADER_BYTES + 20 * i, longest);
    memset(bytes + PROTO_BLOB_HEADER_BYTES + 20 * count, 255, 128 * count);
    for (int format = 0; format < PROTO_FORMAT_COUNT; format++) {
        assert_int_equal(proto_render(bytes, proto_blob_bytes(count),
                                      (enum proto_format)format, PROTO_DESCRIPTORS_ARRAY,
                                      &out, &size),
                         0);
        free(out);
    }
    free(bytes);
}

static void colmap_text_reads_back_to_the_same_numbers(void **state)
{
    uint64_t seed = 10;
    const uint32_t count = 200;
    uint8_t *bytes = noise_blob(count, &seed), *out;
    struct proto_blob blob;
    size_t size;

    (void)state;
    assert_int_equal(proto_blob_decode(bytes, proto_blob_bytes(count), &blob), 0);
    assert_int_equal(proto_render(bytes, proto_blob_bytes(count), PROTO_FORMAT_COLMAP,
                                  PROTO_DESCRIPTORS_ARRAY, &out, &size),
                     0);
    assert_int_equal(out[size - 1], '\n');
    out[size - 1] = '\0';
    char *at = (char *)out;
    assert_int_equal(strtol(at, &at, 10), count);
    assert_int_equal(strtol(at, &at, 10), 128);
    for (uint32_t i = 0; i < count; i++) {
        float k[PROTO_KEYPOINT_FLOATS];
        proto_blob_keypoint(&blob, i, k);
        assert_int_equal(*at, '\n');
        assert_true(strtof(at, &at) == k[0] + 0.5f);
        assert_true(strtof(at, &at) == k[1] + 0.5f);
        assert_true(strtof(at, &at) == k[2]);
        assert_true(strtof(at, &at) == k[3]);
        for (int d = 0; d < 128; d++)
            assert_int_equal(strtol(at, &at, 10), blob.descriptors[128 * i + d]);
    }
    assert_int_equal(*at, '\0');
    free(out);
    free(bytes);
}

/* Features as Lowe's own program wrote them, read into a blob. NULL: no such file. */
static uint8_t *blob_of_lowe(FILE *file, uint32_t *count)
{
    unsigned features, width, number;

    assert_int_equal(fscanf(file, "%u %u", &features, &width), 2);
    assert_int_equal(width, 128);
    uint8_t *bytes = malloc(proto_blob_bytes(features));
    memcpy(bytes, blob_bytes, PROTO_BLOB_HEADER_BYTES);
    for (int k = 0; k < 4; k++)
        bytes[8 + k] = (uint8_t)(features >> 8 * k);
    uint8_t *descriptor = bytes + PROTO_BLOB_HEADER_BYTES + 20 * features;
    for (unsigned i = 0; i < features; i++) {
        float row, col, scale, angle;
        assert_int_equal(fscanf(file, "%f %f %f %f", &row, &col, &scale, &angle), 4);
        float ours = -angle < 0 ? (float)(2 * PI - (double)angle) : -angle;
        const float keypoint[] = {col, row, scale, ours, 0};
        proto_blob_put_keypoint(bytes + PROTO_BLOB_HEADER_BYTES + 20 * i, keypoint);
        for (int d = 0; d < 128; d++) {
            assert_int_equal(fscanf(file, "%u", &number), 1);
            *descriptor++ = (uint8_t)number;
        }
    }
    *count = features;
    return bytes;
}

/* Both texts have the same lines of the same numbers, angles to a millionth. */
static void assert_same_numbers(FILE *file, char *text)
{
    char line[512];
    char *rest = text;

    for (unsigned at = 1; fgets(line, sizeof line, file) != NULL; at++) {
        char *mine = strsep(&rest, "\n"), *theirs = line;
        assert_non_null(mine);
        for (;;) {
            char *mine_end, *theirs_end;
            double a = strtod(mine, &mine_end), b = strtod(theirs, &theirs_end);
            assert_int_equal(mine_end == mine, theirs_end == theirs);
            if (mine_end == mine)
                break;
            if (fabs(a - b) > 1e-6)
                fail_msg("line %u: %g is not %g", at, a, b);
            mine = mine_end;
            theirs = theirs_end;
        }
    }
    assert_string_equal(rest, "");
}

static void lowe_text_is_laid_out_as_lowe_did(void **state)
{
    const char *data = getenv("SIFTMESH_TEST_DATA");
    const char *source = getenv("SIFTMESH_SOURCE");
    char path[4096];
    uint8_t *out;
    uint32_t count;
    size_t size;

    (void)state;
    if (data != NULL)
        snprintf(path, sizeof path, "%s/vlfeat/box.sift", data);
    else
        snprintf(path, sizeof path, "%s/../shared/data/vlfeat/box.sift",
                 source ? source : ".");
    FILE *file = fopen(path, "r");
    if (file == NULL) {
        print_message("skipped: no %s; set SIFTMESH_TEST_DATA\n", path);
        skip();
    }
    uint8_t *bytes = blob_of_lowe(file, &count);
    rewind(file);
    assert_int_equal(proto_render(bytes, proto_blob_bytes(count), PROTO_FORMAT_LOWE,
                                  PROTO_DESCRIPTORS_ARRAY, &out, &size),
                     0);
    out = realloc(out, size + 1);
    out[size] = '\0';
    assert_same_numbers(file, (char *)out);
    fclose(file);
    free(out);
    free(bytes);
}

static void lowe_angles_stay_inside_half_a_turn(void **state)
{
    static const float angles[] = {0,          1e-7f,     3.1415925f,
                                   3.1415927f, 3.141593f, 6.2831850f};
    uint8_t bytes[4096], *out;
    size_t size;

    (void)state;
    memcpy(bytes, blob_bytes, blob_size);
    for (size_t i = 0; i < sizeof angles / sizeof angles[0]; i++) {
        const float keypoint[] = {1, 2, 3, angles[i], 0};
        proto_blob_put_keypoint(bytes + PROTO_BLOB_HEADER_BYTES, keypoint);
        assert_int_equal(proto_render(bytes, blob_size, PROTO_FORMAT_LOWE,
                                      PROTO_DESCRIPTORS_ARRAY, &out, &size),
                         0);
        const char *at = (char *)out + strlen("2 128\n2 1 3 ");
        double angle = strtod(at, NULL);
        assert_true(angle > -PI && angle <= PI);
        double turn = angle + (double)angles[i]; /* none, or a whole one */
        assert_true(fabs(turn) < 1e-6 || fabs(turn - 2 * PI) < 1e-6);
        free(out);
    }
}

static void formats_are_found_by_name(void **state)
{
    enum proto_format format = PROTO_FORMAT_COUNT;

    (void)state;
    for (int i = 0; i < PROTO_FORMAT_COUNT; i++) {
        assert_int_equal(
            proto_format_by_name(proto_format_name((enum proto_format)i), &format), 0);
        assert_int_equal(format, i);
    }
    assert_int_equal(proto_format_by_name("JSON", &format), -ENOENT);
    assert_int_equal(proto_format_by_name("", &format), -ENOENT);
    assert_string_equal(proto_format_media(PROTO_FORMAT_NPZ), "application/x-npz");
    assert_string_equal(proto_format_suffix(PROTO_FORMAT_LOWE), ".sift");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(json_is_the_golden_text),
        cmocka_unit_test(colmap_and_lowe_are_the_golden_texts),
        cmocka_unit_test(msgpack_and_npz_are_what_python_writes),
        cmocka_unit_test(bin_is_the_blob_itself),
        cmocka_unit_test(descriptors_matter_to_json_only),
        cmocka_unit_test(a_bad_blob_is_refused_in_every_format),
        cmocka_unit_test(a_blob_without_features_renders_in_every_format),
        cmocka_unit_test(a_rendering_s_size_is_inside_what_the_head_tells),
        cmocka_unit_test(the_longest_numbers_stay_inside_their_room),
        cmocka_unit_test(colmap_text_reads_back_to_the_same_numbers),
        cmocka_unit_test(lowe_text_is_laid_out_as_lowe_did),
        cmocka_unit_test(lowe_angles_stay_inside_half_a_turn),
        cmocka_unit_test(formats_are_found_by_name),
    };
    return cmocka_run_group_tests(tests, load_blob, NULL);
}
