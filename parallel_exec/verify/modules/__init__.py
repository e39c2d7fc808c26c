"""WebAssembly modules that verify signatures: C sources of ours around libsecp256k1 (scripts/build_modules.py).

A wheel brings the modules. A checkout builds them when they are first used, and again when a source has changed.
"""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from pathlib import Path

from parallel_exec.errors import PluginError

FOLDER = Path(__file__).resolve().parent
BUILDS = ("speed", "size")
"""What modules are optimised for."""

_SCRIPT = FOLDER.parents[2] / "scripts" / "build_modules.py"


def module_path(name: str) -> Path:
    """Return the path of a module, such as ``"schnorr-speed-wide"``.

    Raises:
        PluginError: it is not part of this installation, or it cannot be built.
    """
    if _SCRIPT.is_file():
        _build(_SCRIPT)
    path = FOLDER / f"verify-{name}.wasm"
    if not path.is_file():
        raise PluginError(f"the module {path} is missing: install parallel_exec again")
    return path


@cache
def _build(script: Path) -> None:
    """Bring all modules of a checkout up to date, which takes 0.1 s if they are."""
    built = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
    if built.returncode:
        raise PluginError(f"the verification modules cannot be built; {built.stderr.strip()}")
