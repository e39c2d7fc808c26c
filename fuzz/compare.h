/* What the fuzz target compares with: values, texts and errors. */
#ifndef FUZZ_COMPARE_H
#define FUZZ_COMPARE_H

_Noreturn static void differ(const char *what, const char *text, size_t len)
{
    fprintf(stderr, "\n%s: %zu bytes: ", what, len);
    for (size_t i = 0; i < len && i < 2000; i++)
        fprintf(stderr, (uint8_t)text[i] >= ' ' && (uint8_t)text[i] < 0x7f ? "%c" : "\\x%02x", (uint8_t)text[i]);
    fputc('\n', stderr);
    abort();
}

static char *take_text(JSContext *ctx, JSValueConst value, const char *before)
{
    size_t len;
    const char *text = JS_ToCStringLen(ctx, &len, value);
    if (!text)
        JS_FreeValue(ctx, JS_GetException(ctx));
    size_t size = strlen(before) + (text ? len : 0) + 1;
    char *copy = malloc(size);
    snprintf(copy, size, "%s%s", before, text ? text : "");
    JS_FreeCString(ctx, text);
    return copy;
}

/* The text of the pending exception if `value` says that there is one, otherwise NULL. */
static char *take_error(JSContext *ctx, JSValueConst value)
{
    if (!JS_IsException(value))
        return NULL;
    JSValue error = JS_GetException(ctx);
    char *text = take_text(ctx, error, "throws ");
    JS_FreeValue(ctx, error);
    return text;
}

/* Strict UTF-8, character by character, without a table or a trick. */
static bool is_utf8(const uint8_t *p, size_t len)
{
    const uint8_t *end = p + len;
    while (p < end) {
        uint32_t code = *p++, more = code < 0x80 ? 0 : code < 0xc0 ? 9 : code < 0xe0 ? 1 : code < 0xf0 ? 2 : code < 0xf8 ? 3 : 9;
        static const uint32_t least[] = {0, 0x80, 0x800, 0x10000};
        if (more > (size_t)(end - p))
            return false;
        code &= more ? 0x3f >> more : 0x7f;
        for (uint32_t i = 0; i < more; i++, p++) {
            if ((*p & 0xc0) != 0x80)
                return false;
            code = code << 6 | (*p & 0x3f);
        }
        if (code < least[more] || code > 0x10ffff || (code >= 0xd800 && code < 0xe000))
            return false;
    }
    return true;
}

/* Do the texts say the same, where a number may have other digits that mean the same double? The engine does not write the
 * fewest digits of some powers of two. */
static bool texts_alike(const char *a, size_t a_len, const char *b, size_t b_len)
{
    const char *a_end = a + a_len, *b_end = b + b_len;
    while (a < a_end && b < b_end && *a == *b)
        a++, b++;
    if (a == a_end && b == b_end)
        return true;
    /* Back to the number's start, over it on both sides, and on. */
    size_t back = 0;
    while ((size_t)(a_end - a) + back < a_len && (strchr("0123456789.-+e", a[-1 - (ptrdiff_t)back]) && a[-1 - (ptrdiff_t)back]))
        back++;
    char *a_next, *b_next;
    double x = strtod(a - back, &a_next), y = strtod(b - back, &b_next);
    if (x != y || a_next <= a - back || b_next <= b - back || frexp(fabs(x), &(int){0}) != 0.5)
        return false;
    return texts_alike(a_next, (size_t)(a_end - a_next), b_next, (size_t)(b_end - b_next));
}

static bool same_number(JSContext *ctx, JSValueConst a, JSValueConst b)
{
    double x, y;
    JS_ToFloat64(ctx, &x, a);
    JS_ToFloat64(ctx, &y, b);
    return !memcmp(&x, &y, sizeof(x));
}

/* Are two values alike in everything that a plugin could see? Both come from JSON, so nothing runs when they are looked at. */
static bool same(JSContext *ctx, JSValueConst a, JSValueConst b)
{
    if (JS_IsNumber(a) && JS_IsNumber(b))
        return same_number(ctx, a, b);
    if (JS_IsString(a) && JS_IsString(b))
        return js_string_eq(JS_VALUE_GET_STRING(a), JS_VALUE_GET_STRING(b));
    if (JS_VALUE_GET_TAG(a) != JS_VALUE_GET_TAG(b))
        return false;
    if (!JS_IsObject(a))
        return JS_VALUE_GET_INT(a) == JS_VALUE_GET_INT(b);
    JSObject *p = JS_VALUE_GET_OBJ(a), *q = JS_VALUE_GET_OBJ(b);
    if (p->class_id != q->class_id || p->shape->proto != q->shape->proto || p->extensible != q->extensible)
        return false;
    JSPropertyEnum *keys, *their_keys;
    uint32_t count, their_count;
    int flags = JS_GPN_STRING_MASK | JS_GPN_SYMBOL_MASK;
    if (JS_GetOwnPropertyNames(ctx, &keys, &count, a, flags) || JS_GetOwnPropertyNames(ctx, &their_keys, &their_count, b, flags))
        abort();
    bool result = count == their_count;
    for (uint32_t i = 0; i < count && result; i++) {
        JSPropertyDescriptor mine, theirs;
        if (keys[i].atom != their_keys[i].atom || JS_GetOwnProperty(ctx, &mine, a, keys[i].atom) != 1 ||
            JS_GetOwnProperty(ctx, &theirs, b, keys[i].atom) != 1) {
            result = false;
            break;
        }
        result = mine.flags == theirs.flags && same(ctx, mine.value, theirs.value);
        js_free_desc(ctx, &mine);
        js_free_desc(ctx, &theirs);
    }
    JS_FreePropertyEnum(ctx, keys, count);
    JS_FreePropertyEnum(ctx, their_keys, their_count);
    return result;
}

/* The source text that a value's bytes choose, or NULL if it would be too large. A byte beyond the last is a leaf. */
#define SOURCE_MAX 20000

static bool append(char **to, const char *end, const char *text, size_t len)
{
    if (len > (size_t)(end - *to))
        return false;
    memcpy(*to, text, len);
    *to += len;
    return true;
}

static bool expand(char **to, const char *end, const uint8_t **data, const uint8_t *data_end, int depth)
{
    size_t choice = *data < data_end ? *(*data)++ : 0;
    const char *snippet = depth < 6 && choice < BRANCH_COUNT ? branches[choice] : leaves[choice % LEAF_COUNT];
    for (const char *at; (at = strchr(snippet, '@')); snippet = at + 1)
        if (!append(to, end, snippet, (size_t)(at - snippet)) || !append(to, end, "(", 1) ||
            !expand(to, end, data, data_end, depth + 1) || !append(to, end, ")", 1))
            return false;
    return append(to, end, snippet, strlen(snippet));
}

static char *make_source(const uint8_t *data, size_t size)
{
    char *source = malloc(SOURCE_MAX + 2), *to = source;
    const uint8_t *end = data + size;
    *to++ = '(';
    if (!expand(&to, source + SOURCE_MAX, &data, end, 0)) {
        free(source);
        return NULL;
    }
    *to++ = ')';
    *to = 0;
    return source;
}

#endif
