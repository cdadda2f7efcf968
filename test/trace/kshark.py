"""Prints the entries that KernelShark's library reads from a trace, one a line. usage: kshark.py FILE"""
import ctypes
import sys

k = ctypes.CDLL("libkshark.so.2")
k.kshark_load_entries.restype = ctypes.c_ssize_t
k.kshark_dump_entry.argtypes = [ctypes.c_void_p]
k.kshark_dump_entry.restype = ctypes.c_char_p
context = ctypes.c_void_p()
assert k.kshark_instance(ctypes.byref(context))
stream = k.kshark_open(context, sys.argv[1].encode())
if stream < 0:
    sys.exit(f"kshark_open: {stream}")
rows = ctypes.POINTER(ctypes.c_void_p)()
for n in range(k.kshark_load_entries(context, stream, ctypes.byref(rows))):
    print(k.kshark_dump_entry(rows[n]).decode())
