"""The training loop: steps, schedule, checkpoints that resume exactly, progress and validation."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from personsearch.core.errors import CheckpointError, DataError
from personsearch.core.evaluation import Report, run_model, score_run
from personsearch.train import distributed
from personsearch.train.data.samples import Samples, load_split, read_image
from personsearch.train.loop.average import Average
from personsearch.train.loop.curves import CURVES, plot_curves
from personsearch.train.loop.loading import Batch, batches_of
from personsearch.train.loop.mixed_precision import choose_amp
from personsearch.train.loop.optimiser import load_moments, make_optimiser, rate_factor
from personsearch.train.loop.progress import Progress
from personsearch.train.loop.tracking import Tracking
from personsearch.train.model.network import PersonSearch, Sampled, Targets
from personsearch.train.model.oim import make_loss
from personsearch.train.model.protonorm import BACKGROUND
from personsearch.train.model.torch_searcher import TorchSearcher
from personsearch.train.settings import TrainSettings
from personsearch.train.sides import fit_of
from personsearch.train.teaching.imitation import DetectorImitation
from personsearch.train.teaching.teacher import TeacherSpace, load_teacher
from personsearch.train.weights.checkpoint import fill, load_checkpoint, save_checkpoint
from personsearch.train.weights.initial_weights import initialise

LAST, BEST = "last.pth", "best.pth"
RESUMED = ("identity_table", "identity", "teacher", "optimiser", "scaler", "step", "history", "random")


class Trainer:
    """Everything a run holds. `run()` trains to the end; a stopped run continues from `last.pth`."""

    def __init__(self, settings: TrainSettings, resume: bool = False) -> None:
        self.settings, self.out = settings, Path(settings.out)
        self.tracking = Tracking(settings)
        self.device = torch.device(_device(settings.device))
        torch.manual_seed(settings.seed)  # the same network on every rank; sampling is seeded by the draw's number
        teacher = load_teacher(settings.teacher.embedding) if settings.teacher.embedding else None
        fit = fit_of(settings.model)
        self.samples = Samples(settings.data, fit, teacher, settings.teacher.boxes_per_image, settings.seed)
        self.test = load_split(settings.data.test, "test")
        if not self.test.images or not self.test.queries:
            raise DataError(
                f"{settings.data.test.root or settings.data.test.format}: the test split has {len(self.test.images)} "
                f"images and {len(self.test.queries)} queries; validation needs both"
            )
        self.network = PersonSearch(settings.model)
        self.initialised = not resume and initialise(self.network, settings)  # a resumed run has its weights
        identity = settings.model.identity
        self.identity = make_loss(identity, len(self.samples.identity_table))
        self.teacher_space = TeacherSpace(identity.dimensions, settings.teacher.direction, settings.teacher.structure)
        imitated = settings.teacher.detector
        self.imitation = DetectorImitation(imitated, self.network).to(self.device) if imitated else None
        for module in (self.network, self.identity, self.teacher_space):
            module.to(self.device)
            distributed.copy_from_rank_0(module)
        distributed.share_norms(self.network)
        if settings.model.backbone != "csp_nano" or settings.model.roi.head == "omniscale":
            # The residual head on a light stem does not gain.
            self.network.to(memory_format=torch.channels_last)
        self.average = Average(self.network, settings.optimiser.ema) if settings.optimiser.ema else None
        if self.imitation:
            self.imitation.leave_to_learn(self.network)
        batch = settings.optimiser.batch * settings.optimiser.accumulate * distributed.world_size()
        self.optimiser = make_optimiser(settings.optimiser, self.network, batch)
        self.amp, self.amp_note = choose_amp(settings.optimiser.amp, self.device)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.amp == "fp16")
        self.steps_per_epoch = settings.optimiser.steps_per_epoch or math.ceil(len(self.samples) / batch)
        self.total_steps = self.steps_per_epoch * settings.optimiser.epochs
        self.step, self.stop_requested = 0, False
        self.history: list[dict[str, float]] = []  # of evaluations
        self.curve: list[dict[str, float]] = []  # of losses
        self.damaged = 0  # images that others replaced
        if resume:
            self._resume()

    # --- one step ---------------------------------------------------------------------------------------------

    def train_step(self, batches: list[Batch]) -> dict[str, Tensor]:
        """Forward and backward of `optimiser.accumulate` batches, one optimiser step, and only then the look-up table.

        Gives the losses as scalars on the device, means over the batches; nothing here waits for a GPU to read them.
        ProtoNorm's statistics are those of each batch (over all processes); the LUT and the queue stand still until
        the step is done and then take the batches in order.
        """
        factor = rate_factor(self.settings.optimiser, self.step, self.steps_per_epoch, self.total_steps)
        for group in self.optimiser.param_groups:
            group["lr"] = group["base_rate"] * factor
        self.optimiser.zero_grad(set_to_none=True)
        sums: dict[str, Tensor] = {}
        written: list[Sampled] = []
        for images, targets in batches:
            losses, sampled = self._losses(images, targets)
            self.scaler.scale(losses["loss"] / len(batches)).backward()
            for name, value in losses.items():
                sums[name] = sums.get(name, 0) + value.detach() / len(batches)
            sampled.embeddings = sampled.embeddings.detach()
            written.append(sampled)
        # Averaged before the scaler looks: what overflows on one rank is then skipped by all.
        distributed.average_gradients(self.network)
        self.scaler.unscale_(self.optimiser)
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), self.settings.optimiser.clip_norm)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        # The scaler skips a step whose gradients are not finite, and such a step must not move the LUT either.
        # Decided on the device: as background, rows change nothing.
        for sampled in written:
            labels = torch.where(torch.isfinite(norm), sampled.labels, BACKGROUND)
            self.identity.update(sampled.embeddings, labels, sampled.ious)
        if self.average:
            self.average.update(self.network, self.step)
        self.step += 1
        return sums

    def _losses(self, images: Tensor, targets: list[Targets]) -> tuple[dict[str, Tensor], Sampled]:
        weights = self.settings.loss
        images = images.to(self.device, non_blocking=True)
        targets = [t.to(self.device) for t in targets]
        amp_type = torch.bfloat16 if self.amp == "bf16" else torch.float16
        if self.imitation:
            with torch.autocast(self.device.type, amp_type, enabled=self.amp != "off"):
                losses = self.imitation(self.network, images)
            total = weights.imitation * torch.stack(list(losses.values())).sum()
            return {"loss": total, **losses}, Sampled.nobody(self.settings.model.identity.dimensions, self.device)
        with torch.autocast(self.device.type, amp_type, enabled=self.amp != "off"):
            losses, sampled = self.network.losses(images, targets)
        losses["identity"] = self.identity(sampled.embeddings, sampled.labels)
        scale = {
            "rpn": weights.rpn,
            "class": weights.detection,
            "box": weights.detection * weights.box,
            "identity": weights.identity,
        }
        if weights.distillation > 0:
            losses["distil"] = self._distillation(sampled, targets)
            scale["distil"] = weights.distillation
        total = torch.stack([losses[k] * scale[k] for k in losses]).sum()
        counted = {k: v for k, v in losses.items() if scale[k] > 0 and (k != "rpn" or self.network.rpn_learns)}
        return {"loss": total, **counted}, sampled

    def _distillation(self, sampled: Sampled, targets: list[Targets]) -> Tensor:
        begin, rows, goals, ious = 0, [], [], []
        for target, matched, count in zip(targets, sampled.matched, sampled.counts, strict=True):
            part = slice(begin, begin := begin + count)
            if target.known is None or target.teacher is None or len(target.boxes) == 0:
                continue
            used = (sampled.labels[part] != BACKGROUND) & target.known[matched]
            rows.append(sampled.embeddings[part][used])
            goals.append(target.teacher[matched][used])
            ious.append(sampled.ious[part][used])
        if not rows or goals[0].shape[1] == 0:
            return sampled.embeddings.sum() * 0
        return self.teacher_space(torch.cat(rows), torch.cat(goals), torch.cat(ious))

    # --- the run ----------------------------------------------------------------------------------------------

    def run(self) -> bool:
        """Train to the end. False if the user stopped it; the state is on disk either way."""
        self._catch_signals()
        if self.step == 0 and self.initialised and distributed.rank() == 0:  # for train/blend.py
            start = {"config": self.settings.model_dump(mode="json"), "model": self.network.state_dict()}
            save_checkpoint(self.out / "start.pth", start)
        self.network.train()
        self.tracking.open()
        late = self.device.type == "cuda"
        progress = Progress(self.out, self.total_steps, self.step, self.curve, late, self.tracking)
        saved, status = time.monotonic(), "FAILED"
        try:
            for batches in self.batches():
                step = self.step
                if step == 0 and self.imitation and self.initialised:
                    self.imitation.adjust(self.network, torch.cat([images for images, _ in batches]).to(self.device))
                    distributed.copy_from_rank_0(self.network)
                progress.count_replaced(sum(t.replaced for _, targets in batches for t in targets))
                progress.add(step, self.train_step(batches))
                # All ranks must agree, or the others would wait for the one that left.
                if distributed.any_rank(self.stop_requested):
                    self.stop_requested = True
                    break
                if time.monotonic() - saved > 60 * self.settings.checkpoint_minutes and distributed.rank() == 0:
                    progress.drain()
                    self.save(LAST)
                    saved = time.monotonic()
                every = self.settings.evaluate_every * self.steps_per_epoch
                if every and self.step % every == 0 and self.step < self.total_steps:
                    progress.drain()
                    self._validate(progress)
            progress.drain()
            status = "KILLED" if self.stop_requested else "FINISHED"
        finally:
            progress.close()
            self.tracking.close(status)
        self.damaged = progress.skipped
        self.save(LAST)
        return not self.stop_requested

    def batches(self) -> Generator[list[Batch], None, None]:
        """The rest of the run, one list of `optimiser.accumulate` batches per step."""
        left = self.total_steps - self.step
        return batches_of(self.samples, self.settings, self.step, left, self.device.type == "cuda")

    def _validate(self, progress: Progress) -> None:
        if distributed.rank() == 0:
            figures = self._judge(self.evaluate())
            progress.figures(self.step, figures)
            plot_curves(self.curve, self.history, self.out / CURVES)
        distributed.barrier()
        self.network.train()

    def conclude(self) -> Report:
        """The figures of a finished run, which count for best.pth as those on the way do. For rank 0."""
        report = self.evaluate()
        self.tracking.open()
        self._judge(report)
        self.tracking.close("FINISHED")
        return report

    def _judge(self, report: Report) -> dict[str, float]:
        """Track the figures, and keep the network as best.pth if none before had its mAP."""
        figures = report.figures()
        before = [row["mAP"] for row in self.history]
        self.history.append({"step": float(self.step), **figures})
        self.tracking.log(self.step, {f"test/{name}": value for name, value in figures.items()})
        if figures["mAP"] > max(before, default=-1.0):
            self.save(BEST)
        return figures

    def evaluate(self) -> Report:
        """Scores on the test split of the configuration, of the averaged weights if there are any."""
        data, min_score = self.test, self.settings.model.roi.min_score
        searcher = TorchSearcher(self.average.network if self.average else self.network, self.device)
        run = run_model(searcher, data.images, data.queries, read_image, min_score=0.01)
        return score_run(run, data.images, data.queries, min_score=min_score, galleries=data.galleries)

    # --- state ------------------------------------------------------------------------------------------------

    def save(self, name: str) -> None:
        if distributed.rank() != 0:
            return
        save_checkpoint(self.out / name, {
            "config": self.settings.model_dump(mode="json"),
            # What is evaluated and exported; with averaged weights, those that learn stand beside them.
            "model": (self.average.network if self.average else self.network).state_dict(),
            **({"learning": self.network.state_dict()} if self.average else {}),
            "identity": self.identity.state_dict(),
            "teacher": self.teacher_space.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "scaler": self.scaler.state_dict(),
            "step": self.step,
            "random": torch.get_rng_state(),
            "identity_table": self.samples.identity_table,
            "history": self.history,
            "curve": self.curve,
        })  # fmt: skip

    def _resume(self) -> None:
        path = self.out / LAST
        content: dict[str, Any] = load_checkpoint(path)
        if missing := [key for key in RESUMED if key not in content]:
            raise CheckpointError(
                f"{path}: holds no training state ('{missing[0]}' is missing); expected a last.pth of train/run.py: "
                "move it away, or start anew from its weights with init=FILE"
            )
        if content["identity_table"] != self.samples.identity_table:
            raise CheckpointError(f"{path}: was trained on other identities; resume with the same data, or start anew")
        fill(self.network, content.get("learning", content["model"]), path)
        if self.average:
            fill(self.average.network, content["model"], path)
        fill(self.identity, content["identity"], path)
        fill(self.teacher_space, content["teacher"], path)
        kind, saved = self.settings.optimiser.kind, content["config"]["optimiser"]["kind"]
        if saved != kind:
            raise CheckpointError(f"{path}: was trained with optimiser.kind={saved}, which {kind} cannot continue")
        load_moments(self.optimiser, content["optimiser"], path)
        if self.scaler.is_enabled() and content["scaler"]:  # amp: auto may mean something else on another machine
            self.scaler.load_state_dict(content["scaler"])
        self.step, self.history, self.curve = content["step"], content["history"], content.get("curve", [])
        torch.set_rng_state(content["random"])

    def _catch_signals(self) -> None:
        """Ctrl-C and SIGTERM end the run after the current step, with a checkpoint; a second one ends it at once."""

        def request(number: int, _: object) -> None:
            if self.stop_requested:
                raise KeyboardInterrupt
            self.stop_requested = True

        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, request)


def _device(name: str) -> str:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return f"cuda:{distributed.local_rank()}" if name == "cuda" else name
