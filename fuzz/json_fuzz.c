/* Fuzz target for the guest's JSON reader and writer: any difference from the engine's own JSON, any leak and any fault that the
 * sanitizers see ends the program. scripts/fuzz_json builds and runs it.
 *
 * An input is documents with 0xff between them, read one after another, so that what one has taught is used on the next. If it
 * begins with 'V', each byte that follows chooses a snippet of JavaScript (tests/json/values.py), and the value that they
 * make together is written. If it begins with 'M', the next byte tells the first allocation that is refused while the document that
 * follows is read and written, and the one after it whether all later ones are refused too. */
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>

/* The guest's allocator works in linear memory; here every block is malloc's, so that the sanitizer knows its bounds. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "mailbox.h"

/* How many allocations are granted before the memory is at its limit, and whether that lasts. */
static uint32_t granted = UINT32_MAX;
static bool refuse_once;

static bool refused(void)
{
    if (granted == UINT32_MAX)
        return false;
    if (granted > 0) {
        granted--;
        return false;
    }
    if (refuse_once)
        granted = UINT32_MAX;
    return true;
}

static void *heap_alloc(size_t size) { return refused() ? NULL : malloc(size); }
static void *heap_realloc(void *p, size_t size) { return refused() ? NULL : realloc(p, size); }
static void heap_free(void *p) { free(p); }
static bool heap_widen(void *p, uint64_t size) { (void)p, (void)size; return false; }
static size_t heap_usable_size(const void *p) { return malloc_usable_size((void *)p); }

#include "quickjs.c"
#undef malloc
#undef free
#undef realloc

struct mailbox mailbox_;
static bool interrupted;
static uint32_t polls;

static int on_interrupt(JSRuntime *runtime, void *opaque)
{
    (void)runtime, (void)opaque;
    interrupted = interrupted || ++polls > 2000;
    return interrupted;
}

/* The guest's QuickJS is patched to tell two kinds of depth apart; this one is not. */
static bool js_check_call_overflow(JSRuntime *runtime, size_t size) { return js_check_stack_overflow(runtime, size); }

#include "guest_json.h"                      /* the json fragments of engine.c, in its order */
#include "snippets.h"
#include "compare.h"

#define OUTPUT_LIMIT (1u << 24)

static JSRuntime *rt;
static JSContext *ctx, *documents;           /* documents run no code, so one context serves them all */

/* Drop all that was learnt and every buffer, so that each input starts alike and a block that is left over is a leak. */
static void forget(void)
{
    for (uint32_t i = 0; i < learnt.place_count; i++)
        if (learnt.places[i].shape)
            js_free_shape(rt, learnt.places[i].shape);
    for (uint32_t i = 0; i < learnt.key_count; i++) {
        JS_FreeAtomRT(rt, learnt.keys[i].atom);
        if (learnt.keys[i].last)
            js_free_string(rt, learnt.keys[i].last);
    }
    heap_free(learnt.places);
    heap_free(learnt.keys);
    memset(&learnt, 0, sizeof(learnt));
    for (uint32_t i = 0; i < SHAPE_TEXTS; i++)
        shape_text_drop(ctx, &shape_texts[i]);
    heap_free(stack.values);
    heap_free(stack.keys);
    heap_free(stack.frames);
    memset(&stack, 0, sizeof(stack));
    heap_free(scratch.units);
    memset(&scratch, 0, sizeof(scratch));
}

/* Ours against the engine's writer on the same value; the value of ours may be the engine's or our reader's. */
static void compare_writing(JSValueConst value, const char *text, size_t len)
{
    struct writer w;
    int written = json_write(ctx, &w, value, OUTPUT_LIMIT);
    JSValue theirs = JS_JSONStringify(ctx, value, JS_UNDEFINED, JS_UNDEFINED);
    if (written < 0 || JS_IsException(theirs)) {
        JSValue error = JS_GetException(ctx);
        bool deep = JS_IsException(theirs) && written < 0;
        JS_FreeValue(ctx, error);
        if (!deep && !JS_IsException(theirs) && w.depth == 0 && w.ancestor_room < 200)
            differ("only the engine writes it", text, len);
    } else {
        size_t their_len;
        const char *their_text = JS_ToCStringLen(ctx, &their_len, theirs);
        if (!texts_alike((const char *)w.out.text, w.out.len, their_text, their_len))
            differ("it is written otherwise", text, len);
        JS_FreeCString(ctx, their_text);
    }
    heap_free(w.out.text);
    JS_FreeValue(ctx, theirs);
}

