/* Loading a plugin, which is a script or an ES module without imports, and finding its functions.
 *
 * Needs: host.inc.c, report.inc.c; `interrupted` of engine.c; from QuickJS eval_internal and global variables.
 * Gives: plugin_namespace, plugin_configure, plugin_load, plugin_function; settle and pending_status for results that are promises. */

static JSValue plugin_namespace;             /* a module's exports; undefined for a script */

/* Run the jobs of promises until `value`, if it is a promise, has settled; return its result or throw its reason. */
static JSValue settle(JSContext *ctx, JSValue value, bool *pending)
{
    *pending = false;
    while (JS_PromiseState(ctx, value) == JS_PROMISE_PENDING) {
        JSContext *job_ctx;
        int ran = JS_ExecutePendingJob(ctx->rt, &job_ctx);
        if (ran < 0 && interrupted) {
            JS_FreeValue(ctx, value);
            return JS_EXCEPTION;
        }
        if (ran == 0) {
            JS_FreeValue(ctx, value);
            *pending = true;
            return JS_UNDEFINED;
        }
    }
    int state = JS_PromiseState(ctx, value);
    if (state != JS_PROMISE_FULFILLED && state != JS_PROMISE_REJECTED)
        return value;
    JSValue result = JS_PromiseResult(ctx, value);
    JS_FreeValue(ctx, value);
    return state == JS_PROMISE_FULFILLED ? result : JS_Throw(ctx, result);
}

/* The status of a promise that can never settle: the plugin's fault, unless the promise's job was refused memory. */
static uint32_t pending_status(void) { return mailbox_.memory_wanted ? JOB_OUT_OF_MEMORY : JOB_PENDING; }

static bool plugin_may_eval = true;

/* What the engine calls in place of its compiler once a plugin that may not make code of strings has been compiled. */
static JSValue eval_refused(JSContext *ctx, JSValueConst self, const char *input, size_t input_len, const char *filename, int line,
                            int flags, int scope_idx)
{
    (void)self, (void)input, (void)input_len, (void)filename, (void)line, (void)flags, (void)scope_idx;
    return JS_Throw(ctx, JS_MakeError2(ctx, JS_EVAL_ERROR, true,
                                       "this plugin may not make code of strings: eval and Function are switched off"));
}

/* Take in the options of the plugin that is loaded next: [whether it may make code of strings, host function's name, ...]. */
static uint32_t plugin_configure(JSContext *ctx, JSValueConst options)
{
    JSValue may_eval = JS_GetPropertyUint32(ctx, options, 0);
    plugin_may_eval = JS_ToBool(ctx, may_eval);
    JS_FreeValue(ctx, may_eval);
    return host_install(ctx, options, 1) < 0 ? report_exception(ctx) : JOB_OK;
}

static JSValue plugin_compile(JSContext *ctx, const char *source, size_t len, const char *file, int type)
{
    return JS_Eval(ctx, source, len, file, type | JS_EVAL_FLAG_COMPILE_ONLY);
}

/* How far into the source a syntax error lies: line and column, as the engine writes them in the stack after the file's name,
 * "    at FILE:LINE:COLUMN", as one number to compare. */
static uint64_t error_place(JSContext *ctx, JSValueConst error, const char *file)
{
    JSValue stack = JS_GetProperty(ctx, error, JS_ATOM_stack);
    const char *text = JS_IsString(stack) ? JS_ToCString(ctx, stack) : NULL;
    uint64_t place = 0;
    size_t skip = strlen("    at ") + strlen(file) + 1;
    if (text && strlen(text) > skip) {
        char *end;
        place = (uint64_t)strtoul(text + skip, &end, 10) << 32;
        if (*end == ':')
            place |= strtoul(end + 1, NULL, 10);
    }
    JS_FreeCString(ctx, text);
    JS_FreeValue(ctx, stack);
    return place;
}

/* Whether a module compiled but imports something: there is nothing to import from. */
static bool import_failed(JSContext *ctx, JSValueConst error)
{
    JSValue proto = JS_GetPrototype(ctx, error);
    bool failed = JS_IsObject(proto) &&
                  JS_VALUE_GET_PTR(proto) == JS_VALUE_GET_PTR(ctx->native_error_proto[JS_REFERENCE_ERROR]);
    JS_FreeValue(ctx, proto);
    return failed;
}

/* Compile as a script and, if that fails, as a module. If both fail, the error that lies further into the source is the
 * plugin's: the other one only says that this is not that kind of source. An import that fails is a module's. */
static JSValue plugin_compile_auto(JSContext *ctx, const char *source, size_t len, const char *file)
{
    JSValue code = plugin_compile(ctx, source, len, file, JS_EVAL_TYPE_GLOBAL);
    if (!JS_IsException(code))
        return code;
    JSValue script_error = JS_GetException(ctx);
    code = plugin_compile(ctx, source, len, file, JS_EVAL_TYPE_MODULE);
    if (JS_IsException(code)) {
        JSValue module_error = JS_GetException(ctx);
        bool module_further = !interrupted && (import_failed(ctx, module_error) ||
                                               error_place(ctx, module_error, file) > error_place(ctx, script_error, file));
        JS_Throw(ctx, module_further ? module_error : script_error);
        JS_FreeValue(ctx, module_further ? script_error : module_error);
        return code;
    }
    JS_FreeValue(ctx, script_error);
    return code;
}

static uint32_t plugin_load(JSContext *ctx, const char *source, size_t len, const char *file, uint32_t kind)
{
    ctx->eval_internal = __JS_EvalInternal;
    JSValue code = kind == LOAD_AUTO ? plugin_compile_auto(ctx, source, len, file)
                                     : plugin_compile(ctx, source, len, file,
                                                      kind == LOAD_MODULE ? JS_EVAL_TYPE_MODULE : JS_EVAL_TYPE_GLOBAL);
    if (!plugin_may_eval)
        ctx->eval_internal = eval_refused;
    if (JS_IsException(code))
        return report_exception(ctx);
    JSModuleDef *module = JS_VALUE_GET_TAG(code) == JS_TAG_MODULE ? JS_VALUE_GET_PTR(code) : NULL;
    bool pending;
    JSValue result = settle(ctx, JS_EvalFunction(ctx, code), &pending);
    if (JS_IsException(result))
        return report_exception(ctx);
    JS_FreeValue(ctx, result);
    if (pending)
        return pending_status();
    if (module) {
        plugin_namespace = JS_GetModuleNamespace(ctx, module);
        if (JS_IsException(plugin_namespace))
            return report_exception(ctx);
    }
    return JOB_OK;
}

/* The plugin's function of that name: an export of a module; a global, or a top-level const or let, of a script. */
static JSValue plugin_function(JSContext *ctx, const char *name, size_t len)
{
    JSAtom atom = JS_NewAtomLen(ctx, name, len);
    if (atom == JS_ATOM_NULL)
        return JS_EXCEPTION;
    JSValue function = JS_IsUndefined(plugin_namespace) ? JS_GetGlobalVar(ctx, atom, false)
                                                        : JS_GetProperty(ctx, plugin_namespace, atom);
    JS_FreeAtom(ctx, atom);
    return function;
}
