"""Finding videos, and cutting them into segments: every picture in exactly one of them, as a stream would take it."""

from __future__ import annotations

import math
import os
from itertools import chain
from pathlib import Path

import av
import numpy as np
import pytest
from archive_parts import number_in, numbered, write_video

from personsearch.archive.pictures import KeyPictures, Pictures, Segment, segments_of
from personsearch.archive.scan import nothing_moves
from personsearch.archive.videos import Damaged, Found, camera_of, find_videos, probe
from personsearch.core.errors import UserError
from personsearch.core.stream_clock import StreamClock
from personsearch.runtime.cameras.sources import open_source
from personsearch.runtime.settings import CameraSettings


def video_of(path: Path, **more: object) -> object:
    return probe(find_videos(str(path), **more)[0])


def own_pictures(segment: Segment, fps: float = 0, overlap_s: float = 0) -> list[int]:
    """Numbers of the pictures that belong to the segment itself."""
    pictures = Pictures(segment, fps, overlap_s)
    found = [(moment, number_in(image)) for moment, image in pictures]
    return [number for moment, number in found if not moment >= pictures.end]


@pytest.mark.parametrize(
    ("gop", "b_frames", "name"),
    [(10, 0, "a.mp4"), (7, 2, "a.mkv"), (12, 2, "a.ts"), (90, 0, "a.mp4"), (10, 0, "a.avi")],
)
def test_every_picture_is_in_one_segment(gop: int, b_frames: int, name: str, tmp_path: Path) -> None:
    video = video_of(write_video(tmp_path / name, numbered(100), gop=gop, b_frames=b_frames))
    segments = segments_of(video, 2.5)
    assert len(segments) == 4
    numbers = [own_pictures(segment, overlap_s=1) for segment in segments]
    assert [*chain(*numbers)] == [n % 32 for n in range(100)]
    if gop == 10:
        assert [len(n) for n in numbers] == [30, 20, 30, 20]  # from key frame to key frame


def test_a_picture_is_taken_as_a_stream_with_max_fps_takes_it(tmp_path: Path) -> None:
    video = video_of(write_video(tmp_path / "a.mp4", numbered(180), fps=30, gop=30))
    kept, next_kept, clock = [], -math.inf, StreamClock(1 / 30)
    for number in range(180):  # the rule of runtime/cameras/camera_process.py
        moment = clock.advance(round(number / 30, 3))
        if moment >= next_kept:
            next_kept = max(next_kept, moment - 0.05) + 0.1
            kept.append(number % 32)
    assert [*chain(*(own_pictures(s, fps=10, overlap_s=1) for s in segments_of(video, 2)))] == kept
    assert len(kept) == 61


def test_pictures_are_those_of_a_stream(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (40, 96, 128, 3), np.uint8)
    path = write_video(tmp_path / "a.mp4", [*noise], gop=12, b_frames=2)
    source = open_source(CameraSettings(name="a", url=str(path)).model_dump(mode="json"))
    count = 0
    for segment in segments_of(video_of(path), 2):
        pictures = Pictures(segment, 0, 0)
        for moment, image in pictures:
            assert source.grab()
            assert np.array_equal(image, source.retrieve())
            assert abs(moment - source.stream_s()) < 1e-3
            count += 1
    assert count == 40


def test_the_overlap_is_what_the_next_segment_begins_with(tmp_path: Path) -> None:
    video = video_of(write_video(tmp_path / "a.mp4", numbered(60), gop=10))
    first, second = segments_of(video, 3)
    pictures = Pictures(first, 0, 1.0)
    beyond = [m for m, _ in pictures if m >= pictures.end]
    assert beyond == [m for m, _ in Pictures(second, 0, 1.0)][:10]
    assert (pictures.begin, pictures.end) == (0.0, 3.0)


