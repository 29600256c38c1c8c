"""A camera's two streams by a real RTSP server (GStreamer), run by the system's Python:

    rtsp_pair.py PORT FPS SHIFT_S MAIN_RAW 1280x720 SUB_RAW 320x180

/main and /sub show the pictures of two files of raw I420 again and again, whichever is due by the machine's clock; /sub
shows them SHIFT_S seconds late. Needs the Debian packages named in harness.py.
"""

import sys
import time
from pathlib import Path

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstApp", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402

Gst.init(None)
FPS, SHIFT_S = float(sys.argv[2]), float(sys.argv[3])


class Stream(GstRtspServer.RTSPMediaFactory):
    """One of them: a picture at each tick, stamped when it is pushed."""

    def __init__(self, file: str, size: str, shift_s: float) -> None:
        super().__init__()
        width, height = size.split("x")
        self._pictures, self._bytes, self._shift_s = Path(file).read_bytes(), int(width) * int(height) * 3 // 2, shift_s
        self._source = None
        self.set_shared(True)
        self.set_launch(
            "( appsrc name=source is-live=true do-timestamp=true format=time "
            f"caps=video/x-raw,format=I420,width={width},height={height},framerate={int(FPS)}/1 "
            "! x264enc tune=zerolatency speed-preset=ultrafast key-int-max=10 bitrate=6000 "
            "! rtph264pay name=pay0 pt=96 config-interval=-1 )"
        )
        self.connect("media-configure", self._configure)

    def _configure(self, _factory: object, media: GstRtspServer.RTSPMedia) -> None:
        self._source = media.get_element().get_by_name("source")
        GLib.timeout_add(round(1000 / FPS), self._push, self._source)

    def _push(self, source: object) -> bool:
        number = int((time.time() - self._shift_s) * FPS) % (len(self._pictures) // self._bytes)
        picture = self._pictures[number * self._bytes : (number + 1) * self._bytes]
        return (
            source is self._source and source.emit("push-buffer", Gst.Buffer.new_wrapped(picture)) == Gst.FlowReturn.OK
        )


server = GstRtspServer.RTSPServer(address="127.0.0.1", service=sys.argv[1])
for name, file, size, shift_s in (("main", *sys.argv[4:6], 0.0), ("sub", *sys.argv[6:8], SHIFT_S)):
    server.get_mount_points().add_factory(f"/{name}", Stream(file, size, shift_s))
server.attach(None)
print("ready", flush=True)
GLib.MainLoop().run()
