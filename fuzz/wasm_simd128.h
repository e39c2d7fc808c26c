/* The WebAssembly vector instructions that the guest uses, with SSE2: the fuzz target is a native program. */
#ifndef FUZZ_WASM_SIMD128_H
#define FUZZ_WASM_SIMD128_H

#include <emmintrin.h>
#include <stdint.h>
#include <string.h>

typedef __m128i v128_t;

/* Whole vectors are read, so up to 15 bytes more than a text or a string has: what is there is not taken, and in linear memory
 * it is always readable. The sanitizer must not look at it. */
__attribute__((no_sanitize("address"), noinline)) static v128_t wasm_v128_load(const void *p)
{
    return _mm_loadu_si128((const __m128i_u *)p);
}

static inline void wasm_v128_store(void *p, v128_t v) { memcpy(p, &v, 16); }
static inline v128_t wasm_v128_or(v128_t a, v128_t b) { return _mm_or_si128(a, b); }
static inline v128_t wasm_v128_and(v128_t a, v128_t b) { return _mm_and_si128(a, b); }
static inline v128_t wasm_i8x16_splat(int8_t v) { return _mm_set1_epi8(v); }
static inline v128_t wasm_i8x16_eq(v128_t a, v128_t b) { return _mm_cmpeq_epi8(a, b); }
static inline v128_t wasm_i8x16_lt(v128_t a, v128_t b) { return _mm_cmplt_epi8(a, b); }
static inline v128_t wasm_i8x16_gt(v128_t a, v128_t b) { return _mm_cmpgt_epi8(a, b); }
static inline v128_t wasm_i8x16_ne(v128_t a, v128_t b) { return _mm_andnot_si128(_mm_cmpeq_epi8(a, b), _mm_set1_epi8(-1)); }
static inline v128_t wasm_u8x16_lt(v128_t a, v128_t b) { return _mm_andnot_si128(_mm_cmpeq_epi8(_mm_min_epu8(a, b), b), _mm_set1_epi8(-1)); }
static inline v128_t wasm_i8x16_add(v128_t a, v128_t b) { return _mm_add_epi8(a, b); }
static inline v128_t wasm_i8x16_sub(v128_t a, v128_t b) { return _mm_sub_epi8(a, b); }
static inline v128_t wasm_v128_bitselect(v128_t a, v128_t b, v128_t mask) { return _mm_or_si128(_mm_and_si128(a, mask), _mm_andnot_si128(mask, b)); }
static inline uint32_t wasm_i8x16_bitmask(v128_t v) { return (uint32_t)_mm_movemask_epi8(v); }
static inline v128_t wasm_u16x8_extend_low_u8x16(v128_t v) { return _mm_unpacklo_epi8(v, _mm_setzero_si128()); }
static inline v128_t wasm_u16x8_extend_high_u8x16(v128_t v) { return _mm_unpackhi_epi8(v, _mm_setzero_si128()); }

static inline bool wasm_v128_any_true(v128_t v) { return _mm_movemask_epi8(_mm_cmpeq_epi8(v, _mm_setzero_si128())) != 0xffff; }
static inline v128_t wasm_i16x8_splat(int16_t v) { return _mm_set1_epi16(v); }
static inline v128_t wasm_i16x8_sub(v128_t a, v128_t b) { return _mm_sub_epi16(a, b); }
static inline v128_t wasm_i16x8_mul(v128_t a, v128_t b) { return _mm_mullo_epi16(a, b); }
static inline v128_t wasm_i16x8_shl(v128_t v, int count) { return _mm_slli_epi16(v, count); }
static inline v128_t wasm_u16x8_shr(v128_t v, int count) { return _mm_srli_epi16(v, count); }
static inline v128_t wasm_i16x8_eq(v128_t a, v128_t b) { return _mm_cmpeq_epi16(a, b); }
static inline v128_t wasm_i16x8_ne(v128_t a, v128_t b) { return _mm_andnot_si128(_mm_cmpeq_epi16(a, b), _mm_set1_epi16(-1)); }
static inline v128_t wasm_i16x8_ge(v128_t a, v128_t b) { return _mm_andnot_si128(_mm_cmplt_epi16(a, b), _mm_set1_epi16(-1)); }
static inline v128_t wasm_u16x8_ge(v128_t a, v128_t b) { return _mm_cmpeq_epi16(_mm_subs_epu16(b, a), _mm_setzero_si128()); }
static inline v128_t wasm_u16x8_lt(v128_t a, v128_t b) { return _mm_andnot_si128(wasm_u16x8_ge(a, b), _mm_set1_epi16(-1)); }
static inline uint32_t wasm_i16x8_bitmask(v128_t v) { return (uint32_t)_mm_movemask_epi8(_mm_packs_epi16(v, _mm_setzero_si128())); }
static inline v128_t wasm_u8x16_narrow_i16x8(v128_t a, v128_t b) { return _mm_packus_epi16(a, b); }