def test_a_video_of_unknown_length_is_one_segment(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", numbered(20))
    video = video_of(path)
    assert [(s.begin_s, s.end_s) for s in segments_of(video, 60)] == [(-math.inf, math.inf)]
    raw = tmp_path / "raw.ts"
    with av.open(str(path)) as source, av.open(str(raw), "w", format="h264") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    whole = video_of(raw)
    assert whole.duration_s == 0
    (segment,) = segments_of(whole, 1)
    assert own_pictures(segment) == list(range(20))


def test_what_is_cut_off_or_broken_says_so(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mkv", numbered(100), gop=10)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 6 // 10])
    video = video_of(path)
    first, last = segments_of(video, 5)
    assert own_pictures(first)
    pictures = Pictures(last, 0, 0)
    numbers, note = [number_in(image) for _, image in pictures], pictures.note
    assert 5 <= len(numbers) < 50
    assert "before the announced 10.0 s" in note
    path.write_bytes(data[: len(data) * 3 // 10])
    with pytest.raises(Damaged, match=r"nothing can be read|before the announced"):
        list(Pictures(last, 0, 0))
    for content, words in ((b"", "empty"), (b"no video" * 100, "no video that can be read")):
        path.write_bytes(content)
        with pytest.raises(Damaged, match=words):
            video_of(path)
    path.unlink()
    with pytest.raises(FileNotFoundError):
        probe(Found("a.mkv", str(path), 1, 0.0))


def test_a_still_scene_is_left_out_but_nobody_who_stands_there(tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(60, 180, (120, 160, 3), np.uint8)
    still = segments_of(video_of(write_video(tmp_path / "a.mp4", [picture] * 60, gop=10)), 60)[0]
    looks: list[int] = []

    def left_out(segment: Segment, anybody: bool = False) -> bool:
        looks.clear()
        return nothing_moves(segment, (), lambda image: image, lambda image: bool(looks.append(1)) or anybody, 2.0)

    assert left_out(still)
    assert len(looks) == 3
    assert not left_out(still, anybody=True)
    moved = [picture.copy() for _ in range(60)]
    for number in range(22, 40):
        moved[number][20:100, 2 * number : 2 * number + 30] = 255
    assert not left_out(segments_of(video_of(write_video(tmp_path / "b.mp4", moved, gop=10)), 60)[0])
    rare = segments_of(video_of(write_video(tmp_path / "c.mp4", [picture] * 90, gop=40)), 60)[0]
    assert not left_out(rare)  # its key frames are too far apart to tell
    assert len(list(KeyPictures(rare))) == 3


def test_cameras_and_times_come_from_names_lists_or_the_file(tmp_path: Path) -> None:
    for name in ("yard/2026-01-31/a.mp4", "door.20260131T120000Z.mp4", "lane 2.avi", "x.20260131T120000Z.s-0123ab.mp4"):
        write_video(tmp_path / name, numbered(3))
    (tmp_path / ".hidden.mp4").touch()
    videos = {f.name: probe(f) for f in find_videos(str(tmp_path))}
    assert {name: video.camera for name, video in videos.items()} == {
        "yard/2026-01-31/a.mp4": "yard", "door.20260131T120000Z.mp4": "door", "lane 2.avi": "lane_2",
        "x.20260131T120000Z.s-0123ab.mp4": "x",
    }  # fmt: skip
    door = videos["door.20260131T120000Z.mp4"]
    assert (door.started, door.clock) == (1769860800.0, "name")
    assert videos["lane 2.avi"].clock == "file"
    (tmp_path / "list.txt").write_text(
        "# videos\nlane 2.avi\tback\t2026-02-01T00:00:00Z\ndoor.20260131T120000Z.mp4\n\n"
    )
    listed = [probe(f) for f in find_videos(str(tmp_path / "list.txt"))]
    assert [(v.camera, v.started, v.clock) for v in listed] == [
        ("door", 1769860800.0, "name"), ("back", 1769904000.0, "list")
    ]  # fmt: skip
    assert camera_of("20260131T120000Z.mp4") == "camera"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("gone.mp4", "cannot be read"),
        ("a.mp4\tback yard", "expected a camera's name"),
        ("a.mp4\tb\tnoon", "a time such"),
    ],
)
def test_a_list_with_a_mistake_names_its_line(line: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"x")
    (tmp_path / "list.txt").write_text(line + "\n")
    with pytest.raises(UserError, match=words):
        find_videos(str(tmp_path / "list.txt"))


def test_folders_that_are_odd(tmp_path: Path) -> None:
    (tmp_path / "yard").mkdir()
    (tmp_path / "yard" / "a.mp4").write_bytes(b"x")
    (tmp_path / "yard" / "again").symlink_to(tmp_path)  # leads back
    (tmp_path / "twice").symlink_to(tmp_path / "yard")
    assert len(find_videos(str(tmp_path))) == 1
    latin = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xe9.mp4"))
    latin.write_bytes(b"x")
    found = next(f for f in find_videos(str(tmp_path)) if f.name != "yard/a.mp4")
    with pytest.raises(Damaged, match="no UTF-8"):
        probe(found)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may list every folder")
def test_a_folder_that_cannot_be_listed_is_not_taken_for_empty(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"x")
    (tmp_path / "locked").mkdir(mode=0)
    with pytest.raises(UserError, match="locked: cannot be listed"):
        find_videos(str(tmp_path))
