/* JSON text to values, in one pass and without recursion: values are collected on a stack until their array or object closes, and are
 * then copied into it in one step. The meaning is exactly JSON.parse's. No code of the plugin runs meanwhile.
 *
 * An object is read in one of two modes. Predicted: each key is compared with the text that its place expects, and the object gets the
 * place's shape. At the first key that differs it becomes general: atoms are collected, and the shape is looked up by all of them.
 * Where there is no such shape, or a key occurs twice, the properties are defined one by one.
 *
 * Needs: places.inc.c, string.inc.c, number.inc.c, allocator.inc.c; on_interrupt of engine.c; from QuickJS its arenas, the layout
 * of objects and arrays, shapes and their table, atoms.
 * Gives: json_read, enum json_error, POLL_EVERY, POLL_BYTES. */
#include <wasm_simd128.h>

#define JSON_DEPTH_MAX 8192                  /* nesting beyond it is a RangeError; what frame_room doubles to */
#define POLL_EVERY 8192                      /* values; some 200 us */
#define POLL_BYTES (1u << 20)                /* after a text this long look at the deadline: it may be one long string, so a single value */

enum json_error { JSON_OK, JSON_SYNTAX, JSON_UTF8, JSON_DEEP, JSON_MEMORY, JSON_STOPPED };

struct json_frame {
    uint32_t base;                           /* index of the first value on the stack */
    uint32_t key_base;                       /* index of the first key, general mode only */
    uint32_t key;                            /* number of the key being read */
    uint16_t place;
    bool object, general;
};

static struct {
    JSValue *values;
    struct json_key *keys;
    struct json_frame *frames;
    uint32_t value_room, key_room, frame_room;
} stack;

static bool stack_grow(void **items, uint32_t *room, uint32_t wanted, size_t size)
{
    uint32_t grown = *room < 64 ? 256 : *room * 2;
    while (grown < wanted)
        grown *= 2;
    if ((uint64_t)grown * size > 0x7fffffffu)
        return false;
    void *moved = heap_realloc(*items, grown * size);
    if (!moved)
        return false;
    *items = moved;
    *room = grown;
    return true;
}

/* js_malloc_rt, in line where an arena has a free block of this size. QuickJS's own memory limit, which is skipped, is not used. */
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

/* A memcpy of unknown length is a call out of the compiled code. For the few values of most objects that takes longer than making
 * the object does. */
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
    /* QuickJS grows its table of shapes only for new prototypes; thousands of shapes would form long chains in 64 buckets. */
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

/* Push the first `count` of the keys that are expected at a place: they are what the object has had so far. */
static bool push_expected(JSContext *ctx, const struct place *place, uint32_t count, uint32_t *keys)
{
    if (*keys + count > stack.key_room &&
        !stack_grow((void **)&stack.keys, &stack.key_room, *keys + count, sizeof(struct json_key)))
        return false;
    for (uint32_t i = 0; i < count; i++) {
        const struct place_key *key = &learnt.keys[place->first + i];
        stack.keys[(*keys)++] = (struct json_key){JS_DupAtom(ctx, key->atom), key->place};
    }
    return true;
}

/* Is the key at p the expected one? Keys of up to 14 characters, nearly all, take one comparison. */
static inline bool key_matches(const uint8_t *p, const struct place_key *key)
{
    uint32_t len = key->text_len;
    uint32_t same = wasm_i8x16_bitmask(wasm_i8x16_eq(wasm_v128_load(p), wasm_v128_load(key->text)));
    if (likely(len <= 16))
        return !(~same & ((1u << len) - 1));
    return same == 0xffff && !memcmp(p + 16, key->text + 16, len - 16);
}

/* A key that was not expected: one of the place's others, or any. Returns the address after its closing quote, or NULL with
 * *at as decode_string has it. */
static no_inline const uint8_t *read_key(JSContext *ctx, const uint8_t *p, uint16_t index, uint32_t near, struct json_key *out,
                                         bool surrogates, const uint8_t **at)
{
    const uint8_t *end = skip_plain(p + 1);
    const struct place *place = &learnt.places[index];
    *at = NULL;
    out->place = NO_PLACE;
    if (*end != '"') {
        JSString *name;
        end = decode_string(ctx, p + 1, &name, surrogates, at);
        if (!end)
            return NULL;
        *at = NULL;
        out->atom = JS_NewAtomStr(ctx, name);
        return out->atom == JS_ATOM_NULL ? NULL : end;
    }
    end++;
    size_t len = (size_t)(end - p);
    for (uint32_t i = 0; i < place->count && i < 64; i++) {
        /* Most often it is one of the next: a key was left out. */
        uint32_t number = (near + i) % place->count;
        const struct place_key *key = &learnt.keys[place->first + number];
        if (key->text_len == len && key_matches(p, key)) {
            *out = (struct json_key){JS_DupAtom(ctx, key->atom), key->place};
            return end;
        }
    }
    if (len > JS_STRING_LEN_MAX)
        return NULL;
    out->atom = JS_NewAtomLen(ctx, (const char *)p + 1, len - 2);
    return out->atom == JS_ATOM_NULL ? NULL : end;
}

