/* Values to JSON text, with exactly the result and the side effects of JSON.stringify(value).
 *
 * Nearly everything is plain: objects and arrays that came from JSON or from a literal. Of these no property is looked up by name:
 * the text of an object's keys is kept per shape, and values are taken from where they are stored. Everything else (accessors,
 * proxies, toJSON, boxed primitives, other prototypes) goes through QuickJS, step by step as ECMA-262 25.5.4 has it. There the
 * plugin's code may run and change anything, even the object being written; so nothing that was checked before such a step is
 * relied upon after it.
 *
 * Needs: output.inc.c, number.inc.c; POLL_EVERY and POLL_BYTES of reader.inc.c; allocator.inc.c; on_interrupt of engine.c; from
 * QuickJS shapes, the layout of objects and arrays, and js_check_call_overflow, which patches/stack.patch adds.
 * Gives: json_write; struct writer, writer_begin, write_value and writer_end for a caller that writes several values. */

#define SHAPE_TEXTS 128                      /* entries: 32 times SHAPE_TEXT_WAYS */
#define SHAPE_TEXT_WAYS 4                    /* entries in which a shape may be, */
#define SHAPE_TEXT_SHIFT 27                  /* and which, the upper bits of its address's hash tell */
#define SHAPE_TEXT_PROPERTIES 256            /* shapes with more properties are written without it */

/* The texts of a shape's keys: property i is preceded by text[ends[i-1]] to text[ends[i]], which is `,"key":`. An entry without a
 * text only records that the shape was met: most shapes of an irregular document are met once. */
struct shape_text {
    JSShape *shape;                          /* owned if there is a text, so that its address cannot be reused */
    uint8_t *text;
    uint32_t *ends;
};

static struct shape_text shape_texts[SHAPE_TEXTS];

static void shape_text_drop(JSContext *ctx, struct shape_text *entry)
{
    if (entry->text) {
        heap_free(entry->text);
        heap_free(entry->ends);
        js_free_shape(ctx->rt, entry->shape);
    }
    memset(entry, 0, sizeof(*entry));
}

/* The key as it stands after another property, with its comma. */
static bool put_key(JSContext *ctx, struct output *out, JSAtom atom)
{
    return output_put(ctx, out, ",", 1) && put_quoted(ctx, out, ctx->rt->atom_array[atom]) && output_put(ctx, out, ":", 1);
}

static void shape_text_build(JSContext *ctx, struct shape_text *entry, JSShape *shape)
{
    struct output out = {.limit = 1u << 20};
    uint32_t *ends = heap_alloc(sizeof(uint32_t) * (size_t)(shape->prop_count + 1));
    bool good = ends != NULL;
    const JSShapeProperty *property = get_shape_prop(shape);
    for (int i = 0; i < shape->prop_count && good; i++, property++) {
        good = put_key(ctx, &out, property->atom);
        ends[i] = out.len;
    }
    if (!good) {
        JS_FreeValue(ctx, JS_GetException(ctx));
        heap_free(out.text);
        heap_free(ends);
        return;
    }
    shape_text_drop(ctx, entry);
    *entry = (struct shape_text){js_dup_shape(shape), out.text, ends};
}

/* Whether all objects of a shape are plain: no other prototype, no property that is hidden or an accessor, no symbol, no
 * integer-like key (those are ordered first), and no toJSON. */
static bool shape_is_plain(JSContext *ctx, JSShape *shape)
{
    if (!shape->is_hashed || shape->proto != JS_VALUE_GET_OBJ(ctx->class_proto[JS_CLASS_OBJECT]) ||
        shape->prop_count > SHAPE_TEXT_PROPERTIES)
        return false;
    const JSShapeProperty *property = get_shape_prop(shape);
    for (int i = 0; i < shape->prop_count; i++, property++) {
        JSAtom atom = property->atom;
        if ((property->flags & (JS_PROP_TMASK | JS_PROP_ENUMERABLE)) != JS_PROP_ENUMERABLE || atom == JS_ATOM_toJSON ||
            atom == JS_ATOM_NULL || __JS_AtomIsTaggedInt(atom))
            return false;
        const JSAtomStruct *name = ctx->rt->atom_array[atom];
        if (name->atom_type != JS_ATOM_TYPE_STRING)
            return false;
        /* Only what begins with a digit can be an integer. */
        uint32_t first = name->len == 0 ? 0 : name->is_wide_char ? str16((JSString *)name)[0] : str8((JSString *)name)[0];
        if (first - '0' <= 9 && JS_AtomIsArrayIndex(ctx, &(uint32_t){0}, atom))
            return false;
    }
    return true;
}

