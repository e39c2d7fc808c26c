/* JSON numbers to doubles and back, exactly. yyjson's tables and slow paths decide the hard cases; in front of them are a reader and a
 * writer of our own for what fills documents, integers and coordinates of up to 19 digits.
 *
 * Needs: yyjson.c; from QuickJS js_int32, js_number and is_digit.
 * Gives: read_json_number, write_int32, write_double, NUMBER_TEXT_MAX. */

#include <wasm_simd128.h>

#define YYJSON_DISABLE_UTILS 1
#include "yyjson.c"
/* yyjson.c leaves its own definitions behind, which are for operands of 0 and 1 only. */
#undef likely
#undef unlikely
#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

#define NUMBER_TEXT_MAX 40                   /* bytes that write_double may touch */

static const uint64_t powers_of_ten[] = {
    1ull, 10ull, 100ull, 1000ull, 10000ull, 100000ull, 1000000ull, 10000000ull, 100000000ull, 1000000000ull, 10000000000ull,
    100000000000ull, 1000000000000ull, 10000000000000ull, 100000000000000ull, 1000000000000000ull, 10000000000000000ull,
};

/* The characters as the digits that they stand for, and how many of them, from the first on, are digits. */
static inline v128_t as_digits(v128_t characters) { return wasm_i8x16_sub(characters, wasm_i8x16_splat('0')); }

static inline uint32_t count_digits(v128_t digits)
{
    return (uint32_t)__builtin_ctz(~wasm_i8x16_bitmask(wasm_u8x16_lt(digits, wasm_i8x16_splat(10))));
}

/* The first `count` (1 to 8) digits as a number, whatever follows them (D. Lemire, "Quickly parsing eight digits", 2018). */
static inline uint32_t digits_to_u32(v128_t digits, uint32_t count)
{
    uint64_t v = (uint64_t)wasm_i64x2_extract_lane(digits, 0) << (64 - 8 * count);
    v = v * 10 + (v >> 8);
    return (uint32_t)(((v & 0x000000ff000000ffu) * 0x000f424000000064u + ((v >> 16) & 0x000000ff000000ffu) * 0x0000271000000001u) >> 32);
}

