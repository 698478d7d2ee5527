/* What an object costs, without running any Python code of the target.
 *
 * One record a type, made on first sight: the C function behind __sizeof__ is looked up once (a Python
 * __sizeof__ is never called: the nearest C one in the MRO answers), with what lies before and beside the
 * object: GC header, managed dict and weakref slots, inline attribute values. */
#ifndef DIAG_SIZES_H
#define DIAG_SIZES_H

enum { T_STOP = 1, T_BUFFER = 2, T_VIEW = 4, T_MANAGED_BUFFER = 8, T_FUNCTION = 16, T_GENERATOR = 32,
       T_FRAME = 64, T_INLINE_VALUES = 128, T_DICT = 256, T_INT = 512 };

typedef struct {
    PyTypeObject *type;         /* strong */
    PyCFunction sizeof_function; /* NULL: plain formula */
    int sizeof_wants_tuple;
    Py_ssize_t prefix_bytes;
    uint32_t flags;
    uint8_t holder;             /* 0: none of its own */
} TypeInfo;

/* object.__sizeof__, which the plain formula below replaces */
static PyCFunction base_sizeof;
static PyObject *str_sizeof, *str_holder, *empty_tuple;
static PyTypeObject *managed_buffer_type;

static PyMethodDef *c_sizeof_of(PyTypeObject *type)
{
    PyObject *mro = type->tp_mro;
    Py_ssize_t n = mro ? PyTuple_GET_SIZE(mro) : 0;
    for (Py_ssize_t i = 0; i < n; i++) {
        PyObject *base = PyTuple_GET_ITEM(mro, i);
        if (!PyType_Check(base))
            continue;
        PyObject *found = _PyType_Lookup((PyTypeObject *)base, str_sizeof);
        if (found && Py_IS_TYPE(found, &PyMethodDescr_Type)) {
            PyMethodDef *method = ((PyMethodDescrObject *)found)->d_method;
            if (method->ml_flags == METH_NOARGS || method->ml_flags == METH_VARARGS)
                return method;
        }
    }
    return NULL;
}

static void type_info_fill(TypeInfo *info, PyTypeObject *type)
{
    memset(info, 0, sizeof *info);
    Py_INCREF(type);
    info->type = type;
    PyMethodDef *method = c_sizeof_of(type);
    if (method && method->ml_meth != base_sizeof) {
        info->sizeof_function = method->ml_meth;
        info->sizeof_wants_tuple = method->ml_flags == METH_VARARGS;
    }
    unsigned long f = type->tp_flags;
    if (f & Py_TPFLAGS_HAVE_GC)
        info->prefix_bytes += 16; /* PyGC_Head */
#if PY_VERSION_HEX >= 0x030C0000
    if (f & (Py_TPFLAGS_MANAGED_DICT | Py_TPFLAGS_MANAGED_WEAKREF))
        info->prefix_bytes += 2 * sizeof(PyObject *);
#elif PY_VERSION_HEX >= 0x030B0000
    if (f & Py_TPFLAGS_MANAGED_DICT)
        info->prefix_bytes += 2 * sizeof(PyObject *);
#endif
#if PY_VERSION_HEX >= 0x030D0000
    if (f & Py_TPFLAGS_INLINE_VALUES)
        info->flags |= T_INLINE_VALUES;
#elif PY_VERSION_HEX >= 0x030B0000
    if (f & Py_TPFLAGS_MANAGED_DICT)
        info->flags |= T_INLINE_VALUES;
#endif
    if ((f & Py_TPFLAGS_TYPE_SUBCLASS) || PyType_IsSubtype(type, &PyModule_Type) || type == &PyCode_Type)
        info->flags |= T_STOP;
    if (type == &PyMemoryView_Type)
        info->flags |= T_VIEW;
    else if (type == managed_buffer_type)
        info->flags |= T_MANAGED_BUFFER;
    else if (type->tp_as_buffer && type->tp_as_buffer->bf_getbuffer)
        info->flags |= T_BUFFER;
    if (type == &PyFunction_Type)
        info->flags |= T_FUNCTION;
    if (type == &PyGen_Type || type == &PyCoro_Type || type == &PyAsyncGen_Type)
        info->flags |= T_GENERATOR;
    if (type == &PyFrame_Type)
        info->flags |= T_FRAME;
    if (f & Py_TPFLAGS_DICT_SUBCLASS)
        info->flags |= T_DICT;
    if (type == &PyLong_Type)
        info->flags |= T_INT;
}

#if PY_VERSION_HEX >= 0x030B0000 && PY_VERSION_HEX < 0x030D0000
/* 3.11 and 3.12 keep attribute values in a block of their own until __dict__ is asked for. Its capacity is
 * what the class's shared keys offered when the instance was made; that shrinks by one for each of a class's
 * first instances, so those first few (at most 30) may be undercounted. */
