"""Check's verdicts on the graph beside those of the checker that docs/proofs proves and extracts: random programs fused by
hand, with and without planted lies (test/unit/CheckRandom)."""
import os
import shutil
import subprocess

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PROGRAMS = int(os.environ.get("DLC_PROVED_PROGRAMS", "60"))


def verdict_of(line):
    """'ACCEPT FILE' or 'REFUSE FILE C-NAME what' as (file, 'ACCEPT' or 'REFUSE', name)."""
    words = line.split()
    return words[1], words[0], words[2] if words[0] == "REFUSE" else ""


@pytest.fixture(scope="module")
def dumps(tmp_path_factory):
    for tool in ("coqc", "ocamlopt"):
        if not shutil.which(tool):
            pytest.skip(f"no {tool}: Debian's coq and ocaml-nox are not installed")
    program = os.path.join(ROOT, "build/test/unit/CheckRandomTests")
    if not os.path.exists(program):
        pytest.skip("CheckRandomTests is not built")
    folder = tmp_path_factory.mktemp("groups")
    environment = dict(os.environ, DLC_RANDOM_DAGS=str(PROGRAMS), DLC_DUMP_GROUPS=str(folder))
    subprocess.run([program], env=environment, check=True, stdout=subprocess.DEVNULL, timeout=600)
    return folder


def run_proved(files):
    """The proved checker's verdicts by file name."""
    done = subprocess.run([os.path.join(ROOT, "utils/fusion-check.sh"), *files], capture_output=True, text=True, timeout=1200)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    verdicts = {}
    for line in done.stdout.splitlines():
        name, answer, condition = verdict_of(line)
        verdicts[os.path.basename(name)] = (answer, condition)
    return verdicts


def test_both_checkers_agree(dumps):
    files = sorted(str(path) for path in dumps.iterdir())
    assert len(files) > 2 * PROGRAMS
    verdicts = run_proved(files)
    refused = 0
    for file in files:
        with open(file) as text:
            expected = text.read().splitlines()[-1].split()[1:]  # "# ACCEPT", "# REFUSE C-NAME"
        answer, condition = verdicts[os.path.basename(file)]
        assert answer == expected[0], f"{file}: Check says {' '.join(expected)}, the proved checker {answer} {condition}"
        refused += answer == "REFUSE"
    assert refused > 5, "no lie about the graph was among them"


def test_a_dump_that_is_changed_is_refused(dumps, tmp_path):
    """The negative control of the comparison: a keep that is lost."""
    for path in sorted(dumps.iterdir()):
        lines = path.read_text().splitlines()
        # A group that keeps two values, of which the second is what @main returns.
        for i, line in enumerate(lines):
            words = line.split()
            if words[0] == "keep" and len(words) > 2 and f"output {words[-1]}" in lines:
                lines[i] = " ".join(words[:-1])
                changed = tmp_path / "changed.groups"
                changed.write_text("\n".join(lines) + "\n")
                assert run_proved([str(changed)])["changed.groups"] == ("REFUSE", "C-LIVE")
                return
    pytest.fail("no group with two results")
