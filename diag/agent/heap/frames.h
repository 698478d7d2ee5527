/* What executing frames hold.
 *
 * While a frame runs, its value stack is in the interpreter's hands and tp_traverse shows none of it (3.11+:
 * not even the locals). A picture taken from a helper thread often meets a task in that state, so the locals
 * are read from the frame itself, and with them those of the plain functions the coroutine is calling just
 * then. Temporaries on the stack stay unseen: such a task's figure is a lower bound. */
#ifndef DIAG_FRAMES_H
#define DIAG_FRAMES_H

static int visit_some(PyObject **slots, int n, visitproc visit, void *arg)
{
    for (int i = 0; i < n; i++)
        if (slots[i] && visit(slots[i], arg))
            return -1;
    return 0;
}

static int append_named(PyObject *list, PyObject *name, PyObject *value)
{
    PyObject *pair = value && name ? PyTuple_Pack(2, name, value) : NULL;
    if (!pair)
        return value && name ? -1 : 0;
    int failed = PyList_Append(list, pair);
    Py_DECREF(pair);
    return failed;
}

#if PY_VERSION_HEX >= 0x030B0000

static int generator_is_executing(PyObject *op)
{
    return ((PyGenObject *)op)->gi_frame_state == FRAME_EXECUTING;
}

static _PyInterpreterFrame *top_frame(PyThreadState *ts)
{
#if PY_VERSION_HEX >= 0x030D0000
    return ts->current_frame;
#else
    return ts->cframe ? ts->cframe->current_frame : NULL;
#endif
}

/* A frame that waits for its callee has put its stack pointer down: then its stack can be read as well. */
static int frame_slots(_PyInterpreterFrame *frame)
{
#if PY_VERSION_HEX >= 0x030D0000
    PyObject *code = frame->f_executable;
#else
    PyObject *code = (PyObject *)frame->f_code;
#endif
#if PY_VERSION_HEX >= 0x030C0000
    if (frame->owner == FRAME_OWNED_BY_CSTACK)
        return 0;
#endif
    if (!code || !PyCode_Check(code))
        return 0;
    return frame->stacktop >= 0 ? frame->stacktop : ((PyCodeObject *)code)->co_nlocalsplus;
}

static int name_locals(PyObject *op, PyObject *list)
{
    PyGenObject *gen = (PyGenObject *)op;
    if (gen->gi_frame_state >= FRAME_CLEARED)
        return 0;
    _PyInterpreterFrame *own = (_PyInterpreterFrame *)gen->gi_iframe;
#if PY_VERSION_HEX >= 0x030D0000
    PyCodeObject *code = (PyCodeObject *)own->f_executable;
#else
    PyCodeObject *code = own->f_code;
#endif
    for (int i = 0; i < code->co_nlocalsplus; i++)
        if (append_named(list, PyTuple_GET_ITEM(code->co_localsplusnames, i), own->localsplus[i]))
            return -1;
    return 0;
}

static int visit_executing(PyObject *op, visitproc visit, void *arg)
{
    _PyInterpreterFrame *own = (_PyInterpreterFrame *)((PyGenObject *)op)->gi_iframe;
    PyThreadState *ts = PyInterpreterState_ThreadHead(PyInterpreterState_Get());
    for (; ts; ts = PyThreadState_Next(ts)) {
        _PyInterpreterFrame *first = NULL, *frame;
        for (frame = top_frame(ts); frame && frame != own; frame = frame->previous)
            if (frame->owner == FRAME_OWNED_BY_GENERATOR)
                first = NULL; /* what lies above belongs to that generator */
            else if (!first)
                first = frame;
        if (!frame)
            continue;
        for (frame = first; frame && frame != own; frame = frame->previous)
            if (visit_some(frame->localsplus, frame_slots(frame), visit, arg))
                return -1;
        break;
    }
    /* tp_traverse has already shown the slots of a frame whose stack pointer is down. */
    return own->stacktop >= 0 ? 0 : visit_some(own->localsplus, frame_slots(own), visit, arg);
}

#else /* 3.10: frames are objects; that of a running generator is held by the C stack as well */

static int generator_is_executing(PyObject *op)
{
    PyFrameObject *frame = ((PyGenObject *)op)->gi_frame;
    return frame && frame->f_state == FRAME_EXECUTING;
}

static int name_locals(PyObject *op, PyObject *list)
{
    PyFrameObject *own = Py_IS_TYPE(op, &PyFrame_Type) ? (PyFrameObject *)op : ((PyGenObject *)op)->gi_frame;
    if (!own)
        return 0;
    PyObject *names[] = {own->f_code->co_varnames, own->f_code->co_cellvars, own->f_code->co_freevars};
    PyObject **slot = own->f_localsplus;
    for (int k = 0; k < 3; k++)
        for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(names[k]); i++, slot++)
            if (append_named(list, PyTuple_GET_ITEM(names[k], i), *slot))
                return -1;
    return 0;
}

static int frame_slots(PyFrameObject *frame)
{
    PyCodeObject *code = frame->f_code;
    return code->co_nlocals + (int)PyTuple_GET_SIZE(code->co_cellvars)
        + (int)PyTuple_GET_SIZE(code->co_freevars);
}

static int visit_executing(PyObject *op, visitproc visit, void *arg)
{
    PyFrameObject *own = ((PyGenObject *)op)->gi_frame;
    PyThreadState *ts = PyInterpreterState_ThreadHead(PyInterpreterState_Get());
    for (; ts; ts = PyThreadState_Next(ts)) {
        PyFrameObject *first = NULL, *frame;
        for (frame = ts->frame; frame && frame != own; frame = frame->f_back)
            if (frame->f_gen)
                first = NULL;
            else if (!first)
                first = frame;
        if (!frame)
            continue;
        for (frame = first; frame && frame != own; frame = frame->f_back) {
            if (visit_some(frame->f_localsplus, frame_slots(frame), visit, arg))
                return -1;
        }
        break;
    }
    return visit_some(own->f_localsplus, frame_slots(own), visit, arg);
}

#endif
#endif
