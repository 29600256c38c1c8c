"""The people of all cameras: one gallery, one budget of descriptions, a state of recognition for each camera."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from personsearch.core.bundle import Manifest
from personsearch.core.odds import Odds, from_thresholds
from personsearch.core.records import Detections
from personsearch.core.tracking.tracker import Track, Tracker
from personsearch.runtime.camera_settings import CameraSettings
from personsearch.runtime.cameras.frames import Frame
from personsearch.runtime.decisions.calibration import CameraCalibration
from personsearch.runtime.decisions.camera_means import load_means, save_means
from personsearch.runtime.decisions.centring import PrototypeMean, StoredMean
from personsearch.runtime.decisions.gallery import Gallery
from personsearch.runtime.decisions.judge import Judge, check_target
from personsearch.runtime.decisions.lineup import Lineup
from personsearch.runtime.decisions.recognition import Match, Recognition, Wanted
from personsearch.runtime.settings import StreamSettings

log = logging.getLogger("personsearch.people")
MOST_AT_ONCE = 4  # descriptions in one call of the engine: frames wait for it
SAVE_EVERY_S, CENTRE_EVERY_S = 300.0, 60.0
SAVED_S = 2.0  # of descriptions that were not needed
LIVE = ""  # key of the budget that live cameras share


class Budget:
    """So many descriptions a second of a clock, and two seconds' worth at once: people often come together."""

    def __init__(self, per_second: float) -> None:
        self.per_second = per_second
        self._tokens, self._when = SAVED_S * per_second, -np.inf

    def available(self, now: float) -> int:
        if now > self._when:
            self._tokens = min(max(1.0, SAVED_S * self.per_second), self._tokens + (now - self._when) * self.per_second)
        self._when = now  # a clock that went back begins anew
        return int(self._tokens)

    def spend(self, count: int) -> None:
        self._tokens -= count


