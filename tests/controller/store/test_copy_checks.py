"""What the store keeps of what was last seen of copies."""

import pytest

from controller.store.opening import Store
from reconcile.errors import NotFound
from reconcile.records import CachedImage, CopyCheck
from tests.controller.store.samples import digest, image


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
    await store.copy_checks.save_check(CopyCheck(kept.cache_guid, checked_at=1.0))
    await store.copy_checks.save_check(seen(kept))

    assert await store.copy_checks.find_check(kept.cache_guid) == seen(kept)
    assert await store.copy_checks.list_checks() == (seen(kept),)


async def test_what_is_missing_is_read_with_the_copy(store: Store, kept: CachedImage) -> None:
    await store.copy_checks.save_check(seen(kept))

    found = await store.records.find_image(kept.cache_guid)

    assert found is not None
    assert (found.missing_since, found.missing) == (3.5, "its manifest")


async def test_a_copy_that_is_deleted_takes_what_was_seen_with_it(store: Store, kept: CachedImage) -> None:
    await store.copy_checks.save_check(seen(kept))

    await store.records.drop_image(kept.cache_guid)
    await store.copy_checks.save_check(seen(kept))  # by somebody who had looked before

    assert await store.copy_checks.list_checks() == ()
    with pytest.raises(NotFound):
        await store.records.drop_image(kept.cache_guid)