/* The key texts of a plain shape, or an entry without them at its first meeting. */
static no_inline struct shape_text *shape_text_meet(JSContext *ctx, JSShape *shape, struct shape_text *ways)
{
    for (uint32_t i = 0; i < SHAPE_TEXT_WAYS; i++)
        if (ways[i].shape == shape) {        /* met before, or another was at this address */
            if (shape->prop_count)
                shape_text_build(ctx, &ways[i], shape);
            return &ways[i];
        }
    uint32_t chosen = SHAPE_TEXT_WAYS - 1;
    for (uint32_t i = 0; i < SHAPE_TEXT_WAYS; i++)
        if (!ways[i].text)
            chosen = i;
    shape_text_drop(ctx, &ways[chosen]);
    ways[chosen].shape = shape;
    return &ways[chosen];
}

/* The entry of a plain shape, or NULL if objects of this shape are not plain. */
static inline struct shape_text *shape_text_of(JSContext *ctx, JSShape *shape)
{
    struct shape_text *ways = &shape_texts[((uintptr_t)shape * 0x9e3779b1u >> SHAPE_TEXT_SHIFT) * SHAPE_TEXT_WAYS];
    for (uint32_t i = 0; i < SHAPE_TEXT_WAYS; i++)
        if (likely(ways[i].shape == shape && ways[i].text))
            return &ways[i];
    return shape_is_plain(ctx, shape) ? shape_text_meet(ctx, shape, ways) : NULL;
}

struct writer {
    JSContext *ctx;
    struct output out;
    JSObject **ancestors;                    /* the objects that enclose the one being written */
    uint32_t depth, ancestor_room;
    uint32_t until_poll;
    bool plain;                              /* neither Object.prototype nor Array.prototype has a toJSON */
};

/* Under which key a value stands: what its toJSON is told. */
struct write_key {
    JSAtom atom;                             /* JS_ATOM_NULL for an array's element */
    int64_t index;
};

/* 1: written. 0: undefined, a function or a symbol, nothing written. -1: an exception is pending, or the output is too large. */
static int write_value(struct writer *w, JSValueConst value, struct write_key key);

/* What is no scalar, after writer_step. */
static int write_other(struct writer *w, JSValueConst value, struct write_key key);

static bool has_to_json(JSContext *ctx, JSClassID class_id)
{
    JSObject *proto = JS_VALUE_GET_OBJ(ctx->class_proto[class_id]);
    return find_own_property1(proto, JS_ATOM_toJSON) != NULL;
}

/* Check again what the fast paths rely on; due after any step that can run the plugin's code. */
static void writer_look(struct writer *w)
{
    JSContext *ctx = w->ctx;
    JSObject *array_proto = JS_VALUE_GET_OBJ(ctx->class_proto[JS_CLASS_ARRAY]);
    w->plain = !has_to_json(ctx, JS_CLASS_OBJECT) && !has_to_json(ctx, JS_CLASS_ARRAY) &&
               array_proto->shape->proto == JS_VALUE_GET_OBJ(ctx->class_proto[JS_CLASS_OBJECT]);
}

/* Enter an object. False, with an exception pending, if it encloses itself or the nesting is too deep. */
static bool writer_enter(struct writer *w, JSObject *object)
{
    /* A level takes about as much of either stack as a call does: 192 bytes of this one. */
    if (js_check_call_overflow(w->ctx->rt, 0)) {
        JS_ThrowStackOverflow(w->ctx);
        return false;
    }
    bool inside = false;
    for (uint32_t i = 0; i < w->depth; i++)
        inside |= w->ancestors[i] == object; /* no early exit, so that it becomes vector code */
    if (unlikely(inside)) {
        JS_ThrowTypeError(w->ctx, "circular reference");
        return false;
    }
    if (unlikely(w->depth >= w->ancestor_room)) {
        uint32_t room = w->ancestor_room * 2 + 32;
        JSObject **grown = heap_realloc(w->ancestors, room * sizeof(JSObject *));
        if (!grown) {
            JS_ThrowOutOfMemory(w->ctx);
            return false;
        }
        w->ancestors = grown;
        w->ancestor_room = room;
    }
    w->ancestors[w->depth++] = object;
    return true;
}

static bool writer_poll(struct writer *w)
{
    w->until_poll = POLL_EVERY;
    if (on_interrupt(w->ctx->rt, NULL)) {
        JS_ThrowInterrupted(w->ctx);
        return false;
    }
    return true;
}

