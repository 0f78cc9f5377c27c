from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from easylearn.experiment import leases
from easylearn.experiment.leases import Leases
from easylearn.experiment.lines import line_of


def claim(folder: Path, name: str, **owner: object) -> Path:
    path = folder / name
    path.write_text(line_of({"machine": leases._machine(), "pid": os.getpid(), "started": "1", "at": 0, **owner}))
    return path


def test_a_claim_is_one_workers(tmp_path: Path) -> None:
    one, other = Leases(tmp_path), Leases(tmp_path)
    assert one.take("7")
    assert not other.take("7") and not one.take("7")
    assert other.take("8")
    one.give_back("7")
    assert other.take("7")
    assert not one.take("7")
    one.close()
    other.close()
    assert one.take("7") and one.take("8")
    one.close()


def test_what_was_done_stays_claimed_while_its_process_lives(tmp_path: Path) -> None:
    one = Leases(tmp_path)
    assert one.take("7")
    one.done("7")
    assert not Leases(tmp_path).take("7")


def test_the_claim_of_a_dead_process_is_nobodys(tmp_path: Path) -> None:
    code = "import sys; from pathlib import Path; from easylearn.experiment.leases import Leases; "
    code += f"assert Leases(Path({str(tmp_path)!r})).take('7'); import os; os._exit(9)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 9
    one = Leases(tmp_path)
    assert (tmp_path / "7.0").exists()
    assert one.take("7") and not one.is_lost("7")
    one.close()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the system does not say when a process began")
def test_another_process_of_the_same_number_is_no_owner(tmp_path: Path) -> None:
    claim(tmp_path, "7.0", started="1")
    assert Leases(tmp_path).take("7")


def test_a_claim_from_another_machine_lasts_as_long_as_it_is_renewed(tmp_path: Path) -> None:
    path = claim(tmp_path, "7.0", machine="elsewhere")
    assert not Leases(tmp_path, seconds=600).take("7")
    old = time.time() - 1200
    os.utime(path, (old, old))
    assert not Leases(tmp_path, seconds=6000).take("7")
    assert Leases(tmp_path, seconds=600).take("7")


def test_a_worker_that_seemed_dead_hears_of_it(tmp_path: Path) -> None:
    one = Leases(tmp_path)
    assert one.take("7") and not one.is_lost("7")
    claim(tmp_path, "7.1", machine="elsewhere")
    assert one.is_lost("7")


def test_claims_are_renewed(tmp_path: Path) -> None:
    one = Leases(tmp_path, seconds=0.2)
    assert one.take("7")
    old = time.time() - 100
    os.utime(tmp_path / "7.0", (old, old))
    deadline = time.monotonic() + 60
    while (tmp_path / "7.0").stat().st_mtime < old + 50 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert (tmp_path / "7.0").stat().st_mtime > old + 50
    one.close()
