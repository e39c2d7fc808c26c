/* JSON strings: finds their end sixteen bytes at a time, decodes escapes and UTF-8, and reports the errors of both.
 *
 * Needs: allocator.inc.c; from QuickJS the layout of strings and from_hex.
 * Gives: skip_space, skip_plain, hex4, utf8_take, decode_string. */
#include <wasm_simd128.h>

static inline bool is_json_space(uint8_t c) { return c == ' ' || c == '\n' || c == '\t' || c == '\r'; }

/* The first byte at or after p that is no white space. At least 16 readable bytes follow the text. */
static inline const uint8_t *skip_space(const uint8_t *p)
{
    if (likely(*p > ' '))
        return p;
    if (!is_json_space(*p))
        return p;
    if (p[1] > ' ')
        return p + 1;
    for (;;) {
        v128_t v = wasm_v128_load(p);
        v128_t space = wasm_v128_or(wasm_v128_or(wasm_i8x16_eq(v, wasm_i8x16_splat(' ')), wasm_i8x16_eq(v, wasm_i8x16_splat('\n'))),
                                    wasm_v128_or(wasm_i8x16_eq(v, wasm_i8x16_splat('\t')), wasm_i8x16_eq(v, wasm_i8x16_splat('\r'))));
        uint32_t mask = wasm_i8x16_bitmask(space);
        if (mask != 0xffff)
            return p + __builtin_ctz(~mask);
        p += 16;
    }
}

/* Which of 16 bytes are not plain ASCII text. */
static inline uint32_t stops_in(v128_t v)
{
    return wasm_i8x16_bitmask(wasm_v128_or(wasm_v128_or(wasm_i8x16_eq(v, wasm_i8x16_splat('"')), wasm_i8x16_eq(v, wasm_i8x16_splat('\\'))),
                                           wasm_i8x16_lt(v, wasm_i8x16_splat(' '))));   /* signed: 0x80 and above are below ' ' */
}

/* The first byte at or after p that ends plain ASCII text: a quote, a backslash, a control character, or a byte above 0x7f. */
static inline const uint8_t *skip_plain(const uint8_t *p)
{
    for (;;) {
        uint32_t mask = stops_in(wasm_v128_load(p));
        if (mask)
            return p + __builtin_ctz(mask);
        p += 16;
    }
}

/* Decode one UTF-8 character of two bytes or more. Returns its length, or 0 if the bytes are not UTF-8: overlong, beyond
 * U+10FFFF, cut short, or (unless `surrogates`) a surrogate. */
static inline int utf8_take(const uint8_t *p, uint32_t *code, bool surrogates)
{
    uint32_t a = p[0], b = p[1] ^ 0x80u, c, d;
    if (b > 0x3f)
        return 0;
    if (a >= 0xc2 && a <= 0xdf) {
        *code = (a & 0x1f) << 6 | b;
        return 2;
    }
    c = p[2] ^ 0x80u;
    if (c > 0x3f)
        return 0;
    if ((a & 0xf0) == 0xe0) {
        *code = (a & 0x0f) << 12 | b << 6 | c;
        return *code >= 0x800 && (surrogates || (*code & 0xf800) != 0xd800) ? 3 : 0;
    }
    d = p[3] ^ 0x80u;
    if (d > 0x3f || a < 0xf0 || a > 0xf4)
        return 0;
    *code = (a & 0x07) << 18 | b << 12 | c << 6 | d;
    return *code >= 0x10000 && *code <= 0x10ffff ? 4 : 0;
}

static inline int hex4(const uint8_t *p)
{
    int value = 0;
    for (int i = 0; i < 4; i++) {
        int digit = from_hex(p[i]);
        if (digit < 0)
            return -1;
        value = value << 4 | digit;
    }
    return value;
}

/* Where strings are decoded to: UTF-16 code units, in one buffer that is reused for every string of a document. */
static struct {
    uint16_t *units;
    uint32_t room;
} scratch;

static bool scratch_grow(uint32_t used, uint32_t more)
{
    if (more > JS_STRING_LEN_MAX || used + more > JS_STRING_LEN_MAX)
        return false;                        /* the engine has no longer strings */
    uint32_t wanted = used + more;
    if (wanted <= scratch.room)
        return true;
    uint32_t room = wanted + wanted / 2 + 64;
    uint16_t *grown = heap_realloc(scratch.units, room * sizeof(uint16_t));
    if (!grown)
        return false;
    scratch.units = grown;
    scratch.room = room;
    return true;
}

/* Decode as many of the next two-byte characters (up to 8) or three-byte ones (up to 4) as stand together; all that is written
 * lies in the 16 bytes at `to`. Returns how many, and adds their units to *seen. */
static inline uint32_t take_pairs(const uint8_t *p, uint16_t *to, v128_t *seen)
{
    v128_t v = wasm_v128_load(p);
    v128_t code = wasm_v128_or(wasm_i16x8_shl(wasm_v128_and(v, wasm_i16x8_splat(0x1f)), 6),
                               wasm_v128_and(wasm_u16x8_shr(v, 8), wasm_i16x8_splat(0x3f)));
    v128_t good = wasm_v128_and(wasm_i16x8_eq(wasm_v128_and(v, wasm_i16x8_splat((int16_t)0xc0e0)), wasm_i16x8_splat((int16_t)0x80c0)),
                                wasm_i16x8_ge(code, wasm_i16x8_splat(0x80)));
    wasm_v128_store(to, code);
    *seen = wasm_v128_or(*seen, wasm_v128_and(code, good));
    return (uint32_t)__builtin_ctz(~wasm_i16x8_bitmask(good));
}

