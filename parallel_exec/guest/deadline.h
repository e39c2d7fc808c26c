/* The deadline: where the guest looks at it, and what it does when the host has told the job to stop.
 *
 * The engine looks by itself at every call and jump back of JavaScript and at every step back of a regular expression, but only
 * each 10,000th time: too seldom where one turn of a loop takes long (a product of large BigInts, a search in a long string).
 * Here it looks every time, which takes no longer than counting does. A job that is stopped there ends with an exception that
 * no plugin can catch.
 *
 * It does not look in its own loops, and those can be as long as 2 ** 53 - 1 steps (Array.prototype.indexOf on an object of that
 * length), quadratic (String.prototype.indexOf) or a parser's. So the compiler puts a look on every edge of every function but
 * those that common jobs spend their time in (-fsanitize-coverage; unpolled.txt has the exceptions). There is no way out of the
 * middle of such a loop but a trap, and none better: the host throws the instance away. */
#ifndef PEXEC_DEADLINE_H
#define PEXEC_DEADLINE_H

#include <stdbool.h>
#include "mailbox.h"

#define NO_LOOK __attribute__((no_sanitize("coverage")))

/* Is it this job that was told to stop? A word for an earlier one, which came too late, is taken away. */
NO_LOOK __attribute__((noinline, cold)) static bool is_for_this_job(void)
{
    if (mailbox_.deadline == mailbox_.job)
        return true;
    mailbox_.deadline = 0;
    return false;
}

NO_LOOK static inline bool is_overdue(void) { return __builtin_expect(mailbox_.deadline != 0, 0) && is_for_this_job(); }

/* The engine's two functions that count are called with a variable of one of these names; where they are defined, the argument
 * begins with a type's name. So a macro can tell a call from the definition, which stays, unused. */
#define js_poll_interrupts(argument) POLL_##argument)
#define POLL_ctx (is_overdue() && __js_poll_interrupts(ctx)
#define POLL_caller_ctx (is_overdue() && __js_poll_interrupts(caller_ctx)
#define POLL_JSContext js_poll_counting(JSContext

#define lre_poll_timeout(argument) POLL_##argument)
#define POLL_s (is_overdue() && lre_check_timeout(s->opaque) ? LRE_RET_TIMEOUT : 0
#define POLL_REExecContext lre_poll_counting(REExecContext

#endif
