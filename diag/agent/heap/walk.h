/* The walk: counting references, labelling objects with their lowest common owner, settling cycles.
 *
 * A slice starts from some owners' objects. Whatever has all its references explained is expanded first; what
 * waits for more may be part of a cycle and is expanded only when nothing else is left; what the whole process
 * shares is never expanded. Labels, holders and the loop's mark only ever change in one direction, so the
 * order of the walk does not show in the result. */
#ifndef DIAG_WALK_H
#define DIAG_WALK_H

#define TOP 0    /* the process: shared by everybody, not expanded */
#define NONE -1
#define LOOP -2  /* only the event loop so far; any other owner's claim wins */
#define HOLDERS 5 /* index 0 is unused; 1 locals, 2 registry, 3 queue, 4 transport */

#if PY_VERSION_HEX >= 0x030C0000
#define IMMORTAL(op) _Py_IsImmortal(op)
#else
#define IMMORTAL(op) 0
#endif

#define N_LEAF 0x80
#define BATCH 16 /* references looked up together, so that their cache misses overlap */

typedef struct { int64_t loop, objects, shared, buffer, waste, holder[HOLDERS], own; } Sum;
typedef struct { int32_t owner; uint16_t type; uint8_t holder; int64_t count, bytes, waste; } BufferSum;
typedef struct { PyObject *base; char *start, *end; int64_t whole; } Visible;
typedef struct { PyObject *op; uint32_t handle, edges; } SoftEdge; /* sorted by op */
typedef struct { PyObject *op; uint32_t first, n; Py_ssize_t edges; } SoftGroup; /* all SoftEdges of one op */
typedef struct { uint32_t node; int32_t owner; } SharedEdge;

typedef struct {
    PyObject_HEAD
    int closed, busy;
    int32_t record;      /* list the objects of this owner and those below it; -1: of nobody */
    size_t record_limit;
    Vec recorded;
    PyObject *root_list, *handle_list, *holder_types; /* strong: keep the borrowed pointers below valid */
    int32_t n_owners, loop_owner;
    int32_t *parent, *depth, *first_root, *last_root;
    Py_ssize_t n_roots;
    int32_t *root_owner;
    Specials special, type_index, buffer_index;
    Specials held_elsewhere; /* expanded in an earlier slice for nothing: an owner outside it holds them */
    Vec types, buffers;
    Table table, boundary;
    Vec boundary_views, views, soft, soft_groups, shared, ready, relabel;
    Sum *sums;
    Py_ssize_t lo, hi; /* the slice at hand, in roots */
    uint32_t cursor;
    int soft_ready, cut, failed, finishing;
    uint32_t partial;       /* the node whose traversal the deadline cut, */
    uint64_t partial_edges; /* and how many of its references were counted */
    double deadline;
    int64_t visited;
} Walk;

typedef struct {
    Walk *w;
    PyObject *skip_a, *skip_b, *skip_c;
    uint64_t seen, limit;
    uint32_t source;
    int32_t label;
    uint8_t holder, soft, from_view;
    int waiting;
    PyObject *batch[BATCH];
} Edge;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

static inline TypeInfo *info_at(Walk *w, uint16_t i)
{
    return (TypeInfo *)w->types.items + i;
}

static int type_of(Walk *w, PyTypeObject *type)
{
    Special *known = special_find(&w->type_index, (PyObject *)type);
    if (known)
        return known->value;
    if (w->types.n > UINT16_MAX)
        return -1;
    TypeInfo *info = vec_push(&w->types, sizeof *info);
    if (!info)
        return -1;
    type_info_fill(info, type);
    PyObject *named = _PyType_Lookup(type, str_holder);
    if (named && PyUnicode_CheckExact(named)) {
        static const char *const names[HOLDERS] = {"", "locals", "registry", "queue", "transport"};
        for (int h = 1; h < HOLDERS; h++)
            if (PyUnicode_CompareWithASCIIString(named, names[h]) == 0)
                info->holder = (uint8_t)h;
    }
    Py_ssize_t n = PyList_GET_SIZE(w->holder_types);
    for (Py_ssize_t i = 0; i < n && !info->holder; i++) {
        PyObject *pair = PyList_GET_ITEM(w->holder_types, i);
        if (PyType_IsSubtype(type, (PyTypeObject *)PyTuple_GET_ITEM(pair, 0)))
            info->holder = (uint8_t)PyLong_AsLong(PyTuple_GET_ITEM(pair, 1));
    }
    int index = (int)w->types.n - 1;
    return special_add(&w->type_index, (PyObject *)type, 0, index) ? index : -1;
}

