"""TensorRT and TensorRT for RTX: a prebuilt engine file, replayed as one CUDA graph on a stream of its own.

The types of the calls are checked against the library's stubs; nothing here has been run on a GPU yet.
"""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from personsearch.core.bundle import EMBED, OUTPUTS, graph_file, read_manifest
from personsearch.core.engines.interface import Outputs, Sources, Views
from personsearch.core.engines.tensorrt_library import TensorRT, find_engine, load_tensorrt, local_gpu
from personsearch.core.errors import EngineError

if TYPE_CHECKING:
    import tensorrt as trt


class TensorRTEngine:
    """The bundle's engine for this GPU and library version. Raises EngineError where none fits: engines of other
    versions or GPUs are never tried."""

    def __init__(self, folder: Path, precision: str = "fp32") -> None:
        self._folder, self._gpu = folder, local_gpu()
        self._files = read_manifest(folder, verify=False).files
        graph = graph_file(precision)
        self._library, file = self._find(graph)
        self.name = f"tensorrt-{self._gpu}-{precision}"
        self._model = _Program(self._library, folder / file)
        self._embed: _Program | None = None

    def _find(self, graph: str) -> tuple[TensorRT, str]:
        """Engines of both editions may lie in the bundle: the first edition whose engine fits is used."""
        if graph not in self._files:
            raise EngineError(f"{self._folder}: has no {graph}; export it with --precision")
        reasons = []
        for edition in ("tensorrt", "rtx"):
            try:
                library = load_tensorrt(edition)
                return library, find_engine(self._files, graph, self._files[graph].sha256, library.tag, self._gpu)
            except EngineError as error:
                reasons.append(str(error))
        raise EngineError(f"{self._folder}: {reasons[0]}; {reasons[1]}")

    def infer(self, images: np.ndarray, min_proposal_score: float = 0.0, sources: Sources = ()) -> Outputs:
        out = self._model.run({"images": images})
        boxes, scores, embeddings, count = (out[name] for name in OUTPUTS)
        return boxes, scores, embeddings, count

    def find(self, images: np.ndarray, sources: Sources = ()) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        boxes, scores, _, count = self.infer(images)  # one engine: describing cannot be left out
        return boxes, scores, count

    def describe(self, views: Views) -> np.ndarray | None:
        return None

    def embed(self, images: np.ndarray, boxes: np.ndarray, sources: Sources = ()) -> np.ndarray:
        if self._embed is None:
            file = find_engine(self._files, EMBED, self._files[EMBED].sha256, self._library.tag, self._gpu)
            self._embed = _Program(self._library, self._folder / file)
        return self._embed.run({"images": images, "rois": boxes})["embeddings"]


class _Program:
    """One deserialised engine: pinned host buffers, device buffers, and copies and kernels captured as a CUDA graph."""

    def __init__(self, library: TensorRT, path: Path) -> None:
        from cuda.bindings import runtime as cuda

        module, self._cuda = library.module, cuda
        self._logger = module.Logger(module.Logger.ERROR)
        self._runtime: trt.Runtime = module.Runtime(self._logger)
        engine: trt.ICudaEngine | None = self._runtime.deserialize_cuda_engine(path.read_bytes())
        if engine is None:
            raise EngineError(f"{path}: {library.tag} cannot load this engine; build it again with personsearch-export")
        self._engine = engine
        self._context: trt.IExecutionContext = engine.create_execution_context()
        self._stream = self._check(cuda.cudaStreamCreateWithFlags(cuda.cudaStreamNonBlocking))
        self._host: dict[str, np.ndarray] = {}
        self._device: dict[str, int] = {}
        self._inputs: list[str] = []
        for number in range(engine.num_io_tensors):
            name = engine.get_tensor_name(number)
            shape = tuple(engine.get_tensor_shape(name))
            dtype = np.dtype(module.nptype(engine.get_tensor_dtype(name)))
            size = int(np.prod(shape)) * dtype.itemsize
            pinned = self._check(cuda.cudaHostAlloc(size, cuda.cudaHostAllocDefault))
            memory = (ctypes.c_byte * size).from_address(int(pinned))
            self._host[name] = np.frombuffer(memory, dtype).reshape(shape)
            self._device[name] = int(self._check(cuda.cudaMalloc(size)))
            self._context.set_tensor_address(name, self._device[name])
            if engine.get_tensor_mode(name) == module.TensorIOMode.INPUT:
                self._inputs.append(name)
        self._enqueue()  # lazy initialisation must not happen inside the capture
        self._check(cuda.cudaStreamSynchronize(self._stream))
        self._check(cuda.cudaStreamBeginCapture(self._stream, cuda.cudaStreamCaptureMode.cudaStreamCaptureModeRelaxed))
        self._enqueue()
        graph = self._check(cuda.cudaStreamEndCapture(self._stream))
        self._graph = self._check(cuda.cudaGraphInstantiate(graph, 0))

    def run(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Fixed-shape arrays by name -> copies of the outputs by name."""
        for name, values in inputs.items():
            np.copyto(self._host[name], values)
        self._check(self._cuda.cudaGraphLaunch(self._graph, self._stream))
        self._check(self._cuda.cudaStreamSynchronize(self._stream))
        return {name: array.copy() for name, array in self._host.items() if name not in self._inputs}

    def _enqueue(self) -> None:
        cuda, kind = self._cuda, self._cuda.cudaMemcpyKind
        for name in self._inputs:
            host = self._host[name]
            self._check(
                cuda.cudaMemcpyAsync(
                    self._device[name], host.ctypes.data, host.nbytes, kind.cudaMemcpyHostToDevice, self._stream
                )
            )
        if not self._context.execute_async_v3(int(self._stream)):
            raise EngineError("TensorRT could not run the engine; see the messages above")
        for name, host in self._host.items():
            if name not in self._inputs:
                self._check(
                    cuda.cudaMemcpyAsync(
                        host.ctypes.data, self._device[name], host.nbytes, kind.cudaMemcpyDeviceToHost, self._stream
                    )
                )

    @staticmethod
    def _check(result: tuple[Any, ...]) -> Any:
        """The value behind the status that every CUDA call returns first."""
        if int(result[0]) != 0:
            raise EngineError(f"CUDA error {result[0].name}; check the driver and the GPU's free memory")
        return result[1] if len(result) == 2 else None
