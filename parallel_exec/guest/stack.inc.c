/* The limits of the shadow stack, for the checks in quickjs.c as patches/stack.patch has them.
 *
 * Needs: nothing.
 * Gives: stack_low, note_stack, STACK_SHIFT, JS_STACK, THIN_STACK. */

#include <stdint.h>

#define STACK_SHIFT 0x80000000u
#define JS_STACK (1568 * 1024)               /* for calls of functions; scripts/build_guest.py: STACK_SIZE */
#define THIN_STACK (144 * 1024)              /* for whatever else recurses */

static uintptr_t stack_low;                  /* the lowest address that the present job has used, as far as noted */

static inline void *note_stack(void *address)
{
    if ((uintptr_t)address < stack_low)
        stack_low = (uintptr_t)address;
    return address;
}
