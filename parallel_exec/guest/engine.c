/* The engine module: QuickJS-ng and our code around it. quickjs.c and our code are one translation unit, so that our code can use
 * the internals of QuickJS: shapes, the layout of objects, arenas, the parser. patches/ has the few changes to QuickJS itself.
 *
 * The exports at the end are all that the host calls; parallel_exec/sandbox/_js/instance.py is the other side. In the life of a sandbox
 * they come in this order: engine_start() once; engine_configure(), if there is anything to configure; engine_load() with the
 * plugin's source; engine_job() for each sample; engine_freeze(). Then the host captures linear memory. From there on every job is
 * engine_job() on a copy of that image.
 *
 * The fragments, *.inc.c, are included here and nowhere else, in the order in which they build on one another. Each says at its top
 * what it needs and what it gives. */
#include "mailbox.h"
#include "deadline.h"
#include "allocator.inc.c"
#include "libc.inc.c"
#include "stack.inc.c"

#include "quickjs.c"
/* quickjs.c forbids these names to the code after it, and yyjson.c is such code. */
#undef malloc
#undef free
#undef realloc

struct mailbox mailbox_;

static bool interrupted;                     /* this job has been told to stop */

#include "report.inc.c"

static int on_interrupt(JSRuntime *runtime, void *opaque)
{
    (void)runtime, (void)opaque;
    /* Once stopped, stopped: a plugin that catches what it can and goes on is stopped again at its next poll. */
    if (is_overdue())
        interrupted = true;
    return interrupted;
}

#include "json/number.inc.c"
#include "json/string.inc.c"
#include "json/places.inc.c"
#include "json/reader.inc.c"
#include "json/output.inc.c"
#include "json/writer.inc.c"
#include "json/builtin.inc.c"
#include "binary.inc.c"
#include "console.inc.c"
#include "clock.inc.c"
#include "host.inc.c"
#include "plugin.inc.c"
#include "chain.inc.c"

#define EXPORT(name) __attribute__((export_name(#name))) name

/* A garbage collection walks every object of the image and of the document, some 100 us for a common job, and the reset renews all
 * memory anyway. So none starts before a job has allocated this much, or a quarter of its limit. */
#define GC_HEADROOM (16u << 20)

static JSRuntime *rt;
static JSContext *ctx;
static bool reseed_hashes;                   /* for each job, unless the image holds a Map or Set, which was hashed with the image's seed */
static size_t image_heap;                    /* bytes that the image's objects take; 0 before it is frozen */
static JSValue job_document, job_result;

static bool job_read(void);

static void *engine_calloc(void *opaque, size_t count, size_t size) { (void)opaque; return heap_calloc(count, size); }
static void *engine_malloc(void *opaque, size_t size) { (void)opaque; return heap_alloc(size); }
static void engine_free(void *opaque, void *p) { (void)opaque; heap_free(p); }
static void *engine_realloc(void *opaque, void *p, size_t size) { (void)opaque; return heap_realloc(p, size); }

/* Derived separately from Math.random's state, whose numbers must not depend on whether hash tables are seeded anew. */
static uint32_t fresh_hash_seed(void)
{
    uint64_t state = ~mailbox_.seed ? ~mailbox_.seed : 1;
    return (uint32_t)xorshift64star(&state);
}

static void job_begin(void)
{
    interrupted = false;
    stack_low = UINTPTR_MAX;
    js_get_stack_pointer();
    mailbox_.memory_wanted = 0;
    mailbox_.output_ptr = mailbox_.output_len = 0;
    console.len = console.dropped = 0;
    ctx->random_state = mailbox_.seed ? mailbox_.seed : 1;
    if (reseed_hashes)
        ctx->hash_seed = fresh_hash_seed();
    if (image_heap) {
        uint32_t quarter = mailbox_.memory_limit / 4;
        JS_SetGCThreshold(rt, image_heap + (quarter && quarter < GC_HEADROOM ? quarter : GC_HEADROOM));
    }
    job_result = JS_UNDEFINED;
}

NO_LOOK static void tell_console(void)
{
    mailbox_.console_ptr = (uint32_t)(uintptr_t)console.records;
    mailbox_.console_len = console.len;
    mailbox_.console_dropped = console.dropped;
}

NO_LOOK __attribute__((noinline, cold)) static void stop_if_overdue(void)
{
    if (!is_for_this_job())
        return;
    mailbox_.status = JOB_TIMED_OUT;
    tell_console();
    __builtin_trap();
}

