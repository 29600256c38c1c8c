"""Who decodes a stream: a device of this machine, or the processor (PyAV).

A device is tried by opening it, and has proved itself with its first picture. With `auto` the processor takes over from
one that cannot be opened, gives no picture, or fails; with a device by name that is an error of the camera. Pictures of
a device are copied into the machine's memory, where all that follows expects them.
"""

from __future__ import annotations

import glob
import importlib.util
from typing import Any

from personsearch.core.video_files import SourceError

DEVICES = {  # the kinds in the order in which they are tried, and the files by which a machine shows that it has one
    "cuda": ("/dev/nvidia[0-9]*",),
    "vaapi": ("/dev/dri/renderD*",),
    "v4l2": ("/dev/video*", "/dev/nvhost-nvdec*", "/dev/v4l2-nvdec"),
}
WRAPPED = ("nvv4l2dec", "v4l2m2m")  # V4L2 is no hwaccel of FFmpeg, but decoders of their own: Jetson's, and everybody's
MOST_ERRORS = 8  # packets in a row that a device refuses; a damaged stream has its errors, too
MOST_WITHOUT_PICTURE = 60  # packets that a device swallows before it gives a first picture


class _NoDevice(Exception):
    """Why a device cannot be used, in a few words."""


def missing(kind: str) -> str:
    """What this machine lacks to decode by such a device, without opening any; empty if it may work."""
    if not _files(kind):
        return f"no {' or '.join(DEVICES[kind])}"
    if importlib.util.find_spec("av") is None:
        return "needs PyAV: pip install 'personsearch[record]'"
    import av
    from av.codec.hwaccel import hwdevices_available

    built = any(f"h264_{name}" in av.codecs_available for name in WRAPPED)
    if kind in hwdevices_available() or (kind == "v4l2" and built):
        return ""
    return "the FFmpeg in PyAV was built without it (build PyAV against one that has it: pip install --no-binary av av)"


def why_software(wanted: str) -> str:
    """Why the processor decodes, whatever the stream is; empty if a device is to be tried. Raises SourceError where
    the wanted device is missing."""
    if wanted == "software":
        return "as asked"
    lacks = {kind: missing(kind) for kind in (DEVICES if wanted == "auto" else (wanted,))}
    if "" in lacks.values():
        return ""
    if wanted != "auto":
        raise _refusal(wanted, lacks[wanted])
    return _joined(lacks)


def _refusal(wanted: str, why: str) -> SourceError:
    return SourceError(
        "settings", f"decoding: {wanted} does not work here: {why}; decoding: auto decodes by what there is"
    )


def _joined(lacks: dict[str, str]) -> str:
    return "; ".join(f"{kind}: {why}" for kind, why in lacks.items())


def _files(kind: str) -> list[str]:
    return sorted(file for pattern in DEVICES[kind] for file in glob.glob(pattern))


class Decoder:
    """Of one stream: packets in, frames out. `kind` is software or one of DEVICES, `reason` says why."""

    def __init__(self, stream: Any) -> None:
        import av

        self._errors = (av.FFmpegError, OSError)
        self._software = stream.codec_context
        self._software.thread_count = 1  # cameras share the machine
        self.kind, self.reason, self._auto = "software", "", True
        self._device: Any = None
        self._proven = self._waits = False  # a device gave a picture; the processor waits for a keyframe
        self._held: list[Any] = []  # packets since the first keyframe, until a device is proven: to be decoded anew
        self._failed = 0  # packets in a row

    def __str__(self) -> str:
        return f"{self.kind} ({self.reason})" if self.reason else self.kind

    @property
    def may_begin_again(self) -> bool:
        """Whether it can go on after `drain`; FFmpeg's decoders by V4L2 cannot."""
        return self.kind != "v4l2"

    def choose(self, wanted: str) -> None:
        """Open a device, unless the processor is to decode. Raises SourceError if a wanted one cannot be opened. A
        driver may hang here."""
        self.reason, self._auto = why_software(wanted), wanted == "auto"
        if self.reason:
            return
        lacks = {}
        for kind in DEVICES if self._auto else (wanted,):
            try:
                self._device = self._open(kind)
            except _NoDevice as why:
                lacks[kind] = str(why)
                continue
            self.kind = kind
            self.reason = f"{self._device.name}, {'the first that opens here' if self._auto else 'as asked'}"
            return
        if not self._auto:
            raise _refusal(wanted, lacks[wanted])
        self.reason = _joined(lacks)

    def _open(self, kind: str) -> Any:
        """A decoder of its own beside the stream's, which stays at hand. Raises _NoDevice."""
        import av
        from av.codec.hwaccel import HWAccel

        if lack := missing(kind):
            raise _NoDevice(lack)
        codec = self._software.codec.canonical_name
        device: Any = None
        try:
            if kind == "v4l2":
                name = next((n for n in (f"{codec}_{w}" for w in WRAPPED) if n in av.codecs_available), "")
                device = name and av.CodecContext.create(name, "r")
            else:
                file = _files(kind)[0] if kind == "vaapi" else None
                device = av.CodecContext.create(codec, "r", HWAccel(kind, file, allow_software_fallback=False))
                device = device.is_hwaccel and device
            if not device:
                raise _NoDevice(f"no decoder for {codec}")
            device.extradata = self._software.extradata
            device.width, device.height = self._software.width, self._software.height
            device.thread_count = 1
            device.open()
        except (*self._errors, ValueError) as error:
            raise _NoDevice(f"cannot be opened ({getattr(error, 'strerror', None) or error})") from None
        return device

    def decode(self, packet: Any) -> list[Any]:
        """The frames that come of a packet, none of a damaged one; of an empty packet those that are still in the
        decoder. Raises SourceError if a device that was asked for by name fails."""
        if self._device is None:
            if self._waits and not packet.is_keyframe:
                return []
            self._waits = False
            return self._frames(self._software, packet) or []
        if not self._proven and (self._held or packet.is_keyframe):
            self._held.append(packet)
        frames = self._frames(self._device, packet)
        self._failed = self._failed + 1 if frames is None else 0
        if frames:
            self._proven, self._held = True, []
        swallowed = bool(self._held) and (not packet.size or len(self._held) > MOST_WITHOUT_PICTURE)
        return self._give_up() if self._failed >= MOST_ERRORS or swallowed else frames or []

    def drain(self) -> list[Any]:
        """The frames that are still in the decoder, which is then to be begun with a keyframe."""
        context = self._device or self._software
        frames = self._frames(context, None) or []
        context.flush_buffers()
        return frames

    def _frames(self, context: Any, packet: Any) -> list[Any] | None:
        """None if the decoder refuses the packet; FFmpeg has said so on stderr."""
        try:
            return list(context.decode(packet))
        except self._errors:
            return None

    def _give_up(self) -> list[Any]:
        """The processor goes on with what the device was given in vain, or with the next keyframe."""
        what = "failed while it decoded" if self._proven else "gave no picture of this stream"
        if not self._auto:
            raise _refusal(self.kind, f"the device {what}")
        self.reason, self.kind, self._device = f"{self.kind} {what}", "software", None
        held, self._held = self._held, []
        self._waits = not held
        return [frame for packet in held for frame in self._frames(self._software, packet) or []]
