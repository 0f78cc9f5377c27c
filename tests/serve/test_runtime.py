"""The second distribution: a part of the modules here, which needs neither torch nor pandas."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.learners import boxes, masks

RUNTIME = Path(__file__).resolve().parents[2] / "easylearn" / "runtime"
# What must not be there is refused before anything else is imported.
_ASK = """
import asyncio, json, sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in "torch pandas torchvision sklearn safetensors easylearn tokenizers".split():
            raise ImportError(f"{name} is not there")
sys.meta_path.insert(0, Absent())
sys.path[:0] = sys.argv[1:3]
from easylearn_runtime import asgi
from asking import ask, photo
from pathlib import Path
files = Path(sys.argv[3])
app = asgi({n: files / f"{n}.onnx" for n in ("images", "table", "ratings", "text", "histories", "masks", "boxes")})
said = [
    ask(app, "/predict/images", photo(1), "image/jpeg"), ask(app, "/predict/table", {"a": 0.5, "b": "x", "c": 1}),
    ask(app, "/predict/ratings", {"user": 1, "item": 2}), ask(app, "/predict/text", b"a good film", "text/plain"),
    ask(app, "/predict/histories", {"history": ["i1", "i4"]}),
]
drawn = ask(app, "/predict/masks", photo(1), "image/jpeg", accept="image/png").body[:4].decode("latin-1")
boxes = ask(app, "/predict/boxes", photo(1), "image/jpeg").said["boxes"]
print(json.dumps([*(a.said["label"] for a in said), drawn, boxes]))
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runtime")
    command = [sys.executable, "setup.py", "-q", "egg_info", "-e", str(out), "build_py", "--build-lib", str(out)]
    done = subprocess.run(command, cwd=RUNTIME, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return out


def test_it_serves_without_torch_and_pandas(built: Path, files: Path, learners) -> None:
    here = str(Path(__file__).parent)
    for make in (masks, boxes):
        make(progress=False, device="cpu").export(files / f"{make.__name__}.onnx", format="onnx")
    done = subprocess.run([sys.executable, "-c", _ASK, str(built), here, str(files)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    image, row, rating, text, person, drawn, found = json.loads(done.stdout)
    from tests.serve.asking import photo

    assert image == learners["images"].predict(photo(1)).label
    assert row == pytest.approx(float(learners["table"].predict({"a": 0.5, "b": "x", "c": 1}).probs[0]), abs=1e-5)
    assert rating == pytest.approx(float(learners["ratings"].predict({"user": 1, "item": 2}).probs[0]), abs=1e-4)
    assert text == learners["text"].predict("a good film").label
    assert drawn == "\x89PNG" and isinstance(found, list)
    assert person == list(learners["histories"].predict(["i1", "i4"]).label)


def test_its_version_is_ours(built: Path) -> None:
    import easylearn

    assert f'__version__ = "{easylearn.__version__}"' in (built / "easylearn_runtime" / "__init__.py").read_text()
    assert f'version = "{easylearn.__version__}"' in (RUNTIME / "pyproject.toml").read_text()
