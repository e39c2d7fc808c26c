"""A job that an exception of the embedding program (Ctrl-C, a signal's handler) tears away leaves nothing behind."""

from __future__ import annotations

import sys
from pathlib import Path
from types import FrameType
from typing import Any

import parallel_exec as px

FILES = ("_sandbox.py", "runner.py", "_reset.py", "instance.py", "mailbox.py")
PLUGIN = px.Plugin("globalThis.seen = 0; const count = d => ++seen", name="count.js")


def test_an_interrupt_at_any_line_of_a_call_leaves_a_clean_sandbox() -> None:
    with px.Sandbox(PLUGIN) as sandbox:
        line = 0
        while True:
            line += 1
            left = line

            def trace(frame: FrameType, event: str, _argument: object) -> Any:
                nonlocal left
                path = Path(frame.f_code.co_filename)
                if "sandbox" not in path.parts or path.name not in FILES:
                    return None
                if event == "line":
                    left -= 1
                    if left == 0:
                        sys.settrace(None)
                        raise KeyboardInterrupt
                return trace

            sys.settrace(trace)
            try:
                assert sandbox.call("count", 1) == 1
            except KeyboardInterrupt:
                pass
            finally:
                sys.settrace(None)
            assert sandbox.call("count", 1) == 1
            if left > 0:
                break
    assert line > 40
