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
