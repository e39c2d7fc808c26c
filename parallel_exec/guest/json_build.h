/* Objects and arrays of values that have been read, each made in one step. */
#ifndef PEXEC_JSON_BUILD_H
#define PEXEC_JSON_BUILD_H

/* What js_malloc_rt gives, without its calls if an arena has a block of the size. The engine's own memory limit is not used. */
static inline void *block_take(JSRuntime *rt, uint32_t size)
{
    uint32_t total = ((size + JS_ARENA_ALIGN - 1) & ~(JS_ARENA_ALIGN - 1u)) + (uint32_t)sizeof(JSMallocBlockHeader);
    if (JS_ARENA_LARGE_BLOCKS_ONLY || unlikely(total > 128))
        return js_malloc_rt(rt, size);
    struct list_head *arenas = &rt->arena_state.free_arena_list[total / JS_ARENA_ALIGN - 2], *first = arenas->next;
    if (unlikely(first == arenas))
        return js_malloc_rt(rt, size);
    JSArena *arena = list_entry(first, JSArena, free_link);
    uint16_t number = arena->first_free_block;
    JSMallocBlockHeader *block = arena_get_block(arena, number, total);
    arena->first_free_block = block->u.free_next;
    block->u.block_idx = number;
    if (unlikely(++arena->n_used_blocks == arena->n_blocks))
        list_del(&arena->free_link);
    rt->malloc_state.malloc_count++;
    rt->malloc_state.malloc_size += total - sizeof(JSMallocBlockHeader) + MALLOC_OVERHEAD;
    return block->user_data;
}

/* memcpy of an unknown length is a call out of the sandbox's code, which for the few values of most objects takes longer than
 * their making. */
static inline void copy_values(JSValue *to, const JSValue *from, uint32_t count)
{
    if (unlikely(count > 32)) {
        memcpy(to, from, sizeof(JSValue) * count);
        return;
    }
    for (uint32_t i = 0; i < count; i++) {
        to[i] = from[i];
        __asm__("" : "+r"(i));               /* or the compiler makes it a memcpy */
    }
}

/* An object of `shape` whose properties have no values yet; NULL if there is no memory. */
static inline JSObject *object_take(JSRuntime *rt, JSShape *shape, JSClassID class_id)
{
    js_trigger_gc(rt, sizeof(JSObject));
    JSObject *p = block_take(rt, sizeof(JSObject));
    if (unlikely(!p))
        return NULL;
    JSProperty *properties = block_take(rt, sizeof(JSProperty) * (uint32_t)shape->prop_size);
    if (unlikely(!properties)) {
        js_free_rt(rt, p);
        return NULL;
    }
    memset((char *)p + sizeof(p->header), 0, offsetof(JSObject, u) - sizeof(p->header));
    p->class_id = class_id;
    p->extensible = true;
    p->shape = js_dup_shape(shape);
    p->prop = properties;
    p->u.opaque = NULL;
    JS_REF_COUNT(p) = 1;
    add_gc_object(rt, &p->header, JS_GC_OBJ_TYPE_JS_OBJECT);
    return p;
}

/* An object of `shape` with these values, which it takes over. */
static inline JSValue make_object(JSContext *ctx, JSShape *shape, const JSValue *values, uint32_t count)
{
    JSObject *p = object_take(ctx->rt, shape, JS_CLASS_OBJECT);
    if (unlikely(!p))
        return JS_EXCEPTION;
    _Static_assert(sizeof(JSProperty) == sizeof(JSValue), "a property is copied as a value");
    copy_values((JSValue *)p->prop, values, count);
    return JS_MKPTR(JS_TAG_OBJECT, p);
}

static inline JSValue make_array(JSContext *ctx, const JSValue *values, uint32_t count)
{
    if (count == 0)
        return JS_NewArray(ctx);
    JSRuntime *rt = ctx->rt;
    JSValue *items = block_take(rt, sizeof(JSValue) * count);
    if (unlikely(!items))
        return JS_EXCEPTION;
    JSObject *p = object_take(rt, ctx->array_shape, JS_CLASS_ARRAY);
    if (unlikely(!p)) {
        js_free_rt(rt, items);
        return JS_EXCEPTION;
    }
    p->is_exotic = p->fast_array = true;
    copy_values(items, values, count);
    p->u.array.u.values = items;
    p->u.array.u1.size = count;
    p->u.array.count = count;
    p->prop[0].u.value = js_int32((int32_t)count);
    return JS_MKPTR(JS_TAG_OBJECT, p);
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
