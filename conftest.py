"""Makes a plain clone work without an install: `pytest --images=manifest.yaml`.

Where taskgate is installed, its entry point has loaded the plugin already and this file does nothing.
"""

import sys
import types
from pathlib import Path

if "taskgate.harness.plugin.hooks" not in sys.modules:
    if "taskgate" not in sys.modules:
        clone = types.ModuleType("taskgate")
        clone.__path__ = [str(Path(__file__).parent)]
        sys.modules["taskgate"] = clone
    pytest_plugins = ["taskgate.harness.plugin.hooks"]
