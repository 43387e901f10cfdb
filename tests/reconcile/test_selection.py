"""Which LRPs an operator means by names, GUIDs and globs."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconcile.errors import Invalid
from reconcile.lrps import AppGuid, DesiredLrp, ProcessGuid
from reconcile.references import parse_image_reference
from reconcile.selection import Owner, Selection, owner_of
from tests.reconcile.test_decide import LRP, PROCESS, TAGGED

OTHER = replace(
    TAGGED,
    process_guid=ProcessGuid("p-2"),
    app_guid=AppGuid("app-2"),
    metric_tags={
        "organization_name": "umbrella",
        "organization_id": "o-2",
        "space_name": "dev",
        "space_id": "s-2",
        "app_name": "api",
        "app_id": "app-2",
    },
)
IMAGE = parse_image_reference("registry.example.com/team/app:1")


class TestOwner:
    @pytest.mark.parametrize(
        "selection",
        [
            Selection(orgs=("acme",)),
            Selection(orgs=("o-1",)),
            Selection(spaces=("prod",)),
            Selection(spaces=("s-1",)),
            Selection(apps=("web",)),
            Selection(apps=("app-1",)),
            Selection(process_guids=(PROCESS,)),
        ],
    )
    def test_each_is_chosen_by_name_or_guid(self, selection: Selection) -> None:
        assert selection.matches_owner(TAGGED)
        assert not selection.matches_owner(OTHER)

    def test_one_of_a_list_is_enough(self) -> None:
        assert Selection(orgs=("umbrella", "acme")).matches_owner(TAGGED)

    def test_every_list_must_have_something_of_it(self) -> None:
        assert Selection(orgs=("acme",), spaces=("prod",), apps=("web",)).matches_owner(TAGGED)
        assert not Selection(orgs=("acme",), spaces=("dev",), apps=("web",)).matches_owner(TAGGED)

    @pytest.mark.parametrize("name", ["Acme", "acm", "acmee", "cme", "", "A*", "ac?", "a[dx]me", "*x"])
    def test_a_name_without_a_glob_is_taken_as_it_is_written(self, name: str) -> None:
        assert not Selection(orgs=(name,)).matches_owner(TAGGED)

    @pytest.mark.parametrize(
        "selection",
        [
            Selection(orgs=("ac*",)),
            Selection(orgs=("o-?",)),
            Selection(spaces=("pr[aeo]d",)),
            Selection(spaces=("s-[0-9]",)),
            Selection(apps=("w*b",)),
            Selection(apps=("app-[!2]",)),
            Selection(orgs=("x", "*"), apps=("web*",)),
        ],
    )
    def test_names_and_guids_are_globs_as_in_the_config(self, selection: Selection) -> None:
        assert selection.matches_owner(TAGGED)

    def test_a_glob_chooses_no_lrp_without_the_tag(self) -> None:
        assert not Selection(orgs=("*",)).matches_owner(LRP)

    @pytest.mark.parametrize("name", ["we[b", "web[1]", "web*"])
    def test_a_name_that_looks_like_a_glob_is_chosen_as_it_is_written(self, name: str) -> None:
        odd = replace(TAGGED, metric_tags={**TAGGED.metric_tags, "app_name": name})

        assert Selection(apps=(name,)).matches_owner(odd)

    def test_a_process_guid_is_no_glob(self) -> None:
        """What may be shortened is resolved where all GUIDs are known; two LRPs are never meant by one."""
        assert not Selection(process_guids=("*", PROCESS[:-1])).matches_owner(TAGGED)

    def test_a_name_of_one_kind_chooses_nothing_of_another(self) -> None:
        assert not Selection(spaces=("acme",)).matches_owner(TAGGED)

    def test_an_lrp_without_tags_is_chosen_by_its_app_guid_and_its_own_alone(self) -> None:
        assert Selection(apps=("app-1",)).matches_owner(LRP)
        assert Selection(process_guids=(PROCESS,)).matches_owner(LRP)
        assert not Selection(orgs=("acme",)).matches_owner(LRP)

    def test_an_empty_name_does_not_choose_what_has_none(self) -> None:
        assert not Selection(orgs=("",)).matches_owner(LRP)

    def test_the_names_stand_in_the_metric_tags(self) -> None:
        assert owner_of(TAGGED) == Owner("acme", "prod", "web")
        assert owner_of(LRP) == Owner("", "", "")


class TestImages:
    @pytest.mark.parametrize(
        ("glob", "matches"),
        [
            ("registry.example.com/team/app", True),
            ("registry.example.com/team/app:1", True),
            ("registry.example.com/team/app:2", False),
            ("registry.example.com/*", True),
            ("*:1", True),
            ("*:latest", False),
            ("*/team/*", True),
            ("docker.io/*", False),
            ("registry.example.com/team", False),
        ],
    )
    def test_a_glob_is_matched_against_the_reference_with_its_tag_and_without(
        self,
        glob: str,
        matches: bool,  # noqa: FBT001 - a parameter of pytest
    ) -> None:
        assert Selection(images=(glob,)).matches_image([IMAGE]) == matches

    def test_an_image_is_known_by_its_full_name_however_it_is_written(self) -> None:
        selection = Selection(images=("docker.io/library/nginx:latest",))

        assert selection.matches_image([parse_image_reference("nginx")])

    def test_one_of_several_sources_is_enough(self) -> None:
        """An LRP that runs from its copy is found by what it ran from before."""
        copy = parse_image_reference("cache.example:8080/3d9f1a52-8c1c-4e58-9a1c-0b1c8d2f5e77:latest")

        assert Selection(images=("registry.example.com/*",)).matches_image([copy, IMAGE])

    def test_one_of_several_globs_is_enough(self) -> None:
        assert Selection(images=("docker.io/*", "*:1")).matches_image([IMAGE])

    def test_what_has_no_image_is_chosen_by_no_glob(self) -> None:
        assert not Selection(images=("*",)).matches_image([])
        assert Selection().matches_image([])

    @pytest.mark.parametrize("glob", ["", "nginx", "library/*", "a b/*", "docker.io/[ab", "Docker.io/*"])
    def test_a_glob_that_can_match_nothing_is_refused(self, glob: str) -> None:
        """Otherwise a typo would make a plan that is empty, and look as if all were done."""
        with pytest.raises(Invalid) as caught:
            Selection(images=("docker.io/*", glob))

        assert caught.value.code == "bad-pattern"


def test_without_any_list_everything_is_chosen() -> None:
    assert Selection().selects_all
    assert Selection().matches_owner(TAGGED)
    assert Selection().matches_image([IMAGE])


@pytest.mark.parametrize("field", Selection.__slots__)
def test_with_any_list_something_is_left_out(field: str) -> None:
    chosen = {field: ("docker.io/*",)}

    assert not replace(Selection(), **chosen).selects_all


names = st.lists(st.sampled_from(["acme", "o-2", "prod", "s-2", "web", "app-2"]), max_size=2).map(tuple)
selections = st.builds(Selection, orgs=names, spaces=names, apps=names)


@given(selection=selections, lrp=st.sampled_from([LRP, TAGGED, OTHER]))
def test_what_all_lists_choose_together_each_of_them_chooses_alone(
    selection: Selection, lrp: DesiredLrp
) -> None:
    alone = (
        Selection(orgs=selection.orgs),
        Selection(spaces=selection.spaces),
        Selection(apps=selection.apps),
    )

    assert selection.matches_owner(lrp) == all(each.matches_owner(lrp) for each in alone)