class People:
    """Recognition of every camera. Called from the pipeline's thread, `views_of` and `names` from any."""

    def __init__(
        self, settings: StreamSettings, manifest: Manifest, gallery: Gallery, engine: str = "",
        calibrations: Mapping[str, CameraCalibration] | None = None, means: str | Path | None = None,
    ) -> None:  # fmt: skip
        """engine        its name, whose thresholds a bundle without odds has
        calibrations  of cameras that were measured with runtime/calibrate.py
        means         file that keeps the means of live cameras; None keeps nothing"""
        self.settings, self.manifest = settings, manifest
        self._take(gallery)
        self.calibrations = dict(calibrations or {})
        self._means_path = means
        self._stored = load_means(means, manifest.model_hash, manifest.dimensions) if means else {}
        self._cameras: dict[str, Recognition] = {}
        self._live: set[str] = set()
        self._budgets: dict[str, Budget] = {}
        self._clock: dict[str, float] = {}  # of each camera's mean
        self._lock = threading.Lock()
        self._next_save, self._next_centre = time.monotonic() + SAVE_EVERY_S, 0.0
        self._told = False
        self.odds = odds_of(manifest, engine)
        self.lineup = Lineup(self.gallery, self.offset)

    def _take(self, gallery: Gallery) -> None:
        """People whose time is over stay in the file, and are matched no more."""
        now = time.time()
        self.enrolled, self.gallery, self._next_expiry = gallery, gallery.current(now), gallery.next_expiry(now)

    @property
    def promise(self) -> str:
        """What the settings ask for, in words."""
        match, odds = self.settings.match, self.odds
        if match.threshold is not None:
            return f"similarity of at least {match.threshold:g}"
        return (
            f"{match.false_names_per_day:g} false names per camera and day at {match.passers_by_per_day:g} passers-by "
            f"(similarity {Judge(match, odds, self.lineup).threshold():.3f})"
        )

    # --- cameras come and go ----------------------------------------------------------------------------------------

    def add(self, camera: CameraSettings) -> None:
        name, settings = camera.name, self.settings
        score = self.manifest.min_score if settings.min_score is None else settings.min_score
        # A file begins anew each time, so that it always gives the same events.
        stored = self._stored.get(name) if camera.live else None
        self._live.discard(name)
        if camera.live:
            self._live.add(name)
        self._budgets[name if not camera.live else LIVE] = Budget(settings.describe.per_second)
        self._clock.pop(name, None)
        with self._lock:
            self._cameras[name] = Recognition(
                Tracker(settings.tracking, score), settings.describe, PrototypeMean(self.manifest.dimensions, stored),
                self._judge(name),
            )  # fmt: skip

    def remove(self, name: str) -> None:
        self._remember(name)
        with self._lock:
            self._cameras.pop(name, None)
        self._live.discard(name)

    @property
    def least_score(self) -> float | None:
        """Of the boxes that the tracker wants: low ones continue tracks, unless each would be described."""
        if self.manifest.describe == "all":
            return self.settings.min_score
        score = self.manifest.min_score if self.settings.min_score is None else self.settings.min_score
        return min(score, self.settings.tracking.low_score)

    def of(self, camera: str) -> Recognition:
        return self._cameras[camera]

    def following(self, camera: str) -> bool:
        """Is anybody followed in that camera?"""
        return camera in self._cameras and self._cameras[camera].tracker.following

    def watch_every_s(self, camera: str) -> float:
        """Of that camera's tracker; inf for one that is not there."""
        return self._cameras[camera].tracker.watch_every_s if camera in self._cameras else math.inf

    def apply(self, settings: StreamSettings, gallery: Gallery, calibrations: Mapping[str, CameraCalibration]) -> None:
        """After a reload: the same tracks, judged anew."""
        self.settings, self.calibrations = settings, dict(calibrations)
        self._take(gallery)
        self.lineup = Lineup(self.gallery, self.offset)
        for budget in self._budgets.values():
            budget.per_second = settings.describe.per_second
        for name, recognition in self._cameras.items():
            recognition.settings, recognition.tracker.settings = settings.describe, settings.tracking
            recognition.judge = self._judge(name)
            recognition.judge.again(list(recognition.evidence.values()))

    def _judge(self, camera: str) -> Judge:
        measured = self.calibrations.get(camera)
        match = self.settings.match
        if measured is not None and measured.passers_by_per_day and "passers_by_per_day" not in match.model_fields_set:
            match = match.model_copy(update={"passers_by_per_day": measured.passers_by_per_day})
        return Judge(match, measured.odds if measured is not None else self.odds, self.lineup)

    # --- one frame ----------------------------------------------------------------------------------------------------

    def see(self, frame: Frame, detections: Detections, magnified: float = 1.0) -> list[Track]:
        """magnified  of a camera whose people are described from another stream: see `Details.magnified`"""
        self._clock[frame.camera] = frame.wall if frame.camera in self._live else frame.moment
        recognition = self._cameras[frame.camera]
        recognition.magnified = magnified
        return recognition.see(frame.image, detections, frame.moment, self._clock[frame.camera], frame.shot)

    def choose(self, cameras: Iterable[str], monotonic: float, overdue_s: float | None = None) -> list[Wanted]:
        """Whom to describe now, after frames of these cameras: as far as the budget goes, the most urgent first, then
        the oldest wish.

        overdue_s  live: one at most, of whom hardly anything is known, or whose wish is so old"""
        chosen: list[Wanted] = []
        for key in dict.fromkeys(LIVE if name in self._live else name for name in cameras):
            sharing = self._live if key == LIVE else {key}
            waiting = [(n, w) for n in sorted(sharing) if n in self._cameras for w in self._cameras[n].wants.values()]
            waiting.sort(key=lambda item: (item[1].urgency, item[1].since, item[0], item[1].track.number))
            if overdue_s is not None:
                waiting = [
                    (name, want) for name, want in waiting
                    if want.urgency == 0 or self._cameras[name].moment - want.since >= overdue_s
                ][:1]  # fmt: skip
            now = monotonic if key == LIVE else self._clock.get(key, 0.0)
            count = min(len(waiting), MOST_AT_ONCE - len(chosen), self._budgets[key].available(now))
            self._budgets[key].spend(count)
            chosen += waiting[:count]
        for name, want in chosen:
            self._cameras[name].wants.pop(want.track.number, None)
            if want.shot is not None:
                self._cameras[name].fetched.add(want.track.number)
        return chosen

    def learn(self, asked: Iterable[Wanted], embeddings: np.ndarray) -> None:
        for (name, want), embedding in zip(asked, embeddings, strict=True):
            if name in self._cameras:
                self._cameras[name].learn(want, embedding, self._clock.get(name, 0.0))

    def take_back(self, asked: Iterable[Wanted]) -> None:
        """The engine failed before it described them: they wait again."""
        for name, want in asked:
            if name in self._cameras:
                self._cameras[name].fetched.discard(want.track.number)
                self._cameras[name].wants.setdefault(want.track.number, want)

    def decide(self, camera: str) -> list[Match]:
        return self._cameras[camera].decide(self._clock.get(camera, 0.0))

    # --- means --------------------------------------------------------------------------------------------------------

    def offset(self, source: str) -> np.ndarray | None:
        """What is taken off views that were enrolled from a camera; None if nothing is known of it."""
        recognition = self._cameras.get(source)
        if recognition is not None:
            return recognition.mean.offset(self._clock.get(source, time.time() if source in self._live else 0.0))
        if source in self._stored:
            return PrototypeMean(self.manifest.dimensions, self._stored[source]).offset(time.time())
        return None

    def every_second(self, now: float) -> None:
        """Gallery views are centred anew as means move, and means are written now and then."""
        if time.time() >= self._next_expiry:
            self.apply(self.settings, self.enrolled, self.calibrations)
        if now >= self._next_centre:
            self._next_centre = now + CENTRE_EVERY_S
            if any(source in self._live for source in self.gallery.sources):
                self.lineup = Lineup(self.gallery, self.offset)
                for recognition in self._cameras.values():
                    recognition.judge.lineup = self.lineup
        if now >= self._next_save:
            self._next_save = now + SAVE_EVERY_S
            self.save()

    def save(self) -> None:
        """Write the means of the live cameras; a full disk is told once and does no harm."""
        if self._means_path is None:
            return
        for name in self._live:
            self._remember(name)
        if not self._stored:
            return
        try:
            save_means(self._means_path, self._stored, self.manifest.model_hash)
            self._told = False
        except OSError as error:
            if not self._told:
                log.warning("%s: cannot be written (%s); the cameras' means are kept in memory only",
                            self._means_path, error.strerror)  # fmt: skip
            self._told = True

    def _remember(self, name: str) -> None:
        recognition = self._cameras.get(name)
        if name in self._live and recognition is not None and name in self._clock:
            stored: StoredMean = recognition.mean.to_store(self._clock[name])
            if stored.count > 0:
                self._stored[name] = stored

    # --- for other programs -------------------------------------------------------------------------------------------

    def names(self) -> dict[str, str]:
        """Of everybody enrolled, by id. From any thread."""
        return self.gallery.names_by_id()

    def views_of(self, camera: str, number: int) -> list[tuple[np.ndarray, float, str]]:
        """The kept views of a track that is or was in sight lately, as embedding (D,), quality and the model's hash;
        empty if there is none. From any thread."""
        with self._lock:
            recognition = self._cameras.get(camera)
        evidence = recognition.evidence.get(number) if recognition is not None else None
        views = list(evidence.views) if evidence is not None else []
        return [(view.embedding, view.quality, self.manifest.model_hash) for view in views]


def odds_of(manifest: Manifest, engine: str = "") -> Odds:
    """The bundle's own; of one without, from its similarity thresholds."""
    if manifest.odds is not None:
        return manifest.odds
    thresholds = manifest.engine_thresholds.get(engine) or manifest.thresholds
    return from_thresholds(tuple((t.similarity, t.false_alarm_rate) for t in thresholds))


def check_targets(
    settings: StreamSettings, manifest: Manifest, gallery: Gallery, calibrations: Mapping[str, CameraCalibration]
) -> None:
    """Raises ConfigError if the wanted rate of false names is below what the calibrations support."""
    for camera in settings.cameras:
        measured = calibrations.get(camera.name)
        check_target(settings.match, measured.odds if measured else odds_of(manifest), len(gallery.people))
