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
static inline uint32_t wasm_i8x16_bitmask(v128_t v) { return (uint32_t)_mm_movemask_epi8(v); }
static inline v128_t wasm_u16x8_extend_low_u8x16(v128_t v) { return _mm_unpacklo_epi8(v, _mm_setzero_si128()); }
static inline v128_t wasm_u16x8_extend_high_u8x16(v128_t v) { return _mm_unpackhi_epi8(v, _mm_setzero_si128()); }

#endif
