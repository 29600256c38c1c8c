"""PyTorch: data sets, the network with ProtoNorm and LOIM, the loop, evaluation. Entries at the top, rooms below."""

import os

# Threads of PyTorch that wait for each other sleep. By default they spin, and where anything else runs beside them (the
# loading process is enough), one holds the processor that the other waits for: up to twenty times slower.
# It is read when PyTorch loads its OpenMP library, so it must stand before that.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
