"""What becomes of one person whom a gallery and a group both may have changed. Pure: no files, no network.

The rule. A change has a version, one more than what it was made from, and the box that made it. Where one side alone
changed, its state is taken. Where both did: views of both are kept, but for those that one side took out; name, labels,
note and expiry are those of the later stamp (version, then box by name); so is whether the person is there at all.
Whoever was forgotten stays so, whatever the stamps.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from personsearch.runtime.decisions.person import EnrolledView, Merged, Person
from personsearch.runtime.fleet.shared_record import Stamp, details_digest, digest, view_digest

NEVER = Stamp()  # older than every change


@dataclass(frozen=True)
class Known:
    """How the person was when gallery and group last agreed. `digest` is empty for somebody who was removed."""

    stamp: Stamp = NEVER
    digest: str = ""
    details: str = ""
    views: frozenset[str] = frozenset()


@dataclass(frozen=True, eq=False)
class Outcome:
    """person   as he shall be in the gallery; None: not there
    publish  whether the group has to be told, as `stamp`; else `stamp` is what the group has"""

    person: Person | None
    publish: bool
    stamp: Stamp


def known_of(person: Person | None, stamp: Stamp) -> Known:
    if person is None:
        return Known(stamp)
    views = frozenset(view_digest(view) for view in (*person.views, *person.negatives))
    return Known(stamp, digest(person), details_digest(person), views)


def reconcile(
    ours: Person | None, known: Known, theirs: Person | None, stamp: Stamp, box: str, floor: int = 0
) -> Outcome:
    """ours, theirs  in the group's form (`outward`); stamp: of theirs, Stamp() if the group knows nothing of the person
    floor         a version that is used already: what is told is above it
    """
    changed = (digest(ours) if ours is not None else "") != known.digest
    mine = Stamp(known.stamp.version + 1, box)
    after = Stamp(max(known.stamp.version, stamp.version, floor) + 1, box)
    if stamp <= known.stamp:  # nothing new there; less than we know: the group lost it
        if changed:
            return Outcome(ours, True, after)
        return Outcome(ours, stamp < known.stamp, known.stamp)
    if not changed:
        return Outcome(_with_pictures(theirs, ours), False, stamp)
    if ours is None or theirs is None:
        if ours is theirs:
            return Outcome(None, False, stamp)
        return Outcome(ours, True, after) if mine > stamp else Outcome(theirs, False, stamp)
    merged = _merged(ours, theirs, known, ours_later=mine > stamp)
    same = digest(merged) == digest(theirs)
    return Outcome(merged, not same, stamp if same else after)


def _merged(ours: Person, theirs: Person, known: Known, ours_later: bool) -> Person:
    """Both sides' views; details of one of them."""
    ours_says = details_digest(ours) != known.details and (ours_later or details_digest(theirs) == known.details)
    said = ours if ours_says else theirs
    return replace(
        said, enrolled=min((p.enrolled for p in (ours, theirs) if p.enrolled), default=0.0),
        views=_both(ours.views, theirs.views, known) or theirs.views,
        negatives=_both(ours.negatives, theirs.negatives, known), merged=_merges(theirs.merged, ours.merged),
    )  # fmt: skip


def _both(ours: tuple[EnrolledView, ...], theirs: tuple[EnrolledView, ...], known: Known) -> tuple[EnrolledView, ...]:
    """The group's order first, so that both sides come to the same; a view that both had and one took out is gone."""
    mine, others = {view_digest(v): v for v in ours}, {view_digest(v): v for v in theirs}
    out = [_better(v, mine.get(d)) for d, v in others.items() if d in mine or d not in known.views]
    return tuple(out + [v for d, v in mine.items() if d not in others and d not in known.views])


def _better(theirs: EnrolledView, ours: EnrolledView | None) -> EnrolledView:
    """Our picture of a view stays, where the group's record has none."""
    return replace(theirs, crop=ours.crop) if ours is not None and theirs.crop is None and ours.crop else theirs


def _with_pictures(theirs: Person | None, ours: Person | None) -> Person | None:
    if theirs is None or ours is None:
        return theirs
    mine = {view_digest(v): v for v in (*ours.views, *ours.negatives)}

    def kept(views: Iterable[EnrolledView]) -> tuple[EnrolledView, ...]:
        return tuple(_better(v, mine.get(view_digest(v))) for v in views)

    return replace(theirs, views=kept(theirs.views), negatives=kept(theirs.negatives))


def _merges(first: tuple[Merged, ...], second: tuple[Merged, ...]) -> tuple[Merged, ...]:
    ids = {m.id for m in first}
    return (*first, *(m for m in second if m.id not in ids))
