/* What a collection would free, worked out without collecting.
 *
 * The collector's own reasoning over the same objects: a tracked object with more references than the tracked
 * objects account for is held from outside; what such objects reach is alive; the rest is garbage, with
 * the untracked objects that only it refers to. Nothing is changed in any object. One go under the GIL, about as
 * long as two full collections. */
#ifndef DIAG_GARBAGE_H
#define DIAG_GARBAGE_H

typedef struct { Table table; Vec stack; int failed; } Census;

static int census_count(PyObject *op, void *arg)
{
    Census *c = arg;
    int64_t i = table_find(&c->table, op);
    if (i < 0) {
        if ((i = table_add(&c->table, op)) < 0) {
            c->failed = 1;
            return -1;
        }
        if (PyObject_IS_GC(op)) { /* a container the collector does not track: look into it as well */
            uint32_t *slot = vec_push(&c->stack, sizeof *slot);
            if (!slot) {
                c->failed = 1;
                return -1;
            }
            *slot = (uint32_t)i;
        }
    }
    c->table.nodes[i].found++;
    return 0;
}

static int census_reach(PyObject *op, void *arg)
{
    Census *c = arg;
    int64_t i = table_find(&c->table, op);
    if (i < 0 || (c->table.nodes[i].flags & N_EXPANDED))
        return 0;
    uint32_t *slot = vec_push(&c->stack, sizeof *slot);
    if (!slot) {
        c->failed = 1;
        return -1;
    }
    c->table.nodes[i].flags |= N_EXPANDED;
    *slot = (uint32_t)i;
    return 0;
}

static void census_visit(Census *c, uint32_t i, visitproc visit)
{
    PyObject *op = c->table.nodes[i].op;
    if (PyObject_IS_GC(op) && Py_TYPE(op)->tp_traverse)
        Py_TYPE(op)->tp_traverse(op, visit, c);
#if PY_VERSION_HEX >= 0x030D0000
    /* A __dict__ that was asked for is tracked, but tp_traverse shows the shared values in its place. */
    if ((Py_TYPE(op)->tp_flags & Py_TPFLAGS_INLINE_VALUES) && _PyObject_InlineValues(op)->valid) {
        PyObject *dict = (PyObject *)_PyObject_ManagedDictPointer(op)->dict;
        if (dict)
            visit(dict, c);
    }
#endif
}

static void census_drain(Census *c, visitproc visit)
{
    while (c->stack.n && !c->failed)
        census_visit(c, ((uint32_t *)c->stack.items)[--c->stack.n], visit);
}

/* garbage(tracked) -> (bytes, objects). tracked is gc.get_objects(): its own references are known. */
static PyObject *heap_garbage(PyObject *Py_UNUSED(module), PyObject *tracked)
{
    if (!PyList_CheckExact(tracked))
        return PyErr_Format(PyExc_TypeError, "the list that gc.get_objects() gives is wanted");
    Census c = {{0}, {0}, 0};
    int64_t bytes = 0, objects = 0;
    Py_ssize_t n = PyList_GET_SIZE(tracked);
    c.failed = table_clear(&c.table, 14);
    for (Py_ssize_t k = 0; k < n && !c.failed; k++) {
        int64_t i = table_add(&c.table, PyList_GET_ITEM(tracked, k));
        if (i < 0)
            c.failed = 1;
        else
            c.table.nodes[i].found = 1; /* the list's own reference */
    }
    uint32_t from = c.table.n;
    for (uint32_t i = 0; i < from && !c.failed; i++)
        census_visit(&c, i, census_count);
    census_drain(&c, census_count);
    for (uint32_t i = 0; i < c.table.n && !c.failed; i++) {
        Node *node = &c.table.nodes[i];
        if ((Py_ssize_t)node->found < Py_REFCNT(node->op) && !(node->flags & N_EXPANDED)) {
            node->flags |= N_EXPANDED;
            census_visit(&c, i, census_reach);
            census_drain(&c, census_reach);
        }
    }
    PyTypeObject *last = NULL;
    TypeInfo info;
    for (uint32_t i = 0; i < c.table.n && !c.failed; i++) {
        PyObject *op = c.table.nodes[i].op;
        if (c.table.nodes[i].flags & N_EXPANDED)
            continue;
        if (Py_TYPE(op) != last) {
            if (last)
                Py_DECREF(last);
            type_info_fill(&info, last = Py_TYPE(op));
        }
        bytes += object_bytes(&info, op);
        objects++;
    }
    if (last)
        Py_DECREF(last);
    table_free(&c.table);
    vec_free(&c.stack);
    if (c.failed)
        return PyErr_NoMemory();
    return Py_BuildValue("(LL)", (long long)bytes, (long long)objects);
}

#endif
