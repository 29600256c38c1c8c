#!/usr/bin/env python
"""Index an archive of video: who was seen in which file and when, to be searched by personsearch-search --index.

  archive/index.py --videos DIR|LIST|FILE|s3://BUCKET/PREFIX --out DIR [--workers N] [--ray ADDRESS]
  archive/index.py --videos ... --out postgresql://USER@HOST/NAME --box NAME --parts DIR

The second puts the visits into the database of a fleet's centre, whose search then finds them.
Videos are analysed in segments, by the parts that also analyse a stream. Each segment is a file in DIR/parts once it is
done: a run that was ended, however, is taken up by the same command, and done again changes nothing. Damaged videos are
skipped and listed, here and in DIR/report.json. Ends with 0; 3 if something could not be read; 2 for wrong input.
See docs/archive.md.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from personsearch.core.commands import command_line
from personsearch.core.errors import UserError, run_main
from personsearch.core.processor import usable_cores
from personsearch.core.redaction import remember_dsn
from personsearch.core.text import printable

if TYPE_CHECKING:
    from personsearch.archive.analysis import Options
    from personsearch.archive.pictures import Segment
    from personsearch.archive.progress import Progress
    from personsearch.archive.videos import Found, Video
    from personsearch.archive.workers import Done
    from personsearch.archive.writing import VisitWriter
    from personsearch.core.bundle import Manifest

EXIT_INCOMPLETE = 3
DATABASES = ("postgresql://", "postgres://")
WORTH_S = 120.0  # of video for each process: several start for ten seconds first
PROBES = 8  # files opened at once, to see how long they are


def main() -> int:
    return run_main(_main)


def _parser() -> argparse.ArgumentParser:
    parser = command_line(__doc__)
    parser.add_argument("--videos", required=True, help="a folder, a list (.txt), one video, or s3://BUCKET/PREFIX")
    parser.add_argument("--out", required=True, help="a folder for the index, or the database of a centre")
    parser.add_argument("--parts", default="", metavar="DIR", help="with a database: a folder for what segments gave")
    parser.add_argument("--box", default="", metavar="NAME", help="with a database: the archive's name at the centre")
    parser.add_argument("--workers", type=int, default=0, help="processes; 1: this one (default: by cores and videos)")
    parser.add_argument("--ray", default="", metavar="ADDRESS", help="a Ray cluster that runs; DIR must be shared")
    parser.add_argument("--camera", default="", metavar="NAME", help="of all videos (default: by folder or file name)")
    parser.add_argument(
        "--cams", default="", metavar="FILE", help="cams.yaml: regions, zones, tracking, bundle, engine"
    )
    parser.add_argument("--bundle", default="", help="bundle folder (default: `bundle` in the file, else models/edge)")
    parser.add_argument("--engine", default="", help="inference engine (default: `engine` in the file, else auto)")
    parser.add_argument("--fps", type=float, default=10.0, help="pictures a second that are analysed; 0: all")
    parser.add_argument("--segment-s", type=float, default=60.0, help="seconds of a segment (default 60)")
    parser.add_argument("--all-frames", action="store_true", help="also analyse what nothing moves in")
    parser.add_argument("--views", type=int, default=5, help="best views kept of a visit besides their mean, 0 to 5")
    parser.add_argument("--crops", action="store_true", help="also keep a small picture of each visit")
    parser.add_argument("--again", action="store_true", help="try damaged segments once more")
    parser.add_argument("--prune", action="store_true", help="erase what was seen in videos that --videos has no more")
    return parser


def _main() -> int:
    given = _parser().parse_args()
    _check(given)
    from personsearch.archive import folder
    from personsearch.archive.analysis import settings_of
    from personsearch.archive.parts import about_part
    from personsearch.archive.progress import Progress, write_report
    from personsearch.archive.videos import find_videos
    from personsearch.archive.writing import join_all
    from personsearch.core.bundle import read_manifest
    from personsearch.runtime.settings import SightingSettings

    options = _options(given)
    manifest = read_manifest(options.bundle)
    found, out = find_videos(given.videos, given.camera), Path(given.parts or given.out)
    began = time.monotonic()
    with folder.locked(out):
        folder.begin(out, manifest, dict(settings_of(options)) | {"segment_s": given.segment_s})
        writer = _writer(given, out, manifest)
        videos, unreadable = _probe(found)
        segments, paths = _plan(out, videos, given)
        waiting = [s for s in segments if not paths[s.name].exists()]
        progress = Progress(len(waiting), sum(s.seconds for s in waiting), len(segments) - len(waiting))
        if len(waiting) < len(segments):
            progress.say(f"{len(segments) - len(waiting)} of {len(segments)} segments are done already")
        for name, reason in unreadable:
            progress.say(f"{name}: {reason} (damaged)")
        failed = _work(waiting, options, out, given, progress)
        if given.prune:
            folder.prune(out, {video.key for video in videos}, {name for name, _ in unreadable})
        sightings = options.settings.sightings if options.settings else SightingSettings()
        describe = options.of_camera("any").describe
        whole = [path for path in sorted((out / "parts").glob("*/*.parquet")) if path.stat().st_size]
        try:
            join_all(whole, writer, sightings.grace_s, describe.reunite_similarity)
        except ValueError as error:
            raise UserError(f"{error}; remove that file and run this again") from None
        report = _report(segments, paths, about_part, unreadable, failed)
        report["visits"] = writer.count()
        report |= {"wall_s": round(time.monotonic() - began, 1), "work_s": round(progress.wall_s, 1),
                   "cpu_s_of_workers": round(progress.cpu_s, 1)}  # fmt: skip
        write_report(out, report)
    bad = len(report["damaged"]) + len(report["failed"])
    print(
        f"{given.box or out}: {report['visits']} visits in {len(videos)} videos, {report['hours']:.2f} hours"
        + (f"; {bad} damaged or not read, see {out}/report.json" if bad else "")
    )
    return EXIT_INCOMPLETE if bad else 0


def _check(given: argparse.Namespace) -> None:
    """Raises UserError."""
    database = given.out.startswith(DATABASES)
    if database:
        remember_dsn(given.out)
    if "://" in given.out and not database:
        scheme = given.out.partition("://")[0]
        raise UserError(f"--out {scheme}://...: expected a folder of this machine, or postgresql://...")
    if database != bool(given.box) or database != bool(given.parts):
        raise UserError("a database as --out, --box NAME and --parts DIR go together; give all three, or a folder")
    if database and given.crops:
        raise UserError("--crops: the centre keeps no pictures; leave it out, or give a folder as --out")
    if not 5 <= given.segment_s <= 86400:
        raise UserError(f"--segment-s {given.segment_s:g}: expected 5 to 86400 seconds")
    if not 0 <= given.fps <= 240 or not 0 <= given.views <= 5 or not 0 <= given.workers <= 1024:
        raise UserError("expected --fps 0 to 240, --views 0 to 5 and --workers 0 to 1024")
    from personsearch.archive.videos import plain

    for option, name in (("--camera", given.camera), ("--box", given.box)):
        if plain(name) != name:
            raise UserError(f"{option} {name}: expected letters, digits, - and _")
    try:
        import av  # noqa: F401
        import pyarrow  # noqa: F401
    except ModuleNotFoundError as error:
        raise UserError(f"an index needs the package {error.name}; install personsearch[archive]") from None


def _writer(given: argparse.Namespace, out: Path, manifest: Manifest) -> VisitWriter:
    """Where the visits go. Raises UserError for a database that cannot be used, before hours of work for it."""
    from personsearch.archive.writing import ParquetVisits

    if not given.box:
        return ParquetVisits(out, manifest.dimensions, given.crops)
    try:
        from personsearch.archive.centre_visits import CentreVisits
    except ModuleNotFoundError as error:
        raise UserError(f"a centre's database needs the package {error.name}; install personsearch[centre]") from None
    return CentreVisits(given.out, given.box, manifest.model_hash, manifest.dimensions)


def _options(given: argparse.Namespace) -> Options:
    from personsearch.archive.analysis import Options
    from personsearch.core.config import load_settings
    from personsearch.runtime.settings import StreamSettings, default_bundle

    settings = load_settings(given.cams, StreamSettings) if given.cams else None
    bundle = given.bundle or (settings.bundle if settings else "") or default_bundle()
    engine = given.engine or (settings.engine if settings else "auto")
    return Options(
        str(Path(bundle).resolve()), engine, settings, given.fps, motion=not given.all_frames, views=given.views,
        crops=given.crops,
    )  # fmt: skip


def _probe(found: list[Found]) -> tuple[list[Video], list[tuple[str, str]]]:
    """The videos, and name and reason of those that are none."""
    from personsearch.archive.videos import Damaged, probe

    def look(one: Found) -> Video | str:
        try:
            return probe(one)
        except Damaged as error:
            return str(error)
        except OSError as error:
            return f"cannot be read ({error.strerror or error})"

    with ThreadPoolExecutor(PROBES) as pool:
        results = list(pool.map(look, found))
    videos = [r for r in results if not isinstance(r, str)]
    return videos, [(f.name, r) for f, r in zip(found, results, strict=True) if isinstance(r, str)]


def _plan(out: Path, videos: list[Video], given: argparse.Namespace) -> tuple[list[Segment], dict[str, Path]]:
    """All segments, the shortest videos' first within nothing: in the order of names; and where their parts will be."""
    from personsearch.archive.parts import about_part, part_path
    from personsearch.archive.pictures import segments_of

    segments = [segment for video in videos for segment in segments_of(video, given.segment_s)]
    paths = {segment.name: part_path(out, segment.name) for segment in segments}
    for path in paths.values():
        with contextlib.suppress(FileNotFoundError):
            try:
                state = about_part(path)["state"]
            except ValueError:  # damaged since
                path.unlink()
                continue
            if given.again and state == "damaged":
                path.unlink()
    return segments, paths


