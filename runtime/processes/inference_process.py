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
from personsearch.runtime.processes.channel import Closed, channel_of_child


def main() -> None:
    channel = channel_of_child()
    try:
        first = channel.receive()
        assert first is not None
        options: dict[str, Any] = first[0]
        from personsearch.core.engines.searcher import BundleSearcher

        try:
            searcher = BundleSearcher(options["bundle"], options["engine"], options["threads"])
            if searcher.manifest.model_hash != options["model"]:
                raise UserError(f"{options['bundle']}: was replaced by another model; restart the stream to use it")
            warm = np.zeros((searcher.manifest.height, searcher.manifest.width, 3), np.uint8)
            searcher.find([warm])  # the first call of an engine is slow
        except UserError as error:
            channel.send({"kind": "unusable", "reason": str(error)})
            return
        channel.send({"kind": "ready", "engine": searcher.engine.name})
        memories: dict[int, mmap.mmap] = {}
        while (message := channel.receive()) is not None:
            header, pixels, descriptors = message
            if header["kind"] == "memory":
                try:  # the kernel leaves a descriptor out if we have too many
                    memories[header["memory"]] = mmap.mmap(descriptors[0], 0, prot=mmap.PROT_READ)
                except (OSError, IndexError) as error:
                    reason = f"the frames' memory cannot be mapped ({error})"
                    channel.send({"kind": "failed", "reason": reason, "passing": True})
                    return
                os.close(descriptors[0])
                continue
            if header["kind"] == "forget":
                memories.pop(header["memory"], None)
                continue
            if header["kind"] == "describe":
                began, cpu = time.monotonic(), time.process_time()
                embeddings = searcher.describe(_views(header, pixels)).astype(np.float32)
                spent, cpu = time.monotonic() - began, time.process_time() - cpu
                answer = {"kind": "described", "width": embeddings.shape[1], "seconds": spent, "cpu_s": cpu}
                channel.send(answer, embeddings.tobytes())
                continue
            images = [
                np.frombuffer(memories[f["memory"]], np.uint8, int(np.prod(f["shape"])), f["position"]).reshape(
                    f["shape"]
                )
                for f in header["frames"]
            ]
            began, cpu = time.monotonic(), time.process_time()
            found = searcher.find(images, header["min_score"])
            spent, cpu = time.monotonic() - began, time.process_time() - cpu
            payload = b"".join(
                part.astype(np.float32).tobytes() for d in found for part in (d.boxes, d.scores, d.embeddings)
            )
            counts, width = [len(d) for d in found], found[0].embeddings.shape[1] if found else 0
            answer = {"kind": "found", "counts": counts, "width": width, "seconds": spent, "cpu_s": cpu}
            channel.send(answer, payload)
    except Closed:
        pass
    except Exception as error:
        with contextlib.suppress(Closed):
            channel.send({"kind": "failed", "reason": f"{type(error).__name__}: {str(error)[:200]}"})
    finally:
        os._exit(0)


def _views(header: dict[str, Any], pixels: bytes) -> list[tuple[np.ndarray, np.ndarray]]:
    """The pictures of a question, one after the other in its payload, and the boxes in them."""
    views, at = [], 0
    for shape, box in zip(header["shapes"], header["boxes"], strict=True):
        size = int(np.prod(shape))
        views.append((np.frombuffer(pixels, np.uint8, size, at).reshape(shape), np.array(box, np.float32)))
        at += size
    return views


if __name__ == "__main__":
    main()
