"""Models are made with torch; without it, only its absence can be tested."""

from __future__ import annotations

import importlib.util

collect_ignore = (
    []
    if importlib.util.find_spec("torch")
    else ["test_quantize_import.py", "test_quantize_nets.py", "test_quantize_command.py"]
)
