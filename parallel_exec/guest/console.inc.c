/* console.log and friends: bounded, kept in linear memory, and read by the host after the job. A record is a level byte, the text's
 * length (u32) and the text in UTF-8; records follow one another.
 *
 * Needs: allocator.inc.c; mailbox.h (console_limit); from QuickJS DynBuf, strings and atoms.
 * Gives: console, console_install. */

#define CONSOLE_HEADER 5u

static struct {
    uint8_t *records;
    uint32_t len, size, dropped;
} console;

static void console_put(uint8_t level, const char *text, size_t len)
{
    uint64_t end = (uint64_t)console.len + CONSOLE_HEADER + len;
    if (end > mailbox_.console_limit)
        goto dropped;
    if (end > console.size) {
        uint32_t size = end < 2u * console.size ? 2u * console.size : (uint32_t)end + 512u;
        uint8_t *grown = heap_realloc(console.records, size);
        if (!grown)
            goto dropped;
        console.records = grown;
        console.size = size;
    }
    uint8_t *to = console.records + console.len;
    uint32_t len32 = (uint32_t)len;
    to[0] = level;
    memcpy(to + 1, &len32, 4);
    memcpy(to + CONSOLE_HEADER, text, len);
    console.len = (uint32_t)end;
    return;
dropped:
    console.dropped++;
}

/* One argument as text: strings as they are, errors with their stack, other objects as JSON, the rest as String() has it. */
static JSValue console_text(JSContext *ctx, JSValueConst value)
{
    if (JS_IsError(value)) {
        JSValue text = JS_ToString(ctx, value), stack = JS_GetProperty(ctx, value, JS_ATOM_stack);
        if (!JS_IsException(text) && JS_IsString(stack) && JS_VALUE_GET_TAG(stack) == JS_TAG_STRING &&
            JS_VALUE_GET_STRING(stack)->len > 0) {
            text = JS_ConcatString(ctx, text, js_new_string8_len(ctx, "\n", 1));
            return JS_ConcatString(ctx, text, stack);
        }
        JS_FreeValue(ctx, stack);
        return text;
    }
    if (JS_IsObject(value) && !JS_IsFunction(ctx, value)) {
        JSValue text = JS_JSONStringify(ctx, value, JS_UNDEFINED, JS_UNDEFINED);
        if (!JS_IsException(text) && !JS_IsUndefined(text))
            return text;
        if (JS_IsException(text)) {
            if (JS_IsUncatchableError(ctx->rt->current_exception))
                return text;
            JS_FreeValue(ctx, JS_GetException(ctx));
        }
        return js_new_string8_len(ctx, "[object]", 8);
    }
    if (JS_IsSymbol(value))
        return js_new_string8_len(ctx, "[symbol]", 8);
    return JS_ToString(ctx, value);
}

static uint32_t string_length(JSValueConst text)
{
    return JS_VALUE_GET_TAG(text) == JS_TAG_STRING_ROPE ? JS_VALUE_GET_STRING_ROPE(text)->len : JS_VALUE_GET_STRING(text)->len;
}

static JSValue console_log(JSContext *ctx, JSValueConst self, int argc, JSValueConst *argv, int level)
{
    (void)self;
    DynBuf line;
    js_dbuf_init(ctx, &line);
    for (int i = 0; i < argc && line.size <= mailbox_.console_limit; i++) {
        JSValue text = console_text(ctx, argv[i]);
        size_t len;
        if (JS_IsString(text) && string_length(text) > mailbox_.console_limit) {
            JS_FreeValue(ctx, text);         /* it cannot fit, and need not be turned into UTF-8 */
            dbuf_free(&line);
            console.dropped++;
            return JS_UNDEFINED;
        }
        const char *chars = JS_IsException(text) ? NULL : JS_ToCStringLen(ctx, &len, text);
        JS_FreeValue(ctx, text);
        if (!chars) {
            dbuf_free(&line);
            return JS_EXCEPTION;
        }
        if (i)
            dbuf_putc(&line, ' ');
        dbuf_put(&line, chars, len);
        JS_FreeCString(ctx, chars);
    }
    console_put((uint8_t)level, (const char *)line.buf, line.size);
    dbuf_free(&line);
    return JS_UNDEFINED;
}

/* Levels are those of Python's logging module, divided by ten. */
static int console_install(JSContext *ctx)
{
    static const struct { const char *name; int level; } methods[] = {
        {"debug", 1}, {"trace", 1}, {"log", 2}, {"info", 2}, {"warn", 3}, {"error", 4},
    };
    JSValue object = JS_NewObject(ctx);
    if (JS_IsException(object))
        return -1;
    for (size_t i = 0; i < countof(methods); i++) {
        JSValue method = JS_NewCFunctionMagic(ctx, console_log, methods[i].name, 1, JS_CFUNC_generic_magic, methods[i].level);
        if (JS_DefinePropertyValueStr(ctx, object, methods[i].name, method, JS_PROP_WRITABLE | JS_PROP_CONFIGURABLE) < 0) {
            JS_FreeValue(ctx, object);
            return -1;
        }
    }
    return JS_DefinePropertyValueStr(ctx, ctx->global_obj, "console", object, JS_PROP_WRITABLE | JS_PROP_CONFIGURABLE);
}
