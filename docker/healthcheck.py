"""Exit status 0 if the stream of this container analyses frames: `healthcheck.py PORT`."""

import sys
import urllib.request

try:
    with urllib.request.urlopen(f"http://127.0.0.1:{sys.argv[1]}/readyz", timeout=3) as answer:
        print(answer.read().decode().strip())
except OSError as error:
    print(error)
    sys.exit(1)
