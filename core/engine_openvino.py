"""OpenVINO on the CPU: the fastest engine of machines without a GPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from personsearch.core.bundle import CUTS, EMBED, MODEL, OUTPUTS, graph_file
from personsearch.core.engines import Outputs
from personsearch.core.errors import BundleError, EngineError


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
        if precision not in ("fp32", "bf16", "int8"):
            raise EngineError(f"openvino: precision must be auto, fp32, bf16 or int8, got {precision}")
        self.name = f"openvino-cpu-{precision}"
        self._options: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": "f32" if precision == "fp32" else "bf16",
            "PERFORMANCE_HINT": "LATENCY",
        }
        if threads:
            self._options["INFERENCE_NUM_THREADS"] = threads
        propose, describe = self._cut(self._read(graph_file(precision)))
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