/* As JSON.parse of a plugin's string: errors are the engine's, word for word. */
static void compare_builtin(const char *text, size_t len)
{
    JSValue string = JS_NewStringLen(ctx, text, len);
    JSValue ours = builtin_parse(ctx, JS_UNDEFINED, 2, (JSValueConst[]){string, JS_UNDEFINED});
    char *our_error = take_error(ctx, ours);
    JSValue theirs = js_json_parse(ctx, JS_UNDEFINED, 1, vc(&string));
    char *their_error = take_error(ctx, theirs);
    if (!our_error != !their_error || (our_error && strcmp(our_error, their_error))) {
        if (!their_error || !strstr(their_error, "call stack"))
            differ("JSON.parse throws otherwise", text, len);
    } else if (!our_error && !same(ctx, ours, theirs)) {
        differ("JSON.parse reads otherwise", text, len);
    }
    free(our_error);
    free(their_error);
    JS_FreeValue(ctx, ours);
    JS_FreeValue(ctx, theirs);
    JS_FreeValue(ctx, string);
}

static void compare_document(const char *text, size_t len)
{
    /* Of the exact size that the guest claims, so that a read or write beyond its padding is seen. */
    uint8_t *padded = heap_alloc(len + MAILBOX_PADDING);
    memcpy(padded, text, len);
    memset(padded + len, 0, MAILBOX_PADDING);
    enum json_error error;
    uint32_t offset = 0;
    polls = interrupted = 0;
    JSValue ours = json_read(ctx, padded, len, false, &error, &offset);
    JSValue theirs = JS_ParseJSON(ctx, (char *)padded, len, "<input>");
    char *their_error = take_error(ctx, theirs);
    bool ok = !JS_IsException(ours), deep = their_error && strstr(their_error, "call stack");
    if (ok != (error == JSON_OK))
        differ("result and error do not fit", text, len);
    if (error == JSON_MEMORY || error == JSON_STOPPED || (error == JSON_DEEP && !deep))
        differ("it is refused for no reason", text, len);
    if (!deep && ok != (!their_error && is_utf8((const uint8_t *)text, len)))
        differ(ok ? "only we take it" : "only the engine takes it", text, len);
    if (!ok && offset > len)
        differ("the offset of the error is outside", text, len);
    if (ok && !their_error) {
        if (!same(ctx, ours, theirs))
            differ("it is read otherwise", text, len);
        compare_writing(ours, text, len);
        compare_writing(theirs, text, len);
    }
    free(their_error);
    JS_FreeValue(ctx, ours);
    JS_FreeValue(ctx, theirs);
    heap_free(padded);
    compare_builtin(text, len);
}

/* Without memory there is a result or an error, and nothing is left over. What the engine itself would do is not asked. */
static void run_without_memory(const char *text, size_t len)
{
    uint8_t *padded = malloc(len + MAILBOX_PADDING);
    memcpy(padded, text, len);
    memset(padded + len, 0, MAILBOX_PADDING);
    enum json_error error;
    uint32_t offset;
    polls = interrupted = 0;
    JSValue value = json_read(ctx, padded, len, false, &error, &offset);
    if (JS_IsException(value) != (error != JSON_OK) || JS_HasException(ctx))
        differ("result and error do not fit", text, len);
    if (!JS_IsException(value)) {
        struct writer w;
        if (json_write(ctx, &w, value, OUTPUT_LIMIT) < 0)
            JS_FreeValue(ctx, JS_GetException(ctx));
        heap_free(w.out.text);
    }
    JS_FreeValue(ctx, value);
    free(padded);
}

static void evaluate(const char *source, JSValue *value)
{
    *value = JS_Eval(ctx, source, strlen(source), "<value>", JS_EVAL_TYPE_GLOBAL);
}

