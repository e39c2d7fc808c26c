/* A chain: several functions of the plugin, called one after another on the values of one document, so that no value becomes text
 * between two of them. A job runs a chain if its function's name begins with CHAIN_MARK; sandbox/_chain.py writes that name:
 *
 *     CHAIN_MARK, a source, then the stages: each a letter and a function's name, separated by CHAIN_MARK
 *
 * The job's result is a JSON array of what the last stage lets through. Values go through the stages one by one, each as far as it gets
 * before the next one starts, so they keep their order. mailbox.stage tells where a job failed, mailbox.item at which array of a group.
 *
 * Needs: plugin.inc.c, report.inc.c, json/writer.inc.c, allocator.inc.c; mailbox.h; from QuickJS numbers, lengths and typeof.
 * Gives: is_chain, chain_run, chain_write. */

#define CHAIN_MARK '\1'
#define CHAIN_STAGES_MAX (MAILBOX_NAME_SIZE / 2)

enum chain_source {
    CHAIN_DOCUMENT = '1',                    /* the document is the only value */
    CHAIN_VALUES = '*',                      /* it is an array of values */
    CHAIN_GROUP = '2',                       /* it is an array of arrays of values */
    CHAIN_SEEDED_GROUP = 'i',                /* the same, but its first element is what a fold begins with */
};

enum chain_operation {
    CHAIN_MAP = 'm', CHAIN_FILTER = 'f', CHAIN_FLAT_MAP = 'x',
    CHAIN_FOLD = 'a', CHAIN_REDUCE = 'r',    /* these and the rest only as the last stage: it keeps one value at most */
    CHAIN_COUNT = 'c', CHAIN_SUM = 's', CHAIN_MIN = 'n', CHAIN_MAX = 'g',
};

struct chain_stage {
    char operation;
    JSValue function;                        /* undefined for the operations that call none */
};

static struct chain {
    struct chain_stage stages[CHAIN_STAGES_MAX];
    uint32_t stage_count;
    JSValue *values;                         /* what came out, or what the last stage has kept so far */
    uint32_t value_count, value_room;
} chain;

static inline bool is_chain(void) { return mailbox_.name_len && mailbox_.name[0] == CHAIN_MARK; }

static uint32_t chain_keep(JSContext *ctx, JSValue value)
{
    if (chain.value_count == chain.value_room) {
        uint32_t room = chain.value_room * 2 + 16;
        JSValue *grown = heap_realloc(chain.values, (size_t)room * sizeof(JSValue));
        if (!grown) {
            JS_ThrowOutOfMemory(ctx);
            return report_exception(ctx);
        }
        chain.values = grown;
        chain.value_room = room;
    }
    chain.values[chain.value_count++] = value;
    return JOB_OK;
}

static uint32_t chain_call(JSContext *ctx, uint32_t stage, int argc, JSValueConst *argv, JSValue *result)
{
    mailbox_.stage = stage;
    bool pending;
    *result = settle(ctx, JS_Call(ctx, chain.stages[stage].function, JS_UNDEFINED, argc, argv), &pending);
    if (pending)
        return pending_status();
    return JS_IsException(*result) ? report_exception(ctx) : JOB_OK;
}

static uint32_t chain_refuse(JSContext *ctx, const char *format, JSValueConst value)
{
    JSAtom type = js_operator_typeof(ctx, value);
    const char *text = JS_IsNull(value) ? NULL : JS_AtomToCString(ctx, type);
    JS_ThrowTypeError(ctx, format, text ? text : "null");
    JS_FreeCString(ctx, text);
    return report_exception(ctx);
}

/* Add a number to the sum, or keep it if it is the new minimum or maximum. */
static uint32_t chain_take_number(JSContext *ctx, char operation, JSValue value)
{
    double number = 0, kept = 0;
    if (!JS_IsNumber(value))
        return chain_refuse(ctx, "the value is no number but %s", value);
    JS_ToFloat64(ctx, &number, value);
    if (!isfinite(number))
        return chain_refuse(ctx, "the value is NaN or infinite, not a finite %s", value);
    if (!chain.value_count)
        return chain_keep(ctx, value);
    JS_ToFloat64(ctx, &kept, chain.values[0]);
    if (operation == CHAIN_SUM && !isfinite(kept + number))
        return chain_refuse(ctx, "the sum is larger than any finite %s", value);
    chain.values[0] = operation == CHAIN_SUM                                    ? js_number(kept + number)
                      : (operation == CHAIN_MIN ? number < kept : number > kept) ? value
                                                                                 : chain.values[0];
    return JOB_OK;
}

