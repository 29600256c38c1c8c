#!/usr/bin/env python
"""A network of published parts, without training: `train/assemble.py --config X.yaml --footage DIR --out Y.pth`.

The weights are those that the preset names (`init`, `init_reid`). ProtoNorm, which the parts do not have, gets the mean
and variance of the people in the footage, each one prototype (paper, Eq. 5-6): a folder of train/label.py --tracks.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from personsearch.core.commands import command_line
from personsearch.core.config import load_settings
from personsearch.core.errors import DataError, UserError, run_main
from personsearch.train.data.prw import SearchData


def main() -> int:
    return run_main(_main)


def _main() -> int:
    parser = command_line(__doc__)
    parser.add_argument("--config", required=True, help="a preset that names the parts, as configs/edge-distill.yaml")
    parser.add_argument(
        "--footage", required=True, nargs="+", metavar="DIR", help="people.json whose people have identities; several"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.pth")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="for example init=yolox_nano_coco.onnx")
    given = parser.parse_args()
    from personsearch.train.data.json_data import load_json
    from personsearch.train.model.network import PersonSearch
    from personsearch.train.settings import TrainSettings
    from personsearch.train.teaching.recentre import recentre
    from personsearch.train.weights.checkpoint import save_checkpoint
    from personsearch.train.weights.initial_weights import initialise

    settings = load_settings(given.config, TrainSettings, given.overrides)
    network = PersonSearch(settings.model)
    if not initialise(network, settings):
        raise UserError(f"{given.config}: names no weights; expected init and init_reid, see configs/edge-distill.yaml")
    people = recentre(network.eval(), _together([load_json(folder, "train") for folder in given.footage]))
    if not people:
        raise DataError(
            f"{', '.join(given.footage)}: statistics need at least two people with identities, and "
            "model.identity.norm: protonorm; label the footage with --tracks"
        )
    save_checkpoint(given.out, {"config": settings.model_dump(mode="json"), "model": network.state_dict()})
    print(f"{given.out}: statistics of {people} people")
    return 0


def _together(sets: list[SearchData]) -> SearchData:
    """Several data sets as one: nobody is in two of them."""
    images, first = [], 0
    for data in sets:
        images += [replace(i, identities=np.where(i.identities >= 0, i.identities + first, -1)) for i in data.images]
        first += 1 + max((int(i.identities.max(initial=-1)) for i in data.images), default=-1)
    return SearchData(images, [])


if __name__ == "__main__":
    sys.exit(main())
