"""Times the copy engine against its peers, interleaved, between two real registries.

Started by hack/bench/copy.
"""

import argparse
import json
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from hack.bench.floor import push_from_memory, read_to_nothing
from tests.contracts.distribution import Distribution, run_distribution
from tests.simulators import images
from tests.simulators.images import Blob, Image

MB = 1_000_000
KB = 1_000
PARALLEL_PEERS = 4
"""Processes of a peer that copy a fleet."""

WARM_UP = "bench/warm-up"
WARM_UP_LAYERS = 12


@dataclass(frozen=True)
class Case:
    """What is copied.

    Attributes:
        images: Repository at the source to image.
        before: "nothing", "elsewhere" (the same blobs are in another repository) or "there" (the image is).
        repeats: Of each round; what takes a fraction of a second is moved most by what the disk just does.
    """

    name: str
    images: dict[str, Image]
    before: str = "nothing"
    repeats: int = 1

    @property
    def blobs(self) -> list[tuple[str, Blob]]:
        """Every distinct blob with a repository that holds it."""
        found = {blob.digest: (name, blob) for name, image in self.images.items() for blob in image.blobs}
        return list(found.values())


def cases() -> dict[str, Case]:
    """Make all cases."""
    large = images.unpackable([images.archive(40 * MB, f"large{n}") for n in range(6)])
    many = images.unpackable([images.archive(1 * MB, f"many{n}") for n in range(40)])
    small = images.unpackable([images.archive(200 * KB, f"small{n}") for n in range(4)])
    shared = [images.archive(2 * MB, f"shared{n}") for n in range(5)]
    fleet = {
        f"fleet/app{m}": images.unpackable(
            [*shared, *(images.archive(500 * KB, f"app{m}-{n}") for n in range(3))]
        )
        for m in range(30)
    }
    found = [
        Case("large", {"bench/large": large}),
        Case("many", {"bench/many": many}, repeats=3),
        Case("small", {"bench/small": small}, repeats=3),
        Case("warm", {"bench/many": many}, before="elsewhere", repeats=3),
        Case("same", {"bench/many": many}, before="there", repeats=3),
        Case("fleet", fleet),
    ]
    return {case.name: case for case in found}


@dataclass
class Registry:
    """One of the two registries, which can be emptied."""

    running: Distribution
    log: Path

    def empty(self) -> None:
        """Delete everything; nothing is cached in its memory."""
        shutil.rmtree(self.running.directory / "docker", ignore_errors=True)

    def requests(self) -> int:
        """Count the requests it has answered."""
        return len(re.findall(rb'"(GET|HEAD|POST|PUT|PATCH|DELETE) /v2/', self.log.read_bytes()))


@dataclass
class Result:
    """What the rounds of one case gave."""

    seconds: dict[str, list[float]] = field(default_factory=dict)
    cpu: list[float] = field(default_factory=list)
    peak: list[float] = field(default_factory=list)
    floor: list[float] = field(default_factory=list)
    requests: tuple[int, int] = (0, 0)


class Ours:
    """The engine in a process of its own that goes on running."""

    name = "ours"

    def __init__(self, source: Registry, destination: Registry) -> None:
        addresses = (source.running.address, destination.running.address)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "hack.bench.worker", *addresses],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._source = source
        self.last: dict[str, float] = {}

    def forget(self) -> None:
        """Begin anew with an engine that knows nothing, but has threads and connections as the daemon's."""
        self._ask({"forget": f"{self._source.running.address}/{WARM_UP}:1"})

    def copy(self, names: Sequence[str], target: str) -> float:
        """Copy images to targets named after them, and give the seconds."""
        pairs = [(f"{self._source.running.address}/{name}:1", _target(name, target)) for name in names]
        self.last = self._ask({"copy": pairs})
        return self.last["seconds"]

    def _ask(self, command: dict[str, object]) -> dict[str, float]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        answer: dict[str, float] = json.loads(self._process.stdout.readline())
        return answer

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)


