/* The texts of objects' keys as JSON.stringify writes them, kept per shape. */
#ifndef PEXEC_JSON_SHAPES_H
#define PEXEC_JSON_SHAPES_H

#define SHAPE_TEXTS 128                      /* entries: 32 times SHAPE_TEXT_WAYS */
#define SHAPE_TEXT_WAYS 4                    /* entries in which a shape may be, */
#define SHAPE_TEXT_SHIFT 27                  /* and which, the upper bits of its address's hash tell */
#define SHAPE_TEXT_PROPERTIES 256            /* shapes with more properties are written without it */

/* The texts of a shape's keys: property i is preceded by text[ends[i-1]] to text[ends[i]], which is `,"key":`. Without a text
 * the entry only says that the shape was met, which most shapes of an irregular document are but once. */
struct shape_text {
    JSShape *shape;                          /* held if there is a text, so neither it nor its address is used for another */
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

/* Whether all objects of a shape are plain: no other prototype, no property that is hidden or an accessor, no symbol, no integer
 * key (which comes first, whenever it was added), and no toJSON. */
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

#endif
