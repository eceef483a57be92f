"""`falgate demo`: from nothing, again and again; and the calls of the README and docs/ against one that stays."""

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cli.commands import FALGATE, environment, falgate
from tests.embedded.owners import descendants, wait_for

ROOT = Path(__file__).parent.parent.parent
PAGES = ("README.md", "docs/accounting.md", "docs/operating.md")
BLOCK = re.compile(r"^```sh journey\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BASH = "set -euo pipefail\nset -x\n"


def test_twice_in_a_folder_with_a_space(tmp_path: Path) -> None:
    """What is set around it does not matter: this is play money."""
    folder = tmp_path / "my films"
    folder.mkdir()
    (folder / ".env").write_text("NOT_OURS=1\n")
    elsewhere = {"FAL_KEY": "canary:real", "DATABASE_URL": "postgresql://nowhere.invalid/x", "TIMEZONE": "Asia/Tokyo"}
    first = falgate("demo", "--speed", "10", folder=folder, **elsewhere)
    assert first.code == 0, first
    for kind in ("text-to-video", "image-to-video"):
        video = folder / "data" / "demo" / f"{kind}.mp4"
        assert video.read_bytes()[4:8] == b"ftyp"
        assert video.as_uri() in first.out
        assert re.search(rf"{kind} +1\.40 USD for 5 s: 1\.40 promised, 1\.40 charged\n", first.out)
        statuses = re.findall(rf" s  {kind} +([a-z]+)", first.out)
        assert (statuses[0], statuses[-1]) == ("queued", "succeeded")
    assert "before      70.00 USD left of 70.00 a day" in first.out
    assert "after       67.20 USD left of 70.00 a day (2.80 used, 0.00 held)" in first.out
    assert "the ledger agrees" in first.out
    assert first.err == ""
    second = falgate("demo", "--speed", "10", folder=folder)
    assert second.code == 0, second
    assert "after       64.40 USD left" in second.out
    play = falgate("audit", "--embedded", folder=_without_env(folder), FAL_KEY="sandbox")
    assert play.out == "the ledger agrees\n", play


def _without_env(folder: Path) -> Path:
    (folder / ".env").unlink()
    return folder


@contextmanager
def staying(folder: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A demo that stays, and everything it said until it had nothing more to say."""
    said = ""
    command = [FALGATE, "demo", "--stay", "--port", "0", "--speed", "40"]
    with subprocess.Popen(command, cwd=folder, env=environment(), stdout=subprocess.PIPE, text=True) as popen:
        try:
            for line in popen.stdout or ():
                said += line
                if "export URL=" in line:
                    break
            yield popen, said
        finally:
            popen.kill()


@pytest.mark.skipif(not shutil.which("curl"), reason="the README's calls are made with curl")
def test_the_calls_of_the_readme_and_of_make_run_work(tmp_path: Path) -> None:
    """Twice, each page by itself: they make what they need under names of their own."""
    blocks = {page: BLOCK.findall((ROOT / page).read_text()) for page in PAGES}
    assert all(blocks.values())
    (tmp_path / ".curlrc").write_text("fail-with-body\n")
    with staying(tmp_path) as (popen, said):
        pasted = said[said.index("  curl") :].replace("And this,", "# And this,")
        done = subprocess.run(
            ["bash"],
            input="\n".join([BASH + pasted, *(_by_itself(page * 2) for page in blocks.values())]),
            cwd=tmp_path,
            env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert re.search(r'"status" ?: ?"succeeded"', done.stdout)
        assert "event: job" in done.stdout
        assert re.search(r'"cancel_requested_at" ?: ?"|"status" ?: ?"canceled"', done.stdout)
        assert '"kind":"hold"' in done.stdout.replace(" ", "")
        assert '"key.rotated"' in done.stdout
        below = descendants(popen.pid)
        popen.send_signal(signal.SIGINT)
        assert popen.wait(30) == 0
        wait_for(lambda: not any(process.is_alive() for process in below))


def _by_itself(blocks: list[str]) -> str:
    """A shell of its own, which knows what `make run` exports and nothing of another page."""
    return "(\n" + "\n".join(blocks) + "\n)"
