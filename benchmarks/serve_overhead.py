"""What a durable POST /v1/generate costs beside a bare FastAPI POST, over an idle model.

    python -m benchmarks.serve_overhead [PYTHON-WITH-LITSERVE]

Every server is a process of its own with one uvicorn worker; 1, 16 and 64 connections that are kept
send to it from this process, whose time is not counted. CPU of the server's processes a request,
in turns; ratios are ours over the bare one's, the median of the rounds with the lowest and the
highest. A job of ours is committed and synced before its answer. LitServe is measured beside where
a Python that has it is named: it answers from its model and keeps nothing. Then the error of the
ETAs: jobs of three sizes through the real store, with the times of a model that strays by a tenth,
on a virtual clock. Ends with 1 where a figure is missed.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

import psutil

CLIENTS, ROUNDS, SENT = (1, 16, 64), 3, {1: 300, 16: 1200, 64: 1600}
MOST_RATIO, FEWEST_A_COMMIT, MOST_ERROR = 2.5, 8.0, 0.25
BODY = json.dumps({"prompt": "a red cube", "num_inference_steps": 4}).encode()
_LITSERVE = """
import sys, litserve
class Model(litserve.LitAPI):
    def setup(self, device): pass
    def decode_request(self, request): return request["prompt"]
    def predict(self, x): return x
    def encode_response(self, output): return {"job_id": output, "status": "queued"}
if __name__ == "__main__":
    server = litserve.LitServer(Model(api_path="/v1/generate"), accelerator="cpu")
    server.run(host="127.0.0.1", port=int(sys.argv[1]), log_level="error",
               generate_client_file=False)
"""


class Server:
    """A server's process; `command` is given a free port."""

    def __init__(self, command: list[str]):
        self.port = _free_port()
        self.process = subprocess.Popen(
            [*command, str(self.port)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip

    def cpu(self) -> float:
        """Seconds of all its processes."""
        top = psutil.Process(self.process.pid)
        return sum(sum(one.cpu_times()[:2]) for one in (top, *top.children(recursive=True)))

    def commits(self) -> int:
        """How many there were; 0 of a server that has none."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def end(self) -> None:
        """With all that it began."""
        top = psutil.Process(self.process.pid)
        for one in (*top.children(recursive=True), top):
            one.kill()
        self.process.wait()


def _free_port() -> int:
    import socket

    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        return int(made.getsockname()[1])


async def send(port: int, clients: int, count: int) -> None:
    """So many requests over so many connections. Raises RuntimeError for a refusal."""
    head = (
        f"POST /v1/generate HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\naccept: application/json\r\n"
        f"content-type: application/json\r\ncontent-length: {len(BODY)}\r\n\r\n"
    )
    asked = head.encode() + BODY

    async def one(times: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(times):
            writer.write(asked)
            answer = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = int(answer.partition(b"content-length:")[2].split()[0])
            body = await reader.readexactly(length)
            if not answer.startswith((b"http/1.1 202", b"http/1.1 200")):
                raise RuntimeError(f"{answer!r} {body!r}")
        writer.close()

    await asyncio.gather(*(one(count // clients) for _ in range(clients)))


async def begun(port: int) -> None:
    """When it answers, and has warmed up. Raises TimeoutError."""
    async with asyncio.timeout(60):
        while True:
            try:
                await send(port, 4, 100)
                return
            except OSError:
                await asyncio.sleep(0.1)


def measured(command: list[str], clients: int, counts: bool) -> tuple[float, float]:
    """CPU seconds a request, and jobs a commit."""
    server, count = Server(command), SENT[clients]
    try:
        asyncio.run(begun(server.port))
        commits, before = server.commits() if counts else 0, server.cpu()
        asyncio.run(send(server.port, clients, count))
        took = server.cpu() - before
        made = server.commits() - commits if counts else 0
        return took / count, count / made if made else 0.0
    finally:
        server.end()


def posts(litserve: str) -> bool:
    """A line for each number of clients; whether the figures are held."""
    here = [sys.executable, "-m", "benchmarks.serve_overhead_servers"]
    kinds = {"bare": [*here, "bare"], "ours": [*here, "ours"]}
    held = True
    with tempfile.TemporaryDirectory() as folder:
        if litserve:
            (Path(folder) / "lit.py").write_text(_LITSERVE)
            kinds["litserve"] = [litserve, str(Path(folder) / "lit.py")]
        for clients in CLIENTS:
            took: dict[str, list[tuple[float, float]]] = {kind: [] for kind in kinds}
            for _ in range(ROUNDS):
                for kind, command in kinds.items():
                    took[kind].append(measured(command, clients, kind == "ours"))
            held = line(clients, took) and held
    return held


def line(clients: int, took: dict[str, list[tuple[float, float]]]) -> bool:
    """Print what was measured at so many clients; whether it is held."""
    each = {kind: median(cpu for cpu, _ in rows) * 1e6 for kind, rows in took.items()}
    ratios = [a[0] / b[0] for a, b in zip(took["ours"], took["bare"], strict=True)]
    jobs = median(count for _, count in took["ours"])
    held = not (clients == 16 and median(ratios) > MOST_RATIO)
    held = held and not (clients == 64 and jobs < FEWEST_A_COMMIT)
    floors = {16: f"held to {MOST_RATIO}", 64: f"jobs a commit held to {FEWEST_A_COMMIT:.0f}"}
    ends = f"  {floors[clients]}: {'yes' if held else 'no'}" if clients in floors else ""
    print(
        f"{clients:>3} clients  "
        + ", ".join(f"{kind} {value:.0f} us" for kind, value in each.items())
        + f"  ours over bare {median(ratios):.2f} ({min(ratios):.2f}..{max(ratios):.2f})"
        f", {jobs:.1f} jobs a commit{ends}",
        flush=True,
    )
    return held


def main() -> int:
    from benchmarks.serve_overhead_servers import eta_errors

    litserve = next(iter(sys.argv[1:]), "")
    held = posts(litserve)
    if not litserve:
        print("LitServe: no Python that has it was named")
    each = [eta_errors(seed) for seed in range(ROUNDS)]
    errors, shares = [error for error, _ in each], [share for _, share in each]
    right = median(errors) <= MOST_ERROR
    print(
        f"median error of ETAs {median(errors):.2f} ({min(errors):.2f}..{max(errors):.2f})"
        f"  held to {MOST_ERROR}: {'yes' if right else 'no'}"
    )
    print(
        f"done within the 80th percentile that was told: {median(shares):.2f} "
        f"({min(shares):.2f}..{max(shares):.2f})"
    )
    return 0 if held and right else 1


if __name__ == "__main__":
    sys.exit(main())
