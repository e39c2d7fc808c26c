/* Multiplication modulo p = 2^256 - 2^32 - 977 for interpreters. The library asks for it by USE_EXTERNAL_ASM, as it does
 * for assembly; operands and results are those of its own field_10x26_impl.h: ten limbs of 26 bits, lowest first, the
 * last of 22. Limbs of operands may exceed that by the four bits that lazily carried sums need.
 *
 * An interpreter pays for each instruction about the same, whatever it does, so this is written for their number. Its
 * own counters (d_m3EnableOpProfiling) say that wasm3 makes 461 of a product and 324 of a square, where the library's C
 * has 513 and 398; a signature takes 9 to 11 % less time. Both stay functions that are called: with copies of them in
 * their callers the processor no longer guesses the interpreter's jumps, and 9 % fewer instructions take 45 % longer.
 */

#include <stdint.h>

enum { LIMBS = 10, BITS = 26, LAST_BITS = 22 };

#define LIMB_MASK ((1u << BITS) - 1)
#define LAST_MASK ((1u << LAST_BITS) - 1)

/* 2^260 is FOLD_LOW + (FOLD_HIGH << 26) modulo p: the limb that lies ten above another is worth so many of it. */
#define FOLD_LOW 0x3d10u
#define FOLD_HIGH 0x400u
#define FOLD (FOLD_LOW + ((uint64_t)FOLD_HIGH << BITS))

#define INLINE static inline __attribute__((always_inline))
#define UNROLLED _Pragma("clang loop unroll(full)")

/* Keeps the compiler from knowing a value, which puts it into a local once. wasm3 would store one twice that is used
 * where it is computed, and again later; and a mask that is known makes of each limb's end three instructions for two.
 */
INLINE uint64_t kept(uint64_t value)
{
    __asm__("" : "+r"(value));
    return value;
}

/* Adds the products of the limbs that together stand at `column`. For a square `b` is twice `a`, and each pair of limbs
 * is taken once. */
INLINE uint64_t add_column(uint64_t sum, int column, const uint64_t *a, const uint64_t *b, int square)
{
    UNROLLED
    for (int i = 0; i < LIMBS; i++) {
        int j = column - i;
        if (j >= 0 && j < LIMBS && !(square && i > j))
            sum += a[i] * (square && i == j ? a[j] : b[j]);
    }
    return sum;
}

/* Columns 9 to 18 are carried upwards in `high`, and what each leaves is added FOLD times to the column ten below it,
 * which `low` carries. Before that, `low` is at most 0x9000007b80000008 (the library proves it of its own `c`, which is
 * the same number); FOLD times a limb is less than 2^62 + 2^40; so their sum fits. The library adds FOLD_LOW and
 * FOLD_HIGH times the limb apart, a multiplication, a shift and an addition more for each column.
 */
INLINE void multiply(uint32_t *r, const uint64_t *a, const uint64_t *b, int square)
{
    const uint64_t mask = kept(LIMB_MASK);
    uint64_t limbs[LIMBS];
    uint64_t high = add_column(0, LIMBS - 1, a, b, square);
    uint64_t last = high & mask;
    uint64_t low = 0;
    high >>= BITS;
    UNROLLED
    for (int k = 0; k < LIMBS - 1; k++) {
        high = add_column(high, k + LIMBS, a, b, square);
        low = add_column(low + (high & mask) * FOLD, k, a, b, square);
        high >>= BITS;
        limbs[k] = low & mask;
        low >>= BITS;
    }
    /* `high` has 31 bits here, too many for FOLD at once. */
    low += last + high * FOLD_LOW;
    limbs[LIMBS - 1] = low & LAST_MASK;
    low = (low >> LAST_BITS) + high * (FOLD_HIGH << (BITS - LAST_BITS));
    /* And what lies above 2^256 is added 2^32 + 977 times. */
    high = low * (FOLD_LOW >> (BITS - LAST_BITS)) + limbs[0];
    limbs[0] = high & mask;
    high = (high >> BITS) + low * (FOLD_HIGH >> (BITS - LAST_BITS)) + limbs[1];
    limbs[1] = high & mask;
    limbs[2] += high >> BITS;
    UNROLLED
    for (int k = 0; k < LIMBS; k++)
        r[k] = limbs[k];
}

void secp256k1_fe_mul_inner(uint32_t *r, const uint32_t *a, const uint32_t *restrict b)
{
    uint64_t wide_a[LIMBS], wide_b[LIMBS];
    UNROLLED
    for (int i = 0; i < LIMBS; i++) {
        wide_a[i] = kept(a[i]);
        wide_b[i] = kept(b[i]);
    }
    multiply(r, wide_a, wide_b, 0);
}

void secp256k1_fe_sqr_inner(uint32_t *r, const uint32_t *a)
{
    uint64_t wide[LIMBS], twice[LIMBS];
    UNROLLED
    for (int i = 0; i < LIMBS; i++) {
        wide[i] = kept(a[i]);
        twice[i] = kept(2 * wide[i]);
    }
    multiply(r, wide, twice, 1);
}
