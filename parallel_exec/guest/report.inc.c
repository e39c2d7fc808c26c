/* How an error leaves the sandbox: as a record in the output. It is three texts, each a length (u32) and UTF-8 bytes: name, message
 * and stack. They are cut here, so that a plugin cannot use an error message to get around the output limit.
 *
 * Needs: mailbox.h; `interrupted` of engine.c; from QuickJS DynBuf, string ropes and substrings.
 * Gives: report_exception, report_plain. */

#define REPORT_TEXT_MAX 16384u

static void report_text(DynBuf *out, const char *text, size_t len)
{
    if (len > REPORT_TEXT_MAX) {
        len = REPORT_TEXT_MAX;
        while (len > 0 && ((uint8_t)text[len] & 0xc0) == 0x80)
            len--;                           /* not in the middle of a character */
    }
    dbuf_put_u32(out, (uint32_t)len);
    dbuf_put(out, text, len);
}

/* Append a value as text. Reading it may run the plugin's code again (getters, toString): that happens under the job's
 * deadline, and whatever it throws in its turn is dropped. */
static void report_value(JSContext *ctx, DynBuf *out, JSValue value, const char *otherwise)
{
    size_t len = 0;
    const char *text = NULL;
    if (!JS_IsException(value) && !JS_IsUndefined(value)) {
        JSValue string = JS_ToString(ctx, value);
        if (JS_VALUE_GET_TAG(string) == JS_TAG_STRING_ROPE) {
            JSValue flat = js_linearize_string_rope(ctx, string);
            JS_FreeValue(ctx, string);
            string = flat;
        }
        /* Of a text of 100 MB only what will be kept is turned into UTF-8. */
        if (JS_VALUE_GET_TAG(string) == JS_TAG_STRING && JS_VALUE_GET_STRING(string)->len > REPORT_TEXT_MAX) {
            JSValue head = js_sub_string(ctx, JS_VALUE_GET_STRING(string), 0, REPORT_TEXT_MAX);
            JS_FreeValue(ctx, string);
            string = head;
        }
        if (!JS_IsException(string))
            text = JS_ToCStringLen(ctx, &len, string);
        JS_FreeValue(ctx, string);
    }
    JS_FreeValue(ctx, value);
    if (text) {
        report_text(out, text, len);
        JS_FreeCString(ctx, text);
    } else {
        JS_FreeValue(ctx, JS_GetException(ctx));
        report_text(out, otherwise, strlen(otherwise));
    }
}

static void report_to_mailbox(DynBuf *out)
{
    mailbox_.output_ptr = (uint32_t)(uintptr_t)out->buf;
    mailbox_.output_len = out->error ? 0 : (uint32_t)out->size;
}

static void report_plain(JSContext *ctx, const char *name, const char *message)
{
    DynBuf out;
    js_dbuf_init(ctx, &out);
    report_text(&out, name, strlen(name));
    report_text(&out, message, strlen(message));
    report_text(&out, "", 0);
    report_to_mailbox(&out);
}

static bool is_out_of_memory(JSContext *ctx, JSValueConst error)
{
    if (!mailbox_.memory_wanted)
        return false;
    if (JS_IsNull(error) || JS_IsUninitialized(error))
        return true;                         /* not even the error object could be made, or the engine forgot to throw it */
    if (!JS_IsError(error))
        return false;
    JSValue message = JS_GetProperty(ctx, error, JS_ATOM_message);
    bool is_short = JS_VALUE_GET_TAG(message) == JS_TAG_STRING && JS_VALUE_GET_STRING(message)->len < 64;
    const char *text = is_short ? JS_ToCString(ctx, message) : NULL;
    /* The second is what the engine says if there was no memory to format an error's message. */
    bool result = text && (strstr(text, "out of memory") || !strcmp(text, "Invalid error message"));
    if (!text)
        JS_FreeValue(ctx, JS_GetException(ctx));
    JS_FreeCString(ctx, text);
    JS_FreeValue(ctx, message);
    return result;
}

/* Report the pending exception and say what it means for the job. */
static uint32_t report_exception(JSContext *ctx)
{
    JSValue error = JS_GetException(ctx);
    if (interrupted) {
        JS_FreeValue(ctx, error);
        return JOB_TIMED_OUT;
    }
    if (is_out_of_memory(ctx, error)) {
        JS_FreeValue(ctx, error);
        return interrupted ? JOB_TIMED_OUT : JOB_OUT_OF_MEMORY;
    }
    DynBuf out;
    js_dbuf_init(ctx, &out);
    if (JS_IsError(error)) {
        report_value(ctx, &out, JS_GetProperty(ctx, error, JS_ATOM_name), "Error");
        report_value(ctx, &out, JS_GetProperty(ctx, error, JS_ATOM_message), "");
        report_value(ctx, &out, JS_GetProperty(ctx, error, JS_ATOM_stack), "");
    } else {
        report_text(&out, "throw", 5);
        if (JS_IsSymbol(error))
            report_text(&out, "[symbol]", 8);
        else if (JS_IsUndefined(error))
            report_text(&out, "undefined", 9);
        else
            report_value(ctx, &out, js_dup(error), "[a value that cannot be shown]");
        report_text(&out, "", 0);
    }
    JS_FreeValue(ctx, error);
    report_to_mailbox(&out);
    return interrupted ? JOB_TIMED_OUT : JOB_THREW;
}
