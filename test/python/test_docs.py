"""The examples of the pages are run: Python blocks in order, in one namespace a page, in an empty folder."""

import os
import re

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def blocks(page):
    """[(line number, code)] of the page's python blocks."""
    with open(os.path.join(ROOT, page)) as file:
        text = file.read()
    return [(text.count("\n", 0, m.start(1)), m[1]) for m in re.finditer(r"^```python\n(.*?)^```$", text, re.M | re.S)]


def run_page(page, folder, monkeypatch, **namespace):
    monkeypatch.chdir(folder)
    for line, code in blocks(page):
        exec(compile("\n" * line + code, page, "exec"), namespace)  # noqa: S102
    return namespace


def test_python_page(tmp_path, monkeypatch, capsys):
    run_page("docs/python.md", tmp_path, monkeypatch)
    said = capsys.readouterr().out
    assert "Multinomial" in said and "input 'x'" in said


def test_tuner_page(tmp_path, monkeypatch, capsys):
    run_page("docs/tuner.md", tmp_path, monkeypatch)
    assert "measurements" in capsys.readouterr().out


def test_attention_page(tmp_path, monkeypatch):
    run_page("docs/attention.md", tmp_path, monkeypatch)


def test_kernel_library_page(tmp_path, monkeypatch):
    run_page("docs/kernel-library.md", tmp_path, monkeypatch)


def test_readme(tmp_path, monkeypatch):
    import models
    import numpy as np

    _, reference = models.mlp(tmp_path / "model.onnx")
    x = np.ones((2, 33), np.float32)
    done = run_page("README.md", tmp_path, monkeypatch, x=x)
    assert np.allclose(done["outputs"][0], reference(x), atol=1e-4)


def test_a_wrong_example_is_found_out(tmp_path, monkeypatch):
    page = tmp_path / "page.md"
    page.write_text("```python\nassert 1 + 1 == 3\n```\n")
    with pytest.raises(AssertionError):
        run_page(str(page), tmp_path, monkeypatch)
