/* What the reader has learnt of documents. A place is a position in their structure: the root, the elements of an array, the value of a
 * key. For each place the keys and the final shape of the object last seen there are kept. Documents of one kind repeat themselves, so
 * the next object there is read by comparing its keys' text with what is expected, and is made in one step.
 *
 * The tables are bounded: a document with millions of distinct keys fills them and is read without predictions from then on. They are
 * part of the memory image, so what samples have taught is known in every job.
 *
 * Needs: allocator.inc.c; from QuickJS atoms, shapes and the table of shapes.
 * Gives: learnt, struct json_key, NO_PLACE, ROOT_PLACE, places_start, place_new, place_of_elements, place_of_key, place_is_open,
 * place_learn, shape_find. */

#define PLACES_MAX 1024
#define KEYS_MAX 4096
#define KEY_TEXT_MAX 46                      /* longer keys are read without prediction */
#define NO_PLACE 0                           /* nothing can be learnt here */
#define ROOT_PLACE 1
#define RELEARN_AFTER 4                      /* objects in a row that were not as expected */

struct place_key {
    uint8_t text[KEY_TEXT_MAX + 2];          /* the key with its two quotes; zeros after it */
    uint16_t text_len;
    uint16_t place;                          /* of the key's value */
    JSAtom atom;
    JSString *last;                          /* the string last read here: many repeat ("Feature") */
};

struct place {
    JSShape *shape;                          /* of the object that the keys make; NULL if none was learnt */
    uint16_t first, count, room;             /* keys[first] to keys[first + count - 1], with room for `room` */
    uint16_t element;                        /* place of an array's elements */
    uint16_t misses;                         /* objects in a row that had other keys */
};

/* A key of an object that is being read without prediction. */
struct json_key {
    JSAtom atom;
    uint16_t place;
};

/* Indices, not pointers, refer to places and keys: the tables move when they grow. */
static struct {
    struct place *places;
    struct place_key *keys;
    uint32_t place_count, place_room, key_count, key_room;
} learnt;

static bool table_grow(void **table, uint32_t *room, uint32_t wanted, uint32_t first, uint32_t most, size_t size)
{
    uint32_t grown = *room ? *room : first;
    while (grown < wanted)
        grown *= 2;
    if (grown > most)
        return false;
    void *moved = heap_realloc(*table, grown * size);
    if (!moved)
        return false;
    memset((char *)moved + *room * size, 0, (grown - *room) * size);
    *table = moved;
    *room = grown;
    return true;
}

static uint16_t place_new(void)
{
    if (learnt.place_count >= learnt.place_room &&
        !table_grow((void **)&learnt.places, &learnt.place_room, learnt.place_count + 1, 32, PLACES_MAX, sizeof(struct place)))
        return NO_PLACE;
    return (uint16_t)learnt.place_count++;
}

/* Make sure that NO_PLACE and the root's place are there. False if there is no memory even for that. */
static bool places_start(void)
{
    return learnt.place_count > ROOT_PLACE || (place_new() == NO_PLACE && place_new() == ROOT_PLACE);
}

static inline uint16_t place_of_elements(uint16_t place)
{
    if (learnt.places[place].element == NO_PLACE && place != NO_PLACE) {
        uint16_t made = place_new();
        learnt.places[place].element = made;
    }
    return learnt.places[place].element;
}

static inline uint16_t place_of_key(uint32_t key)
{
    if (learnt.keys[key].place == NO_PLACE) {
        uint16_t made = place_new();
        learnt.keys[key].place = made;
    }
    return learnt.keys[key].place;
}

/* The key as it stands in a document, with its quotes, or length 0 if that is not plain ASCII without escapes. */
static uint32_t key_text(JSContext *ctx, JSAtom atom, uint8_t text[KEY_TEXT_MAX + 2])
{
    uint32_t len;
    text[0] = '"';
    if (__JS_AtomIsTaggedInt(atom)) {
        len = (uint32_t)u32toa((char *)text + 1, __JS_AtomToUInt32(atom));
    } else {
        const JSAtomStruct *name = ctx->rt->atom_array[atom];
        len = name->len;
        if (name->is_wide_char || len > KEY_TEXT_MAX)
            return 0;
        for (uint32_t i = 0; i < len; i++) {
            uint8_t c = str8((JSString *)name)[i];
            if (c < ' ' || c > '~' || c == '"' || c == '\\')
                return 0;
            text[i + 1] = c;
        }
    }
    text[len + 1] = '"';
    return len + 2;
}

/* Whether keys should be learnt here: none are known, or the last objects all had other keys. */
static inline bool place_is_open(uint16_t index)
{
    const struct place *place = &learnt.places[index];
    return index != NO_PLACE && (!place->shape || place->misses >= RELEARN_AFTER);
}

/* Expect objects of this shape, made of these keys in this order, at `index` from now on. */
static void place_learn(JSContext *ctx, uint16_t index, JSShape *shape, const struct json_key *keys, uint32_t count)
{
    uint8_t text[KEY_TEXT_MAX + 2];
    if (index == NO_PLACE || count > KEYS_MAX || !shape->is_hashed || shape->prop_count != (int)count)
        return;
    for (uint32_t i = 0; i < count; i++)
        if (!key_text(ctx, keys[i].atom, text))
            return;
    struct place *place = &learnt.places[index];
    if (count > place->room) {
        if (learnt.key_count + count > learnt.key_room &&
            !table_grow((void **)&learnt.keys, &learnt.key_room, learnt.key_count + count, 64, KEYS_MAX, sizeof(struct place_key)))
            return;
        place->first = (uint16_t)learnt.key_count;
        place->room = (uint16_t)count;
        learnt.key_count += count;
    }
    for (uint32_t i = 0; i < count; i++) {
        struct place_key *key = &learnt.keys[place->first + i];
        key->place = keys[i].place;
        if (key->atom == keys[i].atom)
            continue;
        if (key->atom)
            JS_FreeAtom(ctx, key->atom);
        if (key->last)
            js_free_string(ctx->rt, key->last);
        memset(key->text, 0, sizeof(key->text));
        key->text_len = (uint16_t)key_text(ctx, keys[i].atom, key->text);
        key->atom = JS_DupAtom(ctx, keys[i].atom);
        key->last = NULL;
    }
    /* QuickJS never changes a shape in place that has another owner, so holding it keeps the prediction true. */
    JSShape *old = place->shape;
    place->shape = js_dup_shape(shape);
    place->count = (uint16_t)count;
    place->misses = 0;
    if (old)
        js_free_shape(ctx->rt, old);
}

/* The existing shape of plain objects with exactly these keys in this order, or NULL. */
static JSShape *shape_find(JSContext *ctx, JSObject *proto, const struct json_key *keys, uint32_t count)
{
    JSRuntime *rt = ctx->rt;
    uint32_t hash = shape_initial_hash(proto);
    for (uint32_t i = 0; i < count; i++)
        hash = shape_hash(shape_hash(hash, keys[i].atom), JS_PROP_C_W_E);
    for (JSShape *shape = rt->shape_hash[get_shape_hash(hash, rt->shape_hash_bits)]; shape; shape = shape->shape_hash_next) {
        if (shape->hash != hash || shape->proto != proto || shape->prop_count != (int)count)
            continue;
        const JSShapeProperty *property = get_shape_prop(shape);
        uint32_t i = 0;
        while (i < count && property[i].atom == keys[i].atom && property[i].flags == JS_PROP_C_W_E)
            i++;
        if (i == count)
            return shape;
    }
    return NULL;
}
