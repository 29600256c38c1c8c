"""Typed training configuration; `configs/*.yaml` hold commented presets."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from personsearch.core.config import Settings


def _fraction(value: object) -> object:
    """`1/30` as YAML reads it, a text -> the nearest number; anything else is left to the type's own check."""
    over, slash, under = value.partition("/") if isinstance(value, str) else ("", "", "")
    if not slash:
        return value
    try:
        return float(over) / float(under)
    except (ValueError, ZeroDivisionError):
        raise ValueError("expected a number or a fraction such as 1/30") from None


Fraction = Annotated[float, BeforeValidator(_fraction)]


class RpnSettings(Settings):
    kind: Literal["anchors", "dense"] = "dense"
    anchor_sizes: tuple[float, ...] = (8.0, 16.0, 32.0)
    anchor_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    nms_iou: float = Field(0.7, gt=0, le=1)
    train_candidates: int = Field(2000, ge=1)
    train_proposals: int = Field(300, ge=1)
    test_candidates: int = Field(500, ge=1)
    test_proposals: int = Field(32, ge=1)


class RoiSettings(Settings):
    head: Literal["residual", "omniscale"] = "residual"
    height: int = Field(24, ge=1)
    width: int = Field(12, ge=1)
    widths: tuple[int, ...] = (64, 128, 256)
    depths: tuple[int, ...] = (1, 2, 1)
    sampled: int = Field(32, ge=1)
    positive_share: float = Field(0.5, gt=0, le=1)
    positive_iou: float = Field(0.5, gt=0, le=1)
    score: Literal["head", "fused", "rpn"] = "head"
    embed: Literal["proposal", "refined"] = "proposal"
    two_stages: bool = False  # SeqNet: a first head refines the proposals, class and embedding are learned on its boxes
    nms_iou: float = Field(0.4, gt=0, le=1)
    min_score: float = Field(0.5, ge=0, le=1)


class IdentitySettings(Settings):
    dimensions: int = Field(256, ge=2)
    norm: Literal["protonorm", "batchnorm", "none"] = "protonorm"
    norm_background: bool = True
    loss: Literal["loim", "oim"] = "loim"
    oim_momentum: float = Field(0.5, ge=0, le=1)
    temperature: Fraction = Field(1 / 30, gt=0)
    min_step: float = Field(0.0, ge=0, le=1)
    max_step: float = Field(0.9, ge=0, le=1)
    queue: int = Field(500, ge=0)


class ModelSettings(Settings):
    backbone: Literal["csp_nano", "resnet50", "convnext_tiny", "convnext_base", "swin_s"] = "csp_nano"
    fit: Literal["canvas", "sides"] = "canvas"
    height: int = Field(384, ge=32)
    width: int = Field(640, ge=32)
    conv5_protonorm: bool = False
    checkpointing: bool = False
    freeze_norms: bool = False
    activation: Literal["silu", "hardswish"] = "silu"  # of csp_nano's detector
    rpn: RpnSettings = RpnSettings()
    roi: RoiSettings = RoiSettings()
    identity: IdentitySettings = IdentitySettings()

    @model_validator(mode="after")
    def _multiple_of_stride(self) -> ModelSettings:
        if self.activation != "silu" and self.backbone != "csp_nano":
            raise ValueError("activation is csp_nano's; other backbones have those of their published weights")
        if self.conv5_protonorm and self.backbone != "resnet50":
            raise ValueError("conv5_protonorm needs backbone resnet50; the others have no BatchNorm in their head")
        if self.roi.two_stages and (self.roi.score, self.roi.embed) != ("head", "proposal"):
            raise ValueError("roi.two_stages needs roi.score: head and roi.embed: proposal; it refines boxes by itself")
        if self.roi.two_stages and self.roi.head == "omniscale":
            raise ValueError("roi.two_stages needs roi.head: residual; the omniscale head only recognises")
        stride = 1 if self.backbone == "resnet50" or self.fit == "sides" else 32
        if self.height % stride or self.width % stride:
            raise ValueError(f"height and width must be multiples of {stride} for {self.backbone}")
        if self.fit == "sides" and (self.backbone == "csp_nano" or self.rpn.kind != "anchors"):
            raise ValueError("fit: sides needs rpn.kind anchors, and not csp_nano, whose canvas is fixed")
        if self.fit == "sides" and self.height > self.width:
            raise ValueError("with fit: sides, height is the short side and width the long one")
        roi = self.roi
        fits = self.backbone == "csp_nano" and roi.height % 16 == roi.width % 16 == 0 and len(roi.widths) >= 2
        if roi.head == "omniscale" and not fits:
            raise ValueError(
                "roi.head: omniscale needs backbone csp_nano, roi.height and roi.width in multiples of 16 pixels, "
                "and roi.widths for its first convolution and its stages"
            )
        return self


