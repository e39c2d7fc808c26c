/* The allocator behind QuickJS and malloc(): two-level segregated fit (Masmano et al., "TLSF: a new dynamic memory allocator for
 * real-time systems", ECRTS 2004), which finds a good fit in constant time and merges free neighbours at once.
 *
 * Its whole state is in linear memory, so copying a memory image back restores it. Three things matter here more than in a common
 * allocator:
 *   - usable_size() is exact, so the memory limit counts what is really used;
 *   - free space at the end of the heap goes back to the untouched rest, so memory grows only when the heap's live extent needs it;
 *   - high_water is the highest address that the heap ever reached: a reset zeroes up to there and no further.
 *
 * A block is an 8-byte header and its payload; sizes are multiples of 8 and include the header. A free block keeps its list links
 * in the payload. The first block's prev_size is 0.
 *
 * Needs: mailbox.h (memory_limit, memory_wanted).
 * Gives: heap, heap_start, heap_alloc, heap_calloc, heap_realloc, heap_widen, heap_free, heap_usable_size; for a job's input
 * heap_claim_address and heap_claim. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define HEAP_ALIGN 8u
#define BLOCK_HEADER 8u
#define BLOCK_MIN 16u
#define BLOCK_IN_USE 1u
#define CLASS_BITS 4u                        /* 16 size classes per power of two: at most 6 % lost to rounding */
#define CLASSES (1u << CLASS_BITS)
#define LEVEL_SHIFT (CLASS_BITS + 3u)        /* sizes below 128 share level 0, in steps of 8 */
#define LEVELS (32u - LEVEL_SHIFT + 1u)
#define WASM_PAGE 65536u
#define GROW_STEP (16u * WASM_PAGE)          /* one memory.grow costs about 1 us; 1 MiB steps make it rare */

typedef struct block {
    uint32_t prev_size;                      /* of the block that ends where this one starts */
    uint32_t size_flags;
    struct block *next, *prev;               /* only while free */
} block_t;

static struct {
    uint32_t end;                            /* blocks lie below; above is untouched or given back */
    uint32_t high_water;
    uint32_t last_size;                      /* size of the block that ends at `end`, 0 if there is none */
    uint32_t used;                           /* bytes in blocks in use */
    uint32_t level_map;
    uint32_t class_map[LEVELS];
    block_t *lists[LEVELS][CLASSES];
} heap;

extern unsigned char __heap_base;

static inline uint32_t block_size(const block_t *b) { return b->size_flags & ~7u; }
static inline bool block_used(const block_t *b) { return b->size_flags & BLOCK_IN_USE; }
static inline void *block_payload(block_t *b) { return (char *)b + BLOCK_HEADER; }
static inline block_t *payload_block(const void *p) { return (block_t *)((char *)p - BLOCK_HEADER); }

static inline void size_class(uint32_t size, uint32_t *level, uint32_t *cls)
{
    if (size < (1u << LEVEL_SHIFT)) {
        *level = 0;
        *cls = size >> 3;
    } else {
        uint32_t top = 31u - (uint32_t)__builtin_clz(size);
        *level = top - LEVEL_SHIFT + 1u;
        *cls = (size >> (top - CLASS_BITS)) & (CLASSES - 1u);
    }
}

static void list_insert(block_t *b)
{
    uint32_t level, cls;
    size_class(block_size(b), &level, &cls);
    block_t *head = heap.lists[level][cls];
    b->next = head;
    b->prev = NULL;
    if (head)
        head->prev = b;
    heap.lists[level][cls] = b;
    heap.class_map[level] |= 1u << cls;
    heap.level_map |= 1u << level;
}

static void list_remove(block_t *b)
{
    uint32_t level, cls;
    size_class(block_size(b), &level, &cls);
    if (b->next)
        b->next->prev = b->prev;
    if (b->prev) {
        b->prev->next = b->next;
        return;
    }
    heap.lists[level][cls] = b->next;
    if (!b->next) {
        heap.class_map[level] &= ~(1u << cls);
        if (!heap.class_map[level])
            heap.level_map &= ~(1u << level);
    }
}

