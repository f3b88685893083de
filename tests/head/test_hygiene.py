"""`advisor recommend --json` is quick because of what it never imports."""

import resource
import subprocess
import sys

import pytest

HEAVY = ("textual", "rich", "llama_cpp", "ollama", "huggingface_hub", "numpy", "httpx", "gguf", "torch", "starlette")
LISTING = """
import sys
from advisor.cli import run
code = run(sys.argv[1:])
print("\\n" + " ".join(sorted({name.partition(".")[0] for name in sys.modules})), file=sys.stderr)
sys.exit(code)
"""


@pytest.mark.parametrize("where", [["--simulate", "RTX 4090, 64GB"], []])
def test_recommend_imports_no_runtime_and_no_tui(where: list[str]) -> None:
    command = [sys.executable, "-c", LISTING, "recommend", "--json", "--use-case", "mobile", *where]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr
    imported = set(result.stderr.splitlines()[-1].split())
    assert "advisor" in imported
    assert not imported & set(HEAVY)


def best_of(command: list[str], count: int = 5) -> float:
    """Seconds of a processor, warm: the best of a few, without the time that others had it."""
    times = []
    for _ in range(count):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, capture_output=True, check=True, timeout=60)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(times)


def test_recommend_takes_few_interpreter_starts(capsys: pytest.CaptureFixture[str]) -> None:
    """Well under a quarter of a second on a usual machine; stated as a ratio, because machines differ."""
    bare = best_of([sys.executable, "-c", "pass"])
    spec = ["--simulate", "RTX 4090, 64GB"]
    full = best_of([sys.executable, "-m", "advisor", "recommend", "--json", *spec])
    with capsys.disabled():
        print(f"\nrecommend --json: {full * 1000:.0f} ms of a processor, {full / bare:.1f} times the bare interpreter")
    assert full / bare < 25