/* The first `count` (0 to 16) digits as a number, whatever follows them. */
static inline uint64_t digits_to_u64(v128_t digits, uint32_t count)
{
    /* From byte `count` on: lanes that move the first `count` to the end, with zeros before them. */
    static const uint8_t lanes[32] = {255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255,
                                      0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    digits = wasm_i8x16_swizzle(digits, wasm_v128_load(lanes + count));
    v128_t twos = wasm_u16x8_shr(wasm_i16x8_mul(digits, wasm_i16x8_splat(10 * 256 + 1)), 8);
    v128_t fours = wasm_i32x4_dot_i16x8(twos, wasm_i32x4_splat(1 << 16 | 100));
    v128_t eights = wasm_i32x4_dot_i16x8(wasm_u16x8_narrow_i32x4(fours, fours), wasm_i32x4_splat(1 << 16 | 10000));
    uint64_t halves = (uint64_t)wasm_i64x2_extract_lane(eights, 0);
    return (halves & 0xffffffffu) * 100000000u + (halves >> 32);
}

/* The sixteen digits of two numbers below 10^8. */
static inline v128_t u32s_to_digits(uint32_t high, uint32_t low)
{
    /* Each quotient is exact: the reciprocals are rounded up by too little to change it even for the largest dividend. */
    v128_t eights = wasm_i32x4_make(high, low, 0, 0);
    v128_t upper = wasm_u64x2_shr(wasm_u64x2_extmul_low_u32x4(eights, wasm_i32x4_splat(109951163)), 40);
    eights = wasm_u64x2_extend_low_u32x4(eights);
    v128_t fours = wasm_v128_or(upper, wasm_i64x2_shl(wasm_i32x4_sub(eights, wasm_i32x4_dot_i16x8(upper, wasm_i32x4_splat(10000))), 32));
    upper = wasm_u32x4_shr(wasm_i32x4_dot_i16x8(fours, wasm_i32x4_splat(5243)), 19);
    v128_t twos = wasm_v128_or(upper, wasm_i32x4_shl(wasm_i32x4_sub(fours, wasm_i32x4_dot_i16x8(upper, wasm_i32x4_splat(100))), 16));
    upper = wasm_u16x8_shr(wasm_i16x8_mul(twos, wasm_i16x8_splat(103)), 10);
    return wasm_v128_or(upper, wasm_i16x8_shl(wasm_i16x8_sub(twos, wasm_i16x8_mul(upper, wasm_i16x8_splat(10))), 8));
}

/* digits * 10^-places, correctly rounded, for digits of up to 64 bits and 0 to 19 places; false if the 128 bits that are known
 * of the power of ten cannot decide the rounding (D. Lemire, "Number parsing at a gigabyte per second", 2021). */
static inline bool decimal_to_double(uint64_t digits, uint32_t places, double *out)
{
    static const double exact[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,
                                   1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19};
    /* The exact limit is 2^53, but coordinates of 16 digits lie on both sides of it, and mispredicting this branch costs more. */
    if (digits < 1000000000000000u) {
        *out = (double)digits / exact[places];   /* both exact, so one rounding (W. Clinger, 1990) */
        return true;
    }
    uint64_t power, power_low, hi, lo;
    int exponent;
    pow10_table_get_sig(-(int)places, &power, &power_low);
    pow10_table_get_exp(-(int)places, &exponent);
    int shift = __builtin_clzll(digits);
    u128_mul(digits << shift, power, &hi, &lo);
    /* The unknown rest of the power adds less than 2^64 to lo. It can reach the bits that round, bit 9 and above of hi, only
     * through bits 0 to 8 that are all ones, and decide a tie only if they are all zeros. */
    if (unlikely(((hi + 1) & 0x1ff) <= 1)) {
        uint64_t hi2, lo2;
        u128_mul(digits << shift, power_low, &hi2, &lo2);
        uint64_t sum = lo + hi2;
        if (sum + 1 <= 1)
            return false;
        hi += sum < lo;
    }
    /* Of 54 bits, the first of which is one, the last rounds: what is below it is not zero. A carry out of the 53 that stay goes
     * into the exponent, as it must, and the first bit, which is not stored, adds one to it. */
    uint32_t top = (uint32_t)(hi >> 63);
    uint64_t mantissa = ((hi >> (9 + top)) + 1) >> 1;
    uint64_t bits = ((uint64_t)(exponent + 64 - shift + 10 + (int)top + 52 + 1023 - 1) << 52) + mantissa;
    memcpy(out, &bits, 8);
    return true;
}

/* A number of more than F64_MAX_DEC_DIG digits. yyjson assumes that the digits it cuts off are not all zeros; zeros at the end are
 * dropped here first, which makes that true. */
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
        *to++ = '1';                         /* stands for all the digits that are left out */
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

/* Read the number at `text`, which begins with a digit or a minus sign. Returns its end; NULL with *at at the offending byte if it
 * is not JSON. Parts of more than a few digits are counted in a vector, not in a loop: their length varies, and each mispredicted
 * end of a loop costs as much as sixteen digits. */
static inline const uint8_t *read_json_number(const uint8_t *text, JSValue *out, const uint8_t **at)
{
    bool negative = *text == '-';
    const uint8_t *first = text + negative, *p = first + 1;
    uint64_t number = (uint32_t)*first - '0';
    double value;
    if (is_digit(*p)) {
        number = number * 10 + *p++ - '0';
        if (is_digit(*p)) {
            number = number * 10 + *p++ - '0';
            if (is_digit(*p)) {
                v128_t digits = as_digits(wasm_v128_load(first));
                uint32_t whole = count_digits(digits);
                if (unlikely(whole == 16))
                    goto slow;
                number = likely(whole <= 8) ? digits_to_u32(digits, whole) : digits_to_u64(digits, whole);
                p = first + whole;
            }
        }
        if (unlikely(*first == '0'))
            goto slow;
    }
    if (unlikely(!is_digit(*first)))
        goto slow;
    if (*p == '.') {
        uint32_t whole = (uint32_t)(p - first), places;
        if (!is_digit(p[2])) {
            places = 1;
            number = number * 10 + p[1] - '0';
            if (unlikely(!is_digit(p[1])))
                goto slow;
        } else {
            v128_t digits = as_digits(wasm_v128_load(p + 1));
            places = count_digits(digits);
            if (unlikely(places == 0 || whole + places > 19))
                goto slow;
            number = number * powers_of_ten[places] + digits_to_u64(digits, places);
            if (places == 16) {
                digits = as_digits(wasm_v128_load(p + 17));
                uint32_t more = count_digits(digits);
                if (unlikely(whole + 16 + more > 19))
                    goto slow;
                number = number * powers_of_ten[more] + digits_to_u64(digits, more);
                places += more;
            }
        }
        p += 1 + places;
        if (unlikely((*p | 0x20) == 'e') || unlikely(!decimal_to_double(number, places, &value)))
            goto slow;
    } else {
        if (unlikely((*p | 0x20) == 'e'))
            goto slow;
        if (likely(number <= INT32_MAX) && likely(number != 0 || !negative)) {
            *out = js_int32(negative ? -(int32_t)number : (int32_t)number);
            return p;
        }
        value = (double)number;
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

/* A finite double as Number::toString writes it, by yyjson, whose text differs in three ways: "1.0", "1e21" and "-0.0". */
static no_inline uint8_t *write_double_slow(uint8_t *to, double value)
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

/* A finite double as Number::toString writes it. yyjson finds the shortest digits; those of a number with a fraction are written
 * from a vector: no byte is read again, and none is written twice. */
static no_inline uint8_t *write_double(uint8_t *to, double value)
{
    uint64_t bits, shortest;
    memcpy(&bits, &value, 8);
    uint64_t fraction = bits & F64_SIG_MASK, mantissa = fraction | 1ull << F64_SIG_BITS;
    uint32_t exponent = (uint32_t)(bits >> F64_SIG_BITS) & 0x7ff;
    int32_t binary = (int32_t)exponent - F64_EXP_BIAS - F64_SIG_BITS, decimal;
    if (unlikely(binary < -F64_SIG_BITS - 19 || binary >= 0))   /* what is below 10^-6 has an exponent */
        return write_double_slow(to, value);
    *to = '-';
    to += bits >> 63;
    if (binary >= -F64_SIG_BITS && mantissa << (64 + binary) == 0)
        return write_u64(mantissa >> -binary, to);
    f64_bin_to_dec(fraction, exponent, mantissa, binary, &shortest, &decimal);
    /* 16 or 17 digits, zeros at the end among them: the first of 17, and 16. */
    uint64_t upper = shortest / 100000000;
    uint32_t first = (uint32_t)(upper / 100000000);
    v128_t digits = u32s_to_digits((uint32_t)(upper - first * 100000000ull), (uint32_t)(shortest - upper * 100000000));
    int32_t count = 31 - __builtin_clz((uint32_t)wasm_i8x16_bitmask(wasm_i8x16_ne(digits, wasm_i8x16_splat(0))) << 1 | 1);
    int32_t dot = 16 + decimal;              /* how many of the 16 precede it */
    v128_t text = wasm_v128_or(digits, wasm_i8x16_splat('0'));
    if (dot + (first != 0) <= 0) {
        memcpy(to, "0.000000", 8);
        to += 2 - dot - (first != 0);
        *to = (uint8_t)('0' + first);
        to += first != 0;
        wasm_v128_store(to, text);
        return to + count;
    }
    *to = (uint8_t)('0' + first);
    to += first != 0;
    to[16] = (uint8_t)wasm_u8x16_extract_lane(text, 15);
    v128_t lane = wasm_i8x16_const(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15), dots = wasm_i8x16_splat((int8_t)dot);
    text = wasm_i8x16_swizzle(text, wasm_i8x16_add(lane, wasm_i8x16_gt(lane, dots)));
    wasm_v128_store(to, wasm_v128_bitselect(wasm_i8x16_splat('.'), text, wasm_i8x16_eq(lane, dots)));
    return to + count + 1;
}