/* A free block of at least `size` bytes, out of its list; NULL if there is none. */
static block_t *list_take(uint32_t size)
{
    uint32_t level, cls, map;
    /* Round up to the next class, so that any block found there fits. */
    if (size >= (1u << LEVEL_SHIFT)) {
        uint32_t round = (1u << (31u - (uint32_t)__builtin_clz(size) - CLASS_BITS)) - 1u;
        if (size + round < size)
            return NULL;
        size_class(size + round, &level, &cls);
    } else {
        size_class(size, &level, &cls);
    }
    map = heap.class_map[level] & (~0u << cls);
    if (!map) {
        uint32_t levels = level + 1u < LEVELS ? heap.level_map & (~0u << (level + 1u)) : 0;
        if (!levels)
            return NULL;
        level = (uint32_t)__builtin_ctz(levels);
        map = heap.class_map[level];
    }
    block_t *b = heap.lists[level][__builtin_ctz(map)];
    list_remove(b);
    return b;
}

/* Tell the block after `b`, or the end of the heap, how large `b` is. */
static inline void tell_next(block_t *b)
{
    uint32_t size = block_size(b), next = (uint32_t)(uintptr_t)b + size;
    if (next == heap.end)
        heap.last_size = size;
    else
        ((block_t *)(uintptr_t)next)->prev_size = size;
}

/* Vector code loads whole vectors, so it may read up to this many bytes past its data; they must exist. */
#define HEAP_TAIL 64u

/* Move the end of the heap up to `end`. False, with mailbox_.memory_wanted set, if the limit or the host refuses. */
static bool heap_extend(uint64_t end)
{
    uint64_t have = (uint64_t)__builtin_wasm_memory_size(0) * WASM_PAGE;
    uint32_t limit = mailbox_.memory_limit;
    uint64_t wanted = end + HEAP_TAIL;
    if (limit && wanted > limit)
        goto refused;
    if (wanted > have) {
        uint64_t step = have + GROW_STEP;
        if (step < wanted)
            step = wanted;
        if (limit && step > limit)
            step = limit;
        size_t pages = (size_t)((step - have + WASM_PAGE - 1u) / WASM_PAGE);
        size_t least = (size_t)((wanted - have + WASM_PAGE - 1u) / WASM_PAGE);
        if (pages < least)
            pages = least;
        if (__builtin_wasm_memory_grow(0, pages) == (size_t)-1 && __builtin_wasm_memory_grow(0, least) == (size_t)-1)
            goto refused;
    }
    heap.end = (uint32_t)end;
    if (heap.end > heap.high_water)
        heap.high_water = heap.end;
    return true;
refused:
    mailbox_.memory_wanted = end > 0xffffffffu ? 0xffffffffu : (uint32_t)end;
    return false;
}

static block_t *block_at_end(uint32_t size)
{
    block_t *b = (block_t *)(uintptr_t)heap.end;
    if (!heap_extend((uint64_t)heap.end + size))
        return NULL;
    b->prev_size = heap.last_size;
    b->size_flags = size | BLOCK_IN_USE;
    heap.last_size = size;
    heap.used += size;
    return b;
}

/* Give the tail of a block in use back, if it is worth a block. */
static void block_trim(block_t *b, uint32_t size);

static void block_release(block_t *b)
{
    uint32_t size = block_size(b);
    if (b->prev_size) {
        block_t *before = (block_t *)((char *)b - b->prev_size);
        if (!block_used(before)) {
            list_remove(before);
            size += block_size(before);
            b = before;
        }
    }
    uint32_t next = (uint32_t)(uintptr_t)b + size;
    if (next != heap.end) {
        block_t *after = (block_t *)(uintptr_t)next;
        if (!block_used(after)) {
            list_remove(after);
            size += block_size(after);
            next += block_size(after);
        }
    }
    if (next == heap.end) {
        heap.end = (uint32_t)(uintptr_t)b;
        heap.last_size = b->prev_size;
        return;
    }
    b->size_flags = size;
    ((block_t *)(uintptr_t)next)->prev_size = size;
    list_insert(b);
}

static void block_trim(block_t *b, uint32_t size)
{
    uint32_t rest = block_size(b) - size;
    if (rest < BLOCK_MIN)
        return;
    block_t *tail = (block_t *)((char *)b + size);
    b->size_flags = size | BLOCK_IN_USE;
    tail->prev_size = size;
    tail->size_flags = rest | BLOCK_IN_USE;
    tell_next(tail);
    heap.used -= rest;
    block_release(tail);
}

