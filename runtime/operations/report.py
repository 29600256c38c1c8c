"""An examination as lines to read and as data to send, both without secrets."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from personsearch.core.errors import UserError
from personsearch.core.files import replace_file
from personsearch.core.redaction import redact
from personsearch.core.text import json_bytes
from personsearch.runtime.cameras.urls import without_secrets
from personsearch.runtime.delivery.events import iso_time
from personsearch.runtime.operations.capacity import USABLE
from personsearch.runtime.operations.examination import Examination
from personsearch.runtime.settings import StreamSettings

OWNER_ONLY = 0o600


def as_lines(found: Examination) -> list[str]:
    lines = []
    if machine := found.machine:
        features = ", ".join(machine.features) or "no vector extension that is used"
        lines.append(f"machine   {machine.processor}, {machine.cores:g} cores ({features}), {machine.memory_mb} MB")
        lines.append(f"          {machine.system}, Python {machine.python}")
        lines += [f"decoding  by {kind}: {lack or 'to be tried'}" for kind, lack in machine.decoders.items()]
    for engine in found.engines:
        if engine.problem:
            lines.append(f"engine    {engine.choice}: not here: {engine.problem}")
            continue
        chosen = "  <- taken" if engine.choice == found.chosen else ""
        describe = f", {1000 * engine.describe_s:.1f} ms a description" if engine.describe_s else ""
        lines.append(
            f"engine    {engine.choice}: {1 / engine.find_s:.1f} frames/s ({1000 * engine.find_s:.1f} ms, "
            f"{1000 * engine.find_cpu_s:.1f} ms of processor time{describe}){chosen}"
        )
    for camera in found.cameras:
        if not camera.problem:
            lines.append(
                f"camera    {camera.name}: {camera.size[0]}x{camera.size[1]}, {camera.fps:.1f} frames/s, "
                f"{1000 * camera.cpu_s:.1f} ms to decode one ({camera.fps * camera.cpu_s:.0%} of a core)"
                + (f", by {camera.decoder}" if camera.decoder else "")
            )
    if capacity := found.capacity:
        what = "cameras like these" if capacity.wanted else "cameras, decoding left out (give --cams)"
        counts = ", ".join(f"{count} at {rate} frames/s" for rate, count in capacity.cameras_at.items())
        lines.append(f"capacity  {what}, with {1 - USABLE:.0%} to spare: {counts}")
        if capacity.wanted > 0 and capacity.overload <= 1:
            lines.append(
                f"          these: {capacity.wanted:.0f} frames/s wanted of {capacity.sustained:.0f}, decoding takes "
                f"{capacity.decoding:.2f} cores"
            )
    marks = {"ok": "ok", "note": "note", "problem": "PROBLEM"}
    lines += [f"{finding.part:9s} {marks[finding.state]}: {finding.text}" for finding in found.findings]
    problems = len(found.problems)
    lines.append(f"{problems} problem{'s' * (problems != 1)}" if problems else "no problem")
    return [redact(line) for line in lines]


def as_data(found: Examination, settings: StreamSettings | None) -> dict[str, Any]:
    """Everything, with the settings as they were read; every text went through `redact`, URLs lost user and query."""
    data = asdict(found) | {"time": iso_time(time.time())}
    if found.capacity:
        overload = found.capacity.overload
        data["capacity"]["overload"] = None if overload == float("inf") else round(overload, 3)
    if settings is not None:
        data["settings"] = settings.model_dump(mode="json", exclude_unset=True)
        for camera, shown in zip(settings.cameras, data["settings"]["cameras"], strict=True):
            shown["url"] = without_secrets(camera.url)
            if camera.detail_url:
                shown["detail_url"] = without_secrets(camera.detail_url)
    return dict(_redacted(data))


def _redacted(part: Any) -> Any:
    if isinstance(part, str):
        return redact(part)
    if isinstance(part, dict):
        return {key: _redacted(value) for key, value in part.items()}
    if isinstance(part, list | tuple):
        return [_redacted(value) for value in part]
    return part


def write_report(path: str | Path, data: dict[str, Any]) -> None:
    """Raises UserError; a file that was there is then as it was."""
    try:
        replace_file(path, json_bytes(data, indent=1) + b"\n", OWNER_ONLY)
    except OSError as error:
        raise UserError(f"--report {path}: cannot be written ({error.strerror}); choose another place") from None
