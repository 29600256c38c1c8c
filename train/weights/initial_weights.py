"""What a run starts from: a checkpoint, or published weights of its parts."""

from __future__ import annotations

from pathlib import Path

from personsearch.core.errors import CheckpointError
from personsearch.core.resources import shipped
from personsearch.train.model.activation import scale_for_hardswish
from personsearch.train.model.backbones import BACKBONES
from personsearch.train.model.csp import CSPStem
from personsearch.train.model.network import PersonSearch
from personsearch.train.model.osnet import OmniScaleHead
from personsearch.train.settings import TrainSettings
from personsearch.train.state import fill
from personsearch.train.vision import models
from personsearch.train.weights.checkpoint import checkpoint_settings, fill_detector, load_checkpoint
from personsearch.train.weights.imagenet_weights import imagenet_file, load_imagenet
from personsearch.train.weights.reid_weights import load_reid
from personsearch.train.weights.yolox_weights import load_yolox_nano


def initialise(network: PersonSearch, settings: TrainSettings) -> bool:
    """Fill `network` from settings.init, else init_resnet or init_backbone, and from init_reid. False: it stays random.

    Raises CheckpointError for a file that is missing, unreadable or of another network, and where parts that do not
    learn would stay random.
    """
    path = _locate(settings.init)
    _refuse_frozen_noise(settings)
    if path.endswith(".onnx"):
        load_yolox_nano(network, path)
        _suit_activation(network, "silu", settings)
    elif path:
        content = load_checkpoint(path)
        (fill_detector if settings.init_parts == "detector" else fill)(network, content["model"], path)
        _suit_activation(network, checkpoint_settings(content, path).model.activation, settings)
    if settings.init_reid:
        if not isinstance(network.head, OmniScaleHead):
            raise CheckpointError("init_reid needs model.roi.head: omniscale")
        load_reid(network.head, network.projection, settings.init_reid)
    resnet = "" if path or settings.from_scratch else settings.init_resnet
    if resnet:
        if settings.model.backbone != "resnet50":
            raise CheckpointError("init_resnet needs model.backbone: resnet50")
        load_imagenet(network, imagenet_file(resnet))
    backbone = "" if path or settings.from_scratch else settings.init_backbone
    if backbone:
        if settings.model.backbone not in BACKBONES:
            raise CheckpointError(f"init_backbone needs model.backbone: {', '.join(BACKBONES)}")
        load_imagenet(network, backbone)
    return bool(path or settings.init_reid or resnet or backbone)


def _suit_activation(network: PersonSearch, trained: str, settings: TrainSettings) -> None:
    """Weights of a detector that had the activation `trained`, made for the network's own one.

    CheckpointError where nobody would teach it what it did before: too much is lost.
    """
    own = settings.model.activation
    if trained == own or not isinstance(network.stem, CSPStem):
        return
    if own == "silu" or not settings.teacher.detector:
        raise CheckpointError(
            f"{settings.init}: its detector has the activation {trained}, expected {own}; give model.activation="
            f"{trained}, or have it taught by what it was, as configs/edge-hardswish.yaml does"
        )
    scale_for_hardswish(network.detector_parts(), network.stem.stem[0])


def _refuse_frozen_noise(settings: TrainSettings) -> None:
    """CheckpointError where a part that is meant to be given, and does not learn, would start from random weights."""
    if settings.from_scratch or settings.init:
        return
    resnet = settings.model.backbone == "resnet50"
    if resnet and not settings.init_resnet:
        raise CheckpointError(
            "model.backbone: resnet50 starts from ImageNet (its first layer never learns), but init_resnet and init "
            "are empty; give init_resnet=FILE.pth, torchvision's resnet50 state dict "
            f"({models.ResNet50_Weights.IMAGENET1K_V1.url}), or init_resnet=IMAGENET1K_V1 if torch's cache has it, or "
            "--from-scratch (from_scratch=true) for random weights"
        )
    name = settings.model.backbone
    if name in BACKBONES and not settings.init_backbone:
        raise CheckpointError(
            f"model.backbone: {name} learns too little from person-search data alone, but init_backbone and init are "
            f"empty; give init_backbone=FILE, torchvision's {name} state dict (.pth or .safetensors), or "
            "--from-scratch (from_scratch=true) for random weights"
        )
    if name == "csp_nano" and settings.optimiser.detector_rate == 0:
        raise CheckpointError(
            "optimiser.detector_rate: 0 keeps the detector as it is, but init is empty, so it would stay random; give "
            "init=models/light/weights.pth, another checkpoint or a YOLOX-nano .onnx file, or --from-scratch "
            "(from_scratch=true) to insist"
        )


def _locate(path: str) -> str:
    """A path of a preset: relative to the working directory, else one that ships with the project."""
    if Path(path).exists() or not path.startswith(("models/", "configs/")) or not shipped(path).exists():
        return path
    return str(shipped(path))
