"""The page that says what is supported is what the tests say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_the_page_is_current():
    tool = Path(__file__).parent.parent / "tools" / "support.py"
    command = [sys.executable, str(tool), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
