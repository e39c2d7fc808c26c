/* The texts of objects' keys as JSON.stringify writes them, kept per shape. */
#ifndef PEXEC_JSON_SHAPES_H
#define PEXEC_JSON_SHAPES_H

#define SHAPE_TEXTS 64                       /* entries; a power of two */
#define SHAPE_TEXT_PROPERTIES 256            /* shapes with more properties are written without it */

/* The texts of a shape's keys: property i is preceded by text[ends[i-1]] to text[ends[i]], which is `,"key":`. */
struct shape_text {
    JSShape *shape;                          /* held, so neither it nor its address is used for another */
    uint8_t *text;
    uint32_t *ends;
};

static struct shape_text shape_texts[SHAPE_TEXTS];

static void shape_text_build(JSContext *ctx, struct shape_text *entry, JSShape *shape)
{
    struct output out = {.limit = 1u << 20};
    uint32_t *ends = heap_alloc(sizeof(uint32_t) * (size_t)(shape->prop_count + 1));
    bool good = ends != NULL;
    const JSShapeProperty *property = get_shape_prop(shape);
    for (int i = 0; i < shape->prop_count && good; i++, property++) {
        JSValue name = JS_AtomToString(ctx, property->atom);
        good = !JS_IsException(name) && output_put(ctx, &out, ",", 1) &&
               put_quoted(ctx, &out, JS_VALUE_GET_STRING(name)) && output_put(ctx, &out, ":", 1);
        JS_FreeValue(ctx, name);
        ends[i] = out.len;
    }
    if (!good) {
        JS_FreeValue(ctx, JS_GetException(ctx));
        heap_free(out.text);
        heap_free(ends);
        return;
    }
    if (entry->shape) {
        heap_free(entry->text);
        heap_free(entry->ends);
        js_free_shape(ctx->rt, entry->shape);
    }
    *entry = (struct shape_text){js_dup_shape(shape), out.text, ends};
}

/* The key texts of a shape, or NULL if objects of it are not plain: another prototype, a property that is hidden or an
 * accessor, a symbol, an integer key (which comes first, whenever it was added), or a toJSON. */
static inline const struct shape_text *shape_text_of(JSContext *ctx, JSShape *shape)
{
    struct shape_text *entry = &shape_texts[((uintptr_t)shape >> 4) & (SHAPE_TEXTS - 1)];
    if (likely(entry->shape == shape))
        return entry;
    if (!shape->is_hashed || shape->proto != JS_VALUE_GET_OBJ(ctx->class_proto[JS_CLASS_OBJECT]) ||
        shape->prop_count > SHAPE_TEXT_PROPERTIES)
        return NULL;
    const JSShapeProperty *property = get_shape_prop(shape);
    for (int i = 0; i < shape->prop_count; i++, property++) {
        JSAtom atom = property->atom;
        if ((property->flags & (JS_PROP_TMASK | JS_PROP_ENUMERABLE)) != JS_PROP_ENUMERABLE || atom == JS_ATOM_toJSON ||
            atom == JS_ATOM_NULL || __JS_AtomIsTaggedInt(atom) || JS_AtomIsArrayIndex(ctx, &(uint32_t){0}, atom) ||
            ctx->rt->atom_array[atom]->atom_type != JS_ATOM_TYPE_STRING)
            return NULL;
    }
    shape_text_build(ctx, entry, shape);
    return entry->shape == shape ? entry : NULL;
}

#endif