/* Pass a value, which this takes over, through the stages from this one on. */
static uint32_t chain_pass(JSContext *ctx, uint32_t stage, JSValue value)
{
    for (; stage < chain.stage_count; stage++) {
        JSValue result, pair[2];
        uint32_t status;
        char operation = chain.stages[stage].operation;
        switch (operation) {
        case CHAIN_FOLD:
        case CHAIN_REDUCE:
            if (!chain.value_count)
                return chain_keep(ctx, value);
            pair[0] = chain.values[0], pair[1] = value;
            status = chain_call(ctx, stage, 2, vc(pair), &result);
            JS_FreeValue(ctx, pair[0]);
            JS_FreeValue(ctx, pair[1]);
            chain.values[0] = result;
            return status;
        case CHAIN_COUNT:
            JS_FreeValue(ctx, value);
            value = js_number(chain.value_count ? 1 + JS_VALUE_GET_INT(chain.values[0]) : 1);
            chain.value_count = 0;
            return chain_keep(ctx, value);
        case CHAIN_SUM:
        case CHAIN_MIN:
        case CHAIN_MAX:
            mailbox_.stage = stage;
            return chain_take_number(ctx, operation, value);
        }
        if ((status = chain_call(ctx, stage, 1, vc(&value), &result)) != JOB_OK)
            return status;
        if (operation == CHAIN_FILTER) {
            int keep = JS_ToBool(ctx, result);
            JS_FreeValue(ctx, result);
            if (!keep) {
                JS_FreeValue(ctx, value);
                return JOB_OK;
            }
            continue;
        }
        JS_FreeValue(ctx, value);
        value = result;
        if (operation != CHAIN_FLAT_MAP)
            continue;
        if (!JS_IsArray(value))
            return chain_refuse(ctx, "flat_map needs an array, and the function returned %s", value);
        int64_t length;
        if (js_get_length64(ctx, &length, value) < 0)
            return report_exception(ctx);
        for (int64_t i = 0; i < length; i++) {
            mailbox_.stage = stage;
            JSValue element = JS_GetPropertyInt64(ctx, value, i);
            status = JS_IsException(element) ? report_exception(ctx) : chain_pass(ctx, stage + 1, element);
            if (status != JOB_OK)
                return status;
        }
        JS_FreeValue(ctx, value);
        return JOB_OK;
    }
    return chain_keep(ctx, value);
}

/* Find the functions of all stages before any is called. */
static uint32_t chain_prepare(JSContext *ctx, const char *at, const char *end)
{
    for (uint32_t stage = 0; at < end; stage++) {
        char operation = *at++;
        const char *name = at;
        while (at < end && *at != CHAIN_MARK)
            at++;
        mailbox_.stage = stage;
        JSValue function = JS_UNDEFINED;
        if (at > name) {
            function = plugin_function(ctx, name, (size_t)(at - name));
            if (JS_IsException(function))
                return report_exception(ctx);
            if (!JS_IsFunction(ctx, function))
                return JOB_NO_FUNCTION;
        }
        chain.stages[stage] = (struct chain_stage){operation, function};
        chain.stage_count = stage + 1;
        at++;
    }
    return JOB_OK;
}

static uint32_t chain_pass_elements(JSContext *ctx, JSValueConst array)
{
    int64_t length;
    if (js_get_length64(ctx, &length, array) < 0)
        return report_exception(ctx);
    for (int64_t i = 0; i < length; i++) {
        uint32_t status = chain_pass(ctx, 0, JS_GetPropertyInt64(ctx, array, i));
        if (status != JOB_OK)
            return status;
    }
    return JOB_OK;
}

static uint32_t chain_pass_group(JSContext *ctx, JSValueConst group, bool seeded)
{
    int64_t length;
    uint32_t status = seeded ? chain_keep(ctx, JS_GetPropertyInt64(ctx, group, 0)) : JOB_OK;
    if (js_get_length64(ctx, &length, group) < 0)
        return report_exception(ctx);
    for (int64_t i = seeded; i < length && status == JOB_OK; i++) {
        mailbox_.item = (uint32_t)(i - seeded);
        JSValue array = JS_GetPropertyInt64(ctx, group, i);
        status = chain_pass_elements(ctx, array);
        JS_FreeValue(ctx, array);
    }
    return status;
}

/* Run the chain that the mailbox names on the document, which has the form that the source says. */
static uint32_t chain_run(JSContext *ctx, JSValueConst document)
{
    chain.stage_count = chain.value_count = 0;
    uint32_t status = chain_prepare(ctx, mailbox_.name + 2, mailbox_.name + mailbox_.name_len);
    if (status != JOB_OK)
        return status;
    mailbox_.stage = 0;
    switch (mailbox_.name[1]) {
    case CHAIN_VALUES: return chain_pass_elements(ctx, document);
    case CHAIN_GROUP: return chain_pass_group(ctx, document, false);
    case CHAIN_SEEDED_GROUP: return chain_pass_group(ctx, document, true);
    default: return chain_pass(ctx, 0, js_dup(document));
    }
}

/* Write what came out as a JSON array, which no array object of the plugin's realm holds. As json_write, never 0. */
static int chain_write(JSContext *ctx, struct writer *w, uint32_t limit)
{
    writer_begin(w, ctx, limit);
    int result = output_put(ctx, &w->out, "[", 1) ? 1 : -1;
    for (uint32_t i = 0; i < chain.value_count && result > 0; i++) {
        struct write_key key = {JS_ATOM_NULL, i};
        result = !i || output_put(ctx, &w->out, ",", 1) ? write_value(w, chain.values[i], key) : -1;
        if (result == 0)
            result = output_put(ctx, &w->out, "null", 4) ? 1 : -1;
    }
    if (result > 0 && !output_put(ctx, &w->out, "]", 1))
        result = -1;
    return writer_end(w, result);
}
