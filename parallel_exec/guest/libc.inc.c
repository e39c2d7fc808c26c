/* What QuickJS and yyjson would otherwise take from the C library and, through it, from the host. With these the module imports
 * nothing at all: no clock, no random source, no file descriptors.
 *
 * Needs: allocator.inc.c; mailbox.h (time_ms).
 * Gives: malloc and its family, abort, assertions, the clock, time zones, and the part of stdio that would be linked. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>

void *malloc(size_t size) { return heap_alloc(size); }
void free(void *p) { heap_free(p); }
void *calloc(size_t count, size_t size) { return heap_calloc(count, size); }
void *realloc(void *p, size_t size) { return heap_realloc(p, size); }
size_t malloc_usable_size(void *p) { return heap_usable_size(p); }

_Noreturn void abort(void) { __builtin_trap(); }

/* A failed assertion means that the engine's own state is broken: trap, and the host drops the instance. */
_Noreturn void __assert_fail(const char *text, const char *file, int line, const char *function)
{
    (void)text, (void)file, (void)line, (void)function;
    __builtin_trap();
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    (void)zone;
    double us = mailbox_.time_ms * 1e3;
    now->tv_sec = (time_t)(us / 1e6);
    now->tv_usec = (suseconds_t)(us - (double)now->tv_sec * 1e6);
    return 0;
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    struct timeval tv;
    (void)clock;
    gettimeofday(&tv, NULL);
    now->tv_sec = tv.tv_sec;
    now->tv_nsec = (long)tv.tv_usec * 1000;
    return 0;
}

/* The engine's local time is UTC: a time zone would be knowledge about the host. */
struct tm *localtime_r(const time_t *restrict when, struct tm *restrict out)
{
    (void)when;
    memset(out, 0, sizeof(*out));
    return out;
}

/* Only QuickJS's memory dump and its "cannot happen" messages print. Nothing may reach the host this way. */
int printf(const char *restrict format, ...) { (void)format; return 0; }
int fprintf(FILE *restrict file, const char *restrict format, ...) { (void)file, (void)format; return 0; }
int puts(const char *text) { (void)text; return 0; }
int putchar(int c) { return c; }

/* yyjson has functions that read and write files. Nothing calls them, but the C library's fopen() would bring its imports along. */
FILE *fopen(const char *restrict path, const char *restrict mode) { (void)path, (void)mode; return NULL; }
int fclose(FILE *file) { (void)file; return 0; }
int fseek(FILE *file, long offset, int whence) { (void)file, (void)offset, (void)whence; return -1; }
long ftell(FILE *file) { (void)file; return -1; }
size_t fread(void *restrict to, size_t size, size_t count, FILE *restrict file) { (void)to, (void)size, (void)count, (void)file; return 0; }
