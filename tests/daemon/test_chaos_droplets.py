"""What a chaos run would notice of droplets: copies that are not there, and texts that nobody staged."""

import json
import random
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from reconcile.reasons import Reason
from tests.daemon.chaos.cloud_controller_faults import CloudControllerScopes, DropletsChanged
from tests.daemon.chaos.droplet_watch import WRITTEN_WITHIN, DropletWatch
from tests.daemon.chaos.owners import Owners
from tests.daemon.chaos.scene import Scene
from tests.daemon.chaos.stored_copies import find_missing
from tests.daemon.chaos.timing import PATIENCE
from tests.daemon.downtime import Downtime
from tests.daemon.environment import Registry, open_environment
from tests.daemon.invariants import Invariants
from tests.simulators import images
from tests.simulators.capi.records import Droplet, DropletState
from tests.simulators.capi.uaa import SMALLEST_USEFUL, UaaClient
from tests.simulators.recipes import Image

GUID = "5b2b7a48-6b0e-4d5c-9e2a-0d7c8a1f4b6e"
STAGED, OTHER = "source.example/team/web:1", "source.example/team/other:1"


class Watched:
    """One app with a droplet that is watched, with a copy and a clock that a test sets."""

    def __init__(self, scene: Scene) -> None:
        self.now = 100.0
        self.scene = scene
        self.app = scene.env.cloud.create("web", Image(STAGED))
        self.app.droplet = self.app.package
        self.app.is_started = True
        self.copy = scene.env.cache.push(GUID, "latest", images.image([images.layer(1000, 1)]))
        scene.texts.now = lambda: self.now
        self.watch = DropletWatch(scene, now=lambda: self.now)

    @property
    def droplet(self) -> Droplet:
        assert self.app.current is not None
        return self.app.current

    @property
    def violations(self) -> list[str]:
        return [each.replace(self.droplet.guid, "D") for each in self.scene.invariants.violations]

    def write(self, image: str) -> list[str]:
        """Let the daemon write into the droplet, and give what was noticed."""
        for listener in self.scene.env.cloud.changing:
            listener(self.droplet, image)
        self.scene.env.cloud.patch(self.droplet, image)
        return self.violations

    def look(self) -> list[str]:
        self.watch.look()
        return self.violations

    def check(self, original: str) -> list[str]:
        """Let the daemon say what the droplet named before, and give what was noticed."""
        self.watch.check([self.row(original_image=original)])
        return self.violations

    def row(self, **values: str) -> Mapping[str, Any]:
        row = {
            "droplet_guid": self.droplet.guid,
            "original_image": STAGED,
            "written_image": self.copy,
            "reason": Reason.DROPLET_PATCHED.value,
            "detail": "",
        }
        return row | values

    def lose_copy(self) -> None:
        self.scene.env.cache.faults.store.repositories[GUID].manifests.clear()

    def change_by_another_tool(self) -> None:
        self.scene.texts.note_change(self.droplet)
        self.scene.env.cloud.patch(self.droplet, OTHER)


@pytest.fixture
async def watched(tmp_path: Path) -> AsyncIterator[Watched]:
    async with open_environment(tmp_path, faulty_source=True, faulty_cache=True) as env:
        invariants = Invariants(env.bbs, env.cells, env.cloud)
        downtime = Downtime(invariants, source=env.source.address, cache=env.cache.address, patience=PATIENCE)
        yield Watched(Scene(env, random.Random(1), invariants, downtime))


async def test_a_copy_that_is_there_and_what_was_staged_may_be_written(watched: Watched) -> None:
    watched.write(watched.copy)
    watched.look()
    watched.check(STAGED)
    watched.write(STAGED)

    assert watched.look() == []
    happened = watched.scene.happened
    assert (happened["droplets given a copy"], happened["droplets given their image back"]) == (1, 1)


async def test_a_copy_that_is_not_there_must_not_be_written(watched: Watched) -> None:
    watched.lose_copy()

    assert watched.write(watched.copy) == [f"droplet D is to name {watched.copy}, which lacks its manifest"]


async def test_a_copy_without_all_of_its_blobs_must_not_be_written(watched: Watched) -> None:
    store = watched.scene.env.cache.faults.store
    lost = min(each for each in store.repositories[GUID].blobs if each.startswith("sha256:"))
    store.repositories[GUID].blobs.discard(lost)

    assert watched.write(watched.copy) == [f"droplet D is to name {watched.copy}, which lacks {lost}"]