static int32_t common(Walk *w, int32_t a, int32_t b)
{
    if (a < 0)
        return b;
    if (b < 0)
        return a;
    while (a != b) {
        if (w->depth[a] >= w->depth[b])
            a = w->parent[a];
        else
            b = w->parent[b];
    }
    return a;
}

/* Does every task below this owner take part in the slice at hand? */
static int inside(Walk *w, int32_t label)
{
    return label < 0 || (w->first_root[label] >= w->lo && w->last_root[label] < w->hi);
}

static int64_t node_of(Walk *w, PyObject *op)
{
    int64_t i = table_find(&w->table, op);
    if (i >= 0)
        return i;
    PyTypeObject *tp = Py_TYPE(op);
    int type = type_of(w, tp);
    if (type < 0 || (i = table_add(&w->table, op)) < 0) {
        w->failed = 1;
        return -1;
    }
    if ((++w->visited & 2047) == 0 && now() > w->deadline)
        w->cut = 1; /* one huge list must not hold the lock for longer than promised */
    Node *node = &w->table.nodes[i];
    node->type = (uint16_t)type;
    node->label = NONE;
    if (info_at(w, node->type)->flags & T_STOP)
        node->flags = N_STOP;
    else if (!PyObject_IS_GC(op))
        node->flags = N_LEAF;
    Special *special = special_find(&w->special, op);
    if (special && special->kind == S_BARRIER) {
        node->flags |= N_BARRIER;
        node->label = special->value;
    }
    else if (special && special->kind == S_STOP)
        node->flags |= N_STOP;
    else if (special) {
        /* the loop's own reference and the one in our list, for each time the loop holds it */
        node->found = 2 * (uint32_t)special->value;
        node->flags |= N_SOFT;
    }
    if (w->boundary.n && table_find(&w->boundary, op) >= 0)
        node->found++; /* our own reference */
    return i;
}

static void changed(Walk *w, uint32_t i)
{
    Node *node = &w->table.nodes[i];
    if (!(node->flags & N_EXPANDED) || (node->flags & N_PENDING))
        return;
    uint32_t *slot = vec_push(&w->relabel, sizeof *slot);
    if (!slot) {
        w->failed = 1;
        return;
    }
    node->flags |= N_PENDING;
    *slot = i;
}

static void merge(Walk *w, const Edge *edge, uint32_t i)
{
    Node *node = &w->table.nodes[i];
    int32_t label = node->label;
    uint8_t soft = node->flags & N_SOFT, holder = node->holder, own = info_at(w, node->type)->holder;
    if (edge->label != LOOP || label < 0) {
        /* in the queue is what only the queue leads to: any shorter-lived way in wins */
        if (!holder || (label < 0 && edge->label >= 0) || edge->holder < holder)
            holder = edge->holder;
        if (own)
            holder = own;
    }
    if (edge->label == LOOP) {
        if (label == NONE)
            label = LOOP;
        soft = N_SOFT;
    }
    else {
        label = common(w, label, edge->label);
        if (edge->soft)
            soft = N_SOFT;
    }
    if (label != node->label || soft != (node->flags & N_SOFT) || holder != node->holder) {
        node->label = label;
        node->flags |= soft;
        node->holder = holder;
        changed(w, i);
    }
}

static inline int skipped(const Edge *edge, PyObject *op)
{
    return PyType_Check(op) || op == Py_None || IMMORTAL(op)
        || op == edge->skip_a || op == edge->skip_b || op == edge->skip_c;
}

