"""Answers drawn over images, in a browser where there is one."""

from __future__ import annotations

import base64
import http.server
import io
import json
import queue
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from easylearn.placement import palette
from easylearn.serve import app
from easylearn.serve.maps import png_of

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium here to draw in"),
    pytest.mark.skipif(sys.platform != "linux", reason="chromium's flags are those of Linux"),
]
MASK = np.array([[0, 1, 1, 2], [0, 1, 1, 2]], np.uint8).repeat(10, 0).repeat(10, 1)
NASTY = "<b>&amp;'"
PAGE = """<!doctype html><body><script type="module">
const make = (tag, more = {}, ...children) => {
  const node = Object.assign(document.createElement(tag), more);
  node.append(...children);
  return node;
};
SCRIPT
const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
for (const { id, said, about, file, act } of CASES) {
  const node = make("section", { id }, ...(await drawn(said, about, new Blob([bytes(file)]), make)));
  document.body.append(node);
  if (act) eval(act)(node);
  const canvas = node.querySelector("canvas");
  if (canvas) {
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    node.append(make("pre", { textContent: JSON.stringify([canvas.width, canvas.height, ...data]) }));
  }
}
document.body.append(make("p", { id: "end" }));
</script></body>"""


def text_of(file: bytes) -> str:
    return base64.b64encode(file).decode()


def cases() -> list[dict[str, Any]]:
    held = io.BytesIO()
    Image.fromarray(np.full((20, 40, 3), 200, np.uint8)).save(held, "PNG")
    names, shares, photo = ["sky", "road", NASTY], {"sky": 0.25, "road": 0.5, NASTY: 0.25}, text_of(held.getvalue())
    about = {"colours": palette(3).tolist(), "task": {"kind": "masks", "names": names}}
    mask = {"label": ["road", "sky", NASTY], "probs": shares, "mask": text_of(png_of(MASK))}
    local = {**mask, "mask": {"width": 40, "height": 20, "data": MASK.reshape(-1).tolist()}}
    boxes = [{"label": NASTY, "score": 0.9, "xmin": 10, "ymin": 5, "xmax": 30, "ymax": 20},
             {"label": "sky", "score": 0.4, "xmin": 0, "ymin": 0, "xmax": 4, "ymax": 4}]  # fmt: skip
    found = {"label": [NASTY, "sky"], "values": {"sky": 1.0, "road": 0.0, NASTY: 1.0}, "boxes": boxes}
    of = {"colours": about["colours"], "task": {"kind": "boxes", "names": names, "threshold": 0.3}}
    none = {"label": [], "values": dict.fromkeys(names, 0.0), "boxes": []}
    slide = "(node) => { const s = node.querySelector('[type=range]'); s.value = 50; s.oninput(); }"
    hide = "(node) => node.querySelector('[type=checkbox]').click()"
    all_of_them = [
        ("mask", mask, about, photo, ""), ("hidden", mask, about, photo, hide), ("local", local, about, photo, ""),
        ("alone", mask, about, text_of(b"TIFF, say"), ""), ("boxes", found, of, photo, slide),
        ("unseen", found, of, text_of(b"TIFF, say"), ""), ("none", none, of, photo, ""),
        ("made", {"label": "image", "values": {}, "image": photo}, {"task": {"kind": "image"}}, photo, ""),
        ("badmask", {**mask, "mask": text_of(b"no PNG")}, about, photo, ""),
        ("badmade", {"label": "image", "image": text_of(b"no PNG")}, {"task": {"kind": "image"}}, photo, ""),
    ]  # fmt: skip
    return [dict(zip(("id", "said", "about", "file", "act"), case, strict=True)) for case in all_of_them]


