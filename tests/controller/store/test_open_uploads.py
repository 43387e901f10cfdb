"""Uploads that were under way are kept, encrypted."""

from cryptography.fernet import Fernet, MultiFernet
from sqlalchemy import select

from controller.store.open_uploads import MOST_KEPT, SqlOpenUploads
from controller.store.opening import Store
from controller.store.tables import settings
from reconcile.copying_ports import OpenUpload
from reconcile.references import parse_image_reference

TARGET = parse_image_reference("cache.example:8080/9b2f0a4e-5d0c-4c3e-9a52-2f0c8f6c2b11:latest")
ONE, TWO = (
    OpenUpload(TARGET, "https://cache.example:8080/v2/1?_state=marker"),
    OpenUpload(TARGET, "https://x/2"),
)


async def test_uploads_take_the_place_of_the_earlier_ones(store: Store) -> None:
    assert await store.open_uploads.list_uploads() == ()
    for uploads in ((ONE,), (ONE, TWO), (TWO,), (), (), (ONE,)):
        await store.open_uploads.save_uploads(uploads)

        assert await store.open_uploads.list_uploads() == uploads


async def test_the_pause_of_an_operator_is_another_row(store: Store) -> None:
    await store.operations.save_paused(is_paused=True)
    await store.open_uploads.save_uploads((ONE,))
    await store.open_uploads.save_uploads(())

    assert await store.operations.find_paused() is True


async def test_their_number_is_bounded(store: Store) -> None:
    await store.open_uploads.save_uploads(OpenUpload(TARGET, f"https://x/{n}") for n in range(MOST_KEPT + 5))

    assert len(await store.open_uploads.list_uploads()) == MOST_KEPT


async def test_they_are_readable_with_their_key_alone(store: Store) -> None:
    database = store.open_uploads._database
    ours, other = (MultiFernet([Fernet(Fernet.generate_key())]) for _ in range(2))
    await SqlOpenUploads(database, ours).save_uploads((ONE,))

    assert await SqlOpenUploads(database, ours).list_uploads() == (ONE,)
    value = await database.read(lambda connection: connection.scalar(select(settings.c.value)))
    assert "marker" not in str(value)
    assert await SqlOpenUploads(database, other).list_uploads() == ()


async def test_without_a_journal_key_nothing_is_kept(store: Store) -> None:
    await store.open_uploads.save_uploads((ONE,))
    keyless = SqlOpenUploads(store.open_uploads._database, None)

    assert await keyless.list_uploads() == ()
    await keyless.save_uploads((TWO,))

    assert await store.open_uploads.list_uploads() == ()