async def test_a_copy_that_was_lost_just_now_may_be_written_and_counts_in_the_end(watched: Watched) -> None:
    watched.lose_copy()
    watched.scene.lost_copies[GUID] = watched.now - WRITTEN_WITHIN

    assert watched.write(watched.copy) == []
    assert watched.look() == []
    assert [each.replace(watched.droplet.guid, "D") for each in watched.watch.unrest()] == [
        f"droplet D of web names {watched.copy}, which lacks its manifest"
    ]


async def test_a_copy_that_was_lost_a_while_ago_must_not_be_written(watched: Watched) -> None:
    watched.lose_copy()
    watched.scene.lost_copies[GUID] = watched.now - WRITTEN_WITHIN - 1

    assert watched.write(watched.copy) == [f"droplet D is to name {watched.copy}, which was lost 11 s ago"]


async def test_a_copy_that_a_droplet_names_must_not_be_deleted_by_the_daemon(watched: Watched) -> None:
    watched.write(watched.copy)
    watched.lose_copy()

    assert watched.look() == [f"droplet D of web names {watched.copy}, which lacks its manifest"]
    assert len(watched.look()) == 1, "once is enough"


async def test_a_droplet_that_has_expired_is_no_use_of_a_copy(watched: Watched) -> None:
    watched.write(watched.copy)
    watched.droplet.state = DropletState.EXPIRED
    watched.lose_copy()

    assert watched.look() == []


@pytest.mark.parametrize(
    "text", ["https://source.example/team/web:1", "source.example/UPPER:1", "a/" + "b" * 300]
)
async def test_a_text_of_which_cloud_controller_makes_no_rootfs_must_not_be_written(
    watched: Watched, text: str
) -> None:
    assert watched.write(text) == [f"droplet D is to name {text}, of which Cloud Controller makes no rootfs"]


async def test_another_text_than_was_staged_must_not_be_written(watched: Watched) -> None:
    watched.write(watched.copy)

    assert watched.write(OTHER) == [f"droplet D is to name {OTHER}, and it was staged with {STAGED}"]


async def test_a_droplet_that_another_tool_has_changed_must_not_be_written_into(watched: Watched) -> None:
    watched.write(watched.copy)
    watched.change_by_another_tool()
    watched.now += WRITTEN_WITHIN + 1

    assert watched.write(watched.copy) == [
        f"droplet D is to name {watched.copy} in the place of {OTHER}, which another tool wrote"
    ]


async def test_a_request_that_another_tool_has_just_overtaken_is_no_fault_of_the_daemon(
    watched: Watched,
) -> None:
    """Cloud Controller's API has no change on a condition."""
    watched.write(watched.copy)
    watched.change_by_another_tool()
    watched.now += WRITTEN_WITHIN

    assert watched.write(watched.copy) == []


async def test_the_original_text_by_the_record_must_be_what_was_staged(watched: Watched) -> None:
    watched.write(watched.copy)

    assert watched.check(OTHER) == [
        f"the original text of droplet D is {OTHER} by its record, and it was staged with {STAGED}"
    ]


async def test_the_original_text_by_the_record_must_be_no_copy(watched: Watched) -> None:
    watched.write(watched.copy)

    assert watched.check(watched.copy) == [
        f"the original text of droplet D is {watched.copy} by its record, a URL of ours"
    ]


async def test_a_droplet_that_was_copied_has_the_original_text_of_the_other(watched: Watched) -> None:
    watched.write(watched.copy)
    copied = watched.app.copy_droplet(watched.droplet)
    watched.scene.texts.note_copy(copied, watched.droplet)
    watched.app.current = copied

    assert watched.check(STAGED) == []
    assert watched.check(OTHER) != []


@pytest.mark.parametrize(
    ("is_written", "reason", "is_wrong"),
    [
        (True, Reason.DROPLET_PATCHED, False),
        (True, Reason.PINNED_TO_SOURCE, True),
        (True, Reason.COPY_UNKNOWN, True),
        (True, None, True),
        (False, Reason.WAITING_FOR_COPY, True),
        (False, Reason.REVERTED_EXTERNALLY, True),
        (False, Reason.PINNED_TO_SOURCE, False),
        (False, None, True),
    ],
)
async def test_in_the_end_all_droplets_name_their_copies_that_should(
    watched: Watched,
    is_written: bool,  # noqa: FBT001 - a parameter of pytest
    reason: Reason | None,
    is_wrong: bool,  # noqa: FBT001 - a parameter of pytest
) -> None:
    if is_written:
        watched.write(watched.copy)
    rows = [] if reason is None else [watched.row(reason=reason.value)]

    found = watched.watch.find_unpatched(rows)

    name = watched.copy if is_written else STAGED
    said = "" if reason is None else reason.value
    wrong = [f"droplet {watched.droplet.guid} of web names {name}, and is {said!r}"]
    assert found == (wrong if is_wrong else [])


