"""What a run starts from: a checkpoint, or published weights of its parts."""

from __future__ import annotations

from pathlib import Path

from personsearch.core.errors import CheckpointError
from personsearch.train.checkpoint import fill, fill_detector, load_checkpoint
from personsearch.train.network import PersonSearch
from personsearch.train.osnet import OmniScaleHead
from personsearch.train.reid_weights import load_reid
from personsearch.train.resnet import load_imagenet
from personsearch.train.settings import TrainSettings
from personsearch.train.yolox_weights import load_yolox_nano


def initialise(network: PersonSearch, settings: TrainSettings) -> bool:
    """Fill `network` from settings.init, init_reid and init_resnet. False if all are empty: it stays random.

    Raises CheckpointError for a file that is missing, unreadable or of another network.
    """
    path = _locate(settings.init)
    if path.endswith(".onnx"):
        load_yolox_nano(network, path)
    elif path:
        state = load_checkpoint(path)["model"]
        if settings.init_parts == "detector":
            fill_detector(network, state, path)
        else:
            fill(network, state, path)
    if settings.init_reid:
        if not isinstance(network.head, OmniScaleHead):
            raise CheckpointError("init_reid needs model.roi.head: omniscale")
        load_reid(network.head, network.projection, settings.init_reid)
    if settings.init_resnet:
        if settings.model.backbone != "resnet50":
            raise CheckpointError("init_resnet needs model.backbone: resnet50")
        load_imagenet(network.stem, network.head, settings.init_resnet)  # type: ignore[arg-type]
    return bool(path or settings.init_reid or settings.init_resnet)


def _locate(path: str) -> str:
    """A path of a preset: relative to the working directory, else to the repository."""
    repository = Path(__file__).resolve().parent.parent
    return str(repository / path) if path and not Path(path).exists() and (repository / path).exists() else path
