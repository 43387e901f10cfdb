"""What the store keeps of what was last seen of copies."""

from dataclasses import replace

import pytest

from controller.store.opening import Store
from reconcile.errors import NotFound
from reconcile.records import CachedImage, CopyCheck
from reconcile.references import CacheGuid
from tests.controller.store.samples import digest, image

UNKNOWN = CacheGuid("7c0d3c5e-52a1-4d5b-8f7e-2b6a1f0c9d11")


@pytest.fixture
async def kept(store: Store) -> CachedImage:
    content = digest(7)
    made = image(await store.records.reserve_guid(content), platform=content)
    await store.records.keep_image(made, (digest(8),))
    return made


def seen(kept: CachedImage) -> CopyCheck:
    return CopyCheck(
        kept.cache_guid,
        checked_at=5.5,
        blobs_checked_at=4.5,
        missing_since=3.5,
        missing="its manifest",
        noted_at=2.5,
        unused_since=1.5,
    )


async def test_a_copy_that_was_never_looked_at_has_no_times(store: Store, kept: CachedImage) -> None:
    assert await store.copy_checks.find_check(kept.cache_guid) == CopyCheck(kept.cache_guid)
    assert await store.copy_checks.list_checks() == ()


async def test_what_was_seen_last_is_kept(store: Store, kept: CachedImage) -> None:
    first = CopyCheck(kept.cache_guid, checked_at=1.0, noted_at=2.5)
    await store.copy_checks.save_check(first)
    await store.copy_checks.mark_unused({kept.cache_guid: 1.5})
    await store.copy_checks.save_check(replace(seen(kept), noted_at=0.0))

    assert await store.copy_checks.find_check(kept.cache_guid) == seen(kept)
    assert await store.copy_checks.list_checks() == (seen(kept),)


async def test_what_is_missing_is_read_with_the_copy(store: Store, kept: CachedImage) -> None:
    await store.copy_checks.save_check(seen(kept))

    found = await store.records.find_image(kept.cache_guid)

    assert found is not None
    assert (found.missing_since, found.missing) == (3.5, "its manifest")


async def test_incomplete_copies_are_counted(store: Store, kept: CachedImage) -> None:
    assert await store.records.count_incomplete_images() == (0, 0)

    await store.copy_checks.save_check(seen(kept))
    assert await store.records.count_incomplete_images() == (1, 0)

    await store.copy_checks.save_check(replace(seen(kept), lost_since=6.5))
    assert await store.records.count_incomplete_images() == (1, 1)


async def test_a_copy_that_is_deleted_takes_what_was_seen_with_it(store: Store, kept: CachedImage) -> None:
    await store.copy_checks.save_check(seen(kept))

    await store.records.drop_image(kept.cache_guid)
    await store.copy_checks.save_check(seen(kept))  # by somebody who had looked before

    assert await store.copy_checks.list_checks() == ()
    with pytest.raises(NotFound):
        await store.records.drop_image(kept.cache_guid)


async def test_since_when_a_copy_is_unused_is_not_brought_back_by_whoever_read_it_before(
    store: Store, kept: CachedImage
) -> None:
    await store.copy_checks.mark_unused({kept.cache_guid: 1.5})
    read = await store.copy_checks.find_check(kept.cache_guid)
    await store.copy_checks.mark_unused({kept.cache_guid: 0.0})

    await store.copy_checks.save_check(replace(read, checked_at=9.0))

    assert await store.copy_checks.find_check(kept.cache_guid) == CopyCheck(kept.cache_guid, checked_at=9.0)


async def test_a_mark_leaves_what_was_seen_as_it_is(store: Store, kept: CachedImage) -> None:
    await store.copy_checks.save_check(seen(kept))

    await store.copy_checks.mark_unused({kept.cache_guid: 7.0, UNKNOWN: 7.0})

    assert await store.copy_checks.list_checks() == (replace(seen(kept), unused_since=7.0),)


async def test_what_was_seen_of_a_copy_in_another_registry_is_forgotten(
    store: Store, kept: CachedImage
) -> None:
    """Nothing was looked for in the new one yet, and no note of its source lies beside it there."""
    await store.copy_checks.save_check(seen(kept))

    await store.records.keep_image(replace(kept, registry="new.example:5000"), ())

    assert await store.copy_checks.find_check(kept.cache_guid) == CopyCheck(kept.cache_guid)


async def test_what_was_seen_of_a_copy_that_is_sent_again_is_kept(store: Store, kept: CachedImage) -> None:
    await store.copy_checks.save_check(seen(kept))

    await store.records.keep_image(kept, (digest(9),))

    assert (await store.copy_checks.find_check(kept.cache_guid)).noted_at == 2.5
