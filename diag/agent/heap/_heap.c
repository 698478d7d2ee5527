#include <Python.h>
static struct PyModuleDef m = {PyModuleDef_HEAD_INIT, "_heap", 0, 0, 0};
PyMODINIT_FUNC PyInit__heap(void) { return PyModule_Create(&m); }
