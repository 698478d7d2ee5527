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
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "sizes.h"
#include "frames.h"
#include "table.h"
#include "garbage.h"
#include "walk.h"
#include "sums.h"

static int usable(Walk *w)
{
    if (w->busy) /* sort_handles lets go of the GIL */
        PyErr_SetString(PyExc_RuntimeError, "this walk is in use by another thread");
    else if (w->closed || w->failed)
        PyErr_SetString(PyExc_ValueError, "this walk is closed or has failed; start a new one");
    return !w->busy && !w->closed && !w->failed;
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
        if (left <= 0 || start_slice(w, 0, w->n_roots, left, 6)) {
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
    w->busy = 1;
    Py_BEGIN_ALLOW_THREADS
    SoftEdge *all = w->soft.items;
    if (w->soft.n > 1)
        qsort(all, w->soft.n, sizeof(SoftEdge), by_address);
    SoftGroup *group = NULL;
    for (size_t k = 0; k < w->soft.n && !w->failed; k++) {
        if (!group || group->op != all[k].op) {
            if ((group = vec_push(&w->soft_groups, sizeof *group)))
                *group = (SoftGroup){.op = all[k].op, .first = (uint32_t)k};
            else
                w->failed = 1;
        }
        if (group) {
            group->n++;
            group->edges += all[k].edges;
        }
    }
    Py_END_ALLOW_THREADS
    w->busy = 0;
    if (w->failed)
        return PyErr_NoMemory();
    w->soft_ready = 1;
    Py_RETURN_NONE;
}

/* walk(lo, hi, seconds, keep) -> complete? Walks from roots[lo:hi]. A slice that runs out of time counts for
 * nothing unless keep is set: the caller halves it, so that one huge task does not cut its neighbours short. */
static PyObject *Walk_walk(Walk *w, PyObject *args)
{
    Py_ssize_t lo, hi;
    double seconds;
    int keep;
    if (!usable(w) || !PyArg_ParseTuple(args, "nndp", &lo, &hi, &seconds, &keep))
        return NULL;
    if (hi > w->n_roots)
        hi = w->n_roots;
    if (lo < 0 || start_slice(w, lo, hi, seconds, 14))
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
    if (w->cut && !keep && !w->failed)
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
    w->finishing = 1;
    if (start_slice(w, 0, w->n_roots, seconds, 14))
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
    PyObject *rows = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)w->n_owners * 11 * 8), *buffers = PyList_New((Py_ssize_t)w->buffers.n);
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
    int64_t *out = (int64_t *)PyBytes_AS_STRING(rows);
    for (int32_t i = 0; i < w->n_owners; i++) {
        Sum *s = &w->sums[i];
        *out++ = s->own;
        *out++ = s->holder[0];
        *out++ = s->loop;
        *out++ = s->objects;
        *out++ = s->shared;
        *out++ = s->buffer;
        *out++ = s->waste;
        for (int h = 1; h < HOLDERS; h++)
            *out++ = s->holder[h];
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
    Vec *vecs[] = {&w->types, &w->buffers, &w->boundary_views, &w->views, &w->soft, &w->soft_groups, &w->shared, &w->ready,
                   &w->relabel, &w->recorded};
    for (size_t i = 0; i < sizeof vecs / sizeof *vecs; i++)
        vec_free(vecs[i]);
    free(w->special.seen);
    free(w->special.items);
    free(w->held_elsewhere.items);
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
    w->special.seen = calloc(((size_t)1 << SEEN_BITS) / 64, sizeof(uint64_t));
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
    if (!w->special.seen || !w->parent || !w->depth || !w->first_root || !w->last_root || !w->root_owner || !w->sums
        || table_clear(&w->boundary, 8)) {
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
     "walk(lo, hi, seconds, keep) -> bool: one slice, from roots[lo:hi]; False when cut off."},
    {"finish", (PyCFunction)Walk_finish, METH_VARARGS,
     "finish(seconds) -> bool: what the slices share; False when cut off."},
    {"results", (PyCFunction)Walk_results, METH_NOARGS,
     "results() -> (eleven int64 an owner: own, retained, loop, objects, shared, buffer, waste, locals, registry,"
     " queue, transport,"
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
    {"garbage", heap_garbage, METH_O,
     "garbage(gc.get_objects()) -> (bytes, objects) that a full collection would free."},
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