static int count_one(Edge *edge, PyObject *op)
{
    Walk *w = edge->w;
    if (w->cut) {
        w->partial = edge->source;
        w->partial_edges = edge->seen;
        return -1;
    }
    edge->seen++;
    if (skipped(edge, op))
        return 0;
    int64_t i = node_of(w, op);
    if (i < 0)
        return -1;
    Node *node = &w->table.nodes[i];
    if (node->flags & (N_BARRIER | N_STOP))
        return 0;
    node->found++;
    node->view_found += edge->from_view;
    merge(w, edge, (uint32_t)i);
    int explained = (Py_ssize_t)node->found >= Py_REFCNT(op);
    if (explained && !(node->flags & (N_EXPANDED | N_READY | N_LEAF)) && node->label != TOP) {
        uint32_t *slot = vec_push(&w->ready, sizeof *slot);
        if (!slot)
            goto no_memory;
        *slot = (uint32_t)i;
        node->flags |= N_READY;
    }
    if (edge->label > 0 && node->seen_by != edge->label && (!explained || node->label != edge->label)) {
        SharedEdge *log = vec_push(&w->shared, sizeof *log);
        if (!log)
            goto no_memory;
        *log = (SharedEdge){(uint32_t)i, edge->label};
        node->seen_by = edge->label;
    }
    return 0;
no_memory:
    w->failed = 1;
    return -1;
}

static int flush(Edge *edge)
{
    int failed = 0;
    for (int k = 0; k < edge->waiting && !failed; k++)
        failed = count_one(edge, edge->batch[k]);
    edge->waiting = 0;
    return failed;
}

static int on_count(PyObject *op, void *arg)
{
    Edge *edge = arg;
    __builtin_prefetch(op);
    __builtin_prefetch(&edge->w->table.slots[hash_address(op) & edge->w->table.mask]);
    edge->batch[edge->waiting++] = op;
    return edge->waiting == BATCH ? flush(edge) : 0;
}

static int on_relabel(PyObject *op, void *arg)
{
    Edge *edge = arg;
    if (edge->seen++ >= edge->limit)
        return -1;
    if (skipped(edge, op))
        return 0;
    int64_t i = table_find(&edge->w->table, op);
    if (i >= 0 && !(edge->w->table.nodes[i].flags & (N_BARRIER | N_STOP)))
        merge(edge->w, edge, (uint32_t)i);
    return 0;
}

/* Takes back what an unresolved object had contributed and passes its fate on. */
static int on_withdraw(PyObject *op, void *arg)
{
    Edge *edge = arg;
    Walk *w = edge->w;
    if (edge->seen++ >= edge->limit)
        return -1;
    if (skipped(edge, op))
        return 0;
    int64_t i = table_find(&w->table, op);
    if (i < 0)
        return 0;
    Node *node = &w->table.nodes[i];
    if (node->flags & (N_BARRIER | N_STOP))
        return 0;
    node->found--;
    node->view_found -= edge->from_view;
    if (!(node->flags & N_UNRESOLVED)) {
        uint32_t *slot = vec_push(&w->relabel, sizeof *slot);
        if (!slot) {
            w->failed = 1;
            return -1;
        }
        *slot = (uint32_t)i;
        node->flags |= N_UNRESOLVED;
    }
    return 0;
}

static void traverse(Walk *w, uint32_t i, visitproc visit)
{
    Node *node = &w->table.nodes[i];
    PyObject *op = node->op;
    if (!PyObject_IS_GC(op))
        return;
    traverseproc walk = Py_TYPE(op)->tp_traverse;
    uint32_t kind = info_at(w, node->type)->flags;
    Edge edge;
    memset(&edge, 0, offsetof(Edge, batch));
    edge.w = w;
    edge.source = i;
    edge.limit = i == w->partial ? w->partial_edges : UINT64_MAX;
    edge.label = node->label;
    edge.holder = node->holder;
    edge.soft = (node->flags & N_SOFT) && !(node->flags & N_BARRIER);
    edge.from_view = (kind & T_MANAGED_BUFFER) != 0;
    if (kind & T_FUNCTION) {
        edge.skip_a = ((PyFunctionObject *)op)->func_globals;
        edge.skip_b = ((PyFunctionObject *)op)->func_builtins;
    }
#if PY_VERSION_HEX < 0x030B0000
    else if (kind & T_FRAME) {
        PyFrameObject *frame = (PyFrameObject *)op;
        edge.skip_a = frame->f_globals;
        edge.skip_b = frame->f_builtins;
        if (frame->f_state == FRAME_EXECUTING)
            edge.skip_c = (PyObject *)frame->f_back;
    }
    else if ((kind & T_GENERATOR) && generator_is_executing(op))
        edge.skip_c = (PyObject *)((PyGenObject *)op)->gi_frame; /* the C stack holds it too */
#endif
    if (walk && walk(op, visit, &edge))
        return;
    if ((kind & T_GENERATOR) && generator_is_executing(op) && visit_executing(op, visit, &edge))
        return;
    flush(&edge);
}

