/* Objects and arrays of values that have been read, each made in one step. */
#ifndef PEXEC_JSON_BUILD_H
#define PEXEC_JSON_BUILD_H

/* An object of `shape` with these values, which it takes over. */
static inline JSValue make_object(JSContext *ctx, JSShape *shape, const JSValue *values, uint32_t count)
{
    JSRuntime *rt = ctx->rt;
    js_trigger_gc(rt, sizeof(JSObject));
    JSObject *p = js_malloc_rt(rt, sizeof(JSObject));
    if (unlikely(!p))
        return JS_EXCEPTION;
    JSProperty *properties = js_malloc_rt(rt, sizeof(JSProperty) * (size_t)shape->prop_size);
    if (unlikely(!properties)) {
        js_free_rt(rt, p);
        return JS_EXCEPTION;
    }
    memset((char *)p + sizeof(p->header), 0, offsetof(JSObject, u) - sizeof(p->header));
    p->class_id = JS_CLASS_OBJECT;
    p->extensible = true;
    p->shape = js_dup_shape(shape);
    p->prop = properties;
    p->u.opaque = NULL;
    _Static_assert(sizeof(JSProperty) == sizeof(JSValue), "a property is copied as a value");
    for (uint32_t i = 0; i < count; i++)
        properties[i].u.value = values[i];
    JS_REF_COUNT(p) = 1;
    add_gc_object(rt, &p->header, JS_GC_OBJ_TYPE_JS_OBJECT);
    return JS_MKPTR(JS_TAG_OBJECT, p);
}

static inline JSValue make_array(JSContext *ctx, const JSValue *values, uint32_t count)
{
    if (count == 0)
        return JS_NewArray(ctx);
    JSRuntime *rt = ctx->rt;
    JSValue *items = js_malloc_rt(rt, sizeof(JSValue) * count);
    if (unlikely(!items))
        return JS_EXCEPTION;
    JSValue array = make_object(ctx, ctx->array_shape, NULL, 0);
    if (unlikely(JS_IsException(array))) {
        js_free_rt(rt, items);
        return JS_EXCEPTION;
    }
    JSObject *p = JS_VALUE_GET_OBJ(array);
    p->class_id = JS_CLASS_ARRAY;
    p->is_exotic = p->fast_array = true;
    memcpy(items, values, sizeof(JSValue) * count);
    p->u.array.u.values = items;
    p->u.array.u1.size = count;
    p->u.array.count = count;
    p->prop[0].u.value = js_int32((int32_t)count);
    return array;
}

/* An object of these keys and values, all of which it takes over; what was learnt is updated. */
static no_inline JSValue make_general_object(JSContext *ctx, uint16_t place, const struct json_key *keys, const JSValue *values,
                                             uint32_t count)
{
    JSObject *proto = JS_VALUE_GET_OBJ(ctx->class_proto[JS_CLASS_OBJECT]);
    JSRuntime *rt = ctx->rt;
    /* The engine lets its table of shapes grow with new prototypes only; thousands of shapes would be chains in 64 buckets. */
    if (unlikely(rt->shape_hash_count >= rt->shape_hash_size))
        resize_shape_hash(rt, rt->shape_hash_bits + 1);
    JSShape *shape = shape_find(ctx, proto, keys, count);
    JSValue object;
    if (shape) {
        object = make_object(ctx, shape, values, count);
        if (JS_IsException(object))
            for (uint32_t i = 0; i < count; i++)
                JS_FreeValue(ctx, values[i]);
    } else {
        object = JS_NewObject(ctx);
        for (uint32_t i = 0; i < count; i++) {
            if (JS_IsException(object)) {
                JS_FreeValue(ctx, values[i]);
            } else if (JS_DefinePropertyValue(ctx, object, keys[i].atom, values[i], JS_PROP_C_W_E) < 0) {
                JS_FreeValue(ctx, object);
                JS_FreeValue(ctx, JS_GetException(ctx));
                object = JS_EXCEPTION;
            }
        }
        if (!JS_IsException(object))
            shape = JS_VALUE_GET_OBJ(object)->shape;
    }
    if (!JS_IsException(object) && place != NO_PLACE) {
        if (place_is_open(place))
            place_learn(ctx, place, shape, keys, count);
        else
            learnt.places[place].misses++;
    }
    for (uint32_t i = 0; i < count; i++)
        JS_FreeAtom(ctx, keys[i].atom);
    return object;
}

#endif
