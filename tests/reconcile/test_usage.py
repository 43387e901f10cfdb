"""What counts as a use of a copy."""

from dataclasses import replace

import pytest

from reconcile.bridges import bridge_of
from reconcile.droplets import DropletGuid
from reconcile.lrps import AppGuid, ModificationTag, ProcessGuid, SchedulingInfo, Task, TaskGuid, TaskState
from reconcile.records import CachedImage, requester_of_lrp, requester_of_operator, requester_of_task
from reconcile.references import CacheGuid, CacheRepositories, Digest, Rootfs, parse_image_reference
from reconcile.usage import (
    CopyBinding,
    CopyUser,
    MigratedLrp,
    RememberedUses,
    UsageSurvey,
    UseKind,
    used_by,
)

CACHE = CacheRepositories("cache.example:8080")
GUID = CacheGuid("1b2f6a90-33c1-4b52-9d0e-0c8f6a3b7f10")
OTHER = CacheGuid("7c0d3c5e-52a1-4d5b-8f7e-2b6a1f0c9d11")
DIGEST = Digest("sha256", "ab" * 32)
SOURCE = parse_image_reference("registry.example/team/web:1").canonical()
IMAGE = CachedImage(GUID, SOURCE, DIGEST, DIGEST, DIGEST, size=100, created_at=1000.0, verified_at=1000.0)
PROCESS, APP = ProcessGuid("p-1"), AppGuid("app-1")
FROM_SOURCE, FROM_COPY = Rootfs("docker://registry.example/team/web#1"), CACHE.rootfs(GUID)
NOW, GRACE = 100_000.0, 600.0


def lrp(rootfs: Rootfs, *, guid: str = PROCESS, instances: int = 1, app: str = APP) -> SchedulingInfo:
    return SchedulingInfo(
        ProcessGuid(guid), "cf-apps", AppGuid(app), rootfs, instances, ModificationTag("e", 0)
    )


def task(rootfs: Rootfs, state: TaskState = TaskState.RUNNING) -> Task:
    return Task(TaskGuid("t-1"), "cf-tasks", state, created_at=0, rootfs=rootfs, log_guid=APP)


def staged(cache_guid: CacheGuid, at: int, *, source: str = str(SOURCE), by: str = "task:t-0") -> CopyBinding:
    return CopyBinding(by, APP, source, at * 1_000_000_000, cache_guid)


def survey(
    *,
    staged: tuple[CopyBinding, ...] = (),
    migrated: tuple[MigratedLrp, ...] = (),
    pinned: frozenset[AppGuid] = frozenset(),
) -> UsageSurvey:
    return UsageSurvey([IMAGE], CACHE, RememberedUses(staged, migrated), pinned)


def users(seen: UsageSurvey) -> list[CopyUser]:
    return list(seen.usage(NOW, grace=GRACE).users.get(GUID, ()))


