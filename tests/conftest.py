"""What holds for all tests."""

from __future__ import annotations

import os
import signal

from hypothesis import settings

# The same examples in every run, so that a change that passes here passes in CI; `PEXEC_EXAMPLES=random` looks for new
# ones.
settings.register_profile("same", derandomize=True, deadline=None)
settings.register_profile("random", deadline=None)
settings.load_profile("random" if os.environ.get("PEXEC_EXAMPLES") == "random" else "same")

# A shell that runs the tests in the background has them ignore Ctrl-C, and so would every process that a test starts.
signal.signal(signal.SIGINT, signal.default_int_handler)