static inline v128_t wasm_i32x4_splat(int32_t v) { return _mm_set1_epi32(v); }
static inline v128_t wasm_i32x4_sub(v128_t a, v128_t b) { return _mm_sub_epi32(a, b); }
static inline v128_t wasm_i32x4_dot_i16x8(v128_t a, v128_t b) { return _mm_madd_epi16(a, b); }
static inline v128_t wasm_i32x4_shl(v128_t v, int count) { return _mm_slli_epi32(v, count); }
static inline v128_t wasm_u32x4_shr(v128_t v, int count) { return _mm_srli_epi32(v, count); }
static inline v128_t wasm_i32x4_eq(v128_t a, v128_t b) { return _mm_cmpeq_epi32(a, b); }
static inline v128_t wasm_i32x4_ne(v128_t a, v128_t b) { return _mm_andnot_si128(_mm_cmpeq_epi32(a, b), _mm_set1_epi32(-1)); }
static inline v128_t wasm_i32x4_ge(v128_t a, v128_t b) { return _mm_andnot_si128(_mm_cmplt_epi32(a, b), _mm_set1_epi32(-1)); }
static inline uint32_t wasm_i32x4_bitmask(v128_t v) { return (uint32_t)_mm_movemask_ps(_mm_castsi128_ps(v)); }

/* SSE2 has no shuffle of bytes. */
typedef uint8_t bytes16 __attribute__((vector_size(16)));
#define wasm_i8x16_shuffle(a, b, ...) ((v128_t)__builtin_shufflevector((bytes16)(a), (bytes16)(b), __VA_ARGS__))
#define wasm_i8x16_const(...) ((v128_t)(bytes16){__VA_ARGS__})

static inline v128_t wasm_i8x16_swizzle(v128_t v, v128_t lanes)
{
    bytes16 from = (bytes16)v, index = (bytes16)lanes, to;
    for (int i = 0; i < 16; i++)
        to[i] = index[i] < 16 ? from[index[i]] : 0;
    return (v128_t)to;
}

static inline v128_t wasm_u16x8_narrow_i32x4(v128_t a, v128_t b)
{
    int32_t wide[8];
    uint16_t narrow[8];
    memcpy(wide, &a, 16);
    memcpy(wide + 4, &b, 16);
    for (int i = 0; i < 8; i++)
        narrow[i] = (uint16_t)(wide[i] < 0 ? 0 : wide[i] > 0xffff ? 0xffff : wide[i]);
    memcpy(&a, narrow, 16);
    return a;
}

static inline v128_t wasm_i32x4_make(uint32_t a, uint32_t b, uint32_t c, uint32_t d) { return _mm_set_epi32((int)d, (int)c, (int)b, (int)a); }
static inline v128_t wasm_u64x2_extend_low_u32x4(v128_t v) { return _mm_unpacklo_epi32(v, _mm_setzero_si128()); }
static inline v128_t wasm_u64x2_extmul_low_u32x4(v128_t a, v128_t b)
{
    return _mm_mul_epu32(wasm_u64x2_extend_low_u32x4(a), wasm_u64x2_extend_low_u32x4(b));
}
static inline v128_t wasm_u64x2_shr(v128_t v, int count) { return _mm_srli_epi64(v, count); }
static inline v128_t wasm_i64x2_shl(v128_t v, int count) { return _mm_slli_epi64(v, count); }
#define wasm_i64x2_extract_lane(v, lane) (((const int64_t *)&(v128_t){v})[lane])
#define wasm_u8x16_extract_lane(v, lane) (((const uint8_t *)&(v128_t){v})[lane])
#define wasm_v128_store64_lane(to, v, lane) memcpy(to, (const char *)&(v128_t){v} + 8 * (lane), 8)

#endif
