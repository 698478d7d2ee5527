/* The native heap walk: who would free what.
 *
 * A Walk is given the owner tree and the objects that stand for owners. Each slice follows references from
 * some of them, counts for every object how many of its references it has seen, and labels it with the
 * lowest common ancestor of the owners that refer to it. An object whose reference count is fully explained
 * belongs to its label; one that has more references than were seen is held by somebody outside, and so is
 * everything below it. Nothing is expanded that is already known to be shared by the whole process, and
 * objects whose references are all explained go first, so a cache that everyone points to is never entered.
 *
 * Every call holds the GIL from start to end and allocates no tracked object, so the heap stands still and no
 * collection can start; callers let go of the GIL between calls. Nothing is changed in any object; the only
 * references taken are on types, and on objects shared between slices (see boundary), until close().
 *
 * Cost: about 100 ns and 40 bytes an object.
 */
#define PY_SSIZE_T_CLEAN
#define Py_BUILD_CORE 1
#include <Python.h>
#if PY_VERSION_HEX >= 0x030E0000 || PY_VERSION_HEX < 0x030A0000 || defined(Py_GIL_DISABLED)
#error "the native engine reads interpreter internals of CPython 3.10 to 3.13 with the GIL; elsewhere the fallback serves"
#endif
#if PY_VERSION_HEX >= 0x030B0000
#include "internal/pycore_frame.h"
#include "internal/pycore_dict.h"
#include "internal/pycore_object.h"
#else
#include <frameobject.h>
#endif
#undef Py_BUILD_CORE
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "sizes.h"
#include "frames.h"
#include "table.h"

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

typedef struct { int64_t loop, objects, shared, buffer, waste, holder[HOLDERS], own; } Sum;
typedef struct { int32_t owner; uint16_t type; uint8_t holder; int64_t count, bytes, waste; } BufferSum;
typedef struct { PyObject *base; char *start, *end; int64_t whole; } Visible;
typedef struct { PyObject *op; uint32_t handle, edges; } SoftEdge;
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
    Vec types, buffers;
    Table table, boundary;
    Vec boundary_views, views, soft, shared, ready, relabel;
    Sum *sums;
    Py_ssize_t lo, hi; /* the slice at hand, in roots */
    uint32_t cursor;
    int soft_ready, cut, failed;
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

