/* Numbers of JSON text to doubles and back, exactly: yyjson's tables and slow paths, with a reader of our own in front for the
 * two kinds that fill documents, small integers and coordinates of up to 19 digits.
 *
 * The reader in front takes a 17-digit coordinate in 12 ns where yyjson's takes 21 (bench/json, in wasm): it reads eight digits
 * at a time. */
#ifndef PEXEC_JSON_NUMBER_H
#define PEXEC_JSON_NUMBER_H

#define YYJSON_DISABLE_UTILS 1
#define YYJSON_DISABLE_INCR_READER 1
/* Its functions for files would pull the C library's files in and, with them, imports from the host. */
#define fopen(path, mode) NULL
#define fread(to, size, count, file) 0
#define fwrite(from, size, count, file) 0
#define fseek(file, offset, whence) (-1)
#define ftell(file) (-1L)
#define fclose(file) 0
/* clang 22 miscompiles the product of two 64-bit numbers where it becomes one instruction, i64.mul_wide_u: in
 * `high + (low >> 63)` it reads a stale value for `high`, unless debug information is asked for. Kept in memory, the product is
 * right, and no measurement shows the difference. */
#define u128 volatile u128_in_memory
#include "yyjson.c"
#undef u128
#undef fopen
#undef fread
#undef fwrite
#undef fseek
#undef ftell
#undef fclose
#undef likely
#undef unlikely
#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

#define NUMBER_TEXT_MAX 40                   /* bytes that write_double may touch */

static inline bool is_digit8(uint64_t v)
{
    return ((v & 0xf0f0f0f0f0f0f0f0u) | (((v + 0x0606060606060606u) & 0xf0f0f0f0f0f0f0f0u) >> 4)) == 0x3333333333333333u;
}

/* Eight ASCII digits, the first in the lowest byte, as a number (D. Lemire, "Quickly parsing eight digits", 2018). */
static inline uint32_t parse_digit8(uint64_t v)
{
    v -= 0x3030303030303030u;
    v = v * 10 + (v >> 8);
    v = ((v & 0x000000ff000000ffu) * 0x000f424000000064u + ((v >> 16) & 0x000000ff000000ffu) * 0x0000271000000001u) >> 32;
    return (uint32_t)v;
}

/* digits * 10^-places, correctly rounded, for digits of up to 64 bits and 0 to 19 places; false if the 128 bits that are known
 * of the power of ten cannot decide the rounding (D. Lemire, "Number parsing at a gigabyte per second", 2021). */
static inline bool decimal_to_double(uint64_t digits, int places, double *out)
{
    static const double exact[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,
                                   1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19};
    if (digits < (1ull << 53)) {
        *out = (double)digits / exact[places];   /* both exact, so one rounding (W. Clinger, 1990) */
        return true;
    }
    uint64_t power, power_low, hi, lo;
    int exponent;
    pow10_table_get_sig(-places, &power, &power_low);
    pow10_table_get_exp(-places, &exponent);
    int shift = __builtin_clzll(digits);
    u128_mul(digits << shift, power, &hi, &lo);
    /* The unknown rest of the power adds less than 2^64 to lo. It can reach the bits that round, bit 10 and above of hi, only
     * through bits 0 to 8 that are all ones, and decide a tie only if they are all zeros. */
    uint64_t low = hi & 0x1ff;
    if (low == 0 || low == 0x1ff) {
        uint64_t hi2, lo2;
        u128_mul(digits << shift, power_low, &hi2, &lo2);
        uint64_t sum = lo + hi2;
        if (sum + 1 <= 1)
            return false;
        hi += sum < lo;
    }
    exponent += 64 - shift;
    if (!(hi >> 63)) {
        hi <<= 1;
        exponent--;
    }
    /* 53 bits stay; bit 10 rounds, and what is below it is not zero. */
    uint64_t mantissa = hi >> 11;
    mantissa += (hi >> 10) & 1;
    exponent += 11;
    if (mantissa >> 53) {
        mantissa >>= 1;
        exponent++;
    }
    uint64_t bits = ((uint64_t)(exponent + 52 + 1023) << 52) | (mantissa & ((1ull << 52) - 1));
    memcpy(out, &bits, 8);
    return true;
}

/* A number of more than F64_MAX_DEC_DIG digits. yyjson takes what it cuts off to be more than nothing; here zeros at the end
 * are not among the digits, so that it is. */
