/* JSON text to engine values, in one pass and without recursion: values lie on a stack until their array or object closes and
 * are then copied into it in one step. The meaning is exactly JSON.parse's. No code of the plugin runs meanwhile.
 *
 * An object is read in one of two modes. Predicted: each key is compared with the text that place expects, and the object is
 * made of the place's shape. Once a key differs, general: atoms are collected, and the shape is looked up by them, or
 * the properties are defined one by one where there is none or a key occurs twice. */
#ifndef PEXEC_JSON_READER_H
#define PEXEC_JSON_READER_H

#define JSON_DEPTH_MAX 8192                  /* nesting beyond it is a RangeError; what frame_room doubles to */
#define POLL_EVERY 8192                      /* values; some 200 us */
#define POLL_BYTES (1u << 20)                /* a text of so many is worth a look at its end: it may be one long string */

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
        /* Most often one of the next: a key was left out. */
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
    if (is_digit(*p) || *p == '-')           /* most values are; the switch is a jump through a table */
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

#endif
