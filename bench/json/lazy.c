/* What lazy values would cost, for bench/json/lazy.py; never part of the package's engine. It is the engine with three more exports:
 *
 * - engine_skip validates the input exactly as strictly as json_read and makes no value: what a lazy reader does before anything
 *   is touched, in its cheapest form (it does not even note where the parts of the document lie);
 * - engine_skip_canonical finds out, too, whether the numbers are written as JSON.stringify would: what has to be known before
 *   the text may be copied in place of a value;
 * - engine_copy copies the text: what a lazy writer does with a document that nothing has touched.
 *
 * The reply's error_offset is 1 for a text that is not JSON, otherwise 0. */
#include "engine.c"

static bool canonical;
static uint8_t *skipped;

static inline const uint8_t *skip_digits(const uint8_t *p)
{
    for (;;) {
        v128_t digit = wasm_u8x16_le(wasm_i8x16_sub(wasm_v128_load(p), wasm_i8x16_splat('0')), wasm_i8x16_splat(9));
        uint32_t mask = wasm_i8x16_bitmask(digit);
        if (mask != 0xffff)
            return p + __builtin_ctz(~mask);
        p += 16;
    }
}

/* Would JSON.stringify write this number as it stands? Up to 15 digits without a zero at the end are the shortest text of their
 * double; for more only converting and printing tells. */
static no_inline bool number_is_canonical(const uint8_t *text, const uint8_t *end, const uint8_t *fraction, bool exponent)
{
    const uint8_t *at;
    JSValue value;
    uint8_t printed[NUMBER_TEXT_MAX];
    bool small = text[*text == '-'] == '0';
    if (!exponent && end - text <= 15 && (fraction ? end[-1] != '0' && (!small || !!memcmp(fraction, "000000", 6)) : !small || end - text == 1))
        return true;
    read_json_number(text, &value, &at);
    if (JS_VALUE_GET_TAG(value) == JS_TAG_INT)
        at = write_int32(printed, JS_VALUE_GET_INT(value));
    else if (isfinite(JS_VALUE_GET_FLOAT64(value)))
        at = write_double(printed, JS_VALUE_GET_FLOAT64(value));
    else
        return false;
    return at - printed == end - text && !memcmp(printed, text, (size_t)(end - text));
}

static inline const uint8_t *skip_number(const uint8_t *text, bool look)
{
    const uint8_t *p = text + (*text == '-'), *fraction = NULL;
    bool exponent = false;
    if (*p == '0')
        p++;
    else if ((uint32_t)*p - '1' <= 8)
        do p++; while ((uint32_t)*p - '0' <= 9);
    else
        return NULL;
    if (*p == '.') {
        fraction = ++p;
        p = skip_digits(p);
        if (p == fraction)
            return NULL;
    }
    if (unlikely((*p | 0x20) == 'e')) {
        exponent = true;
        p++;
        p += *p == '-' || *p == '+';
        const uint8_t *digits = p;
        p = skip_digits(p);
        if (p == digits)
            return NULL;
    }
    if (look)
        canonical &= number_is_canonical(text, p, fraction, exponent);
    return p;
}

/* From after the opening quote to after the closing one. */
static inline const uint8_t *skip_string(const uint8_t *p)
{
    for (;;) {
        p = skip_plain(p);
        if (likely(*p == '"'))
            return p + 1;
        if (*p == '\\') {
            if (p[1] == 'u' ? hex4(p + 2) < 0 : !p[1] || !strchr("\"\\/bfnrt", p[1]))
                return NULL;
            p += p[1] == 'u' ? 6 : 2;
            continue;
        }
        if (*p < 0x80)
            return NULL;
        do {
            int len = utf8_take(p, &(uint32_t){0}, false);
            if (!len)
                return NULL;
            p += len;
        } while (*p >= 0x80);
    }
}

/* The end of the JSON value that is the whole text, or NULL. */
static inline const uint8_t *skip_document(const uint8_t *p, bool look)
{
    static bool object[JSON_DEPTH_MAX];
    uint32_t depth = 0;
    p = skip_space(p);
value:
    switch (*p) {
    case '{':
    case '[':
        if (depth >= JSON_DEPTH_MAX)
            return NULL;
        object[depth++] = *p == '{';
        p = skip_space(p + 1);
        if (*p == (object[depth - 1] ? '}' : ']'))
            goto close;
        if (object[depth - 1])
            goto key;
        goto value;
    case '"':
        p = skip_string(p + 1);
        break;
    case 't': p = memcmp(p, "true", 4) ? NULL : p + 4; break;
    case 'f': p = memcmp(p, "false", 5) ? NULL : p + 5; break;
    case 'n': p = memcmp(p, "null", 4) ? NULL : p + 4; break;
    default: p = skip_number(p, look); break;
    }
    if (unlikely(!p))
        return NULL;
have_value:
    p = skip_space(p);
    if (depth == 0)
        return p;
    if (*p == ',') {
        p = skip_space(p + 1);
        if (object[depth - 1])
            goto key;
        goto value;
    }
    if (*p != (object[depth - 1] ? '}' : ']'))
        return NULL;
close:
    p++;
    depth--;
    goto have_value;
key:
    if (*p != '"' || !(p = skip_string(p + 1)))
        return NULL;
    p = skip_space(p);
    if (*p != ':')
        return NULL;
    p = skip_space(p + 1);
    goto value;
}

static void skip(bool look)
{
    job_begin();
    uint8_t *text = skipped = heap_claim(mailbox_.input_len + MAILBOX_PADDING);
    if (!text)
        __builtin_trap();
    memset(text + mailbox_.input_len, 0, MAILBOX_PADDING);
    canonical = true;
    const uint8_t *end = look ? skip_document(text, true) : skip_document(text, false);
    mailbox_.error_offset = end != text + mailbox_.input_len;
    mailbox_.output_kind = canonical;
    job_end(JOB_OK);
}

void EXPORT(engine_skip)(void) { skip(false); }
void EXPORT(engine_skip_canonical)(void) { skip(true); }

/* Of the text that one of the two above has looked at. */
void EXPORT(engine_copy)(void)
{
    uint8_t *copy = heap_alloc(mailbox_.input_len);
    if (!copy)
        __builtin_trap();
    memcpy(copy, skipped, mailbox_.input_len);
    mailbox_.output_ptr = (uint32_t)(uintptr_t)copy;
    mailbox_.output_len = mailbox_.input_len;
    job_end(JOB_OK);
}
