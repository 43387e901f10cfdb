"""The names of apps, for lines about their images."""

from controller import app_tags
from controller.app_tags import AppTags, named
from reconcile.lrps import AppGuid

TAGS = {"app_name": "web", "space_name": "dev", "organization_name": "acme", "instance_id": "7"}


def test_what_does_not_say_whose_an_app_is_is_left_out() -> None:
    tags = AppTags()
    tags.note(AppGuid("a"), TAGS)

    assert tags.of(AppGuid("a")) == {
        key: TAGS[key] for key in ("app_name", "space_name", "organization_name")
    }
    assert tags.of(AppGuid("b")) == {}


def test_the_names_are_empty_where_they_are_not_known() -> None:
    assert named(TAGS) == {"app": "web", "space": "dev", "organization": "acme"}
    assert named({}) == {"app": "", "space": "", "organization": ""}


def test_of_too_many_apps_those_are_forgotten_that_were_noted_first() -> None:
    tags = AppTags()
    for number in range(app_tags.MOST_APPS):
        tags.note(AppGuid(str(number)), TAGS)
    tags.note(AppGuid("0"), TAGS)
    tags.note(AppGuid("new"), TAGS)

    assert tags.of(AppGuid("0")) != {}
    assert tags.of(AppGuid("1")) == {}