@pytest.fixture(scope="module")
def sections(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What the browser shows of each case."""
    folder = tmp_path_factory.mktemp("drawn")
    script = (Path(app.__file__).parent / "page.drawn.js").read_text("utf-8").replace("export const", "const")
    page = PAGE.replace("SCRIPT", script).replace("CASES", json.dumps(cases()).replace("<", "\\u003c"))
    return dict(re.findall(r'<section id="(\w+)">(.*?)</section>', shown(page, folder), re.DOTALL))


SENT = """<script>
const wait = setInterval(() => {
  if (!document.getElementById("end")) return;
  clearInterval(wait);
  fetch("/", { method: "POST", body: document.documentElement.outerHTML });
}, 50);
</script>"""


def shown(page: str, folder: Path) -> str:
    """What a browser has of a page when its scripts are done, of which the page itself knows best."""
    said: queue.Queue[str] = queue.Queue()
    page = page.replace("</body>", f"{SENT}</body>")

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/" else 404)
            self.send_header("content-type", "text/html; charset=utf-8")
            self.end_headers()
            self.wfile.write(page.encode() if self.path == "/" else b"")

        def do_POST(self) -> None:
            said.put(self.rfile.read(int(self.headers["content-length"])).decode())
            self.send_response(204)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        flags = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}"]
        address = f"http://127.0.0.1:{server.server_port}/"
        browser = subprocess.Popen(
            [str(CHROMIUM), *flags, "--remote-debugging-port=0", address], stderr=subprocess.DEVNULL
        )
        try:
            return said.get(timeout=240)
        finally:
            browser.terminate()
            browser.wait(300)
            server.shutdown()


def rgba(section: str) -> np.ndarray:
    width, height, *data = json.loads(section.partition("<pre>")[2].partition("</pre>")[0])
    return np.array(data).reshape(height, width, 4)


@pytest.mark.parametrize("name", ["mask", "local", "alone"])
def test_a_mask_has_its_colours_and_shares(name: str, sections: dict[str, str]) -> None:
    found = sections[name]
    assert np.array_equal(rgba(found)[..., :3], palette(3)[MASK]) and (rgba(found)[..., 3] == 255).all()
    assert "<h2>road, sky, &lt;b&gt;&amp;amp;'</h2>" in found and 'role="img"' in found
    assert re.findall(r"<b>([^<]+)</b>", found) == ["50 %", "25 %", "25 %"]
    assert found.count('type="checkbox"') == 3 and found.count('type="range"') == 1
    assert ("<img" in found) == (name != "alone") and ("mask.png" in found) == (name != "local")
    assert f"opacity: {1 if name == 'alone' else 0.5}" in found


def test_a_class_is_left_out(sections: dict[str, str]) -> None:
    alpha = rgba(sections["hidden"])[..., 3]
    assert np.array_equal(alpha == 0, MASK == 1)


def test_boxes_lie_where_they_are(sections: dict[str, str]) -> None:
    found = sections["boxes"]
    assert "<h2>2 boxes: sky 1, &lt;b&gt;&amp;amp;' 1</h2>" in found and "Boxes from a score of <output>50 %" in found
    (first,) = re.findall(r'<div class="box"[^>]*left: 25%; top: 25%; width: 50%; height: 75%[^>]*>', found)
    (second,) = re.findall(r'<div class="box top"[^>]*>', found)
    assert 'hidden=""' not in first and 'hidden=""' in second  # less sure than the slider says
    assert "x 10 to 30, y 5 to 20" in found and found.count("<button") == 2
    assert "<img" not in sections["unseen"] and "2 boxes" in sections["unseen"] and "x 10 to 30" in sections["unseen"]
    assert "<h2>No boxes</h2>" in sections["none"] and "<button" not in sections["none"]


def test_an_image_that_was_made_lies_over_its_own(sections: dict[str, str]) -> None:
    assert sections["made"].count("<img") == 2 and "image.png" in sections["made"]


@pytest.mark.parametrize(("name", "file"), [("badmask", "mask.png"), ("badmade", "image.png")])
def test_what_the_browser_cannot_decode_is_told_and_can_be_saved(
    name: str, file: str, sections: dict[str, str]
) -> None:
    found = sections[name]
    assert "cannot decode" in found and f'download="{file}"' in found and "<canvas" not in found
    assert ("road 50 %" in found) == (name == "badmask")


LATE = """<!doctype html><html data-local><body>BODY<script type="module">
const drawn = async (said, about, file, make) => {
  await new Promise((go) => setTimeout(go, said.takes));
  return [make("b", { textContent: `${said.mask} over ${file.name}` })];
};
const waiting = [];
const stub = {
  about: async () => ({ items: "images", name: "m", task: { kind: "masks", names: ["a"] } }),
  predict: (file) => new Promise((come, fail) => waiting.push({ come, fail, file })),
};
SCRIPT
const drop = document.querySelector(".drop"), told = [], pause = () => new Promise((go) => setTimeout(go, 30));
const choose = (name) => {
  const files = [new File(["x"], name, { type: "image/png" })];
  drop.ondrop({ preventDefault() {}, dataTransfer: { files } });
};
const tell = () => told.push([$("answer").textContent, $("go").disabled]);
choose("one"); choose("two");
waiting[1].come({ mask: "two", takes: 0 }); await pause(); tell();
waiting[0].come({ mask: "one", takes: 0 }); await pause(); tell();
choose("three"); choose("four");
waiting[2].fail(new Error("three")); await pause(); tell();
waiting[3].come({ mask: "four", takes: 300 }); await pause();
choose("five");
await new Promise((go) => setTimeout(go, 400)); tell();
waiting[4].come({ mask: "five", takes: 0 }); await pause(); tell();
document.body.append(make("pre", { id: "end", textContent: JSON.stringify(told) }));
</script></body></html>"""


def test_the_answer_on_the_page_is_that_to_what_was_asked_last(tmp_path: Path) -> None:
    here = Path(app.__file__).parent
    script = (here / "page.js").read_text("utf-8").replace('import { drawn } from "./page.drawn.js";', "")
    script = script.replace('(await import("./local.js")).backend', "stub")
    body = (here / "page.html").read_text("utf-8").partition("<body>")[2].partition("<script")[0]
    dom = shown(LATE.replace("BODY", body).replace("SCRIPT", script), tmp_path)
    told = json.loads(dom.partition('<pre id="end">')[2].partition("</pre>")[0])
    two = "two over two"
    assert told == [[two, False], [two, False], [two, True], [two, True], ["five over five", False]]