static no_inline double read_long_number(const uint8_t *text, const uint8_t *end)
{
    uint8_t digits[F64_MAX_DEC_DIG + 32], *to = digits, *previous = NULL;
    const uint8_t *first = NULL, *last = NULL, *dot = NULL, *p;
    for (p = text; p < end && (*p | 0x20) != 'e'; p++) {
        if (*p == '.')
            dot = p;
        else if (*p >= '1' && *p <= '9') {
            first = first ? first : p;
            last = p;
        }
    }
    if (!first)
        return *text == '-' ? -0.0 : 0.0;
    /* The decimal exponent of the first digit, then of the last one kept. */
    int64_t exponent = (dot ? dot : p) - first - ((!dot || dot > first) ? 1 : 0), given = 0;
    bool down = false;
    for (; p < end; p++) {
        if (*p == '-')
            down = true;
        else if (*p >= '0' && *p <= '9' && given < 1000000000000)
            given = given * 10 + (*p - '0');
    }
    for (p = first; p <= last && to < digits + F64_MAX_DEC_DIG; p++)
        if (*p != '.')
            *to++ = *p;
    if (p <= last)
        *to++ = '1';                         /* it stands for all the rest */
    exponent += (down ? -given : given) - (to - digits - 1);
    *to++ = 'e';
    *to++ = exponent < 0 ? '-' : '+';
    to = write_u64((u64)(exponent < 0 ? -exponent : exponent), to);
    memset(to, 0, 8);
    yyjson_val value;
    const char *message;
    to = digits;
    if (!read_number(&to, &previous, YYJSON_READ_ALLOW_INF_AND_NAN, &value, &message))
        __builtin_unreachable();
    return *text == '-' ? -value.uni.f64 : value.uni.f64;
}

/* Any number, by yyjson. Returns its end; NULL with *at set if the text is no JSON number. */
static no_inline const uint8_t *read_number_slow(const uint8_t *text, double *out, const uint8_t **at)
{
    uint8_t *p = (uint8_t *)text, *previous = NULL;
    const char *message;
    yyjson_val value;
    if (!digi_is_digit(text[*text == '-'])) {
        *at = text + (*text == '-');
        return NULL;
    }
    if (!read_number(&p, &previous, YYJSON_READ_ALLOW_INF_AND_NAN, &value, &message)) {
        *at = p + (*p == '0');               /* of a number with a leading zero it is the next digit that is wrong */
        return NULL;
    }
    if (unlikely(p - text > F64_MAX_DEC_DIG)) {
        *out = read_long_number(text, p);
        return p;
    }
    switch (unsafe_yyjson_get_subtype(&value)) {
    case YYJSON_SUBTYPE_REAL: *out = value.uni.f64; break;
    case YYJSON_SUBTYPE_SINT: *out = value.uni.i64 || *text != '-' ? (double)value.uni.i64 : -0.0; break;
    default: *out = (double)value.uni.u64; break;
    }
    return p;
}

/* Read the number at `text`, which begins with a digit or a minus sign. Returns its end; NULL with *at at the offending byte
 * if it is not JSON. */
static inline const uint8_t *read_json_number(const uint8_t *text, JSValue *out, const uint8_t **at)
{
    const uint8_t *p = text;
    bool negative = *p == '-';
    p += negative;
    const uint8_t *first = p;
    uint64_t digits = 0, eight;
    uint32_t digit;
    double value;
    while ((digit = (uint32_t)*p - '0') <= 9) {
        digits = digits * 10 + digit;
        p++;
    }
    ptrdiff_t whole = p - first;
    if (unlikely(whole == 0 || whole > 18 || (*first == '0' && whole > 1)))
        goto slow;
    if (*p != '.') {
        if (unlikely((*p | 0x20) == 'e'))
            goto slow;
        if (likely(digits <= INT32_MAX) && likely(digits != 0 || !negative)) {
            *out = js_int32(negative ? -(int32_t)digits : (int32_t)digits);
            return p;
        }
        value = (double)digits;
    } else {
        const uint8_t *fraction = ++p;
        memcpy(&eight, p, 8);
        if (is_digit8(eight) && whole <= 10) {
            digits = digits * 100000000u + parse_digit8(eight);
            p += 8;
            memcpy(&eight, p, 8);
            if (whole <= 3 && is_digit8(eight)) {
                digits = digits * 100000000u + parse_digit8(eight);
                p += 8;
            }
        }
        while ((digit = (uint32_t)*p - '0') <= 9) {
            if (unlikely(p - fraction + whole >= 19))
                goto slow;
            digits = digits * 10 + digit;
            p++;
        }
        if (unlikely(p == fraction) || unlikely((*p | 0x20) == 'e') || !decimal_to_double(digits, (int)(p - fraction), &value))
            goto slow;
    }
    *out = js_number(negative ? -value : value);
    return p;
slow:
    p = read_number_slow(text, &value, at);
    if (p)
        *out = js_number(value);
    return p;
}

static inline uint8_t *write_int32(uint8_t *to, int32_t value)
{
    *to = '-';
    to += value < 0;
    uint32_t n = value < 0 ? 0u - (uint32_t)value : (uint32_t)value;
    return write_u64(n, to);
}

/* A finite double as Number::toString writes it. yyjson's text differs in three ways: "1.0", "1e21" and "-0.0". */
static inline uint8_t *write_double(uint8_t *to, double value)
{
    uint64_t bits;
    memcpy(&bits, &value, 8);
    if ((bits << 1) == 0) {
        *to = '0';
        return to + 1;
    }
    uint8_t *end = write_f64_raw(to, bits, 0);
    if (end[-1] == '0' && end[-2] == '.')
        return end - 2;
    for (uint8_t *p = end - 2; p > to && p > end - 6; p--)
        if (*p == 'e') {
            if (p[1] != '-') {
                memmove(p + 2, p + 1, (size_t)(end - p - 1));
                p[1] = '+';
                end++;
            }
            break;
        }
    return end;
}

#endif
