/* What quickjs.c is compiled with in place of its own look at the stack. Included just before it; the two iterators' wrappers
 * are defined after it. */
#ifndef PEXEC_STACK_H
#define PEXEC_STACK_H

/* Every call of a function looks at the depth of the shadow stack. Two things are added to that.
 *
 * What it sees is noted, and so is every alloca(), so that a reset need clear only the part of the stack that was used.
 *
 * What it compares is shifted by half the address space: the stack lies at the very bottom of linear memory, so "stack pointer
 * less what an alloca() will take" would wrap below 0 and pass for a high address. */
#define STACK_SHIFT 0x80000000u

static uintptr_t stack_low;

static inline void *note_stack(void *address)
{
    if ((uintptr_t)address < stack_low)
        stack_low = (uintptr_t)address;
    return address;
}

#define __builtin_frame_address(level) ((uintptr_t)note_stack(__builtin_frame_address(level)) + STACK_SHIFT)
#include <alloca.h>
#undef alloca
#define alloca(size) note_stack(__builtin_alloca(size))

/* How deep is too deep. JavaScript's calls may use all of the stack. Whatever else recurses (a proxy for a proxy, the parser,
 * flat, JSON with a reviver) takes up to fifteen times as much of wasmtime's stack as of this one, which a call does not, and
 * must stay within THIN_STACK of it. A call's check says how much the call will take; theirs say 0 or 1000.
 *
 * As in deadline.h, a macro tells the calls of the engine's function from its definition. */
#define JS_STACK (1568 * 1024)               /* scripts/build_guest.py: STACK_SIZE */
#define THIN_STACK (144 * 1024)
#define js_check_stack_overflow(runtime, size) CHECK_##runtime, size)
#define CHECK_rt stack_is_used_up(rt
#define CHECK_ctx stack_is_used_up(ctx
#define CHECK_s stack_is_used_up(s
#define CHECK_JSRuntime js_check_stack_simply(JSRuntime
#define IS_CALL(size, text) ((text)[0] >= 'a' && ((text)[0] == 's' || (size) != 0))
/* What is not a call gets a few bytes of this stack for every level: some functions would take none, and so never be too deep. */
#define stack_is_used_up(runtime, size) \
    ({ \
        char level_[16]; \
        bool is_call_ = IS_CALL(size, #size); \
        if (!is_call_) \
            note_stack(level_); \
        stack_is_below(runtime, size, is_call_ ? 0 : JS_STACK - THIN_STACK); \
    })
#define stack_is_below(runtime, size, spare) unlikely(js_get_stack_pointer() - (size) < (runtime)->stack_limit + (spare))

/* The engine calls these iterators' next() without looking at the stack's depth, so that a long chain of iterator.map().map()
 * would run off it. The wrappers, defined below, look. */
#include "quickjs.h"
#undef JS_ITERATOR_NEXT_DEF
#define JS_ITERATOR_NEXT_DEF(name, length, function, magic) \
    {name, JS_PROP_WRITABLE | JS_PROP_CONFIGURABLE, JS_DEF_CFUNC, magic, \
     {.func = {length, JS_CFUNC_iterator_next, {.iterator_next = checked_##function}}}}
#define checked_js_array_iterator_next js_array_iterator_next
#define checked_js_generator_next js_generator_next
#define checked_js_map_iterator_next js_map_iterator_next
#define checked_js_regexp_string_iterator_next js_regexp_string_iterator_next
#define checked_js_string_iterator_next js_string_iterator_next
static JSValue checked_js_iterator_helper_next(JSContext *, JSValueConst, int, JSValueConst *, int *, int);
static JSValue checked_js_iterator_wrap_next(JSContext *, JSValueConst, int, JSValueConst *, int *, int);

#endif