/* The compiler puts a call of this on the edges between a function's blocks (deadline.h). */
NO_LOOK void __sanitizer_cov_trace_pc(void)
{
    if (__builtin_expect(mailbox_.deadline != 0, 0))
        stop_if_overdue();
}

static void job_end(uint32_t status)
{
    /* Overdue is overdue, even if the plugin survived the interrupt. */
    mailbox_.status = interrupted || is_overdue() ? JOB_TIMED_OUT : status;
    tell_console();
    mailbox_.input_ptr = heap_claim_address();
    mailbox_.high_water = heap.high_water;
    mailbox_.heap_used = heap.used;
    mailbox_.stack_low = (uint32_t)stack_low;
}

uint32_t EXPORT(mailbox)(void) { return (uint32_t)(uintptr_t)&mailbox_; }

/* Make the runtime and its one context. */
void EXPORT(engine_start)(void)
{
    static const JSMallocFunctions functions = {
        engine_calloc, engine_malloc, engine_free, engine_realloc, heap_usable_size,
    };
    heap_start();
    rt = JS_NewRuntime2(&functions, NULL);
    if (!rt)
        __builtin_trap();
    JS_SetMaxStackSize(rt, JS_STACK);
    JS_SetInterruptHandler(rt, on_interrupt, NULL);
    ctx = JS_NewContext(rt);
    if (!ctx || console_install(ctx) < 0 || clock_install(ctx) < 0 || json_install(ctx) < 0)
        __builtin_trap();
    plugin_namespace = JS_UNDEFINED;
    job_document = JS_UNDEFINED;
    job_begin();
    ctx->hash_seed = fresh_hash_seed();
    job_end(JOB_OK);
}

uint32_t EXPORT(host_exchange)(void) { return (uint32_t)(uintptr_t)&host_exchange_; }

/* Set what the plugin that is loaded next may do; the input is a JSON array (plugin_configure). */
void EXPORT(engine_configure)(void)
{
    if (job_read())
        job_end(plugin_configure(ctx, job_document));
}

/* Load the plugin whose source is the input, under the file name in mailbox.name. */
void EXPORT(engine_load)(void)
{
    job_begin();
    char *source = heap_claim(mailbox_.input_len + MAILBOX_PADDING);
    if (!source) {
        job_end(JOB_OUT_OF_MEMORY);
        return;
    }
    source[mailbox_.input_len] = 0;
    char file[MAILBOX_NAME_SIZE + 1];
    memcpy(file, mailbox_.name, mailbox_.name_len);
    file[mailbox_.name_len] = 0;
    uint32_t status = plugin_load(ctx, source, mailbox_.input_len, file, mailbox_.kind);
    heap_free(source);
    job_end(status);
}

static bool image_holds_hash_tables(void)
{
    struct list_head *el;
    list_for_each(el, &rt->gc_obj_list) {
        JSGCObjectHeader *header = list_entry(el, JSGCObjectHeader, link);
        if (js_rc(header)->gc_obj_type != JS_GC_OBJ_TYPE_JS_OBJECT)
            continue;
        uint32_t class_id = ((JSObject *)header)->class_id;
        if (class_id == JS_CLASS_MAP || class_id == JS_CLASS_SET || class_id == JS_CLASS_WEAKMAP || class_id == JS_CLASS_WEAKSET)
            return true;
    }
    return false;
}

/* Make the state ready to be captured: drop what only the load or a sample needed. */
void EXPORT(engine_freeze)(void)
{
    job_begin();
    heap_free(console.records);
    memset(&console, 0, sizeof(console));
    JS_RunGC(rt);
    image_heap = rt->malloc_state.malloc_size;
    reseed_hashes = !image_holds_hash_tables();
    host_ready = true;
    memset(&mailbox_, 0, sizeof(mailbox_));
    /* What the load left above the heap's end must not pass for untouched memory. */
    memset((void *)(uintptr_t)heap.end, 0, heap.high_water - heap.end);
    heap.high_water = heap.end;
    job_end(JOB_OK);
}

/* The three parts of a job. Each returns true if the next one is to run; otherwise the job has ended. */

