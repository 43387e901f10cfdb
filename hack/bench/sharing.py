"""Times stagings of four tenants, first alone and then beside a fifth one who does all harm that one can.

Cacher, store and engine are the program's; the four read from a real registry, all write to another one. The
fifth tenant's registry drips, states 40 GiB, hangs, answers 429 for ever, and has a thousand tags to stage.

Started by hack/bench/fairness.
"""

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from ipaddress import ip_network
from pathlib import Path

import httpx

from controller.app_tags import AppTags
from controller.cacher import Cacher, CacherDependencies
from controller.control import OperatorControl
from controller.coverage import StagingCoverage
from controller.engines.copy_limits import CopyLimits
from controller.engines.registry_copy import RegistryCopy
from controller.job_listeners import JobListeners
from controller.logs import configure_logs
from controller.lrp_index import LrpIndex
from controller.process import Process
from controller.registry.http.settings import RegistrySettings
from controller.registry.registries import Registries
from controller.store.opening import Store
from controller.workqueue import WorkQueue
from hack.bench.copying import registries
from reconcile.failed_bytes import FailedBytesBudget
from reconcile.fairness import Slots
from reconcile.lrps import AppGuid, ProcessGuid
from reconcile.reasons import Reason
from reconcile.records import CacheRequest, JobId, JobState
from reconcile.references import CacheRepositories, parse_image_reference
from reconcile.trust import ShareContent, Sharing
from tests.simulators import images
from tests.stores import open_store

TENANTS = ("one", "two", "three", "four")
MB = 1_000_000
SLOTS = Slots()
GOAL = 2.0
"""How much longer a staging may take beside the attacker, at the median."""

HARM = {"drips": 8, "huge": 8, "hangs": 8, "limits": 8, "many": 1000}
"""How the attacker's registry misbehaves, which the path selects, to how many such images are staged."""


class EndedJobs(JobListeners):
    """Lets stagings be waited for."""

    waiting: dict[str, asyncio.Event] = {}  # noqa: RUF012 - there is one in the process

    def ended(self, app_guid: AppGuid) -> None:
        """Wake the stage that waits for an app's job."""
        event = self.waiting.get(app_guid)
        if event is not None:
            event.set()


