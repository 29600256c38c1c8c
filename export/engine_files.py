"""TensorRT engines of a bundle: built for every graph, kept while they fit, replaced when they are stale."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from personsearch.core.bundle import (
    EMBED,
    MANIFEST,
    PRECISIONS,
    check_place,
    graph_file,
    read_manifest,
    sha256_of,
    write_bundle,
)
from personsearch.core.engines.tensorrt_library import ENGINE_SUFFIX, NoTensorRT, TensorRT, engine_name, load_tensorrt
from personsearch.core.errors import BundleError, UserError
from personsearch.core.json_text import parse_json
from personsearch.export.tensorrt_builder import BuildOptions, build_engine, build_target


@dataclass(frozen=True)
class EngineOptions:
    """build: False leaves engines out. The others: see `BuildOptions`."""

    build: bool = True
    target: str = ""
    workspace_mb: int = 2048
    timing_cache: str = ""


def add_engines(folder: Path, options: EngineOptions, note: Callable[[str], None] = print) -> bool:
    """Build what is missing into `folder`, and remove engines of the same GPU and library edition that are stale.

    Returns False, with a reason noted, where no TensorRT can be loaded or building is switched off.
    """
    if not options.build:
        note("engine skipped: --engine no")
        return False
    try:
        library = load_tensorrt()
    except NoTensorRT as reason:
        note(f"engine skipped: {reason}")
        return False
    target = build_target(library, options.target)
    wanted = {}
    for graph in (EMBED, *(graph_file(precision) for precision in PRECISIONS)):
        if (folder / graph).is_file():
            wanted[engine_name(graph, sha256_of(folder / graph), library.tag, target)] = graph
    edition = "rtx" if library.rtx else "trt"
    for path in sorted(folder.glob(f"*{ENGINE_SUFFIX}")):
        if re.search(rf"\.{target}\.{edition}-", path.name) and path.name not in wanted:
            note(f"engine {path.name}: stale, removed")
            path.unlink()
    for name, graph in wanted.items():
        if (folder / name).is_file():
            note(f"engine {name}: up to date")
            continue
        engine = _build(library, folder / graph, target, options, note)
        (folder / name).write_bytes(engine)
        note(f"engine {name}: {len(engine) / 1e6:.1f} MB")
    return True


def _build(library: TensorRT, graph: Path, target: str, options: EngineOptions, note: Callable[[str], None]) -> bytes:
    from tqdm import tqdm

    with tqdm(desc=f"{graph.name} for {target}", leave=False, disable=None) as bar:

        def progress(phase: str, done: int, total: int) -> None:
            bar.set_postfix_str(phase, refresh=False)
            bar.total, bar.n = total, done
            bar.refresh()

        return build_engine(
            library, graph,
            BuildOptions(
                target if library.rtx else "", options.workspace_mb, options.timing_cache,
                note=lambda text: note(f"tensorrt: {text}"), progress=progress,
            ),
        )  # fmt: skip


def rebuild_engines(bundle: Path, options: EngineOptions, note: Callable[[str], None] = print) -> bool:
    """Bring an existing bundle's engines up to date for this machine. Raises UserError and changes nothing then."""
    manifest = read_manifest(bundle)
    bundle = check_place(bundle)
    if not options.build:
        raise UserError("a bundle needs no export; leave --engine no out to build its TensorRT engines")
    try:
        with tempfile.TemporaryDirectory(prefix=f".{bundle.name}.new-", dir=bundle.parent) as work:
            staging = Path(work) / "bundle"
            staging.mkdir()
            for name in manifest.files:
                shutil.copy2(bundle / name, staging / name)
            if not add_engines(staging, options, note):
                return False
            content = parse_json((bundle / MANIFEST).read_bytes())
            write_bundle(bundle, staging, {k: v for k, v in content.items() if k not in ("schema_version", "files")})
    except OSError as error:
        raise BundleError(f"{bundle}: cannot be written ({error.strerror or error}); nothing was changed") from None
    return True