def processes_for(segments: list[Segment], given: argparse.Namespace) -> int:
    """0: as many as the cluster can have."""
    if given.workers or given.ray:
        return min(given.workers, len(segments))
    worth = int(sum(segment.seconds for segment in segments) / WORTH_S)
    return max(1, min(int(usable_cores()), len(segments), worth))


def _work(
    segments: list[Segment], options: Options, out: Path, given: argparse.Namespace, progress: Progress
) -> list[Done]:
    """Gives the segments that failed. Raises UserError for a disk that is full."""
    from personsearch.archive import workers

    if not segments:
        return []
    count = processes_for(segments, given)
    if count == 1 and not given.ray:
        results = workers.here(segments, options, out)
    else:
        workers.prepare_ray(given.ray)
        results = workers.on_ray(segments, options, out, count, given.ray)
    failed = []
    with contextlib.closing(results):
        for done in results:
            progress.note(done)
            if done["state"] == "full":
                raise UserError(f"{out}: cannot be written ({done['note']}); make room and run this again")
            if done["state"] == "failed":
                failed.append(done)
    progress.end()
    return failed


def _report(
    segments: list[Segment], paths: dict[str, Path], about_part: Any, unreadable: list[tuple[str, str]],
    failed: list[Done],
) -> dict[str, Any]:  # fmt: skip
    states: dict[str, int] = {}
    damaged: list[dict[str, str | int | None]] = [
        {"video": printable(name), "segment": None, "why": reason} for name, reason in unreadable
    ]
    seconds, analysed, described = 0.0, 0, 0
    for segment in segments:
        if not paths[segment.name].exists():
            continue
        about = about_part(paths[segment.name])
        states[about["state"]] = states.get(about["state"], 0) + 1
        seconds, analysed = seconds + about["seconds"], analysed + about["analysed"]
        described += about.get("described", 0)  # parts of an earlier version do not say it
        if about["state"] == "damaged":
            damaged.append({"video": printable(segment.video.name), "segment": segment.number, "why": about["note"]})
    return {
        "videos": len({segment.video.key for segment in segments}), "segments": states,
        "hours": round(seconds / 3600, 4), "pictures_analysed": analysed, "people_described": described,
        "damaged": damaged,
        "failed": [{"video": d["video"], "segment": d["segment"], "why": d["note"]} for d in failed],
    }  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
