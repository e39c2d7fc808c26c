/* Documents and results that are not JSON: numbers in a typed array, which lies over the very bytes that the host wrote or will read.
 *
 * Needs: allocator.inc.c; from QuickJS the layout of buffers and typed arrays.
 * Gives: enum data_kind, binary_read, binary_write. */

/* What a document or a result is: mailbox.kind of a job and mailbox.output_kind. */
enum data_kind { DATA_JSON = 0, DATA_ARRAY = 1 };   /* DATA_ARRAY + t: a typed array of JSTypedArrayEnum t */

static void *binary_realloc(JSRuntime *runtime, void *opaque, void *bytes, size_t len)
{
    (void)runtime, (void)opaque;
    if (len)
        return heap_realloc(bytes, len);
    heap_free(bytes);
    return NULL;
}

/* A typed array of kind `kind` over a block of our heap, which it takes over. */
static JSValue binary_read(JSContext *ctx, void *bytes, uint32_t len, uint32_t kind)
{
    JSValue buffer = JS_NewArrayBuffer(ctx, bytes, len, 0, binary_realloc, NULL, false);
    if (JS_IsException(buffer))
        return buffer;
    JSValue array = JS_NewTypedArray(ctx, 1, vc(&buffer), (JSTypedArrayEnum)(kind - DATA_ARRAY));
    JS_FreeValue(ctx, buffer);
    return array;
}

/* If the value is an ArrayBuffer or a view of one, tell where its bytes are and return its kind; otherwise DATA_JSON. A view that
 * lies outside its buffer by now, or whose buffer is detached, has no bytes. */
static uint32_t binary_write(JSValueConst value, uint8_t **bytes, size_t *len)
{
    if (!JS_IsObject(value))
        return DATA_JSON;
    JSObject *object = JS_VALUE_GET_OBJ(value);
    *bytes = NULL;
    *len = 0;
    if (object->class_id == JS_CLASS_ARRAY_BUFFER || object->class_id == JS_CLASS_SHARED_ARRAY_BUFFER) {
        const JSArrayBuffer *buffer = object->u.array_buffer;
        if (!buffer->detached) {
            *bytes = buffer->data;
            *len = (size_t)buffer->byte_length;
        }
        return DATA_ARRAY + JS_TYPED_ARRAY_UINT8;
    }
    int type = JS_GetTypedArrayType(value);
    if (type < 0)
        return DATA_JSON;
    if (!typed_array_is_oob(object)) {
        *bytes = object->u.array.u.uint8_ptr;
        *len = (size_t)object->u.array.count << typed_array_size_log2(object->class_id);
    }
    return DATA_ARRAY + (uint32_t)type;
}
