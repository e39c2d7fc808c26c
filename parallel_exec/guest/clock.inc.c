/* `performance`. QuickJS's own stores the moment at which the context was made as a value, which would be part of the image. Here the
 * clock is the job's, and stands still.
 *
 * Needs: mailbox.h (time_ms).
 * Gives: clock_install. */

static JSValue clock_now(JSContext *ctx, JSValueConst self, int argc, JSValueConst *argv)
{
    (void)ctx, (void)self, (void)argc, (void)argv;
    return js_int32(0);
}

static JSValue clock_time_origin(JSContext *ctx, JSValueConst self)
{
    (void)ctx, (void)self;
    return js_float64(mailbox_.time_ms);
}

static int clock_install(JSContext *ctx)
{
    static const JSCFunctionListEntry members[] = {
        JS_CFUNC_DEF2("now", 0, clock_now, JS_PROP_ENUMERABLE),
        JS_CGETSET_DEF2("timeOrigin", clock_time_origin, NULL, JS_PROP_ENUMERABLE),
    };
    JSValue performance = JS_NewObject(ctx);
    if (JS_IsException(performance) || JS_SetPropertyFunctionList(ctx, performance, members, countof(members)) < 0)
        return -1;
    return JS_DefinePropertyValueStr(ctx, ctx->global_obj, "performance", performance,
                                     JS_PROP_WRITABLE | JS_PROP_ENUMERABLE | JS_PROP_CONFIGURABLE);
}
