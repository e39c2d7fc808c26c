/* What compilers call of the C library, so that it need not be built, which takes ten times as long as a module. */

#include <stddef.h>
#include <stdint.h>

/* A loop that does what one of these functions does would be made a call of that function. */
#define PLAIN __attribute__((no_builtin))

struct __attribute__((packed, may_alias)) word {
    uint64_t value;
};

PLAIN void *memcpy(void *restrict to, const void *restrict from, size_t length)
{
    uint8_t *next = to;
    const uint8_t *source = from;
    for (; length >= sizeof(struct word); length -= sizeof(struct word)) {
        ((struct word *)next)->value = ((const struct word *)source)->value;
        next += sizeof(struct word);
        source += sizeof(struct word);
    }
    while (length-- > 0)
        *next++ = *source++;
    return to;
}

PLAIN void *memset(void *to, int byte, size_t length)
{
    uint8_t *next = to;
    const uint64_t word = (uint8_t)byte * 0x0101010101010101u;
    for (; length >= sizeof(struct word); length -= sizeof(struct word)) {
        ((struct word *)next)->value = word;
        next += sizeof(struct word);
    }
    while (length-- > 0)
        *next++ = byte;
    return to;
}

PLAIN int memcmp(const void *one, const void *other, size_t length)
{
    const uint8_t *a = one, *b = other;
    for (; length > 0; a++, b++, length--)
        if (*a != *b)
            return *a - *b;
    return 0;
}

PLAIN size_t strlen(const char *text)
{
    const char *end = text;
    while (*end)
        end++;
    return end - text;
}
