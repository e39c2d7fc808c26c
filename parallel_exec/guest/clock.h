/* performance.timeOrigin: the engine makes it a value, which the image would keep; a job's clock starts with the job. */
#ifndef PEXEC_CLOCK_H
#define PEXEC_CLOCK_H

static JSValue clock_time_origin(JSContext *ctx, JSValueConst self)
{
    (void)self;
    return js_float64(ctx->time_origin);
}

static int clock_install(JSContext *ctx)
{
    static const JSCFunctionListEntry origin[] = {JS_CGETSET_DEF("timeOrigin", clock_time_origin, NULL)};
    JSValue performance = JS_GetPropertyStr(ctx, ctx->global_obj, "performance");
    int result = -1;
    if (!JS_IsException(performance)) {
        JSAtom name = JS_NewAtom(ctx, "timeOrigin");
        JS_DeleteProperty(ctx, performance, name, 0);
        JS_FreeAtom(ctx, name);
        result = JS_SetPropertyFunctionList(ctx, performance, origin, countof(origin));
    }
    JS_FreeValue(ctx, performance);
    return result;
}

#endif
