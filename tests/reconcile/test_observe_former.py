"""What is observed of an LRP that runs from a copy in another private registry."""

from dataclasses import dataclass, replace

import pytest

from reconcile.known_records import KnownCopy, StagedCopy
from reconcile.migrations import OriginalSource
from reconcile.observe import observe
from reconcile.records import CachedImage
from reconcile.references import CacheGuid, CacheRepositories, Rootfs
from tests.reconcile.test_decide import GUID, IMAGE, JOB, LRP, PROCESS, READY, RULES, SOURCE
from tests.reconcile.test_observe import CONTEXT, Reads

OLD = CacheRepositories("old.example:5000")
MOVING = replace(CONTEXT, cache=replace(RULES.cache, former=(OLD,)))
ON_OLD = replace(LRP, rootfs=OLD.rootfs(GUID))
ORIGINAL = OriginalSource(PROCESS, GUID, LRP.rootfs, needs_credentials=True, credentials=LRP.credentials)
assert READY.binding is not None
STAGED = KnownCopy(READY.binding, JOB, IMAGE, StagedCopy(READY.binding, IMAGE))


@dataclass
class FormerReads(Reads):
    """Facts about an LRP whose copy may be known."""

    image: CachedImage | None = IMAGE
    original_source: OriginalSource | None = ORIGINAL

    async def find_image(self, cache_guid: CacheGuid) -> CachedImage | None:
        return self.image if cache_guid == GUID else None

    async def find_original_source(self, process_guid: object) -> OriginalSource | None:
        assert process_guid == PROCESS
        return self.original_source


async def test_its_source_and_login_are_those_that_it_had_before_its_first_migration() -> None:
    observed = await observe(PROCESS, FormerReads(ON_OLD).facts(), MOVING)

    former = observed.former_copy
    assert former is not None
    assert (former.registry, former.is_configured, former.is_of_app) == (OLD.address, True, True)
    assert (observed.source, observed.source_credentials) == (SOURCE, LRP.credentials)
    assert observed.original_source == ORIGINAL
    assert observed.instances != ()


async def test_without_a_record_of_that_its_source_is_what_its_app_staged_the_copy_from() -> None:
    reads = FormerReads(ON_OLD, STAGED, original_source=None)

    observed = await observe(PROCESS, reads.facts(), MOVING)

    assert observed.source == SOURCE
    assert observed.original_source is not None
    assert observed.original_source.rootfs == Rootfs("docker://registry.example.com/team/app#1")


async def test_an_app_that_never_staged_the_copy_is_not_taken_for_one_that_may_read_it() -> None:
    reads = FormerReads(ON_OLD, KnownCopy(), original_source=None)

    observed = await observe(PROCESS, reads.facts(), MOVING)

    assert observed.former_copy is not None
    assert not observed.former_copy.is_of_app
    assert observed.original_source is None


@pytest.mark.parametrize("cache", [OLD, RULES.cache])
async def test_a_copy_of_ours_is_never_taken_for_a_source(cache: CacheRepositories) -> None:
    """An older version of this program may have saved it as such."""
    wrong = replace(ORIGINAL, rootfs=cache.rootfs(GUID))

    observed = await observe(PROCESS, FormerReads(ON_OLD, STAGED, original_source=wrong).facts(), MOVING)

    assert observed.source == SOURCE
    assert observed.original_source is not None
    assert observed.original_source.rootfs != wrong.rootfs


async def test_a_registry_that_is_not_configured_is_known_by_the_guid_of_a_recorded_copy() -> None:
    observed = await observe(PROCESS, FormerReads(ON_OLD).facts(), CONTEXT)

    assert observed.former_copy is not None
    assert (observed.former_copy.registry, observed.former_copy.is_configured) == (OLD.address, False)


async def test_a_guid_that_no_record_knows_is_the_name_of_a_source() -> None:
    reads = FormerReads(ON_OLD, image=None, original_source=None)

    observed = await observe(PROCESS, reads.facts(), CONTEXT)

    assert observed.former_copy is None
    assert observed.source == OLD.image(GUID)