static inline uint32_t block_size_for(size_t size)
{
    if (size > 0xf0000000u)
        return 0;
    uint32_t total = ((uint32_t)size + BLOCK_HEADER + HEAP_ALIGN - 1u) & ~(HEAP_ALIGN - 1u);
    return total < BLOCK_MIN ? BLOCK_MIN : total;
}

static void heap_start(void)
{
    heap.end = heap.high_water = ((uint32_t)(uintptr_t)&__heap_base + 15u) & ~15u;
}

static void *heap_alloc(size_t size)
{
    uint32_t total = block_size_for(size);
    if (!total) {
        mailbox_.memory_wanted = 0xffffffffu;
        return NULL;
    }
    block_t *b = list_take(total);
    if (b) {
        b->size_flags |= BLOCK_IN_USE;
        heap.used += block_size(b);
        block_trim(b, total);
    } else {
        b = block_at_end(total);
        if (!b)
            return NULL;
    }
    return block_payload(b);
}

static void heap_free(void *p)
{
    if (!p)
        return;
    block_t *b = payload_block(p);
    heap.used -= block_size(b);
    block_release(b);
}

static inline size_t heap_usable_size(const void *p)
{
    return p ? block_size(payload_block(p)) - BLOCK_HEADER : 0;
}

static void *heap_calloc(size_t count, size_t size)
{
    uint64_t bytes = (uint64_t)count * size;
    uint32_t untouched = heap.high_water;
    void *p = heap_alloc(bytes > 0xf0000000u ? (size_t)-1 : (size_t)bytes);
    if (p) {
        /* Memory above the old high-water mark is zero already. */
        uint32_t start = (uint32_t)(uintptr_t)p;
        uint32_t dirty = start >= untouched ? 0 : untouched - start;
        memset(p, 0, dirty < bytes ? dirty : (size_t)bytes);
    }
    return p;
}

/* Extend p's block over the free block after it, if `size` bytes fit then. */
static bool heap_widen(void *p, uint64_t size)
{
    uint32_t total = size > 0xf0000000u ? 0 : block_size_for((size_t)size);
    block_t *b = payload_block(p);
    uint32_t old = block_size(b), next = (uint32_t)(uintptr_t)b + old;
    if (!total || next == heap.end)
        return false;
    block_t *after = (block_t *)(uintptr_t)next;
    if (block_used(after) || old + block_size(after) < total)
        return false;
    list_remove(after);
    heap.used += block_size(after);
    b->size_flags = (old + block_size(after)) | BLOCK_IN_USE;
    tell_next(b);
    return true;
}

static void *heap_realloc(void *p, size_t size)
{
    if (!p)
        return heap_alloc(size);
    uint32_t total = block_size_for(size);
    if (!total) {
        mailbox_.memory_wanted = 0xffffffffu;
        return NULL;
    }
    block_t *b = payload_block(p);
    uint32_t old = block_size(b), next = (uint32_t)(uintptr_t)b + old;
    if (total <= old) {
        block_trim(b, total);
        return p;
    }
    if (next != heap.end) {
        if (heap_widen(p, size)) {
            block_trim(b, total);
            return p;
        }
    } else {
        if (!heap_extend((uint64_t)heap.end + (total - old)))
            return NULL;
        b->size_flags = total | BLOCK_IN_USE;
        heap.last_size = total;
        heap.used += total - old;
        return p;
    }
    void *q = heap_alloc(size);
    if (!q)
        return NULL;
    memcpy(q, p, old - BLOCK_HEADER);
    heap_free(p);
    return q;
}

/* Where heap_claim() will put its block's payload: the host writes a job's input there before the call. */
static inline uint32_t heap_claim_address(void) { return heap.end + BLOCK_HEADER; }

/* Take the bytes at heap_claim_address(), which the host has already written, as a block in use. */
static void *heap_claim(size_t size)
{
    uint32_t total = block_size_for(size);
    block_t *b = total ? block_at_end(total) : NULL;
    return b ? block_payload(b) : NULL;
}