@contextmanager
def slow_registry() -> Iterator[str]:
    """Run the attacker's registry in a process of its own."""
    with subprocess.Popen(
        [sys.executable, "-m", "hack.bench.slow_registry"], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


@asynccontextmanager
async def open_cacher(store: Store, private: str, sources: Iterable[str]) -> AsyncIterator[Cacher]:
    """Run the cacher as the daemon does."""
    loopback = (ip_network("127.0.0.0/8"), ip_network("::1/128"))
    plain = RegistrySettings(plain_http=True, allowed_networks=loopback)
    client = Registries(
        {**dict.fromkeys(sources, plain), private: RegistrySettings(plain_http=True, any_address=True)},
    )
    cache = CacheRepositories(private)
    limits = CopyLimits(copies_at_a_time=SLOTS.total, max_image_bytes=50 << 30)
    engine = RegistryCopy(client, cache, store.records, limits=limits)
    control = OperatorControl(store.operations)
    await control.load(start_paused=False)
    queue: WorkQueue[ProcessGuid] = WorkQueue()
    cacher = Cacher(
        CacherDependencies(
            engine=engine,
            cache=cache,
            sharing=Sharing(ShareContent.REGISTRY, store.login_keys),
            jobs=store.records,
            bindings=store.records,
            proofs=store.content_proofs,
            indexes=store.content_proofs,
            images=store.records,
            checks=store.copy_checks,
            listeners=EndedJobs(StagingCoverage(), LrpIndex(), queue),
            gate=control,
            process=Process("bench"),
            failed_bytes=FailedBytesBudget(1 << 40),
            app_tags=AppTags(),
            slots=SLOTS,
        )
    )
    loops = [asyncio.create_task(cacher.run()) for _ in range(cacher.slots)]
    try:
        yield cacher
    finally:
        for loop in loops:
            loop.cancel()
        await asyncio.gather(*loops, return_exceptions=True)
        cacher.close()
        await engine.close()


def staging(source: str, *, name: str, organization: str) -> CacheRequest:
    """Make the request that a staging task causes."""
    return CacheRequest(
        AppGuid(name),
        parse_image_reference(source).canonical(),
        f"task:{name}",
        time.time_ns(),
        Reason.STAGING_TASK,
        organization_guid=organization,
    )


async def stage(cacher: Cacher, store: Store, request: CacheRequest) -> float:
    """Stage one image, and give the seconds until it is cached."""
    event = EndedJobs.waiting[request.app_guid] = asyncio.Event()
    begun = time.perf_counter()
    job = await cacher.request(request)
    await event.wait()
    seconds = time.perf_counter() - begun
    found = await store.records.find_job(JobId(job.job_id))
    if found is None or found.state is not JobState.CACHED:
        raise RuntimeError(f"{request.source}: {'gone' if found is None else found.failure}")
    return seconds


async def stage_all(cacher: Cacher, store: Store, source: str, phase: str, rounds: int) -> list[list[float]]:
    """Let each tenant stage one image after another."""

    async def tenant(name: str) -> list[float]:
        found = []
        for n in range(rounds):
            text = f"{source}/{name}/app:{phase}-{n}"
            request = staging(text, name=f"{phase}-{name}-{n}", organization=name)
            found.append(await stage(cacher, store, request))
            await asyncio.sleep(0.3)
        return found

    return await asyncio.gather(*map(tenant, TENANTS))


async def attack(cacher: Cacher, address: str) -> None:
    """Stage everything that the attacker has, in turn."""
    for n in range(max(HARM.values())):
        for kind, count in HARM.items():
            if n < count:
                source = f"{address}/{kind}/x:{n}"
                await cacher.request(staging(source, name=f"{kind}-{n}", organization="attacker"))


def fill(url: str, rounds: int) -> None:
    """Push what the four tenants stage."""
    with httpx.Client(base_url=url, timeout=120.0) as client:
        for tenant in TENANTS:
            for phase in ("warm", "idle", "beside"):
                for n in range(rounds):
                    layers = [images.archive(MB // 2, f"{tenant}-{phase}-{n}-{m}") for m in range(4)]
                    images.push_image(client, f"{tenant}/app", f"{phase}-{n}", images.unpackable(layers))


async def run(rounds: int) -> dict[str, dict[str, list[float]]]:
    """Time the stagings, and give the seconds by phase and tenant."""
    found = dict[str, dict[str, list[float]]]()
    with (
        registries(log_requests=False) as (source, destination),
        slow_registry() as slow,
        tempfile.TemporaryDirectory() as directory,
    ):
        good, private = source.running.address, destination.running.address
        await asyncio.to_thread(fill, source.running.url, rounds)
        url = f"sqlite:///{Path(directory) / 'store' / 'cache.db'}"
        async with (
            open_store(url, journal_key=None, run_id="bench") as store,
            open_cacher(store, private, (good, slow)) as cacher,
        ):
            await stage_all(cacher, store, good, "warm", min(rounds, 3))
            for phase in ("idle", "beside"):
                attacking = None
                if phase == "beside":
                    attacking = asyncio.create_task(attack(cacher, slow))
                    await asyncio.sleep(2.0)  # until it holds whatever it can hold
                seconds = await stage_all(cacher, store, good, phase, rounds)
                found[phase] = dict(zip(TENANTS, seconds, strict=True))
                if attacking is not None:
                    await attacking
            counts = await store.records.count_jobs()
            print(f"jobs at the end: {counts}", file=sys.stderr)
            for job in (await store.records.list_jobs([JobState.FAILED]))[:3]:
                print(f"{job.source}: {job.failure[:200]}", file=sys.stderr)
    return found


def table(found: dict[str, dict[str, list[float]]]) -> tuple[str, float]:
    """Write the rows for people, and give the worst ratio of medians."""
    lines, worst = ["tenant   idle median  max s   beside median  max s   ratio"], 0.0
    for tenant in TENANTS:
        idle, beside = found["idle"][tenant], found["beside"][tenant]
        before, after = statistics.median(idle), statistics.median(beside)
        worst = max(worst, after / before)
        lines.append(
            f"{tenant:<8} {before:<12.3f} {max(idle):<7.3f} "
            f"{after:<14.3f} {max(beside):<7.3f} {after / before:.2f}"
        )
    return "\n".join(lines), worst


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        prog="hack/bench/fairness", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--rounds", type=int, default=20, help="stagings of each tenant in each phase")
    parser.add_argument("--json", action="store_true", help="one JSON object with all seconds")
    options = parser.parse_args(arguments)
    configure_logs("fatal")
    found = asyncio.run(run(options.rounds))
    text, worst = table(found)
    print(json.dumps(found) if options.json else text)
    print(f"worst ratio {worst:.2f}, goal {GOAL:g}", file=sys.stderr)
    return 0 if worst <= GOAL else 1


if __name__ == "__main__":
    sys.exit(main())
