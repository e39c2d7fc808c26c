"""Hatchling's build hook: builds the engine guest and the verification modules, and puts them and the fixtures of
`pexec bench` into the wheel.
"""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class GuestBuildHook(BuildHookInterface):
    """Runs scripts/build_guest.py, and scripts/build_modules.py unless the wheel is editable, before the wheel is put
    together.
    """

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build into the source tree.

        pyproject.toml lists the guest among the wheel's artifacts. Modules are added one by one, since others may lie
        beside them. An editable wheel, whose checkout builds them when they are first used, does not wait for them.
        """
        root = Path(self.root)
        package = root / "parallel_exec"
        scripts = str(root / "scripts")
        sys.path.insert(0, scripts)
        try:
            import build_guest
            import build_modules
        finally:
            sys.path.remove(scripts)
        editable = version == "editable"
        try:
            # Beside each other: compiling the guest keeps one CPU busy.
            with ThreadPoolExecutor(1) as executor:
                guest = executor.submit(build_guest.build, package / "guest")
                modules = [] if editable else [*build_modules.build_all(modules=package / "verify" / "modules")]
                guest.result()
        except build_guest.BuildError as error:
            # Not an exception: its text is what the user of pip should see, not a traceback through the build backend.
            sys.exit(f"build: {error}")
        if not editable:  # in a checkout the package finds the fixtures beside itself
            fixtures = [root / "fixtures" / name for name in ("track_points.json", "track_length.js")]
            included = {path: f"parallel_exec/fixtures/{path.name}" for path in fixtures}
            included |= {path: path.relative_to(root).as_posix() for path in modules}
            build_data["force_include"] |= {str(path): place for path, place in included.items()}