static bool job_read(void)
{
    job_begin();
    char *text = heap_claim(mailbox_.input_len + MAILBOX_PADDING);
    if (!text) {
        job_end(JOB_OUT_OF_MEMORY);
        return false;
    }
    memset(text + mailbox_.input_len, 0, MAILBOX_PADDING);
    if (mailbox_.kind != DATA_JSON) {
        job_document = binary_read(ctx, text, mailbox_.input_len, mailbox_.kind);
        if (JS_IsException(job_document))
            job_end(report_exception(ctx));
        return !JS_IsException(job_document);
    }
    enum json_error error;
    job_document = json_read(ctx, (uint8_t *)text, mailbox_.input_len, false, &error, &mailbox_.error_offset);
    if (JS_IsException(job_document)) {
        static const uint32_t statuses[] = {
            [JSON_SYNTAX] = JOB_BAD_DOCUMENT, [JSON_UTF8] = JOB_BAD_DOCUMENT, [JSON_DEEP] = JOB_BAD_DOCUMENT,
            [JSON_MEMORY] = JOB_OUT_OF_MEMORY, [JSON_STOPPED] = JOB_TIMED_OUT,
        };
        if (error == JSON_DEEP)
            report_plain(ctx, "RangeError", "it is nested too deeply");
        else if (error == JSON_UTF8)
            report_plain(ctx, "SyntaxError", "a string holds bytes that are not UTF-8");
        else
            report_plain(ctx, "SyntaxError", mailbox_.error_offset >= mailbox_.input_len ? "it ends too early" : "unexpected character");
        job_end(statuses[error]);
        return false;
    }
    heap_free(text);
    return true;
}

static bool job_invoke(void)
{
    if (unlikely(is_chain())) {
        uint32_t status = chain_run(ctx, job_document);
        if (status != JOB_OK)
            job_end(status);
        return status == JOB_OK;
    }
    JSValue function = plugin_function(ctx, mailbox_.name, mailbox_.name_len);
    if (JS_IsException(function)) {
        job_end(report_exception(ctx));
        return false;
    }
    if (!JS_IsFunction(ctx, function)) {
        job_end(JOB_NO_FUNCTION);
        return false;
    }
    bool pending;
    job_result = settle(ctx, JS_Call(ctx, function, JS_UNDEFINED, 1, vc(&job_document)), &pending);
    if (pending || JS_IsException(job_result)) {
        job_end(pending ? pending_status() : report_exception(ctx));
        return false;
    }
    return true;
}

static void job_write(void)
{
    uint8_t *bytes;
    size_t len;
    bool chained = is_chain();
    mailbox_.output_kind = chained ? DATA_JSON : binary_write(job_result, &bytes, &len);
    if (mailbox_.output_kind != DATA_JSON) {
        mailbox_.output_ptr = (uint32_t)(uintptr_t)bytes;
        mailbox_.output_len = (uint32_t)len;
        job_end(len > mailbox_.output_limit ? JOB_OUTPUT_TOO_LARGE : JOB_OK);
        return;
    }
    struct writer w;
    int written = unlikely(chained) ? chain_write(ctx, &w, mailbox_.output_limit)
                                    : json_write(ctx, &w, job_result, mailbox_.output_limit);
    if (written == 0) {                      /* undefined has no JSON text; the caller gets null */
        mailbox_.output_ptr = (uint32_t)(uintptr_t)"null";
        mailbox_.output_len = 4;
    } else {
        mailbox_.output_ptr = (uint32_t)(uintptr_t)w.out.text;
        mailbox_.output_len = w.out.len;
    }
    job_end(written >= 0 ? JOB_OK : w.out.too_large ? JOB_OUTPUT_TOO_LARGE : report_exception(ctx));
}

/* One job: parse the document, call the function, write the result. */
void EXPORT(engine_job)(void)
{
    if (job_read() && job_invoke())
        job_write();
}

/* The same in three calls, so that `pexec profile` and `pexec bench` can time each. Once one has failed, the next must not be
 * called. */
void EXPORT(engine_read)(void) { if (job_read()) job_end(JOB_OK); }
void EXPORT(engine_invoke)(void) { if (job_invoke()) job_end(JOB_OK); }
void EXPORT(engine_write)(void) { job_write(); }

/* Like engine_read, but the input is the source text of a JavaScript expression and goes through the engine's parser: what the
 * strategies `baseline`, `wizer` and `wizer-plus` of `pexec bench` do with a document. */
void EXPORT(engine_read_source)(void)
{
    job_begin();
    char *text = heap_claim(mailbox_.input_len + MAILBOX_PADDING);
    if (!text) {
        job_end(JOB_OUT_OF_MEMORY);
        return;
    }
    text[mailbox_.input_len] = 0;
    job_document = JS_Eval(ctx, text, mailbox_.input_len, "document", JS_EVAL_TYPE_GLOBAL);
    job_end(JS_IsException(job_document) ? report_exception(ctx) : JOB_OK);
    if (!JS_IsException(job_document))
        heap_free(text);
}
