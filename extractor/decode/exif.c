#include "extractor/decode/internal.h"

#include <libexif/exif-data.h>
#include <stdlib.h>
#include <string.h>

static const char exif_head[6] = "Exif\0"; /* and the array's own second NUL */

static unsigned orientation_of(ExifData *data)
{
    ExifEntry *entry =
        exif_content_get_entry(data->ifd[EXIF_IFD_0], EXIF_TAG_ORIENTATION);
    if (entry == NULL || entry->format != EXIF_FORMAT_SHORT || entry->size < 2)
        return 1;
    unsigned value = exif_get_short(entry->data, exif_data_get_byte_order(data));
    return value >= 1 && value <= 8 ? value : 1;
}

/* libexif wants the six bytes of JPEG's APP1 in front, which PNG and WebP do not have. */
unsigned decode_exif_orientation(const uint8_t *tiff, size_t size)
{
    unsigned orientation = 1;
    if (size > DECODE_EXIF_MAX_BYTES)
        return orientation;

    uint8_t *block = malloc(sizeof exif_head + size);
    ExifData *data = exif_data_new();
    if (block != NULL && data != NULL) {
        memcpy(block, exif_head, sizeof exif_head);
        memcpy(block + sizeof exif_head, tiff, size);
        /* Take what is there; by default libexif adds the entries that it misses. */
        exif_data_unset_option(data, EXIF_DATA_OPTION_FOLLOW_SPECIFICATION);
        exif_data_load_data(data, block, (unsigned)(sizeof exif_head + size));
        orientation = orientation_of(data);
    }
    if (data != NULL)
        exif_data_unref(data);
    free(block);
    return orientation;
}
