/* Decimal digits in vectors: sixteen at a time to a number and back, by products of pairs of neighbours. */
#ifndef PEXEC_JSON_DIGITS_H
#define PEXEC_JSON_DIGITS_H

#include <wasm_simd128.h>

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
    /* Each quotient is exact: the reciprocals are rounded up by less than what the largest dividend could tell. */
    v128_t eights = wasm_i32x4_make(high, low, 0, 0);
    v128_t upper = wasm_u64x2_shr(wasm_u64x2_extmul_low_u32x4(eights, wasm_i32x4_splat(109951163)), 40);
    eights = wasm_u64x2_extend_low_u32x4(eights);
    v128_t fours = wasm_v128_or(upper, wasm_i64x2_shl(wasm_i32x4_sub(eights, wasm_i32x4_dot_i16x8(upper, wasm_i32x4_splat(10000))), 32));
    upper = wasm_u32x4_shr(wasm_i32x4_dot_i16x8(fours, wasm_i32x4_splat(5243)), 19);
    v128_t twos = wasm_v128_or(upper, wasm_i32x4_shl(wasm_i32x4_sub(fours, wasm_i32x4_dot_i16x8(upper, wasm_i32x4_splat(100))), 16));
    upper = wasm_u16x8_shr(wasm_i16x8_mul(twos, wasm_i16x8_splat(103)), 10);
    return wasm_v128_or(upper, wasm_i16x8_shl(wasm_i16x8_sub(twos, wasm_i16x8_mul(upper, wasm_i16x8_splat(10))), 8));
}

#endif
