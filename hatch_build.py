"""Hatchling's build hook: builds the engine guest, and puts it and the fixtures of `pexec bench` into the wheel."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class GuestBuildHook(BuildHookInterface):
    """Runs scripts/build_guest.py before a wheel, editable or not, is put together."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build the guest into the source tree; pyproject.toml lists it among the wheel's artifacts."""
        scripts = str(Path(self.root) / "scripts")
        sys.path.insert(0, scripts)
        try:
            import build_guest
        finally:
            sys.path.remove(scripts)
        try:
            build_guest.build(Path(self.root) / "parallel_exec" / "guest")
        except build_guest.BuildError as error:
            # Not an exception: its text is what the user of pip should see, not a traceback through the build backend.
            sys.exit(f"build_guest: {error}")
        if version != "editable":  # in a checkout the package finds them beside itself
            for fixture in ("track_points.json", "track_length.js"):
                build_data["force_include"][f"fixtures/{fixture}"] = f"parallel_exec/fixtures/{fixture}"
