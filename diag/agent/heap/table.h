/* The node table: every object met in one slice, by address, with what is known of it so far.
 *
 * Open addressing over an array of 32-byte nodes: about 40 bytes an object, no allocation through Python. */
#ifndef DIAG_TABLE_H
#define DIAG_TABLE_H

enum { N_BARRIER = 1, /* an owner's own object: never labelled, never expanded from a reference */
       N_STOP = 2,    /* module, type, code, module global: held elsewhere for good */
       N_EXPANDED = 4,
       N_SOFT = 8,       /* the event loop also refers to it, directly or through its owner's objects */
       N_UNRESOLVED = 16, /* more references than were found: somebody unknown holds it */
       N_PENDING = 32,   /* waits on the relabel stack */
       N_READY = 64 };

typedef struct {
    PyObject *op;
    uint32_t found;      /* references found so far */
    uint32_t view_found; /* those that came from memoryviews */
    int32_t label;       /* lowest common owner of all that refer to it */
    int32_t seen_by;     /* last owner that was logged as sharing it */
    uint16_t type;       /* index of its TypeInfo */
    uint8_t holder;
    uint8_t flags;
} Node;

typedef struct {
    Node *nodes;
    uint32_t n, capacity;
    uint32_t *slots; /* node index + 1; 0 is empty */
    uint32_t mask, slots_capacity;
} Table;

static inline uint32_t hash_address(const void *p)
{
    return (uint32_t)(((uintptr_t)p >> 4) * 0x9E3779B97F4A7C15ull >> 32);
}

/* Empties the table; it starts with room for half of 2**bits nodes. */
static int table_clear(Table *t, int bits)
{
    t->n = 0;
    if (t->slots_capacity < 1u << bits) {
        free(t->slots);
        t->slots_capacity = 1u << bits;
        t->slots = malloc(t->slots_capacity * sizeof *t->slots);
        if (!t->slots) {
            t->slots_capacity = 0;
            return -1;
        }
    }
    t->mask = (1u << bits) - 1;
    memset(t->slots, 0, ((size_t)t->mask + 1) * sizeof *t->slots);
    return 0;
}

static void table_free(Table *t)
{
    free(t->nodes);
    free(t->slots);
    memset(t, 0, sizeof *t);
}

static int table_grow_slots(Table *t)
{
    uint32_t size = (t->mask + 1) * 2;
    if (size > t->slots_capacity) {
        uint32_t *slots = realloc(t->slots, (size_t)size * sizeof *slots);
        if (!slots)
            return -1;
        t->slots = slots;
        t->slots_capacity = size;
    }
    t->mask = size - 1;
    memset(t->slots, 0, (size_t)size * sizeof *t->slots);
    for (uint32_t i = 0; i < t->n; i++) {
        uint32_t h = hash_address(t->nodes[i].op) & t->mask;
        while (t->slots[h])
            h = (h + 1) & t->mask;
        t->slots[h] = i + 1;
    }
    return 0;
}

static inline int64_t table_find(const Table *t, const PyObject *op)
{
    uint32_t h = hash_address(op) & t->mask, i;
    while ((i = t->slots[h])) {
        if (t->nodes[i - 1].op == op)
            return i - 1;
        h = (h + 1) & t->mask;
    }
    return -1;
}

/* The new node's index, or -1 without memory. The caller knows that op is not there yet. */
static int64_t table_add(Table *t, PyObject *op)
{
    if ((uint64_t)t->n * 2 > t->mask && table_grow_slots(t))
        return -1;
    if (t->n == t->capacity) {
        uint32_t capacity = t->capacity ? t->capacity * 2 : 1 << 13;
        Node *nodes = realloc(t->nodes, (size_t)capacity * sizeof *nodes);
        if (!nodes)
            return -1;
        t->nodes = nodes;
        t->capacity = capacity;
    }
    uint32_t h = hash_address(op) & t->mask;
    while (t->slots[h])
        h = (h + 1) & t->mask;
    t->slots[h] = t->n + 1;
    Node *node = &t->nodes[t->n];
    memset(node, 0, sizeof *node);
    node->op = op;
    node->seen_by = -1;
    return t->n++;
}

/* A growing array of plain records. */
typedef struct {
    void *items;
    size_t n, capacity;
} Vec;

static void *vec_push(Vec *v, size_t item_bytes)
{
    if (v->n == v->capacity) {
        size_t capacity = v->capacity ? v->capacity * 2 : 1024;
        void *items = realloc(v->items, capacity * item_bytes);
        if (!items)
            return NULL;
        v->items = items;
        v->capacity = capacity;
    }
    return (char *)v->items + item_bytes * v->n++;
}

static void vec_free(Vec *v)
{
    free(v->items);
    memset(v, 0, sizeof *v);
}

/* Addresses known beforehand, for the whole walk: owners' objects, module globals, loop handles. */
typedef struct {
    PyObject *op;
    int32_t kind, value;
} Special;

enum { S_BARRIER = 1, S_STOP, S_HANDLE };

typedef struct {
    Special *items;
    size_t n, mask;
    uint64_t *seen; /* a bit for each hash that was added: most questions end here, in the cache */
} Specials;

#define SEEN_BITS 19

static Special *special_find(const Specials *s, const PyObject *op)
{
    if (!s->items)
        return NULL;
    size_t h = hash_address(op), bit = h >> (32 - SEEN_BITS);
    if (s->seen && !(s->seen[bit / 64] >> (bit % 64) & 1))
        return NULL;
    h &= s->mask;
    while (s->items[h].op) {
        if (s->items[h].op == op)
            return &s->items[h];
        h = (h + 1) & s->mask;
    }
    return NULL;
}

/* The entry of op, made with this kind and value if it is new; NULL without memory. */
static Special *special_add(Specials *s, PyObject *op, int32_t kind, int32_t value)
{
    Special *known = special_find(s, op);
    if (known)
        return known;
    if (!s->items || s->n * 2 > s->mask) {
        size_t size = s->items ? (s->mask + 1) * 2 : 1 << 12, old = s->items ? s->mask + 1 : 0;
        Special *items = calloc(size, sizeof *items);
        if (!items)
            return NULL;
        for (size_t i = 0; i < old; i++)
            if (s->items[i].op) {
                size_t h = hash_address(s->items[i].op) & (size - 1);
                while (items[h].op)
                    h = (h + 1) & (size - 1);
                items[h] = s->items[i];
            }
        free(s->items);
        s->items = items;
        s->mask = size - 1;
    }
    size_t h = hash_address(op) & s->mask;
    while (s->items[h].op)
        h = (h + 1) & s->mask;
    s->items[h] = (Special){op, kind, value};
    s->n++;
    if (s->seen) {
        size_t bit = hash_address(op) >> (32 - SEEN_BITS);
        s->seen[bit / 64] |= (uint64_t)1 << (bit % 64);
    }
    return &s->items[h];
}

#endif
