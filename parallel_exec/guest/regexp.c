/* The engine's regular expressions, looking at the deadline as deadline.h has it. */
#include "deadline.h"
#include "libregexp.c"
