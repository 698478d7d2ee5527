/* From labels to figures: what stays unresolved, what the next slices may explain, what each owner retains. */
#ifndef DIAG_SUMS_H
#define DIAG_SUMS_H

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
        /* Whoever holds it is not in this slice; from another owner's side it will look just the same. */
        if (!last && (node->flags & N_UNRESOLVED) && (node->flags & N_EXPANDED)
            && !special_add(&w->held_elsewhere, node->op, S_STOP, 0))
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
        Py_ssize_t bytes = object_bytes(info, node->op) + hidden_dict_bytes(info, node->op);
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
        TypeInfo *info = info_at(w, node->type);
        Py_ssize_t bytes = object_bytes(info, node->op) + hidden_dict_bytes(info, node->op);
        for (int32_t up = log[k].owner; up > 0 && up != owner; up = w->parent[up])
            w->sums[up].shared += bytes;
    }
    add_views(w, last);
}

static int start_slice(Walk *w, Py_ssize_t lo, Py_ssize_t hi, double seconds, int bits)
{
    w->lo = lo;
    w->hi = hi;
    w->cut = 0;
    w->partial = UINT32_MAX;
    w->deadline = now() + seconds;
    w->ready.n = w->relabel.n = w->shared.n = w->views.n = 0;
    return table_clear(&w->table, bits);
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

#endif
