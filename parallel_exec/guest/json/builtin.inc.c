/* JSON.parse and JSON.stringify for the plugin: ours, unless a call asks for something that only QuickJS's have.
 *
 * Needs: reader.inc.c, writer.inc.c, allocator.inc.c; from QuickJS its js_json_parse and js_json_stringify.
 * Gives: json_install. */

/* JSON.parse(text): a reviver, and the wording of every error, is the engine's business. */
static JSValue builtin_parse(JSContext *ctx, JSValueConst self, int argc, JSValueConst *argv)
{
    if (JS_IsFunction(ctx, argv[1]))
        return js_json_parse(ctx, self, argc, argv);
    size_t len;
    const char *chars = JS_ToCStringLen(ctx, &len, argv[0]);
    if (!chars)
        return JS_EXCEPTION;
    uint8_t *text = heap_alloc(len + MAILBOX_PADDING);
    if (!text) {
        JS_FreeCString(ctx, chars);
        return JS_ThrowOutOfMemory(ctx);
    }
    memcpy(text, chars, len);
    memset(text + len, 0, MAILBOX_PADDING);
    enum json_error error;
    uint32_t offset;
    JSValue value = json_read(ctx, text, len, true, &error, &offset);
    heap_free(text);
    switch (error) {
    case JSON_OK: break;
    case JSON_DEEP: JS_ThrowStackOverflow(ctx); break;
    case JSON_MEMORY: JS_ThrowOutOfMemory(ctx); break;
    case JSON_STOPPED: JS_ThrowInterrupted(ctx); break;
    default: {
        JSValue string = JS_NewStringLen(ctx, chars, len);
        value = JS_IsException(string) ? string : js_json_parse(ctx, self, 1, vc(&string));
        JS_FreeValue(ctx, string);
    }
    }
    JS_FreeCString(ctx, chars);
    return value;
}

/* JSON.stringify(value): a replacer or an indentation makes it the engine's. */
static JSValue builtin_stringify(JSContext *ctx, JSValueConst self, int argc, JSValueConst *argv)
{
    if (JS_IsObject(argv[1]) || !(JS_IsUndefined(argv[2]) || JS_IsNull(argv[2])))
        return js_json_stringify(ctx, self, argc, argv);
    struct writer w;
    int written = json_write(ctx, &w, argv[0], JS_STRING_LEN_MAX);
    JSValue result = JS_UNDEFINED;
    if (written > 0)
        result = JS_NewStringLen(ctx, (const char *)w.out.text, w.out.len);
    else if (written < 0)
        result = w.out.too_large ? JS_ThrowRangeError(ctx, "invalid string length") : JS_EXCEPTION;
    heap_free(w.out.text);
    return result;
}

static int json_install(JSContext *ctx)
{
    JSValue json = JS_GetPropertyStr(ctx, ctx->global_obj, "JSON");
    int result = -1;
    if (!JS_IsException(json) &&
        JS_DefinePropertyValueStr(ctx, json, "parse", JS_NewCFunction(ctx, builtin_parse, "parse", 2),
                                  JS_PROP_WRITABLE | JS_PROP_CONFIGURABLE) >= 0)
        result = JS_DefinePropertyValueStr(ctx, json, "stringify", JS_NewCFunction(ctx, builtin_stringify, "stringify", 3),
                                           JS_PROP_WRITABLE | JS_PROP_CONFIGURABLE);
    JS_FreeValue(ctx, json);
    return result;
}
