"""From similarities to decisions: thresholds as false names per camera and day, looks that spend the error once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from personsearch.core.errors import ConfigError
from personsearch.core.odds import Odds, false_names_per_day, rate_for
from personsearch.runtime.decisions.centring import centred
from personsearch.runtime.decisions.evidence import LOOKS, NOT_YET, Decision, TrackEvidence, share_of
from personsearch.runtime.decisions.lineup import EXCLUDED, Lineup
from personsearch.runtime.settings import MatchSettings

MAIN = LOOKS.index(5)  # the look that most of the budget is for
POSSIBLE = 20.0  # times the allowed rate, at which a name is a guess worth showing


class Judge:
    """Compares tracks with the people enrolled. One for each camera, whose passers-by and mean differ."""

    def __init__(self, settings: MatchSettings, odds: Odds, lineup: Lineup) -> None:
        self.settings, self.odds, self.lineup = settings, odds, lineup
        self._judged: int | None = None  # identifies lineup and settings that decisions were made with

    @property
    def last_look(self) -> int:
        return LOOKS[-1]

    @property
    def rate(self) -> float:
        """The false match rate per pair that all looks at a track may spend together."""
        options = self.settings
        return rate_for(options.false_names_per_day, len(self.lineup.people), options.passers_by_per_day)

    def threshold(self, look: int = MAIN) -> float:
        """Similarity that a look asks for: a fixed one, or the one that spends the look's share of the rate."""
        if self.settings.threshold is not None:
            return self.settings.threshold
        return self.odds.similarity_for(self.rate * share_of(look))

    def look(self, tracks: Sequence[TrackEvidence], offset: np.ndarray) -> None:
        """Decide about the tracks whose next look is due; `offset` (D,) is the camera's mean."""
        due = [(track, look) for track in tracks if (look := track.due()) is not None]
        if not due or not len(self.lineup.people):
            return
        vectors = centred(np.array([track.vector for track, _ in due]), offset)
        for (track, look), row in zip(due, self.lineup.similarities(vectors), strict=True):
            track.looks = look + 1
            track.decision = self._decision(track, row, look)

    def again(self, tracks: Sequence[TrackEvidence]) -> None:
        """Gallery or settings have changed: the latest look of each track is taken once more, and whoever is not
        enrolled any more (removed, expired, forgotten) is named no more."""
        known = {"", *self.lineup.people}
        for track in tracks:
            track.looks = max(0, track.looks - 1)
            if not {track.decision.person, track.decision.runner_up} <= known:
                track.decision = NOT_YET

    def _decision(self, track: TrackEvidence, row: np.ndarray, look: int) -> Decision:
        """row  (P,) similarities to the people enrolled"""
        people, options = self.lineup.people, self.settings
        best = int(row.argmax())
        similarity = float(row[best])
        others = np.concatenate((row[:best], [-np.inf], row[best + 1 :]))
        next_best = int(others.argmax())
        second = float(row[next_best]) if len(people) > 1 else -1.0
        threshold, possible = self.threshold(look), self.odds.similarity_for(self.rate * share_of(look) * POSSIBLE)
        margin = similarity - second if len(people) > 1 else 2.0
        # A fixed threshold decides alone; a rate of false names also wants somebody who stands out.
        sure = similarity >= threshold and (options.threshold is not None or margin >= options.min_margin)
        state = "recognised" if sure else "possible" if similarity >= min(possible, threshold) else "unknown"
        held = track.decision
        if held.state == "recognised" and not sure and row[people.index(held.person)] != EXCLUDED:
            # A name that was given stays while nobody else fits better: people turn round.
            rival = people[best] != held.person and margin >= options.min_margin and state == "possible"
            if not rival:
                return held
        return Decision(
            state=state,  # type: ignore[arg-type]
            person=people[best],
            similarity=similarity,
            log_likelihood_ratio=self.odds.log_likelihood_ratio(similarity, len(track.views)),
            runner_up=people[next_best] if len(people) > 1 else "",
            margin=margin,
            views=len(track.views),
            quality=track.quality,
            false_names_per_day=false_names_per_day(
                self.odds.false_match_rate(similarity), len(people), options.passers_by_per_day
            ),
            threshold=threshold,
        )


def check_target(settings: MatchSettings, odds: Odds, people: int) -> None:
    """Raises ConfigError where somebody asks for fewer false names than the calibration can promise. (Where nobody
    asked, the strictest threshold that it supports is taken.)"""
    if settings.threshold is not None or "false_names_per_day" not in settings.model_fields_set:
        return
    wanted = rate_for(settings.false_names_per_day, people, settings.passers_by_per_day)
    if wanted * share_of(MAIN) < odds.least_rate:
        least = false_names_per_day(odds.least_rate / share_of(MAIN), people, settings.passers_by_per_day)
        raise ConfigError(
            f"match.false_names_per_day: {settings.false_names_per_day:g} for {people} people and "
            f"{settings.passers_by_per_day:g} passers-by needs a false match rate of {wanted:.1e} per pair, but the "
            f"calibration ({odds.source}, {odds.pairs} pairs) supports {odds.least_rate / share_of(MAIN):.1e}: ask for "
            f"at least {least:.2g}, enrol fewer people, or measure on your own cameras with personsearch-calibrate"
        )