/* A string value at p, which is its opening quote. */
static inline const uint8_t *read_json_string(JSContext *ctx, const uint8_t *p, JSString **last, JSValue *out, bool surrogates,
                                         const uint8_t **at)
{
    const uint8_t *end = skip_plain(p + 1);
    JSString *string;
    if (likely(*end == '"')) {
        uint32_t len = (uint32_t)(end - p - 1);
        if (last && *last && (*last)->len == len && !memcmp(str8(*last), p + 1, len)) {
            string = *last;
            JS_REF_COUNT(string)++;
        } else {
            string = likely(len <= JS_STRING_LEN_MAX) ? js_alloc_string_rt(ctx->rt, (int)len, 0) : NULL;
            if (unlikely(!string)) {
                *at = NULL;
                return NULL;
            }
            memcpy(str8(string), p + 1, len);
            str8(string)[len] = 0;
            if (last && len < 32) {
                if (*last)
                    js_free_string(ctx->rt, *last);
                *last = string;
                JS_REF_COUNT(string)++;
            }
        }
        end++;
    } else {
        end = decode_string(ctx, p + 1, &string, surrogates, at);
        if (unlikely(!end))
            return NULL;
    }
    *out = JS_MKPTR(JS_TAG_STRING, string);
    return end;
}

/* Read a whole JSON text. After its `len` bytes lie at least 32 zero bytes. On an error the result is JS_EXCEPTION, *error
 * tells which and *offset where; no exception is pending. `surrogates` admits lone surrogates in the text's UTF-8, which is
 * how the engine hands over its own strings. */
