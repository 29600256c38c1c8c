"""What a measuring tool of this folder writes: its figures, and the command that made them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent


def save_figures(file: str, figures: dict[str, Any]) -> None:
    """JSON with the running command in front. Of what lies outside the repository only the name is said."""
    words = ["python", f"tests/{Path(sys.argv[0]).name}", *map(_word, sys.argv[1:])]
    Path(file).write_text(json.dumps({"command": " ".join(words), **figures}, indent=1) + "\n", encoding="utf-8")


def _word(word: str) -> str:
    path = Path(word)
    return path.name if path.exists() and not path.resolve().is_relative_to(REPOSITORY) else word
