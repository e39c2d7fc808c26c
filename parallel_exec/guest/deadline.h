/* The deadline: where the guest looks at it, and what it does once the host has told the job to stop. Included by engine.c and, as
 * patches/deadline.patch has it, by libregexp.c.
 *
 * The patch makes QuickJS look at every call and backward jump of JavaScript and at every backward step of a regular expression. A
 * job that is stopped there ends with an exception that no plugin can catch.
 *
 * QuickJS never checks inside its native loops, and those can take 2 ** 53 - 1 steps (Array.prototype.indexOf on an object of that
 * length), quadratic time (String.prototype.indexOf) or a parser's. So the compiler adds a look to every edge of every function
 * except those that common jobs spend their time in (-fsanitize-coverage; unpolled.txt has the exceptions). The only way out of the
 * middle of such a loop is a trap, after which the host discards the instance. */
#ifndef PEXEC_DEADLINE_H
#define PEXEC_DEADLINE_H

#include <stdbool.h>
#include "mailbox.h"

#define NO_LOOK __attribute__((no_sanitize("coverage")))

/* Is it this job that was told to stop? A word for an earlier job came too late, and is cleared. */
NO_LOOK __attribute__((noinline, cold)) static bool is_for_this_job(void)
{
    if (mailbox_.deadline == mailbox_.job)
        return true;
    mailbox_.deadline = 0;
    return false;
}

NO_LOOK static inline bool is_overdue(void) { return __builtin_expect(mailbox_.deadline != 0, 0) && is_for_this_job(); }

#endif