static JSValue json_read(JSContext *ctx, const uint8_t *text, size_t len, bool surrogates, enum json_error *error, uint32_t *offset)
{
    const uint8_t *p = text, *at = text;
    uint32_t values = 0, keys = 0, depth = 0, until_poll = POLL_EVERY;
    uint16_t place = ROOT_PLACE;
    JSString **last = NULL;
    JSValue value;
    struct json_frame *frame;

    *error = JSON_MEMORY;
    if (!places_start())
        return JS_EXCEPTION;
    p = skip_space(p);

read_value:
    if (is_digit(*p) || *p == '-')           /* most values are numbers; the switch is a jump through a table */
        goto read_number;
    switch (*p) {
    case '{':
    case '[':
        if (unlikely(depth >= stack.frame_room)) {
            if (depth >= JSON_DEPTH_MAX) {
                at = p;
                *error = JSON_DEEP;
                goto fail_known;
            }
            if (!stack_grow((void **)&stack.frames, &stack.frame_room, depth + 1, sizeof(struct json_frame)))
                goto fail_memory;
        }
        frame = &stack.frames[depth++];
        frame->base = values;
        frame->key = 0;
        frame->place = place;
        frame->object = *p == '{';
        frame->general = false;
        p = skip_space(p + 1);
        if (frame->object) {
            if (*p == '}')
                goto close_object;
            goto read_key;
        }
        if (*p == ']')
            goto close_array;
        place = place_of_elements(place);
        last = NULL;
        goto read_value;
    case '"':
        p = read_json_string(ctx, p, last, &value, surrogates, &at);
        if (unlikely(!p))
            goto fail_string;
        break;
    case 't':
        if (memcmp(p, "true", 4))
            goto fail_word;
        value = JS_TRUE;
        p += 4;
        break;
    case 'f':
        if (memcmp(p, "false", 5))
            goto fail_word;
        value = JS_FALSE;
        p += 5;
        break;
    case 'n':
        if (memcmp(p, "null", 4))
            goto fail_word;
        value = JS_NULL;
        p += 4;
        break;
    default:
        at = p;
        goto fail_syntax;
    }
    goto have_value;

read_number:
    p = read_json_number(p, &value, &at);
    if (unlikely(!p))
        goto fail_syntax;

have_value:
    if (depth == 0)
        goto finish;
    if (unlikely(--until_poll == 0)) {
        until_poll = POLL_EVERY;
        if (on_interrupt(ctx->rt, NULL)) {
            JS_FreeValue(ctx, value);
            *error = JSON_STOPPED;
            goto fail_known;
        }
    }
    if (unlikely(values >= stack.value_room) &&
        !stack_grow((void **)&stack.values, &stack.value_room, values + 1, sizeof(JSValue))) {
        JS_FreeValue(ctx, value);
        goto fail_memory;
    }
    stack.values[values++] = value;
    frame = &stack.frames[depth - 1];
    p = skip_space(p);
    if (!frame->object) {
        if (likely(*p == ',')) {
            p = skip_space(p + 1);
            place = learnt.places[frame->place].element;
            last = NULL;
            goto read_value;
        }
        if (likely(*p == ']'))
            goto close_array;
        at = p;
        goto fail_syntax;
    }
    frame->key++;
    if (*p == ',') {
        p = skip_space(p + 1);
        goto read_key;
    }
    if (*p == '}')
        goto close_object;
    at = p;
    goto fail_syntax;

read_key: {
    if (unlikely(*p != '"')) {
        at = p;
        goto fail_syntax;
    }
    struct place *here = &learnt.places[frame->place];
    if (likely(!frame->general)) {
        if (likely(frame->key < here->count)) {
            uint32_t index = here->first + frame->key;
            struct place_key *key = &learnt.keys[index];
            if (likely(key_matches(p, key))) {
                p += key->text_len;
                last = &key->last;
                place = key->place;
                if (*p != ':') {
                    p = skip_space(p);
                    if (*p != ':') {
                        at = p;
                        goto fail_syntax;
                    }
                }
                p = skip_space(p + 1);
                if (*p == '{' || *p == '[') {
                    if (place == NO_PLACE)
                        place = place_of_key(index);
                }
                goto read_value;
            }
        }
        frame->general = true;
        frame->key_base = keys;
        if (!push_expected(ctx, here, frame->key, &keys))
            goto fail_memory;
    }
    if (unlikely(keys >= stack.key_room) && !stack_grow((void **)&stack.keys, &stack.key_room, keys + 1, sizeof(struct json_key)))
        goto fail_memory;
    p = read_key(ctx, p, frame->place, frame->key, &stack.keys[keys], surrogates, &at);
    if (unlikely(!p))
        goto fail_string;
    struct json_key *key = &stack.keys[keys++];
    p = skip_space(p);
    if (unlikely(*p != ':')) {
        at = p;
        goto fail_syntax;
    }
    p = skip_space(p + 1);
    /* While this place's keys are being learnt, what lies below them is learnt too. */
    if ((*p == '{' || *p == '[') && key->place == NO_PLACE && place_is_open(frame->place))
        key->place = place_new();
    place = key->place;
    last = NULL;
    goto read_value;
}

close_array:
    p++;
    frame = &stack.frames[--depth];
    value = make_array(ctx, stack.values + frame->base, values - frame->base);
    if (unlikely(JS_IsException(value)))
        goto fail_memory;
    values = frame->base;
    goto have_value;

close_object: {
    p++;
    frame = &stack.frames[--depth];
    uint32_t count = values - frame->base;
    struct place *here = &learnt.places[frame->place];
    if (likely(!frame->general) && likely(count == here->count) && likely(here->shape != NULL)) {
        value = make_object(ctx, here->shape, stack.values + frame->base, count);
        here->misses = 0;
        if (unlikely(JS_IsException(value)))
            goto fail_memory;
    } else {
        if (!frame->general) {               /* some of the expected keys, from the first on */
            frame->key_base = keys;
            if (!push_expected(ctx, here, count, &keys))
                goto fail_memory;
        }
        keys = frame->key_base;
        value = make_general_object(ctx, frame->place, stack.keys + keys, stack.values + frame->base, count);
        values = frame->base;
        if (unlikely(JS_IsException(value)))
            goto fail_memory;
    }
    values = frame->base;
    goto have_value;
}

finish:
    p = skip_space(p);
    if (likely(p == text + len)) {
        if (unlikely(len >= POLL_BYTES) && on_interrupt(ctx->rt, NULL)) {
            JS_FreeValue(ctx, value);
            *error = JSON_STOPPED;
            goto fail_known;
        }
        *error = JSON_OK;
        return value;
    }
    JS_FreeValue(ctx, value);
    at = p;
    goto fail_syntax;

fail_word:
    at = p;
    while (*at >= 'a' && *at <= 'z' && at < p + 4 && *at == (*p == 't' ? "true" : *p == 'f' ? "false" : "null")[at - p])
        at++;
    goto fail_syntax;
fail_string:
    if (!at)
        goto fail_memory;
    if (*at >= 0x80 && !utf8_take(at, &(uint32_t){0}, surrogates)) {
        *error = JSON_UTF8;
        goto fail_known;
    }
fail_syntax:
    *error = JSON_SYNTAX;
    goto fail_known;
fail_memory:
    at = text;
    *error = JSON_MEMORY;
    JS_FreeValue(ctx, JS_GetException(ctx));
fail_known:
    *offset = (uint32_t)(at - text);
    while (values > 0)
        JS_FreeValue(ctx, stack.values[--values]);
    while (keys > 0)
        JS_FreeAtom(ctx, stack.keys[--keys].atom);
    return JS_EXCEPTION;
}
