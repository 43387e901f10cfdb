"""Chooses LRPs by organization, space, app, image or process GUID."""

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from reconcile.lrps import DesiredLrp
from reconcile.policy import check_patterns, names_image
from reconcile.references import ImageReference


@dataclass(frozen=True, slots=True)
class Owner:
    """The organization, space and app of an LRP by its metric tags; empty where a tag is missing."""

    org: str
    space: str
    app: str


NOBODY = Owner("", "", "")
"""The owner of an app whose names are not known."""


@dataclass(frozen=True, slots=True)
class AppNames:
    """What an app is chosen by.

    Attributes:
        guids: Of the app, which an LRP may give in two places.
        owner: The names of its organization, its space and itself.
        org_guid: Empty where it is not known, as `space_guid`.
    """

    guids: tuple[str, ...]
    owner: Owner = NOBODY
    org_guid: str = ""
    space_guid: str = ""


def names_of(lrp: DesiredLrp) -> AppNames:
    """Read what an LRP's app is chosen by."""
    tags = lrp.metric_tags
    return AppNames(
        (lrp.app_guid, tags.get("app_id", "")),
        owner_of(lrp),
        tags.get("organization_id", ""),
        tags.get("space_id", ""),
    )


def owner_of(lrp: DesiredLrp) -> Owner:
    """Read the names in an LRP's metric tags.

    Source: cloud_controller_ng lib/cloud_controller/diego/app_recipe_builder.rb.
    """
    tags = lrp.metric_tags
    return Owner(tags.get("organization_name", ""), tags.get("space_name", ""), tags.get("app_name", ""))


@dataclass(frozen=True, slots=True)
class Selection:
    """The LRPs that match something in every list that is not empty.

    A glob is as in the config: `*` matches any text, `?` one character, `[ab]` one of several characters.
    Upper and lower case differ.

    Attributes:
        orgs: Globs over the name or the GUID of the organization.
        spaces: Globs over the name or the GUID of the space.
        apps: Globs over the name or the GUID of the app.
        images: Globs over full references of source images, as in `Policy`.
        process_guids: Whole process GUIDs.

    Raises:
        Invalid: see `check_patterns`, for the images.
    """

    orgs: tuple[str, ...] = ()
    spaces: tuple[str, ...] = ()
    apps: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    process_guids: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_patterns(self.images)

    @property
    def selects_all(self) -> bool:
        """Whether all LRPs are chosen."""
        return not (self.orgs or self.spaces or self.apps or self.images or self.process_guids)

    def matches_image(self, sources: Iterable[ImageReference]) -> bool:
        """Whether one of an LRP's source images is chosen."""
        if not self.images:
            return True
        return any(names_image(self.images, source) for source in sources)

    def matches_owner(self, lrp: DesiredLrp) -> bool:
        """Whether an LRP's organization, space, app and process GUID are chosen."""
        is_named = not self.process_guids or lrp.process_guid in self.process_guids
        return is_named and self.matches_app(names_of(lrp))

    def matches_app(self, app: AppNames) -> bool:
        """Whether an app's organization, its space and the app itself are chosen."""
        owner = app.owner
        return (
            _matches(self.orgs, owner.org, app.org_guid)
            and _matches(self.spaces, owner.space, app.space_guid)
            and _matches(self.apps, owner.app, *app.guids)
        )


def _matches(globs: tuple[str, ...], *texts: str) -> bool:
    """Whether a text is one of some globs as it is written, or matches one; an empty text never does."""
    present = [text for text in texts if text]
    return not globs or any(text == glob or fnmatchcase(text, glob) for glob in globs for text in present)