class AugmentSettings(Settings):
    flip: float = Field(0.5, ge=0, le=1)
    zoom: tuple[float, float] = (1.0, 1.0)
    mosaic: float = Field(0.0, ge=0, le=1)
    new_background: float = Field(0.0, ge=0, le=1)
    colour: float = Field(0.0, ge=0, le=1)
    recolour_people: float = Field(0.0, ge=0, le=1)
    mix_people: float = Field(0.0, ge=0, le=1)
    degrade: float = Field(0.0, ge=0, le=1)
    occlude: float = Field(0.0, ge=0, le=1)


class SourceSettings(Settings):
    format: Literal["prw", "cuhk", "json", "street"]
    root: str = ""
    weight: float = Field(1.0, gt=0)
    gallery: int = Field(100, ge=0)  # cuhk only: images per query, 0 = all
    subset: Literal["", "Occlusion", "Resolution"] = ""  # cuhk only: its queries and galleries instead
    # the street only
    seed: int = Field(0, ge=0)
    identities: int = Field(60, ge=1)
    frames: int = Field(400, ge=1)
    cameras: int = Field(4, ge=1)
    people: int = Field(8, ge=1)
    imbalance: float = Field(1.0, ge=0)


class DataSettings(Settings):
    train: tuple[SourceSettings, ...]
    test: SourceSettings
    workers: int = Field(1, ge=0)
    augment: AugmentSettings = AugmentSettings()
    on_bad_image: Literal["skip", "stop"] = "stop"
    one_camera: bool = False  # every batch is of one camera, so that the norm's statistics are a camera's


class LossSettings(Settings):
    rpn: float = Field(1.0, ge=0)
    detection: float = Field(1.0, ge=0)
    box: float = Field(10.0, ge=0)
    identity: float = Field(1.0, ge=0)
    distillation: float = Field(0.0, ge=0)
    imitation: float = Field(0.0, ge=0)


class TeacherSettings(Settings):
    embedding: str = ""
    detector: str = ""  # a checkpoint whose detector has the same layers: see loss.imitation
    boxes_per_image: int = Field(8, ge=1)
    direction: float = Field(1.0, ge=0)
    structure: float = Field(4.0, ge=0)


class OptimiserSettings(Settings):
    kind: Literal["sgd", "adamw"] = "sgd"
    rate: float = Field(0.003, gt=0)
    rate_at_batch: int = Field(0, ge=0)  # images a step that `rate` is meant for; 0 = as it is, whatever the batch
    detector_rate: float = Field(1.0, ge=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(5e-4, ge=0)
    batch: int = Field(5, ge=1)
    accumulate: int = Field(1, ge=1)
    epochs: int = Field(20, ge=1)
    steps_per_epoch: int = Field(0, ge=0)
    warmup_epochs: float = Field(1.0, ge=0)
    schedule: Literal["step", "cosine"] = "step"
    drop_epochs: tuple[int, ...] = (16,)
    clip_norm: float = Field(10.0, gt=0)
    amp: Literal["off", "bf16", "fp16", "auto"] = "off"
    ema: float = Field(0.0, ge=0, lt=1)  # decay of the weights' moving average; 0 = none

    @field_validator("amp", mode="before")
    @classmethod
    def _yaml_off(cls, value: object) -> object:
        return "off" if value is False else value  # an unquoted `off` is a boolean in YAML


class TrainSettings(Settings):
    """Everything that a run needs; saved whole in its checkpoints."""

    out: str = "runs/edge"
    seed: int = Field(0, ge=0)
    device: str = "auto"
    init: str = ""
    init_parts: Literal["all", "detector"] = "all"
    init_resnet: str = ""
    init_backbone: str = ""  # a file of torchvision's weights for convnext_tiny, convnext_base or swin_s
    init_reid: str = ""
    from_scratch: bool = False
    model: ModelSettings = ModelSettings()
    data: DataSettings
    loss: LossSettings = LossSettings()
    teacher: TeacherSettings = TeacherSettings()
    optimiser: OptimiserSettings = OptimiserSettings()
    tracking: Literal["none", "mlflow", "wandb"] = "none"
    evaluate_every: int = Field(5, ge=0)
    checkpoint_minutes: float = Field(2.0, gt=0)

    @model_validator(mode="after")
    def _imitation_alone(self) -> TrainSettings:
        loss, imitation = self.loss, self.loss.imitation > 0
        if imitation != bool(self.teacher.detector):
            raise ValueError("loss.imitation and teacher.detector go together: one is given without the other")
        if imitation and (self.model.backbone != "csp_nano" or not self.optimiser.detector_rate):
            raise ValueError("loss.imitation needs model.backbone: csp_nano and an optimiser.detector_rate above 0")
        if imitation and any((loss.rpn, loss.detection, loss.identity, loss.distillation)):
            raise ValueError("loss.imitation teaches the detector alone: the other weights of loss must be 0")
        return self

    @model_validator(mode="after")
    def _whole_frames(self) -> TrainSettings:
        augment = self.data.augment
        if self.model.fit == "sides" and (augment.zoom != (1.0, 1.0) or augment.mosaic):
            raise ValueError("data.augment.zoom and mosaic need model.fit: canvas; with sides, frames stay whole")
        return self
