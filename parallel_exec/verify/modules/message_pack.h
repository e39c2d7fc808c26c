/* As much of MessagePack as a request needs: a map from texts to texts and byte strings, read without trust. */
#ifndef MESSAGE_PACK_H
#define MESSAGE_PACK_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct span {
    const uint8_t *start;
    uint32_t length;
};

/* What is still to be read; `failed` once something was not as it has to be. */
struct reader {
    const uint8_t *next;
    const uint8_t *end;
    int failed;
};

static uint32_t read_number(struct reader *reader, int bytes)
{
    uint32_t value = 0;
    if (reader->end - reader->next < bytes) {
        reader->failed = 1;
        return 0;
    }
    while (bytes-- > 0)
        value = value << 8 | *reader->next++;
    return value;
}

static struct span read_span(struct reader *reader, uint32_t length)
{
    struct span span = {reader->next, length};
    if ((size_t)(reader->end - reader->next) < length) {
        reader->failed = 1;
        span.length = 0;
        return span;
    }
    reader->next += length;
    return span;
}

/* A text, or with `bytes` a byte string or a text: encoders of old have one type for both. */
static struct span read_text(struct reader *reader, int bytes)
{
    uint32_t tag = read_number(reader, 1);
    if (!reader->failed && (tag & 0xe0) == 0xa0)
        return read_span(reader, tag & 0x1f);
    if ((tag >= 0xd9 && tag <= 0xdb) || (bytes && tag >= 0xc4 && tag <= 0xc6)) {
        uint32_t length = read_number(reader, 1 << (tag >= 0xd9 ? tag - 0xd9 : tag - 0xc4));
        if (!reader->failed)
            return read_span(reader, length);
    }
    reader->failed = 1;
    return (struct span){reader->next, 0};
}

static uint32_t read_map(struct reader *reader)
{
    uint32_t tag = read_number(reader, 1);
    if (!reader->failed && (tag & 0xf0) == 0x80)
        return tag & 0x0f;
    if (tag == 0xde || tag == 0xdf)
        return read_number(reader, tag == 0xde ? 2 : 4);
    reader->failed = 1;
    return 0;
}

static int is_text(struct span span, const char *text)
{
    return span.length == strlen(text) && memcmp(span.start, text, span.length) == 0;
}

#endif
