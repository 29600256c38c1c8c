"""The benchmark behind bench.py: each engine in a process of its own, so that memory and threads are its own."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from personsearch.core.bundle import MODEL, graph_file, read_manifest
from personsearch.core.engines.choice import ENGINES, split_choice
from personsearch.core.errors import EngineError, UserError
from personsearch.core.files import read_file, replace_file
from personsearch.core.json_text import parse_json
from personsearch.export.charts import draw_bench
from personsearch.export.graph_stats import ROI_ALIGN, graph_stats

TORCH = "pytorch-eager-fp32"
HEADER = (
    "engine                       batch frames/s  p50 ms  p95 ms  all K frames/s  memory MB  peak GFLOP/s  of peak\n"
    + "-" * 108
)


@dataclass(frozen=True)
class BenchOptions:
    """What `bench.py --help` explains."""

    bundle: Path
    checkpoint: str = ""
    batches: tuple[int, ...] = ()
    engines: tuple[str, ...] = ()
    seconds: float = 4.0
    frames: str = ""
    out: str = ""


def run_bench(options: BenchOptions, note: Callable[[str], None] = print) -> dict[str, Any]:
    """Measure, print, and write. Raises UserError if a named engine does not exist or nothing can run."""
    if options.bundle.suffix == ".yaml":
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            weights, bundle = _untrained(options.bundle, Path(folder))
            return run_bench(replace(options, bundle=bundle, checkpoint=weights), note)
    manifest = read_manifest(options.bundle)
    for name in options.engines:
        if name not in (*ENGINES, TORCH) or name == "auto":
            raise UserError(f"unknown engine '{name}'; expected some of {', '.join((*ENGINES[1:], TORCH))}")
    weights = options.checkpoint or str(options.bundle / "weights.pth")
    has_weights = Path(weights).is_file() and _has_torch()
    stages = graph_stats(options.bundle / MODEL).products
    work = sum(n for stage, n in stages.items() if stage != ROI_ALIGN) / manifest.batch  # a frame with K people
    note(f"{_machine()}; {manifest.name} {manifest.height}x{manifest.width}, K = {manifest.detections}, "
         f"{work / 1e9:.2f} G multiply-adds a frame, without RoIAlign")  # fmt: skip
    note(HEADER)
    rows: list[dict[str, Any]] = []
    peaks: dict[str, float | None] = {}
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        for batch in options.batches or (manifest.batch,):
            bundle = options.bundle
            if batch != manifest.batch:
                if not has_weights:
                    note(f"batch {batch}: skipped, it needs PyTorch and the weights (--checkpoint)")
                    continue
                bundle = Path(folder) / f"batch{batch}"
                _write_bundle(weights, bundle, batch=batch, proposals=manifest.detections,
                              size=(manifest.height, manifest.width))  # fmt: skip
            jobs = list(options.engines) or [*_choices(bundle), *([TORCH] if has_weights else [])]
            for job in jobs:
                request = {"engine": job, "bundle": str(bundle), "weights": weights, "batch": batch,
                           "seconds": options.seconds, "frames": options.frames, "peaks": list(peaks)}  # fmt: skip
                row = _worker(request)
                if "error" in row:
                    if options.engines:
                        note(f"{job}: {row['error']}")
                    continue
                row["peak_flops"] = peak = peaks.setdefault(row["peak_kind"], row.get("peak_flops"))
                row["multiply_adds"] = work
                if peak:
                    row["share_of_peak"] = 2 * work * row["all_frames_per_second"] / peak
                rows.append(row)
                note(_line(row))
    if not rows:
        raise EngineError("nothing could be measured here; install personsearch[cpu] or personsearch[gpu]")
    result = {
        "command": " ".join(["python export/bench.py", *sys.argv[1:]]), "machine": _machine(),
        "model": manifest.name, "model_hash": manifest.model_hash, "rows": rows,
    }  # fmt: skip
    if options.out:
        path = Path(options.out)
        try:
            replace_file(path, f"{json.dumps(result, indent=1)}\n".encode())
            draw_bench(rows, path.with_suffix(".png"))
        except OSError as error:
            raise UserError(f"{path}: cannot be written ({error.strerror})") from None
    return result


def markdown(path: Path) -> str:
    """The table of an earlier run for a document. Raises UserError for a file that is not one."""
    try:
        content = parse_json(read_file(path, 64 << 20))
        rows = [
            f"| {row['engine']} | {row['batch']} | {row['frames_per_second']:.1f} | {row['p50_ms']:.1f} / "
            f"{row['p95_ms']:.1f} | {row['all_frames_per_second']:.1f} | {row['memory_mb']:.0f} | "
            f"{(row['peak_flops'] or 0) / 1e9:.0f} | {100 * row.get('share_of_peak', 0):.0f} % |"
            for row in content["rows"]
        ]
        head = f"`{content['command']}` on {content['machine']}, model {content['model_hash']}:"
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"{path}: expected a file that bench.py --out wrote") from None
    return "\n".join([
        head, "",
        "| engine | batch | frames/s | p50 / p95 ms | frames/s, all K | MB | peak GFLOP/s | of peak |",
        "|---|---|---|---|---|---|---|---|", *rows,
    ])  # fmt: skip


def _choices(bundle: Path) -> list[str]:
    """Names of the engines whose graph the bundle holds, one name for each backend and precision."""
    chosen = []
    for name in ENGINES[1:]:
        precision = split_choice(name)[1]
        if precision != "auto" and (bundle / graph_file(precision)).is_file():
            chosen.append(name)
    return chosen


def _worker(request: dict[str, Any]) -> dict[str, Any]:
    result = subprocess.run(
        [sys.executable, "-m", "personsearch.export.bench_worker", json.dumps(request)],
        capture_output=True, text=True, encoding="utf-8", errors="replace", check=False,
    )  # fmt: skip
    lines = result.stdout.strip().splitlines()
    if result.returncode or not lines:
        problem = (result.stderr.strip().splitlines() or [f"ended with status {result.returncode}"])[-1]
        return {"error": problem.removeprefix("error: ")}
    return json.loads(lines[-1])


def _untrained(config: Path, folder: Path) -> tuple[str, Path]:
    """Random weights of a training configuration and their bundle: as fast as trained ones."""
    import torch

    from personsearch.core.config import load_settings
    from personsearch.train.model.network import PersonSearch
    from personsearch.train.settings import TrainSettings
    from personsearch.train.weights.checkpoint import save_checkpoint

    settings = load_settings(config, TrainSettings)
    torch.manual_seed(0)
    weights, bundle = folder / "weights.pth", folder / "bundle"
    network = PersonSearch(settings.model)
    save_checkpoint(weights, {"config": settings.model_dump(mode="json"), "model": network.state_dict()})
    _write_bundle(str(weights), bundle, precisions=("int8",))
    return str(weights), bundle


def _write_bundle(weights: str, bundle: Path, **options: Any) -> None:
    from personsearch.export.exporter import write_plain_bundle  # needs PyTorch

    write_plain_bundle(weights, bundle, **options)


def _line(row: dict[str, Any]) -> str:
    peak = f"{row['peak_flops'] / 1e9:12.0f}" if row.get("peak_flops") else "           -"
    share = f"{100 * row['share_of_peak']:6.1f} %" if row.get("share_of_peak") else "       -"
    return (
        f"{row['engine']:28s} {row['batch']:5d} {row['frames_per_second']:8.1f} {row['p50_ms']:7.1f} "
        f"{row['p95_ms']:7.1f} {row['all_frames_per_second']:15.1f} {row['memory_mb']:10.0f}  {peak} {share}"
    )


def _machine() -> str:
    name = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                name = line.partition(":")[2].strip()
                break
    except OSError:
        pass
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{name}, {cores} cores"


def _has_torch() -> bool:
    import importlib.util

    return importlib.util.find_spec("torch") is not None
