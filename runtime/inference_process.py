"""The inference process: loads the bundle once, then answers batches. Frames are read where the capture processes
wrote them (shared memory). Crashes, hangs and exhausted memory end this process, never the stream.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import time
from typing import Any

import numpy as np

from personsearch.core.errors import UserError
from personsearch.runtime.channel import Closed, channel_of_child


def main() -> None:
    channel = channel_of_child()
    try:
        first = channel.receive()
        assert first is not None
        options: dict[str, Any] = first[0]
        from personsearch.core.engines import BundleSearcher

        try:
            searcher = BundleSearcher(options["bundle"], options["engine"], options["threads"])
            if searcher.manifest.model_hash != options["model"]:
                raise UserError(f"{options['bundle']}: was replaced by another model; restart the stream to use it")
            warm = np.zeros((searcher.manifest.height, searcher.manifest.width, 3), np.uint8)
            searcher.detect([warm])  # the first call of an engine is slow
        except UserError as error:
            channel.send({"kind": "unusable", "reason": str(error)})
            return
        channel.send({"kind": "ready", "engine": searcher.engine.name})
        memories: dict[int, mmap.mmap] = {}
        while (message := channel.receive()) is not None:
            header, _, descriptors = message
            if header["kind"] == "memory":
                memories[header["memory"]] = mmap.mmap(descriptors[0], 0, prot=mmap.PROT_READ)
                os.close(descriptors[0])
                continue
            if header["kind"] == "forget":
                memories.pop(header["memory"], None)
                continue
            images = [
                np.frombuffer(memories[f["memory"]], np.uint8, int(np.prod(f["shape"])), f["position"]).reshape(
                    f["shape"]
                )
                for f in header["frames"]
            ]
            began, cpu = time.monotonic(), time.process_time()
            found = searcher.detect(images, header["min_score"])
            spent, cpu = time.monotonic() - began, time.process_time() - cpu
            payload = b"".join(
                part.astype(np.float32).tobytes() for d in found for part in (d.boxes, d.scores, d.embeddings)
            )
            counts = [len(d) for d in found]
            channel.send({"kind": "found", "counts": counts, "seconds": spent, "cpu_s": cpu}, payload)
    except Closed:
        pass
    except Exception as error:
        with contextlib.suppress(Closed):
            channel.send({"kind": "failed", "reason": f"{type(error).__name__}: {str(error)[:200]}"})
    finally:
        os._exit(0)


if __name__ == "__main__":
    main()