/* What precedes every value: looks at the deadline and at the output's limit, and room for a number. */
static inline bool writer_step(struct writer *w)
{
    if (unlikely(--w->until_poll == 0) && !writer_poll(w))
        return false;
    if (unlikely(w->out.len > w->out.limit)) {
        w->out.too_large = true;
        return false;
    }
    return output_reserve(w->ctx, &w->out, NUMBER_TEXT_MAX);
}

/* As write_value, for a value whose writing runs no code of the plugin's; MAYBE_CODE for any other. */
#define MAYBE_CODE 2
static inline int write_scalar(struct writer *w, JSValueConst value)
{
    JSContext *ctx = w->ctx;
    struct output *out = &w->out;
    int tag = JS_VALUE_GET_NORM_TAG(value);
    /* An if-chain, the common cases first: a switch is a jump through a table, which takes longer than all these tests. */
    if (tag == JS_TAG_FLOAT64) {
        double number = JS_VALUE_GET_FLOAT64(value);
        if (unlikely(!isfinite(number)))
            return output_put(ctx, out, "null", 4) ? 1 : -1;
        out->len = (uint32_t)(write_double(out->text + out->len, number) - out->text);
        return 1;
    }
    if (tag == JS_TAG_INT) {
        out->len = (uint32_t)(write_int32(out->text + out->len, JS_VALUE_GET_INT(value)) - out->text);
        return 1;
    }
    if (tag == JS_TAG_STRING)
        return put_quoted(ctx, out, JS_VALUE_GET_STRING(value)) ? 1 : -1;
    if (tag == JS_TAG_BOOL) {
        memcpy(out->text + out->len, JS_VALUE_GET_BOOL(value) ? "true" : "false", 5);
        out->len += JS_VALUE_GET_BOOL(value) ? 4 : 5;
        return 1;
    }
    if (tag == JS_TAG_NULL) {
        memcpy(out->text + out->len, "null", 4);
        out->len += 4;
        return 1;
    }
    return MAYBE_CODE;
}

/* A property's value or an array's element, from where it lies. */
static inline int write_member(struct writer *w, JSValueConst value, struct write_key key)
{
    if (unlikely(!writer_step(w)))
        return -1;
    int written = write_scalar(w, value);
    if (likely(written != MAYBE_CODE))
        return written;
    JSValue held = js_dup(value);            /* code may take it away meanwhile */
    written = write_other(w, held, key);
    JS_FreeValue(w->ctx, held);
    return written;
}

/* A plain object. The entry of its shape may be reused for another one meanwhile. */
static int write_plain_object(struct writer *w, JSObject *object, const struct shape_text *texts)
{
    JSContext *ctx = w->ctx;
    /* Held, with its atoms: the plugin's code can run between two properties. */
    JSShape *shape = js_dup_shape(texts->shape);
    uint32_t start = w->out.len;
    int count = shape->prop_count, result = -1;
    if (!writer_enter(w, object))
        goto done;
    for (int i = 0; i < count; i++) {
        uint32_t mark = w->out.len;
        if (likely(texts->shape == shape && texts->text)) {
            uint32_t from = i ? texts->ends[i - 1] : 0, len = texts->ends[i] - from;
            if (unlikely(!output_put_from_heap(ctx, &w->out, texts->text + from, len)))
                goto leave;
        } else if (!put_key(ctx, &w->out, get_shape_prop(shape)[i].atom)) {
            goto leave;
        }
        struct write_key key = {get_shape_prop(shape)[i].atom, 0};
        int written;
        if (likely(object->shape == shape)) {
            written = write_member(w, object->prop[i].u.value, key);
        } else {                             /* the plugin has changed the object meanwhile */
            JSValue value = JS_GetProperty(ctx, JS_MKPTR(JS_TAG_OBJECT, object), key.atom);
            writer_look(w);
            written = JS_IsException(value) ? -1 : write_value(w, value, key);
            JS_FreeValue(ctx, value);
        }
        if (unlikely(written <= 0)) {
            if (written < 0)
                goto leave;
            w->out.len = mark;
        }
    }
    if (unlikely(!output_reserve(ctx, &w->out, 2)))
        goto leave;
    if (w->out.len == start)
        w->out.len++;
    w->out.text[start] = '{';                /* over the first comma */
    w->out.text[w->out.len++] = '}';
    result = 1;
leave:
    w->depth--;
done:
    js_free_shape(ctx->rt, shape);
    return result;
}

