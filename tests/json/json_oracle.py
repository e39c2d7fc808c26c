"""The plugin that compares our JSON with the engine's own."""

from __future__ import annotations

from pathlib import Path

import parallel_exec as px

ORACLE = px.Plugin.from_file(Path(__file__).with_name("oracle.js"))
