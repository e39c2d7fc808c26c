/* QuickJS's own JSON, for bench/json/compare.py; never part of the package's engine. It is the engine with two more exports, which
 * do what engine_read and engine_write do, but by JS_ParseJSON and JS_JSONStringify. */
#include "engine.c"

void EXPORT(engine_read_own)(void)
{
    job_begin();
    char *text = heap_claim(mailbox_.input_len + MAILBOX_PADDING);
    if (!text) {
        job_end(JOB_OUT_OF_MEMORY);
        return;
    }
    text[mailbox_.input_len] = 0;
    job_document = JS_ParseJSON(ctx, text, mailbox_.input_len, "document");
    job_end(JS_IsException(job_document) ? report_exception(ctx) : JOB_OK);
    if (!JS_IsException(job_document))
        heap_free(text);
}

void EXPORT(engine_write_own)(void)
{
    JSValue text = JS_JSONStringify(ctx, job_result, JS_UNDEFINED, JS_UNDEFINED);
    size_t len = 0;
    const char *chars = JS_IsException(text) ? NULL : JS_ToCStringLen(ctx, &len, text);
    mailbox_.output_kind = DATA_JSON;
    mailbox_.output_ptr = (uint32_t)(uintptr_t)chars;
    mailbox_.output_len = (uint32_t)len;
    job_end(chars ? JOB_OK : report_exception(ctx));
}
