/* The mailbox: the one struct through which host and guest talk about a job. It lies at a fixed address in linear memory
 * (the export `mailbox` tells which); sandbox/_js/mailbox.py holds the same layout. All fields are little-endian.
 *
 * Before a call the host writes the request part in one copy and the input bytes at `input_ptr`; after the call it reads the
 * reply part in one copy. A reset restores the image's mailbox with everything else. */
#ifndef PEXEC_MAILBOX_H
#define PEXEC_MAILBOX_H

#include <stdint.h>

#define MAILBOX_NAME_SIZE 256

/* How a call ended: the value of mailbox.status. */
enum job_status {
    JOB_OK = 0,
    JOB_THREW = 1,            /* output: an error record (report.inc.c) */
    JOB_BAD_DOCUMENT = 2,     /* output: an error record; error_offset: the byte that cannot be JSON */
    JOB_TIMED_OUT = 3,        /* the deadline flag was seen */
    JOB_OUT_OF_MEMORY = 4,    /* an allocation was refused and the plugin did not recover */
    JOB_OUTPUT_TOO_LARGE = 5, /* output_len: the size it would have had, as far as known */
    JOB_NO_FUNCTION = 6,      /* no such function in the plugin */
    JOB_PENDING = 7,          /* the returned promise can never settle: no job is left that could */
};

enum load_kind { LOAD_AUTO = 0, LOAD_SCRIPT = 1, LOAD_MODULE = 2 };

struct mailbox {
    /* request: written by the host */
    uint32_t job;                /* number of this job, never 0 */
    uint32_t input_len;          /* bytes at input_ptr; MAILBOX_PADDING bytes after them are the guest's to overwrite */
    uint32_t memory_limit;       /* bytes of linear memory that the allocator may use */
    uint32_t output_limit;
    uint32_t console_limit;
    uint32_t kind;               /* load_kind for a load; what the document is (binary.inc.c) for a job */
    uint64_t seed;               /* of Math.random and hash tables */
    double time_ms;              /* the clock, in ms since 1970; it stands still during a job */
    uint32_t name_len;
    char name[MAILBOX_NAME_SIZE]; /* function to call, or a chain of them (chain.h), or the plugin's file name for a load; UTF-8 */
    uint32_t reserved;
    /* written by the host's watchdog at any time: the number of a job that must stop, 0 if none must. A late write
     * names a job that is over, so it cannot stop the next one. */
    volatile uint32_t deadline;

    /* reply: written by the guest */
    uint32_t status;             /* job_status */
    uint32_t output_ptr;
    uint32_t output_len;
    uint32_t console_ptr;        /* console records (console.h) */
    uint32_t console_len;
    uint32_t console_dropped;    /* records that did not fit console_limit */
    uint32_t error_offset;
    uint32_t input_ptr;          /* where the next input goes */
    uint32_t high_water;         /* no byte at or above this address was ever written */
    uint32_t heap_used;          /* bytes in use by the engine's heap */
    uint32_t memory_wanted;      /* the request that was refused, in bytes of linear memory; 0 if none was */
    uint32_t output_kind;        /* what the output is (binary.h) */
    uint32_t stack_low;          /* lowest address of the shadow stack that a check of its depth has seen */
    uint32_t stage;              /* of a chain: the stage that ran last, from 0 */
    uint32_t item;               /* of a chain on a group: the array that it was at, from 0 */
};

#define MAILBOX_PADDING 64

extern struct mailbox mailbox_;

#endif
