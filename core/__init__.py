"""What training, export and runtime share: records, boxes, bundles, engines, metrics. NumPy only, no PyTorch."""

from personsearch.core.vendor_telemetry import switch_off

__version__ = "0.2.0"  # the one place: setup.cfg and every command's --version read it

switch_off()