class Peer:
    """Another program, started anew for each image."""

    def __init__(
        self, name: str, source: Registry, destination: Registry, command: Callable[[str, str], list[str]]
    ) -> None:
        self.name = name
        self._source, self._destination, self._command = source, destination, command

    def forget(self) -> None:
        """Do nothing: each of its processes begins anew."""

    def copy(self, names: Sequence[str], target: str) -> float:
        """Copy images to targets named after them, and give the seconds."""
        waiting = [
            self._command(
                f"{self._source.running.address}/{name}:1",
                f"{self._destination.running.address}/{_target(name, target)}:latest",
            )
            for name in names
        ]
        begun = time.perf_counter()
        running: list[subprocess.Popen[bytes]] = []
        while waiting or running:
            while waiting and len(running) < PARALLEL_PEERS:
                running.append(
                    subprocess.Popen(waiting.pop(0), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
                )
            process = running.pop(0)
            _, problem = process.communicate()
            if process.returncode:
                raise RuntimeError(f"{self.name}: {problem.decode()[-300:]}")
        return time.perf_counter() - begun


def _target(name: str, target: str) -> str:
    return f"{target}-{name.replace('/', '-')}"


def peers(source: Registry, destination: Registry) -> list[Peer]:
    """Find the peers that this machine has."""

    def skopeo(reference: str, target: str) -> list[str]:
        flags = ["--src-tls-verify=false", "--dest-tls-verify=false", "--insecure-policy"]
        return ["skopeo", *flags[2:], "copy", *flags[:2], "-q", f"docker://{reference}", f"docker://{target}"]

    def crane(reference: str, target: str) -> list[str]:
        return ["crane", "copy", "--insecure", reference, target]

    def crane_checked(reference: str, target: str) -> list[str]:
        script = 'crane copy --insecure "$1" "$2" && crane validate --insecure --fast --remote "$2"'
        return ["sh", "-c", script, "sh", reference, target]

    def docker(reference: str, target: str) -> list[str]:
        script = (
            'docker pull -q "$1" && docker tag "$1" "$2" && docker push -q "$2" && docker rmi -f "$1" "$2"'
        )
        return ["sh", "-c", script, "sh", reference, target]

    found = [
        Peer(each.__name__, source, destination, each)
        for each in (skopeo, crane)
        if shutil.which(each.__name__)
    ]
    if shutil.which("crane"):
        found.append(Peer("crane-validate", source, destination, crane_checked))
    if (
        shutil.which("docker")
        and not subprocess.run(["docker", "info"], capture_output=True, check=False).returncode
    ):
        found.append(Peer("docker", source, destination, docker))
    return found


@contextmanager
def registries(*, log_requests: bool) -> Iterator[tuple[Registry, Registry]]:
    """Run source and destination."""
    extra = {"log": {"level": "info", "accesslog": {"disabled": False}}} if log_requests else {}
    with tempfile.TemporaryDirectory() as directory, ExitStack() as stack:
        pair = []
        for name in ("source", "destination"):
            path = Path(directory) / name
            path.mkdir()
            pair.append(Registry(stack.enter_context(run_distribution(path, extra=extra)), path / "log"))
        yield pair[0], pair[1]


def fill(source: Registry, case: Case) -> None:
    """Push a case's images to the source."""
    with httpx.Client(base_url=source.running.url, timeout=120.0) as client:
        warm_up = images.image([images.layer(KB, f"warm-up{n}") for n in range(WARM_UP_LAYERS)])
        for name, image in {**case.images, WARM_UP: warm_up}.items():
            images.push_image(client, name, "1", image)


def measure(case: Case, rounds: int, show_progress: Callable[[str], None]) -> Result:
    """Time everybody in turn, several times."""
    result, rounds = Result(), rounds * case.repeats
    with registries(log_requests=False) as (source, destination):
        fill(source, case)
        ours = Ours(source, destination)
        everybody: list[Ours | Peer] = [ours, *peers(source, destination)]
        try:
            for n in range(rounds + 1):  # the first round warms up
                for copier in everybody:
                    seconds = _once(copier, case, destination, n)
                    if n:
                        result.seconds.setdefault(copier.name, []).append(seconds)
                if n:
                    result.cpu.append(ours.last["cpu"])
                    result.peak.append(ours.last["peak"] / 2**20)
                    result.floor.append(_floor(case, source, destination))
                show_progress(f"{case.name}: round {n} of {rounds}")
        finally:
            ours.close()
    result.requests = count_requests(case)
    return result


def _once(copier: "Ours | Peer", case: Case, destination: Registry, n: int) -> float:
    names, target = list(case.images), f"{copier.name}{n}"
    copier.forget()
    destination.empty()
    if case.before != "nothing":
        copier.copy(names, target if case.before == "there" else f"{target}-before")
    return copier.copy(names, target)


def _floor(case: Case, source: Registry, destination: Registry) -> float:
    if case.before != "nothing":
        return 0.0  # nothing has to be moved
    destination.empty()
    return max(
        read_to_nothing(source.running.address, case.blobs),
        push_from_memory(destination.running.address, case.blobs),
    )


def count_requests(case: Case) -> tuple[int, int]:
    """Count the requests of one copy of ours at either registry."""
    with registries(log_requests=True) as (source, destination):
        fill(source, case)
        ours = Ours(source, destination)
        try:
            if case.before != "nothing":
                ours.copy(list(case.images), "a" if case.before == "there" else "b")
            before = source.requests(), destination.requests()
            ours.copy(list(case.images), "a")
        finally:
            ours.close()
        return source.requests() - before[0], destination.requests() - before[1]


def row(case: Case, result: Result) -> dict[str, object]:
    """Sum a case up; ratios are medians of the ratios of each round."""
    times = result.seconds["ours"]
    others = {name: each for name, each in result.seconds.items() if name != "ours"}
    medians = {name: statistics.median(each) for name, each in others.items()}
    best = min(medians, key=lambda name: medians[name], default=None)

    def ratio(other: Sequence[float]) -> float:
        return round(statistics.median(a / b for a, b in zip(times, other, strict=True)), 3)

    has_floor = any(result.floor)
    return {
        "case": case.name,
        "ours_s": round(statistics.median(times), 3),
        "ours_cpu_s": round(statistics.median(result.cpu), 3),
        "ours_peak_rss_mib": round(max(result.peak), 1),
        "requests_source": result.requests[0],
        "requests_destination": result.requests[1],
        "peers": {name: round(each, 3) for name, each in medians.items()},
        "ratios": {name: ratio(each) for name, each in others.items()},
        "ratio_best_peer": None if best is None else ratio(others[best]),
        "floor_s": round(statistics.median(result.floor), 3) if has_floor else None,
        "ratio_floor": ratio(result.floor) if has_floor else None,
    }


def table(rows: Sequence[dict[str, object]]) -> str:
    """Write the rows for people."""
    lines = [
        "case     ours s   cpu s  peak MiB  requests   floor s  /floor   against peers (seconds, ratio)",
    ]
    for each in rows:
        peers_ = ", ".join(
            f"{name} {seconds} → {each['ratios'][name]}"  # type: ignore[index]
            for name, seconds in each["peers"].items()  # type: ignore[attr-defined]
        )
        requests = f"{each['requests_source']}+{each['requests_destination']}"
        floor, ratio = each["floor_s"] or "-", each["ratio_floor"] or "-"
        lines.append(
            f"{each['case']:<8} {each['ours_s']:<8} {each['ours_cpu_s']:<6} {each['ours_peak_rss_mib']:<9} "
            f"{requests:<10} {floor:<8} {ratio:<8} {peers_}"
        )
    return "\n".join(lines)


def main() -> None:
    """Run the cases that were asked for."""
    available = cases()
    parser = argparse.ArgumentParser(prog="hack/bench/copy", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of {', '.join(available)}; all by default")
    parser.add_argument(
        "--rounds", type=int, default=5, help="of large and fleet; the short cases run three times as many"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object per case")
    arguments = parser.parse_args()
    unknown = set(arguments.cases) - set(available)
    if unknown:
        parser.error(f"no such case: {', '.join(sorted(unknown))}")

    def show_progress(text: str) -> None:
        if not arguments.json and sys.stderr.isatty():
            print(f"\r{text:<40}", end="", file=sys.stderr)

    rows = []
    for name in arguments.cases or available:
        rows.append(row(available[name], measure(available[name], arguments.rounds, show_progress)))
        if arguments.json:
            print(json.dumps(rows[-1]), flush=True)
    if not arguments.json:
        print(table(rows))


if __name__ == "__main__":
    main()
