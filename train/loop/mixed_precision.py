"""Which number format a run computes in: `optimiser.amp`, and what `auto` means on this machine."""

from __future__ import annotations

import torch

from personsearch.core.processor import bf16_is_hidden


def choose_amp(asked: str, device: torch.device) -> tuple[str, str]:
    """`optimiser.amp` on a device -> off, bf16 or fp16, and one line that says why ("" if nothing is worth saying).

    A processor without instructions for bf16 emulates it, ten times slower than it computes in float32.
    """
    if asked == "fp16" or asked == "off":
        return asked, ""
    able, name = _has_bf16(device)
    if asked == "bf16":
        slow = f"optimiser.amp: bf16 is emulated by {name}, which is slow; auto or off is faster here"
        return asked, "" if able else slow
    if able:
        return "bf16", f"amp: bf16, because {name} computes in it"
    if device.type == "cuda":
        return "fp16", f"amp: fp16, because {name} has no bf16"
    return "off", f"amp: off (float32), because {name} has no instructions for bf16"


def _has_bf16(device: torch.device) -> tuple[bool, str]:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False), torch.cuda.get_device_name(device)
    kinds = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    able = not bf16_is_hidden() and any(getattr(torch.cpu, kind, bool)() for kind in kinds)
    return able, f"this processor ({torch.backends.cpu.get_cpu_capability()})"
