"""A table in an object store, ten times larger than what may be kept of it: bytes fetched, memory, and going on.

    pip install "easylearn[remote]" "moto[server]"
    python examples/benchmarks/object_store.py

A store of its own runs on this machine (moto, loopback) behind a proxy that counts what it sends. Two processes train
for an epoch and a half and stop; one goes on to the end of the third; another run of one is not interrupted. Both must
end with the same weights.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

KEYS = {"AWS_ACCESS_KEY_ID": "none", "AWS_SECRET_ACCESS_KEY": "none", "AWS_EC2_METADATA_DISABLED": "true"}
COLUMNS, FILES, EPOCHS = 10, 4, 3


class Proxy:
    """Passes on to a port what comes to another one, and counts what it sends back; a third port tells the count."""

    def __init__(self, to: int, port: int, tells: int) -> None:
        self.to, self.port, self.tells, self.sent = to, port, tells, 0
        threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True).start()

    async def _run(self) -> None:
        async with await asyncio.start_server(self._serve, "127.0.0.1", self.port) as one:
            async with await asyncio.start_server(self._tell, "127.0.0.1", self.tells) as two:
                await asyncio.gather(one.serve_forever(), two.serve_forever())

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_store, to_store = await asyncio.open_connection("127.0.0.1", self.to)
        await asyncio.gather(self._pipe(reader, to_store, False), self._pipe(from_store, writer, True))

    async def _pipe(self, source: asyncio.StreamReader, target: asyncio.StreamWriter, counts: bool) -> None:
        try:
            while data := await source.read(2**18):
                self.sent += len(data) * counts
                target.write(data)
                await target.drain()
        except OSError:
            pass
        finally:
            target.close()

    async def _tell(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(str(self.sent).encode())
        await writer.drain()
        writer.close()


def sent(tells: int) -> float:
    """Megabytes that the store has sent so far."""
    with socket.create_connection(("127.0.0.1", tells)) as connection:
        return int(connection.recv(64)) / 1e6


def resident() -> float:
    """Megabytes of memory of this process (Linux)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def put_table(port: int, rows: int, group: int) -> float:
    """Write the table into the store; its megabytes."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    def put(key: str, data: bytes) -> None:
        kind = {"Content-Type": "application/octet-stream"}
        request = urllib.request.Request(f"http://127.0.0.1:{port}/{key}", data, kind, method="PUT")
        urllib.request.urlopen(request).close()

    put("bucket", b"")
    total = 0
    for k in range(FILES):
        r, n = np.random.default_rng(k), rows // FILES
        columns = {f"c{i}": r.random(n) for i in range(COLUMNS)}
        columns["y"] = columns["c0"] + 0.1 * r.random(n)
        out = pa.BufferOutputStream()
        pq.write_table(pa.table(columns), out, row_group_size=group)
        data = out.getvalue().to_pybytes()
        put(f"bucket/table/{k}.parquet", data)
        total += len(data)
    return total / 1e6


def train(url: str, tells: int, cache: int, until: int, folder: str) -> None:
    """What each process does; `until` is the step after which it stops, 0 for the end."""
    import torch

    from easylearn import Pause, TabularData, tabular_learner
    from easylearn.files import digest
    from easylearn.train.callback import Callback

    torch.set_num_threads(1)

    class Tell(Callback):
        def on_epoch_begin(self, run: Any) -> None:
            print(f"   process {run.strategy.rank}, step {run.step}: {resident():.0f} MB here, {sent(tells):.1f} sent")

        def on_batch_end(self, run: Any) -> None:
            if run.step == until:
                run.stop_reason = Pause("halfway")

    names = [f"c{i}" for i in range(COLUMNS)]
    data = TabularData.from_parquet(
        url, "y", valid=None, stream=True, cache=cache, buffer_rows=2**15, batch_size=1024, cont_names=names,
        cat_names=[],
    )  # fmt: skip
    learn = tabular_learner(data, [16], lanes=2, device="cpu", progress=False, callbacks=[Tell()])
    learn.fit(1e-3, EPOCHS, checkpoint=folder, every=200, go_on=True)
    weights = [v.contiguous().view(-1).view(torch.uint8).numpy().data for v in learn.model.state_dict().values()]
    print(f"   process {learn.strategy.rank} of {learn.strategy.world}: weights {digest(weights)[:12]}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Train on a table in an object store.")
    parser.add_argument("--rows", type=int, default=400_000)
    parser.add_argument("--quick", action="store_true", help="a tenth of the rows")
    args = parser.parse_args()
    rows = args.rows // 10 if args.quick else args.rows
    from easylearn import launch

    store, port, tells = free_port(), free_port(), free_port()
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(store)], stderr=subprocess.DEVNULL
    )
    Proxy(store, port, tells)
    try:
        for _ in range(100):
            time.sleep(0.3)
            try:
                socket.create_connection(("127.0.0.1", store)).close()
                break
            except OSError:
                continue
        size = put_table(store, rows, max(rows // 100, 100))
        with tempfile.TemporaryDirectory() as folder:
            os.environ.update(KEYS, EASYLEARN_CACHE=str(Path(folder, "cache")))
            url = f"s3://bucket/table?endpoint_override=127.0.0.1:{port}&scheme=http&region=us-east-1"
            steps, cache = -(-rows // 1024), int(size * 1e5)
            print(f"{size:.1f} MB, of which {size * COLUMNS / (COLUMNS + 1):.1f} are read in an epoch; {cache:,} kept")
            for world, until, name in ((2, steps * 3 // 2, "a"), (1, 0, "a"), (1, 0, "b")):
                what = f"to step {until}" if until else "to the end"
                print(f"{world} process{'es' * (world > 1)}, run {name}, {what}", flush=True)
                launch(train, world, url, tells, cache, until, str(Path(folder, name)))
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    main()
