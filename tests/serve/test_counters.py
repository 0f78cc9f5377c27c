"""Counters of several processes add up, also after one of them began anew, and read as Prometheus wants."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from easylearn.errors import StateError
from easylearn.serve.counters import BOUNDS, Counters

_WRITE = """
import sys
from pathlib import Path
from easylearn.serve.counters import Counters
counters = Counters(Path(sys.argv[1]), 2, 1)
for _ in range(5):
    counters.observe(200, 0.02)
"""


def test_workers_add_up(tmp_path: Path) -> None:
    path = tmp_path / "counters"
    mine = Counters(path, 2, 0)
    mine.observe(503, 20.0)
    mine.observe(418, 0.0001)
    for _ in range(2):  # a worker, and the one that was started after it
        subprocess.run([sys.executable, "-c", _WRITE, str(path)], check=True)
    assert (mine.total("requests"), mine.get("requests", 1)) == (12, 10)
    text = mine.text({"m": "0123456789abcdef"})
    assert 'easylearn_requests_total{status="200"} 10' in text
    assert 'easylearn_requests_total{status="500"} 1' in text  # a status that has no place of its own
    assert 'easylearn_model_info{model="m",version="0123456789ab"} 1' in text
    buckets = [float(n) for n in re.findall(r'bucket\{le="[^"]+"\} (\d+)', text)]
    assert buckets == sorted(buckets)
    assert (len(buckets), buckets[-1]) == (len(BOUNDS) + 1, 12)
    for line in text.splitlines():
        assert re.fullmatch(r"# (HELP|TYPE) \w+ .+|easylearn_\w+(\{[^}]*\})? \S+", line), line


def test_requests_that_were_answered_alike_are_counted_together() -> None:
    one, many = Counters(None, 1), Counters(None, 1)
    for _ in range(7):
        one.observe(503, 0.25)
    many.observe(503, 0.25, 7)
    assert many.text({}) == one.text({}) and many.total("requests") == 7


def test_where_there_is_no_room_for_counters_it_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    places = [(tmp_path / "file" / "counters", "Not a directory")]
    if os.path.exists("/dev/full"):  # of which every write says that the disk is full
        places.append((Path("/dev/full"), "No space"))
    for path, why in places:
        with pytest.raises(StateError, match=f"{re.escape(str(path))} .*{why}.*TMPDIR"):
            Counters(path, 2)


def test_names_of_models_are_escaped() -> None:
    text = Counters(None, 1).text({'a"b\\c\nd': "0" * 20})
    assert 'model="a\\"b\\\\c\\nd",version="000000000000"' in text


def test_a_file_that_is_written_to_does_not_look_old(tmp_path: Path) -> None:
    path = tmp_path / "counters"
    counters = Counters(path, 1)
    os.utime(path, (0, 0))
    counters.beat()
    assert path.stat().st_mtime > time.time() - 100
    path.unlink()
    counters.beat()  # whoever removed it ends no worker
    assert counters.get("alive", 0) > 0
