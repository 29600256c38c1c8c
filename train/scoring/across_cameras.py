"""The table of identification across cameras: plain, and with each camera's centre taken off."""

from __future__ import annotations

from collections.abc import Mapping

from personsearch.core.identification import Centring, Identification, Sightings, identify

WAYS = {"plain": Centring("none"), "centred": Centring("mean"), "centred, with variance": Centring("variance")}


def identification_rows(sightings: Sightings) -> dict[str, Identification]:
    """One row a way of centring. Raises ValueError if no two cameras have seen enough of the same people."""
    return {name: identify(way(sightings)) for name, way in WAYS.items()}


def table(rows: Mapping[str, Identification]) -> str:
    """Figures with their 95 % intervals, as a Markdown table."""
    names = list(next(iter(rows.values())).figures())
    lines = ["| | " + " | ".join(names) + " |", "|" + "---|" * (len(names) + 1)]
    for name, row in rows.items():
        figures, spans = row.figures(), row.intervals()
        cells = [f"{figures[key]:.3f} [{spans[key][0]:.2f}, {spans[key][1]:.2f}]" for key in names]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)
