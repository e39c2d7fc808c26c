/* Host functions, which an embedder gives to a plugin. Each is a global function; a call leaves as one JSON text,
 * `["name", argument, ...]`, and its result comes back as another.
 *
 * The module imports nothing for them. The host reaches into the guest's function table instead: where it has functions to offer, it
 * puts its own function into the slot of `host_absent`. An instance without host functions has no way out at all.
 *
 * Needs: json/reader.inc.c and json/writer.inc.c; allocator.inc.c; mailbox.h (output_limit); on_interrupt of engine.c; from QuickJS the
 * kinds of errors.
 * Gives: host_exchange_, host_ready, host_install. */

#define HOST_ROOM 4096u                      /* replies up to this size take one call, longer ones two */

enum host_status {
    HOST_RESULT = 0,                         /* text: the result */
    HOST_THREW = 1,                          /* text: the error's name and message, as an array */
    HOST_ABSENT = 2,                         /* the sandbox has been given no host functions */
};

/* sandbox/_js/host_calls.py holds the same layout. A call hands over the text at `ptr`; a call with `len` 0 asks again for a reply
 * that had no room. The reply goes to `ptr` if it and MAILBOX_PADDING bytes fit `room`; `len` is its length in any case. */
static void host_absent(void);

static struct host_exchange {
    void (*volatile call)(void);             /* an index into the function table */
    uint32_t ptr, len, room;
    volatile uint32_t status;
} host_exchange_ = {.call = host_absent};

static bool host_ready;                      /* the image is frozen: what is called now belongs to one job alone */

static void host_absent(void) { host_exchange_.status = HOST_ABSENT; }

static JSErrorEnum host_error_kind(const char *name)
{
    int kind = 0;
    while (kind < JS_NATIVE_ERROR_COUNT && strcmp(name, native_error_name[kind]))
        kind++;
    return kind;                             /* JS_PLAIN_ERROR for any other name */
}

/* Throw the error that the host's pair of name and message stands for. */
static JSValue host_throw(JSContext *ctx, JSValue pair)
{
    JSValue name = JS_GetPropertyUint32(ctx, pair, 0), message = JS_GetPropertyUint32(ctx, pair, 1);
    const char *name_text = JS_ToCString(ctx, name), *message_text = JS_ToCString(ctx, message);
    JSValue error = JS_EXCEPTION;
    if (name_text && message_text) {
        JSErrorEnum kind = host_error_kind(name_text);
        error = JS_MakeError2(ctx, kind, true, message_text);
        if (kind == JS_PLAIN_ERROR && !JS_IsException(error))
            JS_DefinePropertyValue(ctx, error, JS_ATOM_name, js_dup(name), JS_PROP_WRITABLE | JS_PROP_CONFIGURABLE);
    }
    JS_FreeCString(ctx, name_text);
    JS_FreeCString(ctx, message_text);
    JS_FreeValue(ctx, name);
    JS_FreeValue(ctx, message);
    JS_FreeValue(ctx, pair);
    return JS_IsException(error) ? error : JS_Throw(ctx, error);
}

/* Let the host handle the text, which is replaced by its reply. False: there is no memory for that. */
static bool host_exchange_text(uint8_t **text, size_t *len)
{
    uint8_t *buffer = heap_realloc(*text, *len < HOST_ROOM ? HOST_ROOM : *len);
    if (!buffer)
        return false;
    *text = buffer;
    host_exchange_.ptr = (uint32_t)(uintptr_t)buffer;
    host_exchange_.len = (uint32_t)*len;
    host_exchange_.room = (uint32_t)heap_usable_size(buffer);
    host_exchange_.call();
    *len = host_exchange_.len;
    if ((uint64_t)*len + MAILBOX_PADDING > host_exchange_.room) {
        heap_free(buffer);
        *text = buffer = heap_alloc(*len + MAILBOX_PADDING);
        if (!buffer)
            return false;
        host_exchange_.ptr = (uint32_t)(uintptr_t)buffer;
        host_exchange_.len = 0;
        host_exchange_.room = (uint32_t)*len + MAILBOX_PADDING;
        host_exchange_.call();
    }
    memset(buffer + *len, 0, MAILBOX_PADDING);
    return true;
}