static Py_ssize_t values_block_bytes(PyDictKeysObject *keys)
{
    Py_ssize_t capacity = keys->dk_nentries + keys->dk_usable;
    Py_ssize_t prefix = (capacity + 2 + 7) & ~(Py_ssize_t)7;
    return prefix + capacity * (Py_ssize_t)sizeof(PyObject *);
}
#endif

static Py_ssize_t inline_values_bytes(PyObject *op)
{
#if PY_VERSION_HEX >= 0x030D0000
    PyDictValues *values = _PyObject_InlineValues(op);
    Py_ssize_t capacity = values->capacity;
    return ((capacity + 7) & ~(Py_ssize_t)7) + (capacity + 1) * (Py_ssize_t)sizeof(PyObject *);
#elif PY_VERSION_HEX >= 0x030C0000
    PyDictOrValues *slot = _PyObject_DictOrValuesPointer(op);
    PyDictKeysObject *keys = ((PyHeapTypeObject *)Py_TYPE(op))->ht_cached_keys;
    return _PyDictOrValues_IsValues(*slot) && _PyDictOrValues_GetValues(*slot) && keys
        ? values_block_bytes(keys) : 0;
#elif PY_VERSION_HEX >= 0x030B0000
    PyDictKeysObject *keys = ((PyHeapTypeObject *)Py_TYPE(op))->ht_cached_keys;
    return *_PyObject_ValuesPointer(op) && keys ? values_block_bytes(keys) : 0;
#else
    (void)op;
    return 0;
#endif
}

/* From 3.13 a __dict__ that was asked for shares the inline values, and tp_traverse shows them but not the dict:
 * where only its instance holds it, it goes with the instance. */
static Py_ssize_t hidden_dict_bytes(const TypeInfo *info, PyObject *op)
{
#if PY_VERSION_HEX >= 0x030D0000
    if ((info->flags & T_INLINE_VALUES) && _PyObject_InlineValues(op)->valid) {
        PyDictObject *dict = _PyObject_ManagedDictPointer(op)->dict;
        if (dict && Py_REFCNT(dict) == 1)
            return (Py_ssize_t)sizeof(PyDictObject) + 16;
    }
#endif
    (void)info;
    (void)op;
    return 0;
}

static Py_ssize_t object_bytes(const TypeInfo *info, PyObject *op)
{
    Py_ssize_t bytes = info->prefix_bytes;
    if (info->sizeof_function) {
        PyObject *answer = info->sizeof_function(op, info->sizeof_wants_tuple ? empty_tuple : NULL);
        if (answer) {
            bytes += PyLong_AsSsize_t(answer);
            Py_DECREF(answer);
        }
        if (PyErr_Occurred())
            PyErr_Clear();
    }
    else {
        bytes += info->type->tp_basicsize;
        if (info->type->tp_itemsize) {
            Py_ssize_t n = Py_SIZE(op);
            bytes += (n < 0 ? -n : n) * info->type->tp_itemsize;
        }
    }
#if PY_VERSION_HEX >= 0x030B0000
    if ((info->flags & T_INT) && bytes < (Py_ssize_t)sizeof(PyLongObject))
        bytes = sizeof(PyLongObject); /* allocated whole; __sizeof__ leaves out the padding */
#else
    if (info->flags & T_FRAME)
        bytes += sizeof(PyObject *); /* __sizeof__ takes the first slot off, the allocation does not */
#endif
    if (info->flags & T_INLINE_VALUES)
        bytes += inline_values_bytes(op);
#if PY_VERSION_HEX >= 0x030B0000 && PY_VERSION_HEX < 0x030D0000
    /* A split dict's __sizeof__ leaves out the bytes before its values. */
    if ((info->flags & T_DICT) && ((PyDictObject *)op)->ma_values) {
        PyDictKeysObject *keys = ((PyDictObject *)op)->ma_keys;
        bytes += (keys->dk_nentries + keys->dk_usable + 2 + 7) & ~(Py_ssize_t)7;
    }
#endif
#if PY_VERSION_HEX >= 0x030D0000
    /* A dict that shares its instance's values has none of its own, though __sizeof__ counts them; one that
     * has been parted from it keeps them in a block with a head. */
    if ((info->flags & T_DICT) && ((PyDictObject *)op)->ma_values) {
        PyDictValues *values = ((PyDictObject *)op)->ma_values;
        Py_ssize_t capacity = values->capacity;
        bytes += values->embedded ? -capacity * (Py_ssize_t)sizeof(PyObject *)
                                  : ((capacity + 7) & ~(Py_ssize_t)7) + (Py_ssize_t)sizeof(PyObject *);
    }
#endif
    return bytes;
}

#endif