static inline uint32_t take_triples(const uint8_t *p, uint16_t *to, v128_t *seen)
{
    v128_t v = wasm_i8x16_swizzle(wasm_v128_load(p), wasm_i8x16_const(0, 1, 2, -1, 3, 4, 5, -1, 6, 7, 8, -1, 9, 10, 11, -1));
    v128_t code = wasm_v128_or(wasm_v128_or(wasm_i32x4_shl(wasm_v128_and(v, wasm_i32x4_splat(0x0f)), 12),
                                            wasm_u32x4_shr(wasm_v128_and(v, wasm_i32x4_splat(0x3f00)), 2)),
                               wasm_u32x4_shr(wasm_v128_and(v, wasm_i32x4_splat(0x3f0000)), 16));
    v128_t good = wasm_i32x4_eq(wasm_v128_and(v, wasm_i32x4_splat(0xc0c0f0)), wasm_i32x4_splat(0x8080e0));
    good = wasm_v128_and(good, wasm_i32x4_ge(code, wasm_i32x4_splat(0x800)));
    good = wasm_v128_and(good, wasm_i32x4_ne(wasm_v128_and(code, wasm_i32x4_splat(0xf800)), wasm_i32x4_splat(0xd800)));
    wasm_v128_store64_lane(to, wasm_u16x8_narrow_i32x4(code, code), 0);
    *seen = wasm_v128_or(*seen, wasm_v128_and(code, good));
    return (uint32_t)__builtin_ctz(~wasm_i32x4_bitmask(good));
}

/* Decode a string that is not plain ASCII, from its first character on, into a new JSString. Returns the address after the
 * closing quote; NULL with *at at the offending byte, or with *at NULL if there is no memory. */
static no_inline const uint8_t *decode_string(JSContext *ctx, const uint8_t *p, JSString **out, bool surrogates, const uint8_t **at)
{
    uint32_t used = 0, seen = 0;
    v128_t runs = wasm_i32x4_splat(0);       /* as `seen`, for runs of characters */
    for (;;) {
        *at = NULL;
        if (unlikely(scratch.room - used < 64) && !scratch_grow(used, 64))
            return NULL;
        v128_t v = wasm_v128_load(p);
        uint32_t stops = stops_in(v), plain = (uint32_t)__builtin_ctz(stops | 0x10000);
        uint16_t *to = scratch.units + used;
        wasm_v128_store(to, wasm_u16x8_extend_low_u8x16(v));
        wasm_v128_store(to + 8, wasm_u16x8_extend_high_u8x16(v));
        p += plain;
        used += plain;
        if (!stops)
            continue;
        to += plain;
        if (*p == '"')
            break;
        if (*p == '\\') {
            int unit;
            switch (p[1]) {
            case '"': unit = '"'; break;
            case '\\': unit = '\\'; break;
            case '/': unit = '/'; break;
            case 'b': unit = '\b'; break;
            case 'f': unit = '\f'; break;
            case 'n': unit = '\n'; break;
            case 'r': unit = '\r'; break;
            case 't': unit = '\t'; break;
            case 'u':
                unit = hex4(p + 2);
                if (unit >= 0) {
                    p += 4;
                    break;
                }
                for (*at = p + 2; from_hex(**at) >= 0;)
                    ++*at;
                return NULL;
            default:
                *at = p + 1;
                return NULL;
            }
            p += 2;
            *to = (uint16_t)unit;
            seen |= (uint32_t)unit;
            used++;
            continue;
        }
        if (*p < 0x80) {                     /* a control character, or the end of the text */
            *at = p;
            return NULL;
        }
        uint32_t units = 0;
        while (*p >= 0x80 && units < 24) {   /* a run of them, while there is room for eight units more */
            uint32_t code, count = 0, size = *p < 0xe0 ? 2 : 3;
            if (p[size] >= 0x80)             /* several in a row */
                count = size == 2 ? take_pairs(p, to + units, &runs) : take_triples(p, to + units, &runs);
            if (count) {
                p += count * size;
                units += count;
                continue;
            }
            int len = utf8_take(p, &code, surrogates);
            if (!len) {
                *at = p;
                return NULL;
            }
            p += len;
            seen |= code;
            if (code < 0x10000) {
                to[units++] = (uint16_t)code;
            } else {
                to[units++] = (uint16_t)(0xd7c0 + (code >> 10));
                to[units++] = (uint16_t)(0xdc00 | (code & 0x3ff));
            }
        }
        used += units;
    }
    bool wide = seen > 0xff || wasm_v128_any_true(wasm_v128_and(runs, wasm_i16x8_splat((int16_t)0xff00)));
    JSString *string = js_alloc_string_rt(ctx->rt, (int)used, wide);
    if (!string)
        return NULL;
    if (wide) {
        memcpy(str16(string), scratch.units, used * 2);
    } else {
        uint8_t *narrow = str8(string);
        for (uint32_t i = 0; i < used; i++)
            narrow[i] = (uint8_t)scratch.units[i];
        narrow[used] = 0;
    }
    *out = string;
    return p + 1;
}
