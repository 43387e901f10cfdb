"""What a copy waits for: nothing that another source sends, and no source that does not answer."""

import asyncio
import socket
from dataclasses import replace

import pytest

from controller.engines.copy_limits import CopyLimits
from reconcile.copying_ports import CheckDepth, TargetState
from reconcile.errors import Unavailable
from reconcile.references import ImageReference, parse_digest, parse_image_reference
from reconcile.trust import Reader, TrustDomain
from tests.controller.engines.registry_scene import GUID, SAMPLE, Scene
from tests.simulators.registry import Cut, Stall

LAYER = SAMPLE.layers[0]
OTHER_GUID = "7d1f4a4e-5d0c-4c3e-9a52-2f0c8f6c2b33"


def elsewhere(scene: Scene) -> ImageReference:
    """The same image, in another registry."""
    return replace(scene.image, domain=scene.alias)


@pytest.mark.parametrize("guid", [GUID, OTHER_GUID], ids=["same content", "same layer"])
async def test_a_copy_does_not_wait_for_what_a_foreign_source_is_sending(scene: Scene, guid: str) -> None:
    """It uploads the layer from its own source, also when both write to the same repository."""
    await scene.push(SAMPLE)
    engine = scene.engine()
    slow = await engine.resolve(scene.image, None)
    fine = await engine.resolve(elsewhere(scene), None)
    scene.source.fail("GET", LAYER.digest, Stall(after=1000))
    stalled = asyncio.ensure_future(engine.copy(slow, scene.target, None))
    await asyncio.to_thread(scene.source.wait_for_stall)

    copied = await engine.copy(fine, replace(scene.target, path=guid), None)

    assert not stalled.done()
    assert copied.transferred >= len(LAYER.content)
    assert SAMPLE.manifest == await scene.copied(guid=guid)
    stalled.cancel()
    await asyncio.wait([stalled])


async def test_two_copies_to_one_target_write_the_same(scene: Scene) -> None:
    await scene.push(SAMPLE)
    engine = scene.engine()
    both = [await engine.resolve(each, None) for each in (scene.image, elsewhere(scene))]

    copied = await asyncio.gather(*(engine.copy(each, scene.target, None) for each in both))

    assert copied[0].digest == copied[1].digest == parse_digest(SAMPLE.manifest.digest)
    assert SAMPLE.manifest == await scene.copied()
    assert await engine.find_missing(scene.target, copied[0].digest, CheckDepth.BYTES) == ""
    assert engine.progress(scene.target) is None


async def test_sources_that_do_not_answer_do_not_keep_the_private_registry_from_being_asked(
    scene: Scene,
) -> None:
    """An app whose copy is ready is migrated, whatever sources do; see that each is asked in its own threads."""
    await scene.push(SAMPLE)
    engine = scene.engine(limits=CopyLimits(copies_at_a_time=1))
    copied = await scene.copy(engine)
    listener = socket.create_server(("127.0.0.1", 0))  # it accepts, and never answers
    silent = parse_image_reference(f"127.0.0.1:{listener.getsockname()[1]}/team/app:1")
    asked = (
        *(engine.resolve(silent, None) for _ in range(4)),
        *(engine.look_at(silent, None) for _ in range(40)),
    )
    waiting: list[asyncio.Future[object]] = [asyncio.ensure_future(each) for each in asked]
    await asyncio.sleep(0)

    assert await engine.is_present(scene.target, copied.digest)
    assert await engine.find_missing(scene.target, copied.digest, CheckDepth.BLOBS) == ""

    for each in waiting:
        each.cancel()
    await asyncio.wait(waiting)
    listener.close()


async def test_what_another_copy_has_brought_meanwhile_counts_as_shown_for_nobody(scene: Scene) -> None:
    """A source that breaks off just when somebody else copies the same content has not shown it."""
    await scene.push(SAMPLE)
    engine = scene.engine()
    cheat = await engine.resolve(scene.image, None)
    honest = await engine.resolve(elsewhere(scene), None)
    readers = [Reader(TrustDomain(f"registry {each.source.domain}")) for each in (cheat, honest)]
    scene.source.fail("GET", LAYER.digest, Stall(after=1000))
    cheating = asyncio.ensure_future(
        engine.copy(cheat, scene.target, None, state=TargetState.EMPTY, reader=readers[0])
    )
    await asyncio.to_thread(scene.source.wait_for_stall)
    await engine.copy(honest, scene.target, None, reader=readers[1])

    scene.source.fail("GET", LAYER.digest, Cut(after=1000), times=None)
    scene.source.drop_connections()

    with pytest.raises(Unavailable) as refused:
        await cheating
    assert refused.value.code == "cut"