/* An array, or a proxy for one: `object` is the value to read from. Elements of a fast array are taken from where they lie. */
static int write_array(struct writer *w, JSValueConst value)
{
    JSContext *ctx = w->ctx;
    JSObject *object = JS_VALUE_GET_OBJ(value);
    int64_t length;
    if (!writer_enter(w, object))
        return -1;
    if (likely(object->class_id == JS_CLASS_ARRAY && JS_VALUE_GET_TAG(object->prop[0].u.value) == JS_TAG_INT))
        length = JS_VALUE_GET_INT(object->prop[0].u.value);
    else if (js_get_length64(ctx, &length, value))
        goto failed;
    if (!output_put(ctx, &w->out, "[", 1))
        goto failed;
    if (object->class_id != JS_CLASS_ARRAY)
        writer_look(w);
    for (int64_t i = 0; i < length; i++) {
        if (unlikely(!output_reserve(ctx, &w->out, 8)))
            goto failed;
        if (i)
            w->out.text[w->out.len++] = ',';
        struct write_key key = {JS_ATOM_NULL, i};
        int written;
        if (likely(object->class_id == JS_CLASS_ARRAY && object->fast_array && i < object->u.array.count)) {
            written = write_member(w, object->u.array.u.values[i], key);
        } else {
            JSValue element = JS_GetPropertyInt64(ctx, value, i);
            writer_look(w);
            written = JS_IsException(element) ? -1 : write_value(w, element, key);
            JS_FreeValue(ctx, element);
        }
        if (unlikely(written <= 0) && (written < 0 || !output_put(ctx, &w->out, "null", 4)))
            goto failed;
    }
    w->depth--;
    return output_put(ctx, &w->out, "]", 1) ? 1 : -1;
failed:
    w->depth--;
    return -1;
}

/* Any other object: its enumerable string keys as they are now, each value got when its turn comes. */
static int write_any_object(struct writer *w, JSValueConst value)
{
    JSContext *ctx = w->ctx;
    JSPropertyEnum *keys = NULL;
    uint32_t count = 0;
    int result = -1;
    bool first = true;
    if (!writer_enter(w, JS_VALUE_GET_OBJ(value)))
        return -1;
    if (JS_GetOwnPropertyNames(ctx, &keys, &count, value, JS_GPN_STRING_MASK | JS_GPN_ENUM_ONLY) < 0)
        goto done;
    if (!output_put(ctx, &w->out, "{", 1))
        goto done;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t mark = w->out.len;
        JSValue name = JS_AtomToString(ctx, keys[i].atom);
        bool good = !JS_IsException(name) && (first || output_put(ctx, &w->out, ",", 1)) &&
                    put_quoted(ctx, &w->out, JS_VALUE_GET_STRING(name)) && output_put(ctx, &w->out, ":", 1);
        JS_FreeValue(ctx, name);
        if (!good)
            goto done;
        JSValue member = JS_GetProperty(ctx, value, keys[i].atom);
        writer_look(w);
        int written = JS_IsException(member) ? -1 : write_value(w, member, (struct write_key){keys[i].atom, 0});
        JS_FreeValue(ctx, member);
        if (written < 0)
            goto done;
        if (written)
            first = false;
        else
            w->out.len = mark;
    }
    result = output_put(ctx, &w->out, "}", 1) ? 1 : -1;
done:
    js_free_prop_enum(ctx, keys, count);
    w->depth--;
    return result;
}

static JSValue key_text_value(JSContext *ctx, struct write_key key)
{
    return key.atom == JS_ATOM_NULL ? JS_ToStringFree(ctx, js_int64(key.index)) : JS_AtomToString(ctx, key.atom);
}

/* The value after its toJSON, if it has one; takes `value` over. */
static JSValue apply_to_json(struct writer *w, JSValue value, struct write_key key)
{
    JSContext *ctx = w->ctx;
    JSValue method = JS_GetProperty(ctx, value, JS_ATOM_toJSON);
    if (JS_IsFunction(ctx, method)) {
        JSValue name = key_text_value(ctx, key);
        JSValue result = JS_IsException(name) ? JS_EXCEPTION : JS_Call(ctx, method, value, 1, vc(&name));
        JS_FreeValue(ctx, name);
        JS_FreeValue(ctx, value);
        value = result;
    } else if (JS_IsException(method)) {
        JS_FreeValue(ctx, value);
        value = JS_EXCEPTION;
    }
    JS_FreeValue(ctx, method);
    writer_look(w);
    return value;
}

