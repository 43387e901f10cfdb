"""A droplet with its record, its staging and its copy, as the tests of decisions about droplets use them."""

from reconcile.droplet_actions import ObservedDroplet
from reconcile.droplets import (
    STAGED,
    BuildGuid,
    Droplet,
    DropletGuid,
    DropletPhase,
    DropletRecord,
    Package,
    PackageGuid,
)
from reconcile.observed import Rules
from reconcile.policy import Policy
from reconcile.reasons import Reason
from reconcile.records import Binding, CachedImage, CacheJob, JobId, JobState
from reconcile.references import CacheGuid, CacheRepositories, Digest, parse_image_reference
from tests.reconcile.test_decide import APP, DIGEST, GUID, NOW

ORIGINAL = "registry.example.com/team/app:1"
SOURCE = parse_image_reference(ORIGINAL).canonical()
ADDRESS, FORMER = "cache.example:8080", "old-cache.example:8080"
TARGET = f"{ADDRESS}/{GUID}:latest"
FORMER_TARGET = f"{FORMER}/{GUID}:latest"
OTHER = "registry.example.com/team/app:2"
OTHER_GUID = CacheGuid("7c0d3c5e-52a1-4d5b-8f7e-2b6a1f0c9d11")
BUILD, DROPLET, PACKAGE = BuildGuid("build-1"), DropletGuid("droplet-1"), PackageGuid("package-1")

CACHE = CacheRepositories(ADDRESS, former=(CacheRepositories(FORMER),))
RULES = Rules(policy=Policy(), cache=CACHE, domains=frozenset({"cf-apps"}))
PUSHED = Package(PACKAGE, is_docker=True, image="registry.example.com/team/app:1", username="robot")


def droplet(image: str | None = ORIGINAL, *, state: str = STAGED, is_docker: bool = True) -> Droplet:
    return Droplet(DROPLET, state, is_docker, image, APP, PACKAGE, created_at=NOW - 60, updated_at=NOW - 60)


JOB = CacheJob(
    JobId("job-1"),
    SOURCE,
    JobState.CACHED,
    reason=Reason.STAGING_TASK,
    created_at=NOW - 90,
    updated_at=NOW - 30,
    cache_guid=GUID,
)
IMAGE = CachedImage(GUID, SOURCE, DIGEST, DIGEST, DIGEST, size=1, created_at=NOW, verified_at=NOW)
OTHER_DIGEST = Digest("sha256", "b" * 64)
BINDING = Binding(APP, SOURCE, f"task:{BUILD}", int((NOW - 90) * 1e9), JOB.job_id)

STAGED_NOW = ObservedDroplet(
    DROPLET,
    NOW,
    droplet(),
    build_guid=BUILD,
    binding=BINDING,
    job=JOB,
    image=IMAGE,
    has_current_reference=True,
)
"""A droplet of a staging that was seen, whose copy is there."""


def record(
    phase: DropletPhase = DropletPhase.PATCHED, *, reason: Reason = Reason.DROPLET_PATCHED, rounds: int = 1
) -> DropletRecord:
    return DropletRecord(
        DROPLET,
        APP,
        BUILD,
        original=ORIGINAL,
        username="robot",
        cache_guid=GUID,
        registry=ADDRESS,
        target=TARGET,
        phase=phase,
        reason=reason,
        created_at=NOW - 50,
        updated_at=NOW - 40,
        rounds=rounds,
    )


PATCHED = ObservedDroplet(
    DROPLET,
    NOW,
    droplet(TARGET),
    record=record(),
    build_guid=BUILD,
    binding=BINDING,
    job=JOB,
    image=IMAGE,
    current_copy=IMAGE,
    has_current_reference=True,
)
"""The same droplet, once it names its copy."""
