"""What an operator may write instead of a whole GUID, and what is never guessed."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.admin.naming import ImageNames, find_by_prefix, resolve_guids
from reconcile.errors import Invalid, NotFound
from reconcile.references import CacheGuid, parse_image_reference
from tests.reconcile.test_decide import IMAGE

FIRST = "03943662-ba36-4c22-8f5b-bcaec55a8303"
SECOND = "03943662-ffff-4c22-8f5b-bcaec55a8304"
THIRD = "5f1c0000-ba36-4c22-8f5b-bcaec55a8305"
GUIDS = [FIRST, SECOND, THIRD]
NGINX = parse_image_reference("nginx:1.27").canonical()
IMAGES = [
    replace(IMAGE, cache_guid=CacheGuid(FIRST), source=NGINX),
    replace(IMAGE, cache_guid=CacheGuid(SECOND), source=parse_image_reference("r.example/team/app:1")),
    replace(IMAGE, cache_guid=CacheGuid(THIRD), source=parse_image_reference("r.example/team/app:1")),
]


class TestGuids:
    @pytest.mark.parametrize("name", [THIRD, "5f1c", "5f1c0000-"])
    def test_a_unique_prefix_of_four_characters_is_enough(self, name: str) -> None:
        assert find_by_prefix(name, GUIDS) == THIRD

    @pytest.mark.parametrize("name", ["", "f1c", "f1c0000", "5F1C", "5f1d"])
    def test_what_is_no_prefix_names_nothing(self, name: str) -> None:
        assert find_by_prefix(name, GUIDS) is None
        assert resolve_guids([name], GUIDS) == (name,)

    def test_a_prefix_that_is_too_short_is_called_so(self) -> None:
        with pytest.raises(Invalid, match="'5f1' is too short: write at least 4 characters") as caught:
            resolve_guids(["5f1"], GUIDS)

        assert caught.value.code == "name-too-short"

    def test_what_means_several_is_refused_with_all_of_them(self) -> None:
        with pytest.raises(Invalid) as caught:
            resolve_guids(["5f1c", "0394"], GUIDS)

        assert caught.value.code == "ambiguous"
        assert FIRST in caught.value.detail
        assert SECOND in caught.value.detail
        assert THIRD not in caught.value.detail

    def test_a_whole_guid_is_itself_also_when_another_begins_with_it(self) -> None:
        assert find_by_prefix("p-10", ["p-100", "p-10", "p-101"]) == "p-10"

    def test_of_very_many_some_are_named(self) -> None:
        with pytest.raises(Invalid, match=r"p-100003, p-100004 and 95 more"):
            find_by_prefix("p-10", [f"p-{number}" for number in range(100_000, 100_100)])

    @given(
        st.lists(st.text("ab-", min_size=1, max_size=8), max_size=6, unique=True), st.text("ab-", max_size=8)
    )
    def test_what_is_found_begins_so_and_is_the_only_one(self, guids: list[str], name: str) -> None:
        beginning = [guid for guid in guids if guid.startswith(name)]
        try:
            found = find_by_prefix(name, guids)
        except Invalid:
            assert beginning
            assert len(beginning) > 1 or len(name) < 4
            assert name not in guids
            return
        assert found is None or found == name or beginning == [found]


class TestCachedImages:
    @pytest.mark.parametrize("name", [FIRST, "03943662-b", "nginx:1.27", "docker.io/library/nginx:1.27"])
    def test_it_is_named_by_guid_prefix_or_source(self, name: str) -> None:
        assert ImageNames(IMAGES).find(name) is IMAGES[0]

    @pytest.mark.parametrize("name", ["0394", "r.example/team/app:1"])
    def test_what_means_several_is_refused_with_guids_and_sources(self, name: str) -> None:
        with pytest.raises(Invalid, match=r"r\.example/team/app:1") as caught:
            ImageNames(IMAGES).find(name)

        assert caught.value.code == "ambiguous"
        assert SECOND in caught.value.detail

    def test_a_prefix_of_a_guid_that_is_too_short_is_called_so(self) -> None:
        with pytest.raises(Invalid, match="'039' is too short") as caught:
            ImageNames(IMAGES).find("039")

        assert caught.value.code == "name-too-short"

    @pytest.mark.parametrize("name", ["9", "nginx", "nginx:1.28", "", "a b", "r.example/team/app", "*"])
    def test_what_names_none_is_not_found(self, name: str) -> None:
        with pytest.raises(NotFound, match="there is no cached image") as caught:
            ImageNames(IMAGES).find(name)

        assert caught.value.code == "no-such-image"

    def test_a_prefix_that_is_also_the_name_of_an_image_is_not_guessed(self) -> None:
        odd = replace(IMAGE, cache_guid=CacheGuid(THIRD), source=parse_image_reference("0394366").canonical())

        with pytest.raises(Invalid) as caught:
            ImageNames([IMAGES[0], odd]).find("0394366")

        assert caught.value.code == "ambiguous"
