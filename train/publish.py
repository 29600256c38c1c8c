#!/usr/bin/env python
"""Publish a checkpoint: `python train/publish.py runs/x/best.pth --license apache-2.0 --out models/x`.

Writes a folder as model hubs hold them: model.safetensors, config.json, and a model card (README.md) to be completed by
hand. Look-up table, queue, optimiser and the data's identities stay behind, and of paths only the last parts go along.
The folder can be evaluated, exported, and used as `init`.
"""

from __future__ import annotations

import math
import re
import sys
from pathlib import Path
from typing import Any

from personsearch.core.commands import command_line
from personsearch.core.errors import UserError, run_main
from personsearch.core.json_text import parse_json

UNKNOWN = "not recorded: measure it with `python train/evaluate.py` and publish again with --figures"


def main() -> int:
    return run_main(_main)


def _main() -> int:
    parser = command_line(__doc__)
    parser.add_argument("checkpoint", type=Path, help="a checkpoint of train/run.py, for example runs/x/best.pth")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="a folder that does not exist yet")
    parser.add_argument("--license", required=True, help="of the weights, as hubs write it: apache-2.0, cc-by-nc-4.0")
    parser.add_argument("--name", default="", help="in the card (default: the folder's name)")
    parser.add_argument("--training-data", action="append", default=[], metavar="TEXT", help="source and licence")
    parser.add_argument(
        "--figures", default="", metavar="FILE.json", help="what train/evaluate.py --json wrote (default: the figures "
        "that the run recorded for this checkpoint)",
    )  # fmt: skip
    parser.add_argument("--half", action="store_true", help="weights in float16: half the file")
    given = parser.parse_args()
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.+-]*", given.license):
        raise UserError(f"--license: expected an identifier such as apache-2.0, got '{given.license}'")
    from personsearch.train.state import halved
    from personsearch.train.weights.checkpoint import build_network, load_checkpoint, without_folders
    from personsearch.train.weights.published import write_published

    content = load_checkpoint(given.checkpoint)
    state = build_network(content, given.checkpoint).state_dict()  # whole, finite, and of this version's network
    config = without_folders(content["config"])
    figures = read_figures(given.figures) if given.figures else recorded(content)
    card = model_card(given.name or given.out.name, given.license, config, figures, given.training_data)
    write_published(given.out, halved(state) if given.half else state, config, card, figures)
    print(f"{given.out}: {len(state)} weights; complete its model card before you upload it")
    return 0


def recorded(content: dict[str, Any]) -> dict[str, float]:
    """The validation that was made of exactly this checkpoint's weights; empty if there was none."""
    rows = [row for row in content.get("history", []) if row["step"] == content.get("step")]
    figures = rows[-1] if rows else {}
    return {name: value for name, value in figures.items() if name != "step" and math.isfinite(value)}


def read_figures(path: str) -> dict[str, float]:
    try:
        content = parse_json(Path(path).read_bytes())
    except OSError as error:
        raise UserError(f"--figures {path}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise UserError(f"--figures {path}: not readable as JSON ({error})") from None
    numbers = {k: v for k, v in content.items() if type(v) in (int, float)} if isinstance(content, dict) else {}
    if "mAP" not in numbers:
        raise UserError(f"--figures {path}: expected what train/evaluate.py --json writes, but there is no mAP")
    return numbers


def model_card(
    name: str, licence: str, config: dict[str, Any], figures: dict[str, float], training_data: list[str]
) -> str:
    """A README.md with the front matter that hubs read."""
    model, data, loss = config["model"], config["data"], config["model"]["identity"]
    sources = training_data or [_source(part) for part in data["train"]]
    rows = [f"| {key} | {value:.3f} |" for key, value in figures.items()]
    return "\n".join([
        "---", f"license: {licence}", "library_name: personsearch", "pipeline_tag: object-detection",
        "tags:", "- person-search", "- person-re-identification", "- oimnet-plus-plus", "---", "",
        f"# {name}", "",
        f"Person search (OIMNet++): finds the people of a frame and describes each with {loss['dimensions']} numbers, "
        f"whose scalar products say who looks alike. Backbone {model['backbone']}, frames of {model['height']}x"
        f"{model['width']}, {loss['norm']} before L2, trained with {loss['loss'].upper()}.", "",
        "## Use", "", "```",
        "python train/evaluate.py --model FOLDER --data ROOT --format prw",
        "python export/to_trt.py FOLDER --out BUNDLE",
        "python train/run.py init=FOLDER ...", "```", "",
        f"## Figures on {_source(data['test'])}, test split", "",
        *(["| figure | value |", "|---|---|", *rows] if rows else [UNKNOWN]), "",
        "A checkpoint that was chosen by these figures (best.pth) looks better on this split than on other data.", "",
        "## Training data", "", *(f"- {source}" for source in sources), "",
        "Its licence limits what these weights may be used for, whatever the licence above says.", "",
        "## Limits", "",
        "- Embeddings go by clothes and build more than by faces, and say nothing across days.",
        "- Thresholds must be measured for each camera; see docs/recognition.md.",
        "- Whoever runs it on people needs their consent or a legal ground.", "",
    ])  # fmt: skip


def _source(part: dict[str, Any]) -> str:
    return f"{part['format']} ({part['root']})" if part.get("root") else part["format"]


if __name__ == "__main__":
    sys.exit(main())