class TestUses:
    @pytest.mark.parametrize(
        ("seen", "kind"),
        [
            (lrp(FROM_COPY), UseKind.LRP),
            (lrp(FROM_COPY, instances=0), UseKind.STOPPED_LRP),
            (lrp(FROM_COPY, guid=bridge_of(PROCESS)), UseKind.BRIDGE),
        ],
        ids=["running", "without-instances", "bridge"],
    )
    def test_an_lrp_uses_the_copy_that_it_is_desired_from(self, seen: SchedulingInfo, kind: UseKind) -> None:
        found = survey()
        found.see_lrp(seen)

        assert users(found) == [CopyUser(kind, seen.process_guid)]

    def test_an_lrp_of_a_pinned_app_that_runs_from_the_copy_uses_it_nevertheless(self) -> None:
        found = survey(pinned=frozenset({APP}))
        found.see_lrp(lrp(FROM_COPY))

        assert users(found) == [CopyUser(UseKind.LRP, PROCESS)]

    @pytest.mark.parametrize(
        ("rootfs", "is_use"),
        [
            (f"docker://{CACHE.address}/{GUID}@sha256#{DIGEST.hex}", True),
            (f"docker://user:password@{CACHE.address}/{GUID}#latest", True),
            (f"docker://Cache.Example:8080/{GUID}#latest", True),
            (f"docker://cache.example:08080/{GUID}#latest", True),
            (f"docker://cache.example.:8080/{GUID}#latest", True),
            (f"docker://registry.example/{GUID}#latest", False),
            (f"docker://{CACHE.address}/{OTHER}#latest", False),
            ("preloaded:cflinuxfs4", False),
        ],
    )
    def test_a_copy_is_named_in_many_ways(self, rootfs: str, *, is_use: bool) -> None:
        found = survey()
        found.see_lrp(lrp(Rootfs(rootfs)))

        assert bool(users(found)) is is_use

    def test_a_copy_in_another_private_registry_is_named_by_that(self) -> None:
        """The record of a copy knows where it was put."""
        found = UsageSurvey(
            [replace(IMAGE, registry="old.example:8080")], CACHE, RememberedUses(), frozenset()
        )
        found.see_lrp(lrp(Rootfs(f"docker://old.example:8080/{GUID}#latest")))

        assert users(found) == [CopyUser(UseKind.LRP, PROCESS)]

    def test_an_lrp_that_still_runs_from_a_former_registry_uses_the_copy_with_the_same_guid(self) -> None:
        """It is migrated to that next."""
        cache = CacheRepositories(CACHE.address, former=(CacheRepositories("old.example:8080"),))
        found = UsageSurvey([IMAGE], cache, RememberedUses(), frozenset())
        found.see_lrp(lrp(Rootfs(f"docker://old.example:8080/{GUID}#latest")))

        assert users(found) == [CopyUser(UseKind.LRP, PROCESS)]

    @pytest.mark.parametrize("state", TaskState)
    def test_a_task_uses_a_copy_until_it_has_ended(self, state: TaskState) -> None:
        found = survey()
        found.see_task(task(FROM_COPY, state))

        has_ended = state in {TaskState.COMPLETED, TaskState.RESOLVING}
        assert users(found) == ([] if has_ended else [CopyUser(UseKind.TASK, "t-1")])

    @pytest.mark.parametrize("state", TaskState)
    def test_a_staging_task_uses_the_copy_that_it_led_to_while_it_exists(self, state: TaskState) -> None:
        found = survey(staged=(staged(GUID, 0, by=requester_of_task(TaskGuid("t-1"))),))
        found.see_task(task(Rootfs("preloaded:cflinuxfs4"), state))

        assert users(found) == [CopyUser(UseKind.STAGING, "t-1")]

    def test_an_lrp_that_was_migrated_to_a_copy_may_go_back_to_it(self) -> None:
        found = survey(migrated=(MigratedLrp(PROCESS, GUID, FROM_SOURCE),))
        found.see_lrp(lrp(FROM_SOURCE))

        assert users(found) == [CopyUser(UseKind.MIGRATED_LRP, PROCESS)]

    def test_an_lrp_of_a_pinned_app_does_not_go_back(self) -> None:
        found = survey(
            migrated=(MigratedLrp(PROCESS, GUID, FROM_SOURCE),),
            staged=(staged(GUID, 5),),
            pinned=frozenset({APP}),
        )
        found.see_lrp(lrp(FROM_SOURCE))

        assert users(found) == []

    @pytest.mark.parametrize("rootfs", [FROM_SOURCE, CACHE.rootfs(OTHER)], ids=["source", "other-copy"])
    def test_the_newest_staging_of_an_app_that_exists_may_be_what_it_starts_from_next(
        self, rootfs: Rootfs
    ) -> None:
        found = survey(staged=(staged(GUID, 7), staged(OTHER, 5)))
        found.see_lrp(lrp(rootfs))

        assert users(found) == [CopyUser(UseKind.STAGED_APP, APP)]

    def test_an_older_staging_of_the_same_source_is_not_needed(self) -> None:
        found = survey(staged=(staged(GUID, 5), staged(OTHER, 7)))
        found.see_lrp(lrp(FROM_SOURCE))

        assert users(found) == []

    def test_the_newest_staging_of_the_source_that_an_lrp_runs_from_is_needed(self) -> None:
        """The app was staged for another image since, and not restarted."""
        found = survey(staged=(staged(GUID, 5), staged(OTHER, 7, source="registry.example/team/next:1")))
        found.see_lrp(lrp(FROM_SOURCE))

        assert users(found) == [CopyUser(UseKind.STAGED_APP, APP)]

    def test_the_source_that_an_lrp_ran_from_before_its_migration_counts_as_well(self) -> None:
        found = survey(
            staged=(staged(GUID, 5), staged(OTHER, 7, source="registry.example/team/next:1")),
            migrated=(MigratedLrp(PROCESS, OTHER, FROM_SOURCE),),
        )
        found.see_lrp(lrp(CACHE.rootfs(OTHER)))

        assert users(found) == [CopyUser(UseKind.STAGED_APP, APP)]

    def test_the_copy_that_an_lrp_itself_asked_for_is_needed(self) -> None:
        found = survey(staged=(staged(GUID, 5, by=requester_of_lrp(PROCESS)), staged(OTHER, 7)))
        found.see_lrp(lrp(FROM_SOURCE))

        assert users(found) == [CopyUser(UseKind.STAGED_APP, APP)]

    def test_a_staging_of_an_app_that_does_not_exist_is_no_use(self) -> None:
        found = survey(staged=(staged(GUID, 7),))
        found.see_lrp(lrp(FROM_SOURCE, app="app-2"))

        assert users(found) == []

    def test_a_staging_that_has_just_ended_is_a_use_before_its_app_is_desired(self) -> None:
        found = survey(staged=(staged(GUID, int(NOW - GRACE) + 1),))

        assert [user.kind for user in users(found)] == [UseKind.STAGING]

    def test_a_staging_that_a_clock_put_years_ahead_is_no_use_for_years(self) -> None:
        assert users(survey(staged=(staged(GUID, int(NOW) + 10 * 365 * 86_400),))) == []
        assert users(survey(staged=(staged(GUID, int(NOW) + 60),))) != [], "the BBS's clock is a little ahead"

    def test_what_an_operator_asked_for_belongs_to_no_app(self) -> None:
        asked = replace(staged(GUID, 0, by=requester_of_operator("1")), app_guid=AppGuid(""))
        found = survey(staged=(asked,))
        found.see_lrp(lrp(FROM_SOURCE, app=""))

        assert users(found) == []

    def test_remembered_lrps_that_are_not_listed_are_told(self) -> None:
        gone = ProcessGuid("p-2")
        found = survey(migrated=(MigratedLrp(PROCESS, GUID), MigratedLrp(gone, GUID)))
        found.see_lrp(lrp(FROM_COPY))

        assert found.usage(NOW, grace=GRACE).unlisted == {GUID: frozenset({gone})}


