"""Build TensorRT engines from a bundle's ONNX graphs, with TensorRT 10 or 11, or TensorRT for RTX.

TensorRT for RTX builds for a named GPU architecture on a machine without any GPU; TensorRT itself builds for
the GPU that it finds. Networks are strongly typed: the precision is what the graph says.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from personsearch.core.engines.tensorrt_library import TensorRT, has_gpu, local_gpu
from personsearch.core.errors import EngineError

if TYPE_CHECKING:
    import tensorrt as trt

DEFAULT_RTX_TARGET = "SM89"


@dataclass(frozen=True)
class BuildOptions:
    """How to build.

    target        RTX only: a compute capability such as SM89 ("" = the local GPU, or SM89 without one)
    workspace_mb  limit of the builder's scratch memory
    timing_cache  a file that remembers measured kernels between builds; "" = none
    note          receives the library's warnings
    progress      receives (phase, done, total) while the builder works
    """

    target: str = ""
    workspace_mb: int = 2048
    timing_cache: str = ""
    note: Callable[[str], None] = lambda _: None
    progress: Callable[[str, int, int], None] = lambda *_: None


def build_target(library: TensorRT, target: str) -> str:
    """The GPU architecture to build for, as `sm89`. Raises EngineError where the library cannot build for it."""
    if not library.rtx:
        local = local_gpu()
        if target and target.lower() != local:
            raise EngineError(f"TensorRT builds for the GPU it runs on ({local}), not for {target}; run this there")
        return local
    target = target or (local_gpu() if has_gpu() else DEFAULT_RTX_TARGET)
    if getattr(library.module.ComputeCapability, target.upper(), None) is None:
        known = ", ".join(name for name in dir(library.module.ComputeCapability) if name.startswith("SM"))
        raise EngineError(f"TensorRT for RTX cannot build for {target}; it knows {known}")
    return target.lower()


def build_engine(library: TensorRT, onnx_path: Path, options: BuildOptions = BuildOptions()) -> bytes:
    """The serialised engine of one graph. Raises EngineError with the parser's message and the node's name."""
    module, target = library.module, build_target(library, options.target)
    logger = _make_logger(module, options.note)
    builder: trt.Builder = module.Builder(logger)
    network: trt.INetworkDefinition = builder.create_network(
        1 << int(module.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    )
    _parse(module, network, logger, onnx_path)
    config: trt.IBuilderConfig = builder.create_builder_config()
    config.set_memory_pool_limit(module.MemoryPoolType.WORKSPACE, options.workspace_mb << 20)
    profile: trt.IOptimizationProfile = builder.create_optimization_profile()
    for number in range(network.num_inputs):
        tensor = network.get_input(number)
        shape = tuple(tensor.shape)
        if min(shape) < 1:
            raise EngineError(f"{onnx_path}: input {tensor.name} has no fixed shape ({shape}); export the bundle again")
        profile.set_shape(tensor.name, shape, shape, shape)
    config.add_optimization_profile(profile)
    monitor = _make_monitor(module, options.progress)
    config.progress_monitor = monitor
    if library.rtx:
        _set_target(module, config, target)
    cache = _load_timing_cache(config, options)
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise EngineError(f"{onnx_path}: TensorRT could not build the engine: {logger.last_error or 'no reason given'}")
    if cache is not None and options.timing_cache:
        kept = config.get_timing_cache()
        Path(options.timing_cache).write_bytes(bytes(kept.serialize()))
    return bytes(engine)


def _parse(module: Any, network: trt.INetworkDefinition, logger: Any, onnx_path: Path) -> None:
    parser: trt.OnnxParser = module.OnnxParser(network, logger)
    try:
        content = onnx_path.read_bytes()
    except OSError as error:
        raise EngineError(f"{onnx_path}: cannot be read ({error.strerror})") from None
    if parser.parse(content):
        return
    problems: list[trt.ParserError] = [parser.get_error(i) for i in range(parser.num_errors)]
    text = "; ".join(
        f"node {p.node_name() or p.node()} ({p.node_operator()}): {p.desc()}" if p.node_name() else p.desc()
        for p in problems
    )
    raise EngineError(f"{onnx_path}: TensorRT cannot parse the graph: {text or logger.last_error}")


def _set_target(module: Any, config: Any, target: str) -> None:
    config.num_compute_capabilities = 1
    config.set_compute_capability(getattr(module.ComputeCapability, target.upper()), 0)


def _load_timing_cache(config: trt.IBuilderConfig, options: BuildOptions) -> Any:
    """A cache of another GPU or version is ignored by the library and replaced after the build.

    Without a GPU nothing is timed, and the library refuses a cache.
    """
    if not options.timing_cache or not has_gpu():
        return None
    path = Path(options.timing_cache)
    content = path.read_bytes() if path.is_file() else b""
    cache: trt.ITimingCache = config.create_timing_cache(content)
    if not config.set_timing_cache(cache, False):
        cache = config.create_timing_cache(b"")
        config.set_timing_cache(cache, False)
    return cache


def _make_logger(module: Any, note: Callable[[str], None]) -> Any:
    class Logger(module.ILogger):
        def __init__(self) -> None:
            module.ILogger.__init__(self)
            self.last_error = ""

        def log(self, severity: Any, message: str) -> None:
            if severity in (module.ILogger.ERROR, module.ILogger.INTERNAL_ERROR):
                self.last_error = message
            if severity in (module.ILogger.ERROR, module.ILogger.INTERNAL_ERROR, module.ILogger.WARNING):
                note(message)

    return Logger()


def _make_monitor(module: Any, progress: Callable[[str, int, int], None]) -> Any:
    class Monitor(module.IProgressMonitor):
        def __init__(self) -> None:
            module.IProgressMonitor.__init__(self)
            self.totals: dict[str, int] = {}

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self.totals[phase_name] = num_steps
            progress(phase_name, 0, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            progress(phase_name, step + 1, self.totals.get(phase_name, step + 1))
            return True

        def phase_finish(self, phase_name: str) -> None:
            total = self.totals.pop(phase_name, 0)
            progress(phase_name, total, total)

    return Monitor()
