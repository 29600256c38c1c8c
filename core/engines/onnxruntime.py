"""ONNX Runtime: any machine's CPU, and NVIDIA GPUs through its providers."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from personsearch.core.bundle import EMBED, OUTPUTS, graph_file, read_manifest
from personsearch.core.engines.interface import Outputs, Sources, Views
from personsearch.core.engines.onnx_cut import cut_graph
from personsearch.core.engines.onnx_opset import load_problem
from personsearch.core.engines.tensorrt_library import RTX_INSTALL
from personsearch.core.errors import EngineError
from personsearch.core.processor import compute_threads

FOUND = ("boxes", "scores", "count")  # the outputs that do not need the head


class OnnxRuntimeEngine:
    """A graph of the bundle on one provider; a provider that silently fell back to another is an error.

    device  cpu, cuda, tensorrt (ONNX Runtime's TensorRT provider) or rtx (NVIDIA's plugin with TensorRT for RTX)
    """

    PROVIDERS: ClassVar[dict[str, str]] = {
        "cpu": "CPUExecutionProvider",
        "cuda": "CUDAExecutionProvider",
        "tensorrt": "TensorrtExecutionProvider",
        "rtx": "NvTensorRTRTXExecutionProvider",
    }

    def __init__(self, folder: Path, device: str = "cpu", precision: str = "fp32", threads: int = 0) -> None:
        import onnxruntime

        self._runtime, self._folder, self._device, self._threads = onnxruntime, folder, device, threads
        self.name = f"onnxruntime-{device}-{precision}"
        self._graph = graph_file(precision)
        self._sessions: dict[tuple[str, tuple[str, ...]], Any] = {}
        # One graph now, so that what cannot run says so; which, is what a box asks for at every frame.
        on_demand = read_manifest(folder, verify=False).describe == "demand"
        self._session(self._graph, FOUND if on_demand else OUTPUTS)

    def _session(self, name: str, outputs: tuple[str, ...]) -> Any:
        """The part of a file's graph that leads to some of its outputs, loaded when it is first asked for."""
        if (name, outputs) not in self._sessions:
            self._sessions[name, outputs] = self._load(name, outputs)
        return self._sessions[name, outputs]

    def _load(self, name: str, outputs: tuple[str, ...]) -> Any:
        wanted = self.PROVIDERS[self._device]
        options = self._runtime.SessionOptions()
        options.log_severity_level = 3
        # Idle threads sleep instead of spinning: capture and matching need the same cores.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # By its own default it pins threads: those of every process to the same first cores, however many others idle.
        options.intra_op_num_threads = self._threads or compute_threads()
        providers: list[str] | None = None
        if self._device == "rtx":
            self._add_plugin(options, wanted)
        elif wanted in self._runtime.get_available_providers():
            providers = [wanted]
        else:
            raise EngineError(f"onnxruntime has no {wanted} here; install personsearch[gpu], or use another engine")
        path = self._folder / name
        try:
            graph = cut_graph(path.read_bytes(), outputs) if outputs == FOUND else str(path)
            session = self._runtime.InferenceSession(graph, options, providers=providers)
        except Exception as error:
            raise EngineError(f"onnxruntime cannot load {load_problem(path, error)}") from None
        if session.get_providers()[0] != wanted:
            raise EngineError(
                f"onnxruntime fell back from {wanted} to {session.get_providers()[0]}; check driver and libraries"
            )
        return session

    def _add_plugin(self, options: Any, wanted: str) -> None:
        try:
            import onnxruntime_ep_nv_tensorrt_rtx as plugin
        except ImportError:
            raise EngineError(f"the TensorRT for RTX provider is not installed; try `{RTX_INSTALL}`") from None
        devices = [d for d in self._runtime.get_ep_devices() if d.ep_name == wanted]
        if not devices:
            try:
                self._runtime.register_execution_provider_library(wanted, plugin.get_library_path())
            except Exception as error:
                reason = str(error).splitlines()[0].rpartition("error: ")[2]
                raise EngineError(f"onnxruntime cannot load {wanted}: {reason}; check the NVIDIA driver") from None
            devices = [d for d in self._runtime.get_ep_devices() if d.ep_name == wanted]
        if not devices:
            raise EngineError(f"onnxruntime's {wanted} finds no GPU that it can use; choose another engine")
        options.add_provider_for_devices(devices[:1], {})

    def infer(self, images: np.ndarray, min_proposal_score: float = 0.0, sources: Sources = ()) -> Outputs:
        boxes, scores, embeddings, count = self._run(self._graph, OUTPUTS, {"images": images})
        return boxes, scores, embeddings, count

    def find(self, images: np.ndarray, sources: Sources = ()) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        # By a session of its own: the whole graph would describe everybody for nothing.
        boxes, scores, count = self._run(self._graph, FOUND, {"images": images})
        return boxes, scores, count

    def describe(self, views: Views) -> np.ndarray | None:
        return None

    def embed(self, images: np.ndarray, boxes: np.ndarray, sources: Sources = ()) -> np.ndarray:
        (embeddings,) = self._run(EMBED, ("embeddings",), {"images": images, "rois": boxes})
        return embeddings

    def _run(self, name: str, outputs: tuple[str, ...], inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        found: list[np.ndarray] = self._session(name, outputs).run(list(outputs), inputs)
        return found
