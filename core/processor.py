"""What of a processor may be used: oneDNN, which computes for OpenVINO and PyTorch, can be told to do with less."""

from __future__ import annotations

import os

WITHOUT_BF16 = ("SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX512_CORE", "AVX512_CORE_VNNI")


def bf16_is_hidden() -> bool:
    """Does ONEDNN_MAX_CPU_ISA leave instructions for bf16 out? OpenVINO and PyTorch announce them all the same."""
    return os.environ.get("ONEDNN_MAX_CPU_ISA", "").upper() in WITHOUT_BF16