class TestDroplets:
    """What Cloud Controller would desire from next."""

    @pytest.mark.parametrize(
        ("text", "is_use"),
        [
            (f"cache.example:8080/{GUID}:latest", True),
            (f"Cache.Example:8080/{GUID.upper()}", True),
            (f"cache.example:8080/{GUID}@sha256:{DIGEST.hex}", True),
            (f"cache.example:8080/other@sha256:{DIGEST.hex}", True),
            (f"cache.example:8080/{OTHER}:latest", False),
            (f"registry.example/{GUID}:latest", False),
            ("cache.example:8080/team/web:1", False),
            ("", False),
        ],
    )
    def test_a_droplet_uses_the_copy_that_its_image_text_names(self, text: str, *, is_use: bool) -> None:
        found = survey()
        found.see_droplet(DropletGuid("d-1"), text)

        assert users(found) == ([CopyUser(UseKind.DROPLET, "d-1")] if is_use else [])

    def test_an_app_that_is_pinned_to_its_source_may_have_droplets_that_name_the_copy(self) -> None:
        found = survey(pinned=frozenset({APP}))
        found.see_droplet(DropletGuid("d-1"), f"cache.example:8080/{GUID}:latest")

        assert users(found) == [CopyUser(UseKind.DROPLET, "d-1")]


def test_a_few_users_are_named_and_the_others_counted() -> None:
    assert (
        used_by(CopyUser(UseKind.LRP, f"p-{n}") for n in range(5))
        == "used by LRP p-0, LRP p-1, LRP p-2 and 2 more"
    )
