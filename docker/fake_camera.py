"""A network camera that shows the synthetic street (HTTP, motion JPEG), for trying things out.

docker/fake_camera.py serve --port 8080 --camera 1 [--host 0.0.0.0]
docker/fake_camera.py enrol GALLERY     enrol three people of this street, as they look from camera 0
"""

from __future__ import annotations

import argparse
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2

from personsearch.core.street.street import Street, StreetSettings

STREET = Street(StreetSettings(seed=7, cameras=3, people=5, identities=15, fps=10))


def handler(camera: int) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=picture")
            self.end_headers()
            began = time.monotonic()
            number = 0
            try:
                while True:
                    picture = cv2.imencode(".jpg", STREET.frame(camera, number).image)[1].tobytes()
                    head = f"--picture\r\nContent-Type: image/jpeg\r\nContent-Length: {len(picture)}\r\n\r\n"
                    self.wfile.write(head.encode() + picture + b"\r\n")
                    number += 1
                    time.sleep(max(0.0, began + number / STREET.settings.fps - time.monotonic()))
            except OSError:
                pass  # the viewer went away

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    return Handler


def enrol_people(path: Path) -> None:
    from personsearch.core.engines.searcher import BundleSearcher
    from personsearch.runtime.decisions.gallery import EnrolledView
    from personsearch.runtime.decisions.gallery_file import enrol
    from personsearch.runtime.settings import default_bundle

    searcher = BundleSearcher(default_bundle())
    done: set[int] = set()
    for number in range(0, 600, 20):
        frame = STREET.frame(0, number)
        for box, identity, visible in zip(frame.boxes, frame.identities, frame.visible, strict=True):
            if visible > 0.95 and int(identity) not in done and len(done) < 3:
                done.add(int(identity))
                rows = [EnrolledView(searcher.embed(frame.image, box[None])[0])]
                enrol(path, searcher.manifest.model_hash, searcher.dimensions, f"Person {identity}", rows)
    print(f"enrolled {len(done)} people in {path}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser("serve")
    serve.add_argument("--host", default="127.0.0.1")
    serve.add_argument("--port", type=int, default=8080)
    serve.add_argument("--camera", type=int, default=1, choices=range(STREET.settings.cameras))
    enrolment = commands.add_parser("enrol")
    enrolment.add_argument("gallery", type=Path)
    arguments = parser.parse_args()
    if arguments.command == "enrol":
        if not arguments.gallery.exists():
            enrol_people(arguments.gallery)
        return 0
    with ThreadingHTTPServer((arguments.host, arguments.port), handler(arguments.camera)) as server:
        server.daemon_threads = True
        print(f"http://{arguments.host}:{server.server_address[1]}/stream.mjpg", flush=True)
        server.serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
