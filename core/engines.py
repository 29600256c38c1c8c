"""Inference engines for a bundle behind one small interface; no PyTorch here.

An engine takes uint8 (B, H, W, 3) letterboxed BGR and gives fixed-size outputs; `BundleSearcher` turns them
into `Detections` in the pixels of the original frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np

from personsearch.core.bundle import CUTS, EMBED, MODEL, OUTPUTS, Manifest, read_manifest
from personsearch.core.errors import BundleError, EngineError
from personsearch.core.preprocess import Letterbox
from personsearch.core.records import Detections

Outputs = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]  # boxes, scores, embeddings, count


class Engine(Protocol):
    name: str  # backend, device and precision, for logs and reports

    def infer(self, images: np.ndarray) -> Outputs:
        """uint8 (B, H, W, 3) -> boxes (B, K, 4), scores (B, K), embeddings (B, K, D), count (B,)."""

    def embed(self, images: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        """uint8 (1, H, W, 3) and (1, E, 4) boxes on the canvas -> (1, E, D)."""


class OpenVINOEngine:
    """Intel's and AMD's CPUs; bf16 where the processor has it, unless `precision` says otherwise.

    OpenVINO keeps float32 only behind the last heavy operation of a graph, and bf16 moves a box by pixels. So the
    model runs as two graphs, cut where proposals are handed to RoIAlign: boxes, NMS and the RoIAlign weights are
    then the end of the first graph and stay exact, while convolutions and matrix products are bf16.
    """

    def __init__(self, folder: Path, precision: str = "auto", threads: int = 0) -> None:
        import openvino

        self._ov, self._core, self._folder = openvino, openvino.Core(), folder
        capabilities = self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        if precision == "auto":
            precision = "bf16" if "BF16" in capabilities else "fp32"
        if precision not in ("fp32", "bf16"):
            raise EngineError(f"openvino: precision must be auto, fp32 or bf16, got {precision}")
        self.name = f"openvino-cpu-{precision}"
        self._options: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": "f32" if precision == "fp32" else "bf16",
            "PERFORMANCE_HINT": "LATENCY",
        }
        if threads:
            self._options["INFERENCE_NUM_THREADS"] = threads
        propose, describe = self._cut(self._read(MODEL))
        self._propose = self._core.compile_model(propose, "CPU", self._options).create_infer_request()
        self._describe = self._core.compile_model(describe, "CPU", self._options).create_infer_request()
        for number in range(len(CUTS)):  # the second graph reads where the first one writes: no copies
            self._describe.set_input_tensor(number, self._propose.get_output_tensor(number))
        self._embed: Any = None

    def _read(self, name: str) -> Any:
        try:
            return self._core.read_model(str(self._folder / name))
        except RuntimeError as error:
            raise EngineError(f"openvino cannot load {self._folder / name}: {str(error).splitlines()[0]}") from None

    def _cut(self, model: Any) -> tuple[Any, Any]:
        """images -> the tensors of CUTS, and these -> the model's outputs."""
        ends = {name: port for op in model.get_ops() for port in op.outputs() for name in port.get_names()}
        missing = [name for name in CUTS if name not in ends]
        if missing:
            raise BundleError(f"{self._folder / MODEL}: has no inner tensor '{missing[0]}'; export the bundle again")
        ports = [ends[name] for name in CUTS]
        propose = self._ov.Model(
            [self._ov.opset13.result(port) for port in ports], model.get_parameters(), "propose"
        ).clone()
        inputs = []
        for port in ports:
            parameter = self._ov.opset13.parameter(port.get_partial_shape(), port.get_element_type())
            for reader in port.get_target_inputs():
                if reader.get_node().get_type_name() != "Result":
                    reader.replace_source_output(parameter.output(0))
            inputs.append(parameter)
        return propose, self._ov.Model(model.get_results()[: len(OUTPUTS)], inputs, "describe")

    def infer(self, images: np.ndarray) -> Outputs:
        self._propose.infer([images])
        self._describe.infer()
        boxes, scores, embeddings, count = (
            self._describe.get_output_tensor(i).data.copy() for i in range(len(OUTPUTS))
        )
        return boxes, scores, embeddings, count

    def embed(self, images: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        if self._embed is None:  # rare and in one graph: float32
            options = {**self._options, "INFERENCE_PRECISION_HINT": "f32"}
            self._embed = self._core.compile_model(self._read(EMBED), "CPU", options)
        return self._embed([images, boxes])["embeddings"]


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


ENGINES = (
    "auto",
    "openvino",
    "openvino-fp32",
    "openvino-bf16",
    "onnxruntime",
    "onnxruntime-cuda",
    "onnxruntime-tensorrt",
)


def load_engine(folder: str | Path, choice: str = "auto", threads: int = 0) -> Engine:
    """`auto`: CUDA if ONNX Runtime really has it, else OpenVINO, else ONNX Runtime on the CPU."""
    folder = Path(folder)
    if choice not in ENGINES:
        raise EngineError(f"unknown engine '{choice}'; expected one of {', '.join(ENGINES)}")
    if choice.startswith("onnxruntime"):
        return OnnxRuntimeEngine(folder, choice.partition("-")[2] or "cpu", threads)
    if choice.startswith("openvino"):
        return _openvino(folder, choice.partition("-")[2] or "auto", threads)
    for attempt in (
        lambda: OnnxRuntimeEngine(folder, "cuda", threads),
        lambda: _openvino(folder, "auto", threads),
        lambda: OnnxRuntimeEngine(folder, "cpu", threads),
    ):
        try:
            return attempt()
        except (ImportError, EngineError) as error:
            reason = error
    raise EngineError(
        f"no inference engine can run this bundle ({reason}); install personsearch[cpu] or personsearch[gpu]"
    )


def _openvino(folder: Path, precision: str, threads: int) -> Engine:
    try:
        return OpenVINOEngine(folder, precision, threads)
    except ImportError:
        raise EngineError("openvino is not installed; install personsearch[cpu], or choose another engine") from None


class BundleSearcher:
    """A bundle as a `Searcher`: frames of any size in, detections in their own pixels out."""

    def __init__(self, folder: str | Path, engine: str = "auto", threads: int = 0) -> None:
        self.manifest: Manifest = read_manifest(folder)
        self.engine = load_engine(folder, engine, threads)
        self.letterbox = Letterbox(self.manifest.height, self.manifest.width)
        self.dimensions = self.manifest.dimensions
        self._canvas = np.zeros((self.manifest.batch, self.manifest.height, self.manifest.width, 3), np.uint8)

    def detect(self, images: Sequence[np.ndarray], min_score: float | None = None) -> list[Detections]:
        """Any number of frames; calls of the engine hold `manifest.batch` of them. Not safe for several threads."""
        min_score = self.manifest.min_score if min_score is None else min_score
        results: list[Detections] = []
        for begin in range(0, len(images), self.manifest.batch):
            part = images[begin : begin + self.manifest.batch]
            scales = [self.letterbox(image, self._canvas[i])[1] for i, image in enumerate(part)]
            boxes, scores, embeddings, count = self.engine.infer(self._canvas)
            if boxes.shape[-1] != 4 or embeddings.shape[-1] != self.dimensions:
                raise BundleError(f"the model's outputs do not fit its manifest: {boxes.shape}, {embeddings.shape}")
            for i, (image, scale) in enumerate(zip(part, scales, strict=True)):
                keep = scores[i, : int(count[i])] >= min_score
                h, w = image.shape[:2]
                found = np.clip(boxes[i, : len(keep)][keep] / scale, 0, [w, h, w, h])
                results.append(Detections(found, scores[i, : len(keep)][keep], embeddings[i, : len(keep)][keep]))
        return results

    def embed(self, image: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        """Embeddings (N, D) of given boxes (N, 4) in the frame's pixels."""
        canvas, scale = self.letterbox(image)
        boxes = np.asarray(boxes, np.float32).reshape(-1, 4) * scale
        size, rows = self.manifest.embed_boxes, []
        for begin in range(0, len(boxes), size):
            part = boxes[begin : begin + size]
            padded = np.zeros((1, size, 4), np.float32)
            padded[0, : len(part)] = part
            rows.append(self.engine.embed(canvas[None], padded)[0, : len(part)])
        return np.concatenate(rows) if rows else np.zeros((0, self.dimensions), np.float32)
