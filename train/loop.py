"""The training loop: steps, schedule, checkpoints that resume exactly, progress and validation."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from personsearch.core.errors import CheckpointError, DataError
from personsearch.core.evaluation import Report, run_model, score_run
from personsearch.train import distributed
from personsearch.train.checkpoint import fill, load_checkpoint, save_checkpoint
from personsearch.train.initial_weights import initialise
from personsearch.train.network import PersonSearch, Sampled, Targets
from personsearch.train.oim import OIMLoss
from personsearch.train.optimiser import make_optimiser, rate_factor
from personsearch.train.progress import Progress
from personsearch.train.protonorm import BACKGROUND
from personsearch.train.samples import Samples, WeightedDraws, collate, load_split, quiet_worker, read_image
from personsearch.train.settings import TrainSettings
from personsearch.train.summary import CURVES, plot_curves
from personsearch.train.teacher import TeacherSpace, load_teacher
from personsearch.train.torch_searcher import TorchSearcher

Batch = tuple[Tensor, list[Targets]]


class Trainer:
    """Everything a run holds. `run()` trains to the end; a stopped run continues from `last.pth`."""

    def __init__(self, settings: TrainSettings, resume: bool = False) -> None:
        self.settings, self.out = settings, Path(settings.out)
        self.device = torch.device(_device(settings.device))
        torch.manual_seed(settings.seed)  # the same network on every rank; sampling is seeded by the draw's number
        teacher = load_teacher(settings.teacher.embedding) if settings.teacher.embedding else None
        canvas = (settings.model.height, settings.model.width)
        self.samples = Samples(settings.data, canvas, teacher, settings.teacher.boxes_per_image, settings.seed)
        self.test = load_split(settings.data.test, "test")
        if not self.test.images or not self.test.queries:
            raise DataError(
                f"{settings.data.test.root or settings.data.test.format}: the test split has {len(self.test.images)} "
                f"images and {len(self.test.queries)} queries; validation needs both"
            )
        self.network = PersonSearch(settings.model)
        self.initialised = initialise(self.network, settings)
        identity = settings.model.identity
        self.identity = OIMLoss(
            max(1, len(self.samples.identity_table)),
            identity.queue,
            identity.dimensions,
            temperature=identity.temperature,
            momentum="iou" if identity.loss == "loim" else identity.oim_momentum,
            min_step=identity.min_step,
            max_step=identity.max_step,
        )
        self.teacher_space = TeacherSpace(identity.dimensions, settings.teacher.direction, settings.teacher.structure)
        for module in (self.network, self.identity, self.teacher_space):
            module.to(self.device)
            distributed.copy_from_rank_0(module)
        distributed.share_norms(self.network)
        if settings.model.backbone == "resnet50" or settings.model.roi.head == "omniscale":
            # The residual head on a light stem does not gain.
            self.network.to(memory_format=torch.channels_last)
        self.optimiser = make_optimiser(settings.optimiser, self.network)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=settings.optimiser.amp == "fp16")
        batch = settings.optimiser.batch * settings.optimiser.accumulate * distributed.world_size()
        self.steps_per_epoch = settings.optimiser.steps_per_epoch or math.ceil(len(self.samples) / batch)
        self.total_steps = self.steps_per_epoch * settings.optimiser.epochs
        self.step, self.stop_requested, self.history = 0, False, []  # type: int, bool, list[dict[str, float]]
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
        self.step += 1
        return sums

    def _losses(self, images: Tensor, targets: list[Targets]) -> tuple[dict[str, Tensor], Sampled]:
        options, weights = self.settings.optimiser, self.settings.loss
        images = images.to(self.device, non_blocking=True)
        targets = [_to(t, self.device) for t in targets]
        amp_type = torch.bfloat16 if options.amp == "bf16" else torch.float16
        with torch.autocast(self.device.type, amp_type, enabled=options.amp != "off"):
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
        return {"loss": torch.stack([losses[k] * scale[k] for k in losses]).sum(), **losses}, sampled

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
        progress = Progress(self.out, self.total_steps, self.step, self.curve, late=self.device.type == "cuda")
        saved = time.monotonic()
        try:
            for batches in self.batches():
                step = self.step
                progress.count_replaced(sum(t.replaced for _, targets in batches for t in targets))
                progress.add(step, self.train_step(batches))
                # All ranks must agree, or the others would wait for the one that left.
                if distributed.any_rank(self.stop_requested):
                    self.stop_requested = True
                    break
                if time.monotonic() - saved > 60 * self.settings.checkpoint_minutes and distributed.rank() == 0:
                    progress.drain()
                    self.save("last.pth")
                    saved = time.monotonic()
                every = self.settings.evaluate_every * self.steps_per_epoch
                if every and self.step % every == 0 and self.step < self.total_steps:
                    progress.drain()
                    self._validate(progress)
            progress.drain()
        finally:
            progress.close()
        self.damaged = progress.skipped
        self.save("last.pth")
        return not self.stop_requested

    def batches(self) -> Iterator[list[Batch]]:
        """The rest of the run, one list of `optimiser.accumulate` batches per step."""
        group: list[Batch] = []
        for batch in self._loader():
            group.append(batch)
            if len(group) == self.settings.optimiser.accumulate:
                yield group
                group = []

    def _loader(self) -> DataLoader:
        options = self.settings.optimiser
        draws = WeightedDraws(
            self.samples.weights,
            options.batch,
            self.settings.seed,
            self.step * options.accumulate,
            (self.total_steps - self.step) * options.accumulate,
            distributed.rank(),
            distributed.world_size(),
        )
        workers = self.settings.data.workers
        return DataLoader(
            self.samples,
            batch_sampler=draws,
            collate_fn=collate,
            num_workers=workers,
            worker_init_fn=quiet_worker,
            prefetch_factor=4 if workers else None,
            # Forked processes would inherit OpenCV's locked thread pool and hang.
            multiprocessing_context="spawn" if workers else None,
            pin_memory=self.device.type == "cuda",
            # Its own generator: a new loader must not draw from the random state that a resumed run restores.
            generator=torch.Generator(),
        )

    def _validate(self, progress: Progress) -> None:
        if distributed.rank() == 0:
            figures = self.evaluate().figures()
            self.history.append({"step": float(self.step), **figures})
            progress.figures(self.step, figures)
            plot_curves(self.curve, self.history, self.out / CURVES)
        distributed.barrier()
        self.network.train()

    def evaluate(self) -> Report:
        """Scores on the test split of the configuration."""
        data, min_score = self.test, self.settings.model.roi.min_score
        run = run_model(TorchSearcher(self.network, self.device), data.images, data.queries, read_image, min_score=0.01)
        return score_run(run, data.images, data.queries, min_score=min_score, galleries=data.galleries)

    # --- state ------------------------------------------------------------------------------------------------

    def save(self, name: str) -> None:
        if distributed.rank() != 0:
            return
        save_checkpoint(self.out / name, {
            "config": self.settings.model_dump(mode="json"),
            "model": self.network.state_dict(),
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
        path = self.out / "last.pth"
        content: dict[str, Any] = load_checkpoint(path)
        if content["identity_table"] != self.samples.identity_table:
            raise CheckpointError(f"{path}: was trained on other identities; resume with the same data, or start anew")
        fill(self.network, content["model"], path)
        fill(self.identity, content["identity"], path)
        fill(self.teacher_space, content["teacher"], path)
        self.optimiser.load_state_dict(content["optimiser"])
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


def _to(target: Targets, device: torch.device) -> Targets:
    move = [None if t is None else t.to(device) for t in (target.boxes, target.labels, target.teacher, target.known)]
    return Targets(*move, target.draw, target.replaced)  # type: ignore[arg-type]
