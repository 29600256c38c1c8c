"""OpenVINO: Intel's and AMD's CPUs, in bf16 where the processor has it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from personsearch.core.bundle import (
    CUT_CROPS,
    CUT_EMBEDDINGS,
    CUT_FEATURE,
    CUT_POOLING,
    CUT_PROPOSALS,
    CUT_REFINED,
    CUT_VECTORS,
    EMBED,
    OUTPUTS,
    graph_file,
)
from personsearch.core.engines.canvas_part import Size, filled_part, look_at_part
from personsearch.core.engines.interface import Outputs, Sources, Views
from personsearch.core.engines.onnx_opset import load_problem
from personsearch.core.engines.openvino_compiler import Compiler
from personsearch.core.engines.roi_align import pool_pixels
from personsearch.core.errors import BundleError, EngineError
from personsearch.core.openvino_core import computes_bf16, openvino_core, openvino_module
from personsearch.core.processor import compute_threads, has_quota

log = logging.getLogger("personsearch.engines")
CALLS = (4, 2, 1)  # people described in one call: each size is compiled for a second, and larger ones gain nothing
BUCKETS = (4, 6, 8, 12, 16)  # the same for each image of a network that pools a feature map, besides K
ABSENT = -1e4  # logit of a padded proposal


class OpenVINOEngine:
    """Runs the model graph in four parts, cut at its inner tensors:

      propose    images -> proposals                      bf16; its end (boxes, NMS) stays float32
      pool       proposals -> RoIAlign's weights          float32: in bf16 a box moves by pixels
      describe   feature, weights -> a vector a proposal  bf16; compiled for several fixed numbers of people
      conclude   vectors, proposals -> the outputs        float32

    OpenVINO keeps float32 only behind the last heavy operation of a graph, so in one piece the coordinates would be
    rounded. And only proposals that can reach the wanted score are described: a street with three people costs
    three people. A fifth part, project, makes embeddings of vectors that were described for given or refined boxes.
    A network that pools pixels needs no graph for pooling: `core.roi_align` cuts people out in less time, and out of
    the full frames instead of the canvas. The people of all frames are then described together, without padding. And
    its detector looks only at the part of the canvas that a frame fills.
    """

    def __init__(self, folder: Path, precision: str = "auto", threads: int = 0, keep: bool = True) -> None:
        """keep  keep what is compiled in the user's cache, and take it from there"""
        self._ov, self._core, self._folder, self._keep = openvino_module(), openvino_core(), folder, keep
        announced = computes_bf16()
        if precision not in ("auto", "fp32", "bf16", "int8"):
            raise EngineError(f"openvino: precision must be auto, fp32, bf16 or int8, got {precision}")
        # Pinned, as by default, the threads of every process go to the same first cores, however many others idle.
        self._options: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "ENABLE_CPU_PINNING": False}
        if threads or has_quota():
            self._options["INFERENCE_NUM_THREADS"] = threads or compute_threads()
        if precision == "auto" and announced:
            try:
                self._begin("bf16", "bf16")
                return
            except EngineError as error:  # a hypervisor may hide what the processor announces
                log.warning("bf16 does not work here, float32 is taken: %s", error)
        precision = "fp32" if precision == "auto" else precision
        self._begin(precision, "bf16" if precision != "fp32" and announced else "f32")

    def _begin(self, precision: str, fast: str) -> None:
        """Load and compile everything. `fast`: how OpenVINO computes the heavy parts."""
        folder, self._graph, self._fast = self._folder, graph_file(precision), fast
        self.name = f"openvino-cpu-{precision}"
        content = self._content(self._graph)  # read once: what is compiled is what is hashed
        self._compiler = Compiler(content, __file__, self._keep)
        self._model = self._read(self._graph, content)
        names = self._names(self._model)
        missing = [n for n in (*CUT_PROPOSALS, *CUT_POOLING, CUT_CROPS, CUT_VECTORS) if n not in names]
        if missing:
            raise BundleError(f"{folder / self._graph}: has no inner tensor '{missing[0]}'; export the bundle again")
        self._refined = CUT_REFINED in names
        feature = [CUT_FEATURE] if CUT_FEATURE in names else []
        self._pixels = not feature
        self._crops = names[CUT_CROPS].get_partial_shape()
        self._propose = self._compile(["images"], [*CUT_PROPOSALS, *feature], self._fast)
        self._pool: dict[int, Any] = {}
        self._describe: dict[int, Any] = {}
        if self._refined:
            self._conclude = self._compile([CUT_VECTORS, *CUT_PROPOSALS], ["boxes", "scores", "count"], "f32")
            self._project = self._compile([CUT_REFINED], ["embeddings"], "f32")
        else:
            self._conclude = self._compile([CUT_VECTORS, *CUT_PROPOSALS], OUTPUTS, "f32")
            last = CUT_EMBEDDINGS if CUT_EMBEDDINGS in names else "embeddings"
            self._project = self._compile([CUT_VECTORS], [last], "f32")
        self._batch, self._count = (int(n) for n in self._propose.get_output_tensor(0).shape[:2])
        height, width = list(self._propose.get_input_tensor(0).shape)[1:3]
        self._canvas: Size = (height, width)
        self._proposers: dict[Size, Any] = {self._canvas: self._propose}  # by the part of the canvas that they see
        buckets = (*(size for size in BUCKETS if size < self._count), self._count)
        for size in CALLS if self._pixels else buckets:
            self._prepare(size)
        self._embed: Any = None

    def _content(self, name: str) -> bytes:
        try:
            return (self._folder / name).read_bytes()
        except OSError as error:
            raise EngineError(f"openvino cannot read {self._folder / name}: {error.strerror}") from None

    def _read(self, name: str, content: bytes) -> Any:
        try:
            return self._core.read_model(content)
        except RuntimeError as error:
            raise EngineError(f"openvino cannot load {load_problem(self._folder / name, error)}") from None

    @staticmethod
    def _names(model: Any) -> dict[str, Any]:
        return {name: port for op in model.get_ops() for port in op.outputs() for name in port.get_names()}

    def _compile(
        self,
        inputs: Sequence[str],
        outputs: Sequence[str],
        precision: str,
        shapes: dict[str, list[int]] | None = None,
        seen: Size | None = None,
    ) -> Any:
        """The part of the model graph between the named tensors, as an inference request.

        shapes  of inputs that have no fixed ones
        seen    the part of the canvas that it looks at; default: all"""
        options = {**self._options, "INFERENCE_PRECISION_HINT": precision}
        part = [list(inputs), list(outputs), shapes, seen]
        try:
            compiled = self._compiler.compile(part, lambda: self._cut(inputs, outputs, shapes, seen), options)
            return compiled.create_infer_request()
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1][:200]
            raise EngineError(f"openvino cannot compile {self._graph} with {precision}: {reason}") from None

    def _cut(
        self, inputs: Sequence[str], outputs: Sequence[str], shapes: dict[str, list[int]] | None, seen: Size | None
    ) -> Any:
        model = self._model.clone()  # cutting changes it
        names = self._names(model)
        ends = {name: end for end in model.get_results() for name in end.input(0).get_source_output().get_names()}
        results = [ends[name] if name in ends else self._ov.opset13.result(names[name]) for name in outputs]
        parameters = []
        for name in inputs:
            port = names[name]
            if port.get_node().get_type_name() == "Parameter":
                parameters.append(port.get_node())
                continue
            parameter = self._ov.opset13.parameter(port.get_partial_shape(), port.get_element_type())
            for reader in port.get_target_inputs():
                if reader.get_node().get_type_name() != "Result":
                    reader.replace_source_output(parameter.output(0))
            parameters.append(parameter)
        part = self._ov.Model(results, parameters, "part")
        if shapes:
            part.reshape({number: shapes[name] for number, name in enumerate(inputs) if name in shapes})
        if seen:
            look_at_part(self._ov, part, self._canvas, seen)
        return part

    def _prepare(self, size: int) -> None:
        """Compile describing for `size` people, or of a network that pools a feature map for `size` in each image."""
        batch = self._batch
        if self._pixels:
            shapes = {CUT_CROPS: [size, *self._crops.to_shape()[1:]]}
            self._describe[size] = self._compile([CUT_CROPS], [CUT_VECTORS], self._fast, shapes)
            return
        self._pool[size] = self._compile(CUT_PROPOSALS[:1], CUT_POOLING, "f32", {CUT_PROPOSALS[0]: [batch, size, 4]})
        columns, rows = (list(self._pool[size].get_output_tensor(i).shape) for i in range(2))
        shapes = dict(zip(CUT_POOLING, (columns, rows), strict=True))
        describe = self._compile([CUT_FEATURE, *CUT_POOLING], [CUT_VECTORS], self._fast, shapes)
        describe.set_input_tensor(0, self._propose.get_output_tensor(2))
        for i in range(2):  # describing reads where pooling writes: no copies
            describe.set_input_tensor(1 + i, self._pool[size].get_output_tensor(i))
        self._describe[size] = describe

    def infer(self, images: np.ndarray, min_proposal_score: float = 0.0, sources: Sources = ()) -> Outputs:
        """uint8 (B, H, W, 3) -> boxes, scores, embeddings, count. Proposals below `min_proposal_score` are left out."""
        sources = sources or [(image, 1.0) for image in images]
        propose, images = self._proposer(images, sources)
        propose.infer([images])
        proposals, logits = (propose.get_output_tensor(i).data.copy() for i in range(2))
        least = ABSENT / 2
        if min_proposal_score > 0:
            least = max(least, float(np.log(min_proposal_score / max(1 - min_proposal_score, 1e-9))) - 1e-4)
        logits[logits < least] = ABSENT
        wanted = (logits > ABSENT / 2).sum(1)  # logits fall, so these come first
        vectors = self._vectors(sources, proposals, wanted)
        if not self._refined:
            boxes, scores, embeddings, count = self._run(self._conclude, vectors, proposals, logits)
            return boxes, scores, embeddings, count
        boxes, scores, count = self._run(self._conclude, vectors, proposals, logits)
        (embeddings,) = self._run(self._project, self._vectors(sources, boxes, count))
        return boxes, scores, embeddings, count

    def find(self, images: np.ndarray, sources: Sources = ()) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """As `infer`, without describing anybody: right for networks whose scores are the proposals' own."""
        sources = sources or [(image, 1.0) for image in images]
        propose, images = self._proposer(images, sources)
        propose.infer([images])
        proposals, logits = (propose.get_output_tensor(i).data.copy() for i in range(2))
        present = logits > ABSENT / 2
        scores = np.where(present, 1 / (1 + np.exp(-np.clip(logits, -80, 80))), 0).astype(np.float32)
        return proposals * present[..., None], scores, present.sum(1).astype(np.int32)

    def describe(self, views: Views) -> np.ndarray | None:
        if not self._pixels or not len(views):
            return None
        pictures = [(picture, 1.0) for picture, _ in views]
        return self._embed_pixels(pictures, np.array([box for _, box in views], np.float32), np.arange(len(views)))

    def _proposer(self, images: np.ndarray, sources: Sources) -> tuple[Any, np.ndarray]:
        """The part `propose` for what a frame fills of its canvas, compiled when such a frame comes first."""
        if not self._pixels or self._batch > 1:
            return self._propose, images
        frame, _ = sources[0]
        height, width = size = filled_part(self._canvas, (frame.shape[0], frame.shape[1]))
        if size not in self._proposers:
            self._proposers[size] = self._compile(["images"], CUT_PROPOSALS, self._fast, seen=size)
        return self._proposers[size], np.ascontiguousarray(images[:, :height, :width])

    @staticmethod
    def _run(request: Any, *inputs: np.ndarray) -> list[np.ndarray]:
        return [value.copy() for value in request.infer(list(inputs)).to_tuple()]

    def _vectors(self, sources: Sources, boxes: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        """Vectors (B * K, width) of the first wanted (B,) boxes (B, K, 4) of each image; the other rows are zero."""
        width = next(iter(self._describe.values())).get_output_tensor(0).shape[1]
        out = np.zeros((self._batch, self._count, width), np.float32)
        present = np.arange(self._count) < wanted[:, None]
        if not present.any():
            pass
        elif self._pixels:
            out[present] = self._pixel_vectors(sources, np.nonzero(present)[0], boxes[present])
        else:
            out[present] = self._feature_vectors(boxes, present)
        return out.reshape(self._batch * self._count, width)

    def _pixel_vectors(self, sources: Sources, owners: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        """Canvas boxes (N, 4) of sources[owners[n]] -> (N, width)."""
        frames, vectors = [frame for frame, _ in sources], []
        scales = np.array([scale for _, scale in sources], np.float32)[owners, None]
        sizes = np.array([[f.shape[1], f.shape[0]] * 2 for f in frames], np.float32)[owners]
        boxes = np.clip(boxes / scales, 0, sizes)
        begin = 0
        while begin < len(owners):
            part = slice(begin, begin + next(size for size in CALLS if size <= len(owners) - begin))
            begin = part.stop
            describe = self._describe[part.stop - part.start]
            pool_pixels(frames, owners[part], boxes[part], describe.get_input_tensor(0).data)
            describe.infer()
            vectors.append(describe.get_output_tensor(0).data.copy())
        return np.concatenate(vectors)

    def _feature_vectors(self, boxes: np.ndarray, present: np.ndarray) -> np.ndarray:
        size = min(s for s in self._describe if s >= present.sum(1).max())
        self._pool[size].infer([np.ascontiguousarray(boxes[:, :size])])
        self._describe[size].infer()
        vectors: np.ndarray = self._describe[size].get_output_tensor(0).data.reshape(self._batch, size, -1)
        return vectors[present[:, :size]]

    def embed(self, images: np.ndarray, boxes: np.ndarray, sources: Sources = ()) -> np.ndarray:
        if self._pixels:
            return self._embed_pixels(sources or [(images[0], 1.0)], boxes[0], np.zeros(len(boxes[0]), int))[None]
        if self._embed is None:  # rare and in one graph: float32
            options = {**self._options, "INFERENCE_PRECISION_HINT": "f32"}
            self._embed = self._core.compile_model(self._read(EMBED, self._content(EMBED)), "CPU", options)
        return self._embed([images, boxes])["embeddings"]

    def _embed_pixels(self, sources: Sources, boxes: np.ndarray, owners: np.ndarray) -> np.ndarray:
        """Canvas boxes (N, 4) of sources[owners[n]] -> (N, D); rows of empty boxes are zero."""
        kept = np.flatnonzero((boxes[:, 2:] > boxes[:, :2]).all(1))
        embeddings = np.zeros((len(boxes), self._project.get_output_tensor(0).shape[-1]), np.float32)
        if not len(kept):
            return embeddings
        vectors = self._pixel_vectors(sources, owners[kept], boxes[kept])
        rows = self._batch * self._count
        for begin in range(0, len(kept), rows):
            part = vectors[begin : begin + rows]
            padded = np.concatenate([part, np.zeros((rows - len(part), part.shape[1]), np.float32)])
            (made,) = self._run(self._project, padded)
            embeddings[kept[begin : begin + rows]] = made.reshape(rows, -1)[: len(part)]
        return embeddings
