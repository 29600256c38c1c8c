"""What training, export and runtime share: records, boxes, bundles, engines, metrics. NumPy only, no PyTorch."""

__version__ = "0.2.0"  # the one place: setup.cfg and every command's --version read it