static JSValue host_function(JSContext *ctx, JSValueConst self, int argc, JSValueConst *argv, int magic, JSValueConst *data)
{
    (void)self, (void)magic;
    if (!host_ready)
        return JS_ThrowTypeError(ctx, "host functions cannot be called while the plugin is loaded or warmed up, "
                                      "because its image serves many jobs; call them in the function that is run");
    JSValue call = js_create_array(ctx, 1, data);
    if (JS_IsException(call))
        return call;
    for (int i = 0; i < argc; i++) {
        if (JS_DefinePropertyValueUint32(ctx, call, (uint32_t)i + 1, js_dup(argv[i]), JS_PROP_C_W_E) < 0) {
            JS_FreeValue(ctx, call);
            return JS_EXCEPTION;
        }
    }
    struct writer w;
    int written = json_write(ctx, &w, call, mailbox_.output_limit);
    JS_FreeValue(ctx, call);
    uint8_t *text = w.out.text;
    size_t len = w.out.len;
    if (written <= 0) {
        heap_free(text);
        if (written == 0)
            return JS_ThrowTypeError(ctx, "the arguments of a host function have no JSON text");
        return w.out.too_large ? JS_ThrowRangeError(ctx, "the arguments of a host function exceed Limits.output_bytes")
                               : JS_EXCEPTION;
    }
    if (!host_exchange_text(&text, &len)) {
        heap_free(text);
        return JS_ThrowOutOfMemory(ctx);
    }
    /* The host may have taken any time. */
    if (on_interrupt(ctx->rt, NULL)) {
        heap_free(text);
        JS_ThrowInterrupted(ctx);
        return JS_EXCEPTION;
    }
    uint32_t status = host_exchange_.status;
    if (status == HOST_ABSENT) {
        heap_free(text);
        return JS_ThrowTypeError(ctx, "this sandbox has been given no host functions");
    }
    enum json_error error;
    uint32_t offset;
    JSValue value = json_read(ctx, text, len, false, &error, &offset);
    heap_free(text);
    switch (error) {
    case JSON_OK: return status == HOST_THREW ? host_throw(ctx, value) : value;
    case JSON_MEMORY: return JS_ThrowOutOfMemory(ctx);
    case JSON_STOPPED: JS_ThrowInterrupted(ctx); return JS_EXCEPTION;
    default: return JS_ThrowTypeError(ctx, "the result of a host function is not JSON");
    }
}

/* Make a global function of each name in the array `names`, from its element `first` on. */
static int host_install(JSContext *ctx, JSValueConst names, uint32_t first)
{
    int64_t count;
    if (js_get_length64(ctx, &count, names) < 0)
        return -1;
    for (uint32_t i = first; i < count; i++) {
        JSValue name = JS_GetPropertyUint32(ctx, names, i);
        const char *text = JS_ToCString(ctx, name);
        JSAtom atom = text ? JS_NewAtom(ctx, text) : JS_ATOM_NULL;
        int result = -1;
        if (atom != JS_ATOM_NULL) {
            if (JS_HasProperty(ctx, ctx->global_obj, atom))
                JS_ThrowTypeError(ctx, "the host function '%s' would replace a global of the engine; rename it", text);
            else
                result = JS_DefinePropertyValue(ctx, ctx->global_obj, atom,
                                                JS_NewCFunctionData2(ctx, host_function, text, 0, 0, 1, vc(&name)),
                                                JS_PROP_WRITABLE | JS_PROP_CONFIGURABLE);
        }
        JS_FreeAtom(ctx, atom);
        JS_FreeCString(ctx, text);
        JS_FreeValue(ctx, name);
        if (result < 0)
            return -1;
    }
    return 0;
}
