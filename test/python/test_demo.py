"""The demo reads the text that it draws: the whole way from a trained model to an answer."""
import os
import subprocess
import sys

ROOT = os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))


def test_demo_reads_what_it_draws():
    """Two texts, the default one and one that is not written down in the demo."""
    for text in ("Hello from dlc 2026", "nineteen red boats"):
        done = subprocess.run([sys.executable, os.path.join(ROOT, "utils", "demo.py"), text, "--threads", "2"],
                              capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stdout + done.stderr
        assert f"answer  {text}\n" in done.stdout, done.stdout
