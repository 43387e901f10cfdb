"""When a copy may be deleted."""

from dataclasses import replace

import pytest

from reconcile.errors import Invalid
from reconcile.eviction import EvictionVerdict, decide_eviction, find_twins
from reconcile.lrps import AppGuid, ProcessGuid
from reconcile.records import CachedImage
from reconcile.references import CacheGuid, CacheRepositories, Digest, Rootfs, parse_image_reference
from reconcile.usage import (
    CopyUser,
    Usage,
    UseKind,
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


class TestDecision:
    def decide(
        self, usage: Usage, unused_since: float = 0.0, twin: CacheGuid | None = None
    ) -> EvictionVerdict:
        return decide_eviction(IMAGE, usage, unused_since=unused_since, grace=GRACE, twin=twin).verdict

    def test_a_copy_that_was_unused_for_long_enough_may_be_deleted(self) -> None:
        assert self.decide(Usage(NOW), NOW - GRACE) is EvictionVerdict.DELETABLE

    @pytest.mark.parametrize("unused_since", [0.0, NOW, NOW - GRACE + 1])
    def test_one_look_is_never_enough(self, unused_since: float) -> None:
        decision = decide_eviction(IMAGE, Usage(NOW), unused_since=unused_since, grace=GRACE, twin=None)

        assert decision.verdict is EvictionVerdict.TOO_SOON
        assert decision.deletable_from == (unused_since or NOW) + GRACE
        assert "first seen unused" in decision.detail

    def test_a_copy_that_was_just_made_stays_although_its_record_says_otherwise(self) -> None:
        new = replace(IMAGE, created_at=NOW - 1)

        decision = decide_eviction(new, Usage(NOW), unused_since=1.0, grace=GRACE, twin=None)

        assert decision.verdict is EvictionVerdict.TOO_SOON
        assert decision.deletable_from == NOW - 1 + GRACE
        assert "copied 1 s ago" in decision.detail

    def test_a_copy_that_is_used_stays_however_long_it_was_unused(self) -> None:
        usage = Usage(NOW, {GUID: (CopyUser(UseKind.LRP, PROCESS),)})

        decision = decide_eviction(IMAGE, usage, unused_since=1.0, grace=GRACE, twin=None)

        assert decision.verdict is EvictionVerdict.IN_USE
        assert decision.detail == "used by LRP p-1"

    def test_a_use_that_was_found_counts_also_in_a_listing_that_cannot_be_trusted(self) -> None:
        usage = Usage(NOW, {GUID: (CopyUser(UseKind.LRP, PROCESS),)}, problem=Invalid("bbs", "x", "y"))

        assert self.decide(usage, 1.0) is EvictionVerdict.IN_USE

    def test_nothing_is_known_from_a_listing_that_cannot_be_trusted(self) -> None:
        usage = Usage(NOW, problem=Invalid("bbs", "listing-empty", "y"))

        assert self.decide(usage, 1.0) is EvictionVerdict.UNKNOWN

    def test_a_manifest_that_another_copy_shares_stays(self) -> None:
        assert self.decide(Usage(NOW), 1.0, OTHER) is EvictionVerdict.SHARED


def test_copies_share_a_manifest_only_in_one_repository() -> None:
    twins = [IMAGE, replace(IMAGE, cache_guid=OTHER)]

    assert find_twins(twins, CACHE) == {}
    assert find_twins(twins, CacheRepositories("cache.example:8080", "copies:{guid}")) == {
        GUID: OTHER,
        OTHER: GUID,
    }