static int on_count(PyObject *op, void *arg)
{
    Edge *edge = arg;
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
    Edge edge = {.w = w, .source = i, .limit = i == w->partial ? w->partial_edges : UINT64_MAX, .label = node->label, .holder = node->holder,
                 .soft = (node->flags & N_SOFT) && !(node->flags & N_BARRIER),
                 .from_view = (kind & T_MANAGED_BUFFER) != 0};
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
    if ((kind & T_GENERATOR) && generator_is_executing(op))
        visit_executing(op, visit, &edge);
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
    return node->label > 0 && inside(w, node->label);
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
    uint32_t n = w->table.n;
    if (!w->soft_ready || !w->soft.n)
        return 0;
    for (uint32_t i = 0; i < n && !w->failed; i++) {
        Node *node = &w->table.nodes[i];
        if ((node->flags & (N_BARRIER | N_STOP)) || node->label <= 0
            || (Py_ssize_t)node->found >= Py_REFCNT(node->op))
            continue;
        size_t lo = 0, hi = w->soft.n;
        while (lo < hi) {
            size_t mid = (lo + hi) / 2;
            if ((uintptr_t)all[mid].op < (uintptr_t)node->op)
                lo = mid + 1;
            else
                hi = mid;
        }
        Py_ssize_t edges = 0;
        for (size_t k = lo; k < w->soft.n && all[k].op == node->op; k++)
            edges += all[k].edges;
        if (!edges || (Py_ssize_t)node->found + edges < Py_REFCNT(node->op))
            continue;
        PyObject *op = node->op; /* expanding below may move the nodes */
        for (size_t k = lo; k < w->soft.n && all[k].op == op && !w->failed; k++) {
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

static void mark_unresolved(Walk *w)
{
    w->relabel.n = 0;
    for (uint32_t i = 0; i < w->table.n; i++) {
        Node *node = &w->table.nodes[i];
        if ((node->flags & (N_BARRIER | N_STOP)) || (Py_ssize_t)node->found >= Py_REFCNT(node->op))
            continue;
        uint32_t *slot = vec_push(&w->relabel, sizeof *slot);
        if (!slot) {
            w->failed = 1;
            return;
        }
        node->flags |= N_UNRESOLVED;
        *slot = i;
    }
    while (w->relabel.n && !w->failed) {
        uint32_t i = ((uint32_t *)w->relabel.items)[--w->relabel.n];
        if (w->table.nodes[i].flags & N_EXPANDED)
            traverse(w, i, on_withdraw);
    }
}

/* Objects that tasks of other slices may explain are kept, with a reference, for the last slice. */
static int goes_to_boundary(Walk *w, Node *node)
{
    if (!(node->flags & N_UNRESOLVED) || !node->found || node->label <= 0)
        return 0;
    int32_t top = node->label;
    while (w->parent[top] > 0)
        top = w->parent[top];
    return !inside(w, top);
}

static int keep_boundary(Walk *w, Node *node)
{
    int64_t i = table_find(&w->boundary, node->op);
    uint32_t ours = i >= 0; /* our reference was counted when the node was made */
    if (node->found <= ours)
        return 0;
    if (i < 0) {
        if ((i = table_add(&w->boundary, node->op)) < 0)
            return -1;
        Py_INCREF(node->op);
        w->boundary.nodes[i].label = NONE;
        w->boundary.nodes[i].holder = node->holder;
    }
    else if (node->holder < w->boundary.nodes[i].holder)
        w->boundary.nodes[i].holder = node->holder;
    Node *kept = &w->boundary.nodes[i];
    kept->found += node->found - ours;
    kept->view_found += node->view_found;
    kept->label = common(w, kept->label, node->label);
    kept->flags |= node->flags & N_SOFT;
    return 0;
}

static BufferSum *buffer_sum(Walk *w, int32_t owner, uint16_t type, uint8_t holder)
{
    /* the three numbers packed as if they were an address: the table only compares and hashes it */
    uintptr_t key = ((uintptr_t)owner << 24 | (uintptr_t)type << 8 | holder) << 4;
    Special *at = special_add(&w->buffer_index, (PyObject *)key, 1, (int32_t)w->buffers.n);
    if (!at)
        return NULL;
    if ((size_t)at->value == w->buffers.n) {
        BufferSum *sum = vec_push(&w->buffers, sizeof *sum);
        if (!sum)
            return NULL;
        *sum = (BufferSum){.owner = owner, .type = type, .holder = holder};
    }
    return (BufferSum *)w->buffers.items + at->value;
}

static int by_base(const void *a, const void *b)
{
    const Visible *x = a, *y = b;
    if (x->base != y->base)
        return (uintptr_t)x->base < (uintptr_t)y->base ? -1 : 1;
    return (x->start > y->start) - (x->start < y->start);
}

static int32_t owner_of(Walk *w, const Node *node)
{
    return node->label == LOOP ? w->loop_owner : node->label;
}

static void add_views(Walk *w, int last)
{
    Visible *v = w->views.items;
    size_t n = w->views.n;
    if (n > 1)
        qsort(v, n, sizeof *v, by_base);
    for (size_t i = 0, j; i < n && !w->failed; i = j) {
        int64_t shown = 0;
        char *end = NULL;
        for (j = i; j < n && v[j].base == v[i].base; j++) {
            char *start = v[j].start > end ? v[j].start : end;
            if (v[j].end > start) {
                shown += v[j].end - start;
                end = v[j].end;
            }
        }
        int64_t at = table_find(&w->table, v[i].base);
        if (at < 0)
            continue;
        Node *base = &w->table.nodes[at];
        int32_t owner = owner_of(w, base);
        if (base->flags & N_UNRESOLVED) {
            if (!last && table_find(&w->boundary, base->op) >= 0)
                for (size_t k = i; k < j; k++) {
                    Visible *kept = vec_push(&w->boundary_views, sizeof *kept);
                    if (!kept)
                        w->failed = 1;
                    else
                        *kept = v[k];
                }
            continue;
        }
        if (owner <= 0 || base->found != base->view_found || v[i].whole <= shown)
            continue;
        w->sums[owner].waste += v[i].whole - shown;
        BufferSum *sum = buffer_sum(w, owner, base->type, base->holder);
        if (sum)
            sum->waste += v[i].whole - shown;
        else
            w->failed = 1;
    }
}

static void add_up(Walk *w, int last, int count_loop)
{
    for (uint32_t i = 0; i < w->table.n && !w->failed; i++) {
        Node *node = &w->table.nodes[i];
        if (!last && goes_to_boundary(w, node) && keep_boundary(w, node))
            w->failed = 1;
        if (node->flags & (N_UNRESOLVED | N_STOP))
            continue;
        int64_t kept = last || !w->boundary.n ? -1 : table_find(&w->boundary, node->op);
        if (kept >= 0)
            w->boundary.nodes[kept].label = TOP; /* it moved between slices: count it once, here */
        TypeInfo *info = info_at(w, node->type);
        int32_t owner = owner_of(w, node);
        if (node->label == LOOP && !count_loop)
            continue;
        if ((info->flags & T_VIEW) && !(node->flags & N_BARRIER)) {
            PyMemoryViewObject *mv = (PyMemoryViewObject *)node->op;
            if (mv->mbuf && mv->mbuf->master.obj && !(mv->flags & _Py_MEMORYVIEW_RELEASED)
                && (mv->flags & _Py_MEMORYVIEW_C)) {
                Visible *v = vec_push(&w->views, sizeof *v);
                if (!v)
                    w->failed = 1;
                else
                    *v = (Visible){mv->mbuf->master.obj, mv->view.buf, (char *)mv->view.buf + mv->view.len,
                                   mv->mbuf->master.len};
            }
        }
        /* an owner's own object is counted once, in the slice that starts from it */
        if (owner <= 0 || ((node->flags & N_BARRIER) && !(node->flags & N_EXPANDED)))
            continue;
        Py_ssize_t bytes = object_bytes(info, node->op);
        Sum *sum = &w->sums[owner];
        uint8_t holder = node->holder ? node->holder : 1;
        sum->own += bytes;
        sum->objects++;
        sum->holder[holder] += bytes;
        if (node->flags & N_SOFT && !(node->flags & N_BARRIER))
            sum->loop += bytes;
        if (info->flags & T_BUFFER) {
            sum->buffer += bytes;
            BufferSum *b = buffer_sum(w, owner, node->type, holder);
            if (b) {
                b->count++;
                b->bytes += bytes;
            }
            else
                w->failed = 1;
        }
        node->holder = holder;
        if (w->record >= 0 && w->recorded.n < w->record_limit && common(w, owner, w->record) == w->record) {
            PyObject **slot = vec_push(&w->recorded, sizeof *slot);
            if (slot)
                *slot = node->op;
        }
    }
    SharedEdge *log = w->shared.items;
    for (size_t k = 0; k < w->shared.n; k++) {
        Node *node = &w->table.nodes[log[k].node];
        int32_t owner = node->flags & N_UNRESOLVED ? TOP : node->label;
        if (owner == log[k].owner)
            continue;
        Py_ssize_t bytes = object_bytes(info_at(w, node->type), node->op);
        for (int32_t up = log[k].owner; up > 0 && up != owner; up = w->parent[up])
            w->sums[up].shared += bytes;
    }
    add_views(w, last);
}

static int start_slice(Walk *w, Py_ssize_t lo, Py_ssize_t hi, double seconds)
{
    w->lo = lo;
    w->hi = hi;
    w->cut = 0;
    w->partial = UINT32_MAX;
    w->deadline = now() + seconds;
    w->ready.n = w->relabel.n = w->shared.n = w->views.n = 0;
    return table_clear(&w->table);
}

static PyObject *end_slice(Walk *w, int last, int count_loop)
{
    if (!w->failed)
        mark_unresolved(w);
    if (!w->failed)
        add_up(w, last, count_loop);
    if (w->failed)
        return PyErr_NoMemory();
    return PyBool_FromLong(!w->cut);
}

static int usable(Walk *w)
{
    if (w->closed || w->failed)
        PyErr_SetString(PyExc_ValueError, "this walk is closed or has failed; start a new one");
    return !w->closed && !w->failed;
}

static PyObject *Walk_add_globals(Walk *w, PyObject *dict)
{
    if (!usable(w))
        return NULL;
    if (!PyDict_Check(dict))
        return PyErr_Format(PyExc_TypeError, "a module's dict is wanted");
    PyObject *key, *value;
    Py_ssize_t at = 0;
    if (!special_add(&w->special, dict, S_STOP, 0))
        return PyErr_NoMemory();
    while (PyDict_Next(dict, &at, &key, &value))
        if (PyObject_IS_GC(value) && !PyType_Check(value) && !special_add(&w->special, value, S_STOP, 0))
            return PyErr_NoMemory();
    Py_RETURN_NONE;
}

static PyObject *Walk_add_stop(Walk *w, PyObject *op)
{
    if (!usable(w))
        return NULL;
    Special *s = special_add(&w->special, op, S_STOP, 0);
    if (!s)
        return PyErr_NoMemory();
    s->kind = S_STOP;
    Py_RETURN_NONE;
}

/* index_handles(lo, hi, seconds) -> finished in time? One handle at a time: what it alone holds is walked
 * through, what it holds together with others is noted by address. */
static PyObject *Walk_index_handles(Walk *w, PyObject *args)
{
    Py_ssize_t lo, hi;
    double seconds;
    if (!usable(w) || !PyArg_ParseTuple(args, "nnd", &lo, &hi, &seconds))
        return NULL;
    Py_ssize_t n = PyList_GET_SIZE(w->handle_list);
    double deadline = now() + seconds;
    int complete = 1;
    for (Py_ssize_t h = lo; h < hi && h < n && !w->failed; h++) {
        PyObject *handle = PyList_GET_ITEM(w->handle_list, h);
        Special *special = special_find(&w->special, handle);
        if (!special || special->kind != S_HANDLE)
            continue;
        double left = deadline - now();
        if (left <= 0 || start_slice(w, 0, w->n_roots, left)) {
            complete = 0;
            break;
        }
        int64_t first = node_of(w, handle);
        if (first < 0)
            break;
        w->table.nodes[first].label = LOOP;
        w->table.nodes[first].holder = 1;
        expand(w, (uint32_t)first);
        settle(w);
        complete &= !w->cut;
        for (uint32_t i = 0; i < w->table.n; i++) {
            Node *node = &w->table.nodes[i];
            if ((node->flags & (N_BARRIER | N_STOP)) || i == first
                || (Py_ssize_t)node->found >= Py_REFCNT(node->op))
                continue;
            SoftEdge *edge = vec_push(&w->soft, sizeof *edge);
            if (!edge)
                w->failed = 1;
            else
                *edge = (SoftEdge){node->op, (uint32_t)h, node->found};
        }
        PyObject *done = end_slice(w, 1, 1);
        if (!done)
            return NULL;
        Py_DECREF(done);
    }
    if (w->failed)
        return PyErr_NoMemory();
    return PyBool_FromLong(complete);
}

static PyObject *Walk_sort_handles(Walk *w, PyObject *Py_UNUSED(none))
{
    if (!usable(w))
        return NULL;
    if (w->busy) {
        PyErr_SetString(PyExc_RuntimeError, "this walk is in use by another thread");
        return NULL;
    }
    w->busy = 1;
    Py_BEGIN_ALLOW_THREADS
    if (w->soft.n > 1)
        qsort(w->soft.items, w->soft.n, sizeof(SoftEdge), by_address);
    Py_END_ALLOW_THREADS
    w->busy = 0;
    w->soft_ready = 1;
    Py_RETURN_NONE;
}

/* walk(lo, hi, seconds) -> complete? Walks from roots[lo:hi]. A slice of several roots that runs out of time
 * counts for nothing: the caller halves it, so that one huge task does not cut its neighbours short. */
static PyObject *Walk_walk(Walk *w, PyObject *args)
{
    Py_ssize_t lo, hi;
    double seconds;
    if (!usable(w) || !PyArg_ParseTuple(args, "nnd", &lo, &hi, &seconds))
        return NULL;
    if (hi > w->n_roots)
        hi = w->n_roots;
    if (lo < 0 || start_slice(w, lo, hi, seconds))
        return PyErr_NoMemory();
    for (Py_ssize_t r = lo; r < hi && !w->failed && !w->cut; r++) {
        int64_t i = node_of(w, PyList_GET_ITEM(w->root_list, r));
        if (i < 0)
            break;
        Node *node = &w->table.nodes[i];
        uint8_t own = info_at(w, node->type)->holder;
        node->holder = own ? own : 1;
        if (!(node->flags & N_EXPANDED))
            expand(w, (uint32_t)i);
    }
    settle(w);
    if (w->cut && hi - lo > 1 && !w->failed)
        Py_RETURN_FALSE;
    return end_slice(w, lo == 0 && hi == w->n_roots, 0);
}

/* finish(seconds) -> complete? Walks from what several slices shared. */
static PyObject *Walk_finish(Walk *w, PyObject *args)
{
    double seconds;
    if (!usable(w) || !PyArg_ParseTuple(args, "d", &seconds))
        return NULL;
    if (!w->boundary.n)
        Py_RETURN_TRUE;
    if (start_slice(w, 0, w->n_roots, seconds))
        return PyErr_NoMemory();
    for (uint32_t b = 0; b < w->boundary.n; b++) {
        Node *kept = &w->boundary.nodes[b];
        int64_t i = node_of(w, kept->op); /* counts our own reference */
        if (i < 0)
            break;
        Node *node = &w->table.nodes[i];
        node->found += kept->found;
        node->view_found += kept->view_found;
        node->label = kept->label;
        node->holder = kept->holder;
        node->flags |= kept->flags & N_SOFT;
        if (kept->label > 0 && (Py_ssize_t)node->found >= Py_REFCNT(node->op)
            && !(node->flags & (N_LEAF | N_READY))) {
            uint32_t *slot = vec_push(&w->ready, sizeof *slot);
            if (!slot) {
                w->failed = 1;
                break;
            }
            *slot = (uint32_t)i;
            node->flags |= N_READY;
        }
    }
    settle(w);
    for (size_t k = 0; k < w->boundary_views.n && !w->failed; k++) {
        Visible *v = vec_push(&w->views, sizeof *v);
        if (!v)
            w->failed = 1;
        else
            *v = ((Visible *)w->boundary_views.items)[k];
    }
    return end_slice(w, 1, 0);
}

static PyObject *Walk_results(Walk *w, PyObject *Py_UNUSED(none))
{
    if (!usable(w))
        return NULL;
    PyObject *rows = PyList_New(w->n_owners), *buffers = PyList_New((Py_ssize_t)w->buffers.n);
    if (!rows || !buffers)
        goto fail;
    for (int32_t i = 0; i < w->n_owners; i++) /* holder[0] is nobody's: it carries retained bytes upwards */
        w->sums[i].holder[0] = w->sums[i].own;
    for (int32_t i = w->n_owners - 1; i > 0; i--) { /* children come after their parents */
        Sum *from = &w->sums[i], *to = &w->sums[w->parent[i]];
        to->loop += from->loop;
        to->objects += from->objects;
        to->buffer += from->buffer;
        to->waste += from->waste;
        for (int h = 0; h < HOLDERS; h++)
            to->holder[h] += from->holder[h];
    }
    w->closed = 1; /* summing twice would count twice */
    for (int32_t i = 0; i < w->n_owners; i++) {
        Sum *s = &w->sums[i];
        PyObject *row = Py_BuildValue("(LLLLLLLLLLL)", s->own, s->holder[0], s->loop, s->objects, s->shared,
                                      s->buffer, s->waste, s->holder[1], s->holder[2], s->holder[3],
                                      s->holder[4]);
        if (!row)
            goto fail;
        PyList_SET_ITEM(rows, i, row);
    }
    for (size_t k = 0; k < w->buffers.n; k++) {
        BufferSum *b = (BufferSum *)w->buffers.items + k;
        PyObject *row = Py_BuildValue("(iOiLLL)", b->owner, info_at(w, b->type)->type, b->holder, b->count,
                                      b->bytes, b->waste);
        if (!row)
            goto fail;
        PyList_SET_ITEM(buffers, (Py_ssize_t)k, row);
    }
    return Py_BuildValue("(NNL)", rows, buffers, w->visited);
fail:
    Py_XDECREF(rows);
    Py_XDECREF(buffers);
    return NULL;
}

static PyObject *Walk_record(Walk *w, PyObject *args)
{
    int owner;
    Py_ssize_t limit;
    if (!usable(w) || !PyArg_ParseTuple(args, "in", &owner, &limit))
        return NULL;
    if (owner < 0 || owner >= w->n_owners || limit < 0)
        return PyErr_Format(PyExc_ValueError, "no such owner");
    w->record = owner;
    w->record_limit = (size_t)limit;
    Py_RETURN_NONE;
}

static PyObject *Walk_recorded(Walk *w, PyObject *Py_UNUSED(none))
{
    PyObject *all = PySet_New(NULL);
    for (size_t i = 0; all && i < w->recorded.n; i++) {
        PyObject *id = PyLong_FromVoidPtr(((PyObject **)w->recorded.items)[i]);
        if (!id || PySet_Add(all, id))
            Py_CLEAR(all);
        Py_XDECREF(id);
    }
    return all;
}

/* close() -> the objects that were kept between slices: whoever drops the list may run their destructors. */
static PyObject *Walk_close(Walk *w, PyObject *Py_UNUSED(none))
{
    PyObject *kept = PyList_New((Py_ssize_t)w->boundary.n);
    if (!kept)
        return NULL;
    for (uint32_t i = 0; i < w->boundary.n; i++)
        PyList_SET_ITEM(kept, i, w->boundary.nodes[i].op);
    w->boundary.n = 0;
    w->closed = 1;
    Py_CLEAR(w->root_list);
    Py_CLEAR(w->handle_list);
    return kept;
}

static void Walk_dealloc(Walk *w)
{
    PyTypeObject *type = Py_TYPE(w);
    for (uint32_t i = 0; i < w->boundary.n; i++)
        Py_DECREF(w->boundary.nodes[i].op);
    for (size_t i = 0; i < w->types.n; i++)
        Py_DECREF(info_at(w, (uint16_t)i)->type);
    Py_XDECREF(w->root_list);
    Py_XDECREF(w->handle_list);
    Py_XDECREF(w->holder_types);
    table_free(&w->table);
    table_free(&w->boundary);
    Vec *vecs[] = {&w->types, &w->buffers, &w->boundary_views, &w->views, &w->soft, &w->shared, &w->ready,
                   &w->relabel, &w->recorded};
    for (size_t i = 0; i < sizeof vecs / sizeof *vecs; i++)
        vec_free(vecs[i]);
    free(w->special.items);
    free(w->type_index.items);
    free(w->buffer_index.items);
    free(w->parent);
    free(w->depth);
    free(w->first_root);
    free(w->last_root);
    free(w->root_owner);
    free(w->sums);
    PyObject_Free(w);
    Py_DECREF(type);
}

static int fill_tree(Walk *w, PyObject *parents, PyObject *owners)
{
    w->n_owners = (int32_t)PyList_GET_SIZE(parents);
    w->n_roots = PyList_GET_SIZE(w->root_list);
    if (w->n_owners < 1 || PyList_GET_SIZE(owners) != w->n_roots || w->loop_owner < 0
        || w->loop_owner >= w->n_owners) {
        PyErr_SetString(PyExc_ValueError, "parents, roots and owners do not fit each other");
        return -1;
    }
    size_t n = (size_t)w->n_owners;
    w->parent = malloc(n * sizeof(int32_t));
    w->depth = calloc(n, sizeof(int32_t));
    w->first_root = malloc(n * sizeof(int32_t));
    w->last_root = malloc(n * sizeof(int32_t));
    w->root_owner = malloc((size_t)(w->n_roots + 1) * sizeof(int32_t));
    w->sums = calloc(n, sizeof(Sum));
    if (!w->parent || !w->depth || !w->first_root || !w->last_root || !w->root_owner || !w->sums
        || table_clear(&w->boundary)) {
        PyErr_NoMemory();
        return -1;
    }
    for (int32_t i = 0; i < w->n_owners; i++) {
        long p = PyLong_AsLong(PyList_GET_ITEM(parents, i));
        if (PyErr_Occurred() || (i ? p < 0 || p >= i : p != -1)) {
            PyErr_SetString(PyExc_ValueError, "parents must come before their children; the first is -1");
            return -1;
        }
        w->parent[i] = (int32_t)p;
        w->depth[i] = i ? w->depth[p] + 1 : 0;
        w->first_root[i] = INT32_MAX;
        w->last_root[i] = -1;
    }
    for (Py_ssize_t r = 0; r < w->n_roots; r++) {
        long o = PyLong_AsLong(PyList_GET_ITEM(owners, r));
        if (PyErr_Occurred() || o < 0 || o >= w->n_owners) {
            PyErr_SetString(PyExc_ValueError, "a root's owner is not in the tree");
            return -1;
        }
        w->root_owner[r] = (int32_t)o;
        for (int32_t up = (int32_t)o; up >= 0 && w->last_root[up] < r; up = w->parent[up]) {
            if (w->first_root[up] > r)
                w->first_root[up] = (int32_t)r;
            w->last_root[up] = (int32_t)r;
        }
        if (!special_add(&w->special, PyList_GET_ITEM(w->root_list, r), S_BARRIER, (int32_t)o)) {
            PyErr_NoMemory();
            return -1;
        }
    }
    Py_ssize_t handles = PyList_GET_SIZE(w->handle_list);
    for (Py_ssize_t h = 0; h < handles; h++) {
        Special *s = special_add(&w->special, PyList_GET_ITEM(w->handle_list, h), S_HANDLE, 0);
        if (!s) {
            PyErr_NoMemory();
            return -1;
        }
        if (s->kind == S_HANDLE)
            s->value++;
    }
    return 0;
}

static PyObject *Walk_new(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(kwargs))
{
    PyObject *parents, *roots, *owners, *handles, *holders;
    int loop_owner;
    if (!PyArg_ParseTuple(args, "O!O!O!O!O!i", &PyList_Type, &parents, &PyList_Type, &roots, &PyList_Type,
                          &owners, &PyList_Type, &handles, &PyList_Type, &holders, &loop_owner))
        return NULL;
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(holders); i++) {
        PyObject *pair = PyList_GET_ITEM(holders, i);
        if (!PyTuple_Check(pair) || PyTuple_GET_SIZE(pair) != 2 || !PyType_Check(PyTuple_GET_ITEM(pair, 0))
            || !PyLong_Check(PyTuple_GET_ITEM(pair, 1)))
            return PyErr_Format(PyExc_TypeError, "holder types are (type, number) pairs");
    }
    Walk *w = (Walk *)type->tp_alloc(type, 0);
    if (!w)
        return NULL;
    Py_INCREF(roots);
    Py_INCREF(handles);
    Py_INCREF(holders);
    w->root_list = roots;
    w->handle_list = handles;
    w->holder_types = holders;
    w->loop_owner = loop_owner;
    w->record = -1;
    if (fill_tree(w, parents, owners)) {
        Py_DECREF(w);
        return NULL;
    }
    return (PyObject *)w;
}

static PyMethodDef Walk_methods[] = {
    {"add_globals", (PyCFunction)Walk_add_globals, METH_O,
     "add_globals(module_dict): what modules hold is nobody's task."},
    {"add_stop", (PyCFunction)Walk_add_stop, METH_O, "add_stop(object): never enter it."},
    {"index_handles", (PyCFunction)Walk_index_handles, METH_VARARGS,
     "index_handles(lo, hi, seconds) -> bool: what the loop's handles hold; False when cut off."},
    {"sort_handles", (PyCFunction)Walk_sort_handles, METH_NOARGS,
     "sort_handles(): closes the index; lets go of the GIL."},
    {"walk", (PyCFunction)Walk_walk, METH_VARARGS,
     "walk(lo, hi, seconds) -> bool: one slice, from roots[lo:hi]; False when cut off."},
    {"finish", (PyCFunction)Walk_finish, METH_VARARGS,
     "finish(seconds) -> bool: what the slices share; False when cut off."},
    {"results", (PyCFunction)Walk_results, METH_NOARGS,
     "results() -> ([(own, retained, loop, objects, shared, buffer, waste, locals, registry, queue, transport)],"
     " [(owner, type, holder, count, bytes, waste)], visited): all but own and shared summed over the subtree; ends the walk"},
    {"record", (PyCFunction)Walk_record, METH_VARARGS,
     "record(owner, limit): note the ids of that owner's objects, and of those below it."},
    {"recorded", (PyCFunction)Walk_recorded, METH_NOARGS, "recorded() -> set of ids"},
    {"close", (PyCFunction)Walk_close, METH_NOARGS,
     "close() -> list: the objects held between slices; drop it where their destructors may run."},
    {NULL, NULL, 0, NULL}};

static PyType_Slot Walk_slots[] = {
    {Py_tp_new, Walk_new}, {Py_tp_dealloc, Walk_dealloc}, {Py_tp_methods, Walk_methods},
    {Py_tp_doc, "Walk(parents, roots, owners, handles, holder_types, loop_owner)"}, {0, NULL}};

/* Not tracked by the collector on purpose: a tracked holder would make what it holds look reachable. */
static PyType_Spec Walk_spec = {"diag.agent.heap._heap.Walk", sizeof(Walk), 0, Py_TPFLAGS_DEFAULT, Walk_slots};

static PyObject *heap_object_bytes(PyObject *Py_UNUSED(module), PyObject *op)
{
    TypeInfo info;
    type_info_fill(&info, Py_TYPE(op));
    Py_ssize_t bytes = object_bytes(&info, op);
    Py_DECREF(info.type);
    return PyLong_FromSsize_t(bytes);
}

static PyObject *heap_frame_locals(PyObject *Py_UNUSED(module), PyObject *op)
{
    int takes = PyGen_CheckExact(op) || PyCoro_CheckExact(op) || PyAsyncGen_CheckExact(op);
#if PY_VERSION_HEX < 0x030B0000
    takes |= Py_IS_TYPE(op, &PyFrame_Type); /* there the frame is an object between the two */
#endif
    if (!takes)
        return PyErr_Format(PyExc_TypeError, "a generator or coroutine is wanted");
    PyObject *found = PyList_New(0);
    return found && name_locals(op, found) ? (Py_DECREF(found), NULL) : found;
}

static PyMethodDef heap_methods[] = {
    {"frame_locals", heap_frame_locals, METH_O,
     "frame_locals(generator or coroutine) -> [(name, value)]; makes neither a frame nor a dict of it."},
    {"object_bytes", heap_object_bytes, METH_O,
     "object_bytes(object) -> int: what it asked of the allocator, headers and inline values included."},
    {NULL, NULL, 0, NULL}};

static struct PyModuleDef heap_module = {
    PyModuleDef_HEAD_INIT, "_heap", "The native heap walk; see engine.py.", -1, heap_methods, 0, 0, 0, 0};

PyMODINIT_FUNC PyInit__heap(void)
{
    PyObject *module = PyModule_Create(&heap_module), *walk = PyType_FromSpec(&Walk_spec);
    str_sizeof = PyUnicode_InternFromString("__sizeof__");
    str_holder = PyUnicode_InternFromString("__diag_holder__");
    empty_tuple = PyTuple_New(0);
    PyObject *bytes = PyBytes_FromString(""), *view = bytes ? PyMemoryView_FromObject(bytes) : NULL;
    if (!module || !walk || !str_sizeof || !str_holder || !empty_tuple || !view)
        return NULL;
    managed_buffer_type = Py_TYPE(((PyMemoryViewObject *)view)->mbuf);
    Py_DECREF(view);
    Py_DECREF(bytes);
    PyObject *found = _PyType_Lookup(&PyBaseObject_Type, str_sizeof);
    if (found && Py_IS_TYPE(found, &PyMethodDescr_Type))
        base_sizeof = ((PyMethodDescrObject *)found)->d_method->ml_meth;
    if (PyModule_AddObject(module, "Walk", walk) < 0)
        return NULL;
    return module;
}
