/* The text that the writer makes: a buffer that grows up to a limit, and strings quoted into it as JSON.stringify quotes them,
 * which escapes lone surrogates. The text is UTF-8.
 *
 * Needs: allocator.inc.c; from QuickJS the layout of strings.
 * Gives: struct output, output_reserve, output_put, output_put_from_heap, put_quoted. */
#include <wasm_simd128.h>

struct output {
    uint8_t *text;
    uint32_t len, room, limit;
    bool too_large;                          /* the limit was reached: not an exception, nothing can catch it */
};

static no_inline bool output_grow(JSContext *ctx, struct output *out, uint32_t more)
{
    uint64_t wanted = (uint64_t)out->len + more;
    /* Room is asked for generously (six bytes a character), so only what is really written counts. */
    if (out->len > out->limit) {
        out->too_large = true;
        return false;
    }
    /* The free block behind is most often what the document's text left. Growing into it copies nothing and touches no new memory. */
    if (out->text && heap_widen(out->text, wanted)) {
        out->room = (uint32_t)heap_usable_size(out->text);
        return true;
    }
    uint64_t room = (uint64_t)out->room * 2 + 1024;
    if (room < wanted)
        room = wanted;
    uint8_t *grown = room < 0xf0000000u ? heap_realloc(out->text, (size_t)room) : NULL;
    if (!grown && wanted < room)
        grown = heap_realloc(out->text, (size_t)(room = wanted));
    if (!grown) {
        JS_ThrowOutOfMemory(ctx);
        return false;
    }
    out->text = grown;
    out->room = (uint32_t)room;
    return true;
}

/* Make room for `more` bytes. False if there is none: then either an exception is pending or out->too_large is set. */
static inline bool output_reserve(JSContext *ctx, struct output *out, uint32_t more)
{
    return likely(out->room - out->len >= more) || output_grow(ctx, out, more);
}

static inline bool output_put(JSContext *ctx, struct output *out, const char *text, uint32_t len)
{
    if (unlikely(!output_reserve(ctx, out, len)))
        return false;
    memcpy(out->text + out->len, text, len);
    out->len += len;
    return true;
}

/* The same for a text in a heap block, behind which there is always something to read; in vectors, because a memcpy of unknown
 * length is a call out of the compiled code. */
static inline bool output_put_from_heap(JSContext *ctx, struct output *out, const uint8_t *text, uint32_t len)
{
    if (unlikely(!output_reserve(ctx, out, len + 16)))
        return false;
    uint8_t *to = out->text + out->len;
    for (uint32_t i = 0; i < len; i += 16)
        wasm_v128_store(to + i, wasm_v128_load(text + i));
    out->len += len;
    return true;
}

/* One character that must not stand for itself: a quote, a backslash, a control character or a lone surrogate. */
static inline uint8_t *put_escaped(uint8_t *to, uint32_t c)
{
    static const char hex[] = "0123456789abcdef";
    static const char letters[] = {['\b'] = 'b', ['\f'] = 'f', ['\n'] = 'n', ['\r'] = 'r', ['\t'] = 't', ['"'] = '"', ['\\'] = '\\'};
    *to++ = '\\';
    if (c < sizeof(letters) && letters[c]) {
        *to++ = (uint8_t)letters[c];
        return to;
    }
    *to++ = 'u';
    for (int shift = 12; shift >= 0; shift -= 4)
        *to++ = (uint8_t)hex[(c >> shift) & 15];
    return to;
}

#define ESCAPED_MAX 6u                       /* bytes that one UTF-16 unit may take */
#define QUOTE_PIECE 4096u                    /* units for which room is made at once */

static bool put_quoted8(JSContext *ctx, struct output *out, const uint8_t *p, uint32_t len)
{
    const uint8_t *end = p + len;
    while (p < end) {
        uint32_t piece = (uint32_t)(end - p) < QUOTE_PIECE ? (uint32_t)(end - p) : QUOTE_PIECE;
        if (unlikely(!output_reserve(ctx, out, piece * ESCAPED_MAX + 32)))
            return false;
        const uint8_t *stop = p + piece;
        uint8_t *to = out->text + out->len;
        while (p < stop) {
            /* Reading past the string stays in linear memory, because something follows the heap block of every string, if only the
             * output. What is read there is not used. */
            v128_t v = wasm_v128_load(p);
            v128_t odd = wasm_v128_or(wasm_v128_or(wasm_i8x16_eq(v, wasm_i8x16_splat('"')), wasm_i8x16_eq(v, wasm_i8x16_splat('\\'))),
                                      wasm_i8x16_lt(v, wasm_i8x16_splat(' ')));
            uint32_t plain = (uint32_t)__builtin_ctz(wasm_i8x16_bitmask(odd) | 0x10000);
            if (plain > (uint32_t)(stop - p))
                plain = (uint32_t)(stop - p);
            wasm_v128_store(to, v);
            to += plain;
            p += plain;
            if (plain == 16 || p == stop)
                continue;
            if (*p >= 0x80) {
                *to++ = (uint8_t)(0xc0 | *p >> 6);
                *to++ = (uint8_t)(0x80 | (*p & 0x3f));
            } else {
                to = put_escaped(to, *p);
            }
            p++;
        }
        out->len = (uint32_t)(to - out->text);
    }
    return true;
}

