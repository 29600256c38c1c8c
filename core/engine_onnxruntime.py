"""ONNX Runtime: any machine's CPU, and NVIDIA GPUs through its providers."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from personsearch.core.bundle import EMBED, MODEL, OUTPUTS
from personsearch.core.engines import Outputs
from personsearch.core.errors import EngineError


class OnnxRuntimeEngine:
    """ONNX Runtime on the CPU or through CUDA or TensorRT; a provider that silently fell back is an error."""

    PROVIDERS: ClassVar[dict[str, str]] = {
        "cpu": "CPUExecutionProvider",
        "cuda": "CUDAExecutionProvider",
        "tensorrt": "TensorrtExecutionProvider",
    }

    def __init__(self, folder: Path, device: str = "cpu", threads: int = 0) -> None:
        import onnxruntime

        self._runtime, self._folder, self._device, self._threads = onnxruntime, folder, device, threads
        self.name = f"onnxruntime-{device}-fp32"
        self._model = self._session(MODEL)
        self._embed: Any = None

    def _session(self, name: str) -> Any:
        wanted = self.PROVIDERS[self._device]
        options = self._runtime.SessionOptions()
        options.log_severity_level = 3
        if self._threads:
            options.intra_op_num_threads = self._threads
        if wanted not in self._runtime.get_available_providers():
            raise EngineError(f"onnxruntime has no {wanted} here; install personsearch[gpu], or use another engine")
        try:
            session = self._runtime.InferenceSession(str(self._folder / name), options, providers=[wanted])
        except Exception as error:
            raise EngineError(f"onnxruntime cannot load {self._folder / name}: {str(error).splitlines()[0]}") from None
        if session.get_providers()[0] != wanted:
            raise EngineError(
                f"onnxruntime fell back from {wanted} to {session.get_providers()[0]}; check driver and libraries"
            )
        return session

    def infer(self, images: np.ndarray) -> Outputs:
        boxes, scores, embeddings, count = self._model.run(list(OUTPUTS), {"images": images})
        return boxes, scores, embeddings, count

    def embed(self, images: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        if self._embed is None:
            self._embed = self._session(EMBED)
        return self._embed.run(["embeddings"], {"images": images, "rois": boxes})[0]