/* What becomes of the value that the source makes: its text or error, and what it told while it was written. */
static char *outcome(const char *source, bool own)
{
    JSValue value, result = JS_UNDEFINED, log;
    struct writer w = {0};
    ctx = JS_NewContext(rt);
    if (!own)
        json_install(ctx);
    polls = interrupted = 0;
    evaluate("var log = []; log.join = Array.prototype.join", &value);
    JS_FreeValue(ctx, value);
    evaluate(source, &value);
    if (JS_IsException(value)) {
        result = JS_EXCEPTION;
    } else if (own) {
        result = JS_JSONStringify(ctx, value, JS_UNDEFINED, JS_UNDEFINED);
    } else {
        int written = json_write(ctx, &w, value, OUTPUT_LIMIT);
        if (written < 0)
            result = w.out.too_large ? JS_ThrowRangeError(ctx, "too large") : JS_EXCEPTION;
        else if (written > 0)
            result = JS_NewStringLen(ctx, (char *)w.out.text, w.out.len);
    }
    heap_free(w.out.text);
    JS_FreeValue(ctx, value);
    char *text = take_error(ctx, result);
    if (!text)
        text = take_text(ctx, result, "text ");
    JS_FreeValue(ctx, result);
    evaluate("log.join(';')", &log);
    char *told = take_error(ctx, log), *all;
    if (!told)
        told = take_text(ctx, log, "");
    JS_FreeValue(ctx, log);
    size_t size = strlen(text) + strlen(told) + 2;
    all = malloc(size);
    snprintf(all, size, "%s\n%s", text, told);
    free(text);
    free(told);
    forget();
    JS_FreeContext(ctx);
    JS_RunGC(rt);
    return all;
}

static void compare_value(const uint8_t *data, size_t size)
{
    char *source = make_source(data, size);
    if (!source)
        return;
    char *theirs = outcome(source, true);
    bool stopped = interrupted;
    char *ours = outcome(source, false);
    /* The engine keeps the objects that it is in as an array, so a getter on Array.prototype, made meanwhile, stops it. */
    bool engine_alone = strstr(theirs, "no setter for property");
    /* Where endless recursion ends is not the same in both. */
    bool endless = stopped || interrupted || strstr(theirs, "call stack") || strstr(ours, "call stack");
    /* Only ours has a limit on its output. */
    bool beyond_limit = strlen(theirs) > OUTPUT_LIMIT && strstr(ours, "too large");
    if (!endless && !engine_alone && !beyond_limit && !texts_alike(ours, strlen(ours), theirs, strlen(theirs))) {
        fprintf(stderr, "ours:   %.5000s\ntheirs: %.5000s\n", ours, theirs);
        differ("a value is written otherwise", source, strlen(source));
    }
    free(ours);
    free(theirs);
    free(source);
}

static void *engine_calloc(void *opaque, size_t count, size_t size) { (void)opaque; return refused() ? NULL : calloc(count, size); }
static void *engine_malloc(void *opaque, size_t size) { (void)opaque; return heap_alloc(size); }
static void engine_free(void *opaque, void *p) { (void)opaque; free(p); }
static void *engine_realloc(void *opaque, void *p, size_t size) { (void)opaque; return heap_realloc(p, size); }

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    static const JSMallocFunctions functions = {engine_calloc, engine_malloc, engine_free, engine_realloc, malloc_usable_size};
    rt = JS_NewRuntime2(&functions, NULL);
    JS_SetMaxStackSize(rt, 1 << 20);
    JS_SetGCThreshold(rt, 256 * 1024);
    JS_SetInterruptHandler(rt, on_interrupt, NULL);
    documents = JS_NewContext(rt);
    json_install(documents);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static size_t blocks;
    if (size && *data == 'V') {
        compare_value(data + 1, size - 1);
    } else if (size > 2 && *data == 'M') {
        ctx = documents;
        granted = data[1];
        refuse_once = data[2] & 1;
        run_without_memory((const char *)data + 3, size - 3);
        granted = UINT32_MAX;
        run_without_memory((const char *)data + 3, size - 3);  /* with what was learnt before */
        forget();
        JS_RunGC(rt);
    } else {
        ctx = documents;
        for (const uint8_t *end = data + size;;) {
            const uint8_t *stop = memchr(data, 0xff, (size_t)(end - data));
            compare_document((const char *)data, (size_t)((stop ? stop : end) - data));
            if (!stop)
                break;
            data = stop + 1;
        }
        forget();
        JS_RunGC(rt);
    }
    if (blocks && rt->malloc_state.malloc_count > blocks)
        differ("blocks of the engine leak", "", 0);
    blocks = rt->malloc_state.malloc_count;
    return 0;
}
