"""Everything that a bundle says about itself, as plain values and as readable lines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from personsearch.core.bundle import read_manifest
from personsearch.core.errors import BundleError
from personsearch.core.json_text import parse_json
from personsearch.export.graph_stats import graph_stats


def inspect_bundle(folder: Path) -> dict[str, Any]:
    """Raises BundleError for a missing or damaged bundle."""
    manifest = read_manifest(folder)
    content: dict[str, Any] = manifest.model_dump(mode="json")
    content["model_hash"] = manifest.model_hash
    content["graphs"] = {}
    for name in sorted(manifest.files):
        if name.endswith(".onnx"):
            stats = graph_stats(folder / name)
            content["graphs"][name] = {
                "opset": stats.opset, "nodes": sum(stats.nodes.values()), "normalisations": stats.normalisations,
                "operators": dict(stats.nodes.most_common()), "multiply_adds": stats.products,
                "int8_convolutions": stats.quantised, "float16_products": stats.halved,
                "convolutions": stats.nodes["Conv"],
            }  # fmt: skip
    parity = folder / "parity.json"
    content["parity"] = _parity(parity) if parity.is_file() else []
    return content


def _parity(path: Path) -> list[dict[str, Any]]:
    try:
        rows = parse_json(path.read_bytes())
        for row in rows:
            f"{row['engine']:s} {row['matched']:f} {row['cosine_mean']:f} {row['cosine_p1']:f}"
    except (ValueError, LookupError, TypeError):
        raise BundleError(f"{path}: expected rows of engines with their parity; export the bundle again") from None
    return rows


def lines(content: dict[str, Any]) -> list[str]:
    size = sum(entry["bytes"] for entry in content["files"].values())
    out = [
        f"{content['name']}  model {content['model_hash']}  made {content['created']}  {size / 1e6:.1f} MB",
        f"input {content['batch']} x {content['height']} x {content['width']} x 3 uint8 BGR; at most "
        f"{content['detections']} people a frame; embeddings of {content['dimensions']}; "
        f"working point {content['min_score']:g} ({content['score']} score)",
        "", "file                                                        MB  sha256",
    ]  # fmt: skip
    for name, entry in sorted(content["files"].items()):
        out.append(f"{name:56s} {entry['bytes'] / 1e6:6.2f}  {entry['sha256'][:16]}")
    for name, graph in content["graphs"].items():
        total = sum(graph["multiply_adds"].values())
        kinds = f"{graph['int8_convolutions']} of {graph['convolutions']} convolutions int8"
        if graph["float16_products"]:
            kinds = f"{graph['float16_products']} products in float16"
        out += [
            "",
            f"{name}: opset {graph['opset']}, {graph['nodes']} nodes, {graph['normalisations']} normalisations, "
            f"{kinds}, {total / 1e9:.2f} G multiply-adds",
        ]
        for stage, number in sorted(graph["multiply_adds"].items(), key=lambda item: -item[1]):
            share = number / max(total, 1)
            out.append(f"  {stage:14s} {number / 1e9:8.3f} G {100 * share:5.1f} %  {'#' * round(40 * share)}")
    out += ["", "parity with PyTorch fp32     matched cosine m cosine p1    mAP change"]
    for row in content["parity"]:
        accuracy = f"{100 * row['mean_ap']:6.2f} {100 * row['mean_ap_change']:+6.2f}" if "mean_ap" in row else ""
        avoided = "  (auto avoids it)" if row["engine"] in content["avoid"] else ""
        out.append(
            f"{row['engine']:28s} {row['matched']:7.3f} {row['cosine_mean']:8.5f} {row['cosine_p1']:9.4f} "
            f"{accuracy}{avoided}"
        )
    out += ["", f"similarity thresholds by false-alarm rate ({content['calibration'] or 'not calibrated'})"]
    tables = {"float32 model": content["thresholds"], **content["engine_thresholds"]}
    for name, rows in tables.items():
        values = "  ".join(f"{row['false_alarm_rate']:g}: {row['similarity']:.3f}" for row in rows)
        out.append(f"{name:28s} {values}")
    out += ["", f"checkpoint {content['checkpoint_sha256'][:16]}; licence: {content['licence'] or 'not stated'}"]
    out += [f"trained on: {source}" for source in content["training_data"]]
    return out