@pytest.mark.parametrize(
    ("why", "is_wrong"), [(Reason.PINNED_TO_SOURCE, False), (Reason.COPY_NOT_PULLED, True)]
)
async def test_in_the_end_a_droplet_of_a_pinned_app_has_its_text_back(
    watched: Watched,
    why: Reason,
    is_wrong: bool,  # noqa: FBT001 - a parameter of pytest
) -> None:
    rows = [watched.row(reason=Reason.RESTORED.value, detail=f"{why}: so it is")]

    assert bool(watched.watch.find_unpatched(rows)) is is_wrong


async def test_in_the_end_droplets_that_others_want_otherwise_are_left_to_them(watched: Watched) -> None:
    rows = [watched.row(reason=Reason.REVERTED_EXTERNALLY.value)]
    for _ in range(3):
        watched.write(watched.copy)
        watched.scene.env.cloud.patch(watched.droplet, watched.scene.texts.note_text_back(watched.droplet))
    assert watched.watch.find_unpatched(rows) == []

    watched.change_by_another_tool()
    assert watched.watch.find_unpatched([]) == []


async def test_after_a_restoration_each_droplet_has_what_was_staged(watched: Watched) -> None:
    assert watched.watch.find_unrestored() == []
    watched.write(watched.copy)

    assert [each.replace(watched.droplet.guid, "D") for each in watched.watch.find_unrestored()] == [
        f"droplet D of web names {watched.copy}, and was staged with {STAGED}"
    ]


async def test_after_a_restoration_a_droplet_has_what_another_tool_wrote(watched: Watched) -> None:
    watched.watch.look()
    watched.change_by_another_tool()
    assert watched.watch.find_unrestored() == []

    watched.write(watched.copy)
    assert watched.watch.find_unrestored() != []


async def test_a_scope_is_taken_away_and_given_back(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = watched.scene.env.capi.tokens
    granted, add = list[tuple[str, ...]](), tokens.add_client

    def see(client: UaaClient) -> None:
        granted.append(client.authorities)
        add(client)

    monkeypatch.setattr(tokens, "add_client", see)
    key = tokens.key_id

    await CloudControllerScopes(watched.scene, random.Random(1)).act()

    assert len(granted[0]) == len(SMALLEST_USEFUL) - 1
    assert granted[1:] == [SMALLEST_USEFUL]
    assert tokens.key_id != key, "the tokens of before are worth nothing"


@pytest.mark.parametrize("seed", range(8))
async def test_what_others_do_to_droplets_is_known(watched: Watched, seed: int) -> None:
    watched.write(watched.copy)
    await DropletsChanged(watched.scene, random.Random(seed)).act()
    owners = Owners(watched.scene, 1)
    await owners.copy_droplet()

    for droplet in watched.app.droplets.values():
        assert watched.scene.texts.of(droplet) == STAGED
    assert watched.look() == []


def break_link(repository: Path, _blobs: Path) -> None:
    (repository / "_manifests/tags/latest/current/link").unlink()


def lose_config(_repository: Path, blobs: Path) -> None:
    (config,) = [each for each in blobs.glob("*/*/data") if b"rootfs" in each.read_bytes()]
    config.unlink()


@pytest.mark.parametrize("lose", [break_link, lose_config])
def test_what_a_real_registry_lacks_is_seen_in_its_files(
    tmp_path: Path, lose: Callable[[Path, Path], None]
) -> None:
    image = images.image([images.layer(1000, 1)])
    registry = Registry("cache.example:5000", "", "", storage=tmp_path)
    root = tmp_path / "docker/registry/v2"
    repository = root / "repositories" / GUID
    document = json.loads(image.manifest.content)
    contents = {image.manifest.digest: image.manifest.content}
    contents |= {each.digest: each.content for each in (image.config, *image.layers)}
    for digest, content in contents.items():
        folder = root / "blobs/sha256" / digest[7:9] / digest[7:]
        folder.mkdir(parents=True)
        (folder / "data").write_bytes(content)
    link = repository / "_manifests/tags/latest/current/link"
    link.parent.mkdir(parents=True)
    link.write_text(image.manifest.digest)
    text = f"{registry.address}/{GUID}:latest"
    assert find_missing([registry], text) == ""
    assert find_missing([registry], STAGED) == ""

    lose(repository, root / "blobs/sha256")

    assert find_missing([registry], text) in {"its manifest", document["config"]["digest"]}