/* Write as many of the next 8 units as stand together and are alike: plain ASCII, two bytes of UTF-8 or (of the next 4) three. All
 * that is written lies in the 16 bytes at *to. Returns how many units, and moves *to. */
static inline uint32_t put_alike(const uint16_t *p, uint8_t **to)
{
    v128_t v = wasm_v128_load(p), last = wasm_v128_or(wasm_v128_and(v, wasm_i16x8_splat(0x3f)), wasm_i16x8_splat(0x80));
    uint32_t count;
    if (*p < 0x80) {
        v128_t good = wasm_v128_and(wasm_u16x8_lt(wasm_i16x8_sub(v, wasm_i16x8_splat(' ')), wasm_i16x8_splat(0x80 - ' ')),
                                    wasm_v128_and(wasm_i16x8_ne(v, wasm_i16x8_splat('"')), wasm_i16x8_ne(v, wasm_i16x8_splat('\\'))));
        wasm_v128_store(*to, wasm_u8x16_narrow_i16x8(v, v));
        count = (uint32_t)__builtin_ctz(~wasm_i16x8_bitmask(good));
        *to += count;
    } else if (*p < 0x800) {
        v128_t good = wasm_u16x8_lt(wasm_i16x8_sub(v, wasm_i16x8_splat(0x80)), wasm_i16x8_splat(0x800 - 0x80));
        wasm_v128_store(*to, wasm_v128_or(wasm_v128_or(wasm_u16x8_shr(v, 6), wasm_i16x8_splat(0xc0)), wasm_i16x8_shl(last, 8)));
        count = (uint32_t)__builtin_ctz(~wasm_i16x8_bitmask(good));
        *to += 2 * count;
    } else {
        v128_t good = wasm_v128_and(wasm_u16x8_ge(v, wasm_i16x8_splat(0x800)),
                                    wasm_i16x8_ne(wasm_v128_and(v, wasm_i16x8_splat((int16_t)0xf800)), wasm_i16x8_splat((int16_t)0xd800)));
        v128_t middle = wasm_v128_or(wasm_v128_and(wasm_u16x8_shr(v, 6), wasm_i16x8_splat(0x3f)), wasm_i16x8_splat(0x80));
        v128_t first = wasm_v128_or(wasm_u16x8_shr(v, 12), wasm_i16x8_splat(0xe0));
        v128_t two = wasm_v128_or(first, wasm_i16x8_shl(middle, 8));
        wasm_v128_store(*to, wasm_i8x16_shuffle(two, last, 0, 1, 16, 2, 3, 18, 4, 5, 20, 6, 7, 22, 7, 7, 7, 7));
        count = (uint32_t)__builtin_ctz(~wasm_i16x8_bitmask(good) | 0x10);
        *to += 3 * count;
    }
    return count;
}

static bool put_quoted16(JSContext *ctx, struct output *out, const uint16_t *p, uint32_t len)
{
    const uint16_t *end = p + len;
    while (p < end) {
        uint32_t piece = (uint32_t)(end - p) < QUOTE_PIECE ? (uint32_t)(end - p) : QUOTE_PIECE;
        if (unlikely(!output_reserve(ctx, out, piece * ESCAPED_MAX + 32)))
            return false;
        const uint16_t *stop = p + piece;
        uint8_t *to = out->text + out->len;
        while (p < stop) {
            if (likely(stop - p >= 8)) {
                uint32_t count = put_alike(p, &to);
                p += count;
                if (count)
                    continue;
            }
            uint32_t c = *p++;
            if (c < 0x80) {
                if (likely(c >= ' ' && c != '"' && c != '\\'))
                    *to++ = (uint8_t)c;
                else
                    to = put_escaped(to, c);
            } else if (c < 0x800) {
                *to++ = (uint8_t)(0xc0 | c >> 6);
                *to++ = (uint8_t)(0x80 | (c & 0x3f));
            } else if (likely((c & 0xf800) != 0xd800)) {
                *to++ = (uint8_t)(0xe0 | c >> 12);
                *to++ = (uint8_t)(0x80 | (c >> 6 & 0x3f));
                *to++ = (uint8_t)(0x80 | (c & 0x3f));
            } else if (c < 0xdc00 && p < end && (*p & 0xfc00) == 0xdc00) {
                c = 0x10000 + ((c & 0x3ff) << 10 | (*p++ & 0x3ff));
                *to++ = (uint8_t)(0xf0 | c >> 18);
                *to++ = (uint8_t)(0x80 | (c >> 12 & 0x3f));
                *to++ = (uint8_t)(0x80 | (c >> 6 & 0x3f));
                *to++ = (uint8_t)(0x80 | (c & 0x3f));
            } else {
                to = put_escaped(to, c);
            }
        }
        out->len = (uint32_t)(to - out->text);
    }
    return true;
}

static bool put_quoted(JSContext *ctx, struct output *out, JSString *string)
{
    if (unlikely(!output_reserve(ctx, out, 1)))
        return false;
    out->text[out->len++] = '"';
    if (!(string->is_wide_char ? put_quoted16(ctx, out, str16(string), string->len)
                               : put_quoted8(ctx, out, str8(string), string->len)))
        return false;
    if (unlikely(!output_reserve(ctx, out, 1)))
        return false;
    out->text[out->len++] = '"';
    return true;
}