static void expand(Walk *w, uint32_t i)
{
    w->table.nodes[i].flags |= N_EXPANDED;
    traverse(w, i, on_count);
}

static void relabel_all(Walk *w)
{
    while (w->relabel.n && !w->failed) {
        uint32_t i = ((uint32_t *)w->relabel.items)[--w->relabel.n];
        w->table.nodes[i].flags &= (uint8_t)~N_PENDING;
        traverse(w, i, on_relabel);
    }
}

static int can_wait_for_a_cycle(Walk *w, Node *node)
{
    if (node->flags & (N_EXPANDED | N_LEAF | N_BARRIER | N_STOP))
        return 0;
    if (node->label == LOOP)
        return info_at(w, node->type)->holder == 4; /* a transport and its protocol refer to each other */
    return node->label > 0 && inside(w, node->label)
        && (w->finishing || !special_find(&w->held_elsewhere, node->op));
}

static int by_address(const void *a, const void *b)
{
    uintptr_t x = (uintptr_t)((const SoftEdge *)a)->op, y = (uintptr_t)((const SoftEdge *)b)->op;
    return (x > y) - (x < y);
}

/* Lets the loop's handles speak for what they hold, where that explains the references still missing. */
static int ask_the_loop(Walk *w)
{
    int asked = 0;
    SoftEdge *all = w->soft.items;
    SoftGroup *groups = w->soft_groups.items;
    uint32_t n = w->table.n;
    if (!w->soft_ready || !w->soft_groups.n)
        return 0;
    for (uint32_t i = 0; i < n && !w->failed; i++) {
        Node *node = &w->table.nodes[i];
        if ((node->flags & (N_BARRIER | N_STOP)) || node->label <= 0
            || (Py_ssize_t)node->found >= Py_REFCNT(node->op))
            continue;
        size_t lo = 0, hi = w->soft_groups.n;
        while (lo < hi) {
            size_t mid = (lo + hi) / 2;
            if ((uintptr_t)groups[mid].op < (uintptr_t)node->op)
                lo = mid + 1;
            else
                hi = mid;
        }
        if (lo == w->soft_groups.n || groups[lo].op != node->op
            || (Py_ssize_t)node->found + groups[lo].edges < Py_REFCNT(node->op))
            continue;
        for (size_t k = groups[lo].first; k < groups[lo].first + groups[lo].n && !w->failed; k++) {
            int64_t h = node_of(w, PyList_GET_ITEM(w->handle_list, all[k].handle));
            if (h < 0)
                return 0;
            Node *handle = &w->table.nodes[h];
            if (handle->flags & N_EXPANDED)
                continue;
            if (handle->label == NONE)
                handle->label = LOOP;
            expand(w, (uint32_t)h);
            if (w->cut)
                return 1;
            asked = 1;
        }
    }
    return asked;
}

static void settle(Walk *w)
{
    uint32_t steps = 0;
    int progress = 1;
    w->cursor = 0;
    while (!w->failed) {
        relabel_all(w);
        if ((++steps & 255) == 0 && now() > w->deadline)
            w->cut = 1;
        if (w->cut)
            return;
        if (w->ready.n) {
            uint32_t i = ((uint32_t *)w->ready.items)[--w->ready.n];
            Node *node = &w->table.nodes[i];
            if (!(node->flags & N_EXPANDED) && node->label != TOP) {
                expand(w, i);
                progress = 1;
            }
            continue;
        }
        while (w->cursor < w->table.n && !can_wait_for_a_cycle(w, &w->table.nodes[w->cursor]))
            w->cursor++;
        if (w->cursor < w->table.n) {
            expand(w, w->cursor++);
            progress = 1;
        }
        else if (ask_the_loop(w)) {
            progress = 1;
            w->cursor = 0;
        }
        else if (progress) {
            progress = 0; /* one more round: labels may have changed behind the cursor */
            w->cursor = 0;
        }
        else
            return;
    }
}

#endif