/* An object that is not known to be plain, or a BigInt. */
static no_inline int write_unusual(struct writer *w, JSValueConst original, struct write_key key)
{
    JSContext *ctx = w->ctx;
    JSValue value = apply_to_json(w, js_dup(original), key);
    int result = -1;
    if (JS_IsObject(value)) {
        JSObject *object = JS_VALUE_GET_OBJ(value);
        switch (object->class_id) {
        case JS_CLASS_NUMBER: value = JS_ToNumberFree(ctx, value); break;
        case JS_CLASS_STRING: value = JS_ToStringFree(ctx, value); break;
        case JS_CLASS_BOOLEAN:
        case JS_CLASS_BIG_INT: set_value(ctx, &value, js_dup(object->u.object_data)); break;
        case JS_CLASS_RAWJSON: {
            JSValue raw = JS_GetProperty(ctx, value, JS_ATOM_rawJSON);
            size_t len;
            const char *text = JS_IsException(raw) ? NULL : JS_ToCStringLen(ctx, &len, raw);
            if (text && output_put(ctx, &w->out, text, (uint32_t)len))
                result = 1;
            JS_FreeCString(ctx, text);
            JS_FreeValue(ctx, raw);
            JS_FreeValue(ctx, value);
            return result;
        }
        default: {
            int array = JS_IsFunction(ctx, value) ? 0 : js_is_array(ctx, value);
            if (JS_IsFunction(ctx, value))
                result = 0;
            else if (array >= 0)
                result = array ? write_array(w, value) : write_any_object(w, value);
            JS_FreeValue(ctx, value);
            return result;
        }
        }
        writer_look(w);
    }
    if (JS_IsException(value))
        return -1;
    if (JS_IsBigInt(value))
        JS_ThrowTypeError(ctx, "BigInt are forbidden in JSON.stringify");
    else
        result = write_value(w, value, key); /* a primitive by now */
    JS_FreeValue(ctx, value);
    return result;
}

static int write_value(struct writer *w, JSValueConst value, struct write_key key)
{
    if (!writer_step(w))
        return -1;
    int written = write_scalar(w, value);
    return written != MAYBE_CODE ? written : write_other(w, value, key);
}

static int write_other(struct writer *w, JSValueConst value, struct write_key key)
{
    JSContext *ctx = w->ctx;
    int tag = JS_VALUE_GET_NORM_TAG(value);
    if (likely(tag == JS_TAG_OBJECT)) {
        JSObject *object = JS_VALUE_GET_OBJ(value);
        if (likely(w->plain)) {
            if (object->class_id == JS_CLASS_OBJECT) {
                const struct shape_text *texts = shape_text_of(ctx, object->shape);
                if (likely(texts != NULL))
                    return write_plain_object(w, object, texts);
            } else if (object->class_id == JS_CLASS_ARRAY && object->shape == ctx->array_shape) {
                return write_array(w, value);
            }
        }
        return write_unusual(w, value, key);
    }
    if (tag == JS_TAG_STRING_ROPE) {
        JSValue flat = JS_ToString(ctx, value);
        if (JS_IsException(flat))
            return -1;
        int result = JS_VALUE_GET_TAG(flat) == JS_TAG_STRING && put_quoted(ctx, &w->out, JS_VALUE_GET_STRING(flat)) ? 1 : -1;
        JS_FreeValue(ctx, flat);
        return result;
    }
    return tag == JS_TAG_BIG_INT || tag == JS_TAG_SHORT_BIG_INT ? write_unusual(w, value, key) : 0;
}

static void writer_begin(struct writer *w, JSContext *ctx, uint32_t limit)
{
    *w = (struct writer){.ctx = ctx, .out.limit = limit, .until_poll = POLL_EVERY};
    writer_look(w);
}

static int writer_end(struct writer *w, int result)
{
    heap_free(w->ancestors);
    if (result > 0 && w->out.len > w->out.limit) {
        w->out.too_large = true;
        result = -1;
    }
    if (result > 0 && w->out.len >= POLL_BYTES && !writer_poll(w))
        result = -1;
    return result;
}

/* Write a value as JSON text into w->out.text. As write_value, and the text may be NULL unless the result is 1. */
static int json_write(JSContext *ctx, struct writer *w, JSValueConst value, uint32_t limit)
{
    writer_begin(w, ctx, limit);
    return writer_end(w, write_value(w, value, (struct write_key){JS_ATOM_empty_string, 0}));
}
