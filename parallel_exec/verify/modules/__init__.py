"""WebAssembly modules that verify signatures: C sources of ours around libsecp256k1, built on demand
(scripts/build_modules.py).
"""

from __future__ import annotations

from pathlib import Path

from parallel_exec.errors import PluginError

FOLDER = Path(__file__).resolve().parent

MODULE_BUILDS = ("speed", "size")
"""What modules are optimised for."""


def module_path(name: str) -> Path:
    """Return where a built module lies, such as ``"schnorr-speed-wide"``.

    Raises:
        PluginError: it is not built.
    """
    path = FOLDER / f"verify-{name}.wasm"
    if not path.is_file():
        raise PluginError(
            f"the module verify-{name}.wasm is not built; in a checkout, run: python scripts/build_modules.py {name}"
        )
    return path
