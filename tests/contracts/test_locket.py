"""What any Locket must do for us. How to run it against a real one is told in locket_targets.py."""

import asyncio
import dataclasses
from pathlib import Path

import pytest

from controller.leadership.ports import HolderNote
from controller.locket.client import HeldLock, open_locket
from controller.locket.lock import LocketLock
from controller.mutual_tls import MutualTls
from protos.locket import locket_pb2 as pb
from reconcile.errors import Conflict, Unavailable
from tests.contracts.locket_targets import KEEP_ALIVE, TTL, OnRealLocket, OnSimulator, Scene
from tests.simulators.certificates import Authority

COLLISION = "ALREADY_EXISTS lock-collision"
NOBODY = "NOT_FOUND resource-not-found"


def lock_of(scene: Scene) -> LocketLock:
    return LocketLock(scene.client, ttl=TTL, retry_interval=5.0, key=scene.key)


def note_of(run_id: str) -> HolderNote:
    return HolderNote("vm-1", run_id, "10.0.0.1:17090", 1_700_000_000.0, "0.1.0")


class LocketContract:
    """What any Locket must do; the other half of a test class says which Locket."""

    async def test_a_key_has_one_owner_who_may_lock_it_again(self, scene: Scene) -> None:
        assert await scene.lock(scene.request("one")) == "OK"
        assert await scene.lock(scene.request("one")) == "OK"
        assert await scene.lock(scene.request("two")) == COLLISION

    async def test_a_key_shows_what_its_owner_has_sent_last(self, scene: Scene) -> None:
        await scene.lock(scene.request("one", value="first"))
        await scene.lock(scene.request("one", value="second"))

        expected = pb.Resource(key=scene.key, owner="one", value="second", type="lock", type_code=pb.LOCK)
        assert await scene.fetch() == expected

    async def test_a_key_that_nobody_has_is_not_found(self, scene: Scene) -> None:
        assert await scene.fetch() == NOBODY

    async def test_only_the_owner_gives_a_key_back(self, scene: Scene) -> None:
        await scene.lock(scene.request("one"))

        assert await scene.release("two") == COLLISION
        assert await scene.release("one") == "OK"
        assert await scene.fetch() == NOBODY
        assert await scene.lock(scene.request("two")) == "OK"

    async def test_to_give_back_what_nobody_has_is_no_error(self, scene: Scene) -> None:
        assert await scene.release("one") == "OK"

    async def test_the_type_is_validated_first_then_the_time_then_the_owner(self, scene: Scene) -> None:
        wrong = scene.request("", ttl=0, code=pb.UNKNOWN)
        assert await scene.lock(wrong) == "NOT_FOUND invalid-type"
        assert await scene.lock(scene.request("", ttl=0)) == "INVALID_ARGUMENT invalid-ttl"
        assert await scene.lock(scene.request("one", ttl=-1)) == "INVALID_ARGUMENT invalid-ttl"
        assert await scene.lock(scene.request("")) == "INVALID_ARGUMENT invalid-owner"
        assert await scene.fetch() == NOBODY

    async def test_a_type_by_its_name_alone_is_no_type(self, scene: Scene) -> None:
        assert await scene.lock(scene.request("one", code=pb.UNKNOWN)) == "NOT_FOUND invalid-type"
        assert await scene.fetch_all(pb.UNKNOWN, "lock") == "NOT_FOUND invalid-type"

    async def test_locks_are_listed_by_their_type(self, scene: Scene) -> None:
        await scene.lock(scene.request("one"))

        assert await scene.fetch_all(pb.LOCK) == [scene.key]
        assert await scene.fetch_all(pb.PRESENCE) == []

    async def test_a_value_has_4096_characters_at_most(self, scene: Scene) -> None:
        assert await scene.lock(scene.request("one", value="v" * 4096)) == "OK"
        assert await scene.lock(scene.request("one", value="v" * 4097)) == "UNKNOWN sql-bad-request"
        assert await scene.lock(scene.request("o" * 256)) == COLLISION, "before its length is looked at"

    async def test_a_key_is_free_some_time_after_its_last_renewal(self, scene: Scene) -> None:
        await scene.lock(scene.request("one"))
        await scene.until_free()

        assert await scene.lock(scene.request("two")) == "OK"

    async def test_renewals_keep_a_key_beyond_its_time(self, scene: Scene) -> None:
        for _ in range(3):
            assert await scene.lock(scene.request("one")) == "OK"
            await scene.target.wait(TTL / 2)

        assert await scene.lock(scene.request("two")) == COLLISION

    async def test_an_instance_takes_the_lock_renews_it_and_gives_it_back(self, scene: Scene) -> None:
        lock, note = lock_of(scene), note_of("run-1")
        await lock.acquire(note)
        await lock.acquire(dataclasses.replace(note, since=1_700_000_060.0))

        holder = await lock.find_holder()
        assert holder is not None
        assert (holder.owner, holder.note) == (
            "vm-1-run-1",
            dataclasses.replace(note, since=1_700_000_060.0),
        )

        await lock.release()
        assert await lock.find_holder() is None
        await lock.release()

    async def test_another_instance_is_told_who_holds_the_lock(self, scene: Scene) -> None:
        await lock_of(scene).acquire(note_of("run-1"))
        second = lock_of(scene)

        with pytest.raises(Conflict) as refused:
            await second.acquire(note_of("run-2"))
        assert refused.value.code == "lock-held"
        assert "instance vm-1 at 10.0.0.1:17090 since 2023-11-14T22:13:20" in refused.value.detail

        await second.release()  # gives back nothing that is not its own
        assert await scene.lock(scene.request("two")) == COLLISION

    async def test_a_lock_of_another_program_is_no_note(self, scene: Scene) -> None:
        await scene.client.lock(scene.key, HeldLock("route-emitter", ""), ttl=TTL, limit=5.0)

        holder = await lock_of(scene).find_holder()
        assert holder is not None
        assert (holder.owner, holder.note) == ("route-emitter", None)

    async def test_a_stranger_is_refused(self, scene: Scene, tmp_path: Path) -> None:
        foreign = await asyncio.to_thread(lambda: Authority(tmp_path).client("foreign"))
        tls = MutualTls(scene.target.tls.ca_cert_file, foreign.certificate, foreign.key)

        async with open_locket(scene.target.address, tls, KEEP_ALIVE) as client:
            with pytest.raises(Unavailable):
                await client.find(scene.key, limit=2.0)

    async def test_a_locket_of_another_authority_is_refused(self, scene: Scene, tmp_path: Path) -> None:
        other = await asyncio.to_thread(lambda: Authority(tmp_path).certificate)
        tls = dataclasses.replace(scene.target.tls, ca_cert_file=other)

        async with open_locket(scene.target.address, tls, KEEP_ALIVE) as client:
            with pytest.raises(Unavailable) as failed:
                await client.find(scene.key, limit=2.0)
        assert failed.value.code == "certificate"


class TestSimulator(OnSimulator, LocketContract):
    pass


class TestRealLocket(OnRealLocket, LocketContract):
    pass
