"""Chooses LRPs by organization, space, app, image or process GUID, as an operator names them."""

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from reconcile.images import ImageReference
from reconcile.lrps import DesiredLrp
from reconcile.policy import check_patterns


@dataclass(frozen=True, slots=True)
class Owner:
    """The organization, space and app of an LRP, by its metric tags; empty where a tag is missing."""

    org: str
    space: str
    app: str


def owner_of(lrp: DesiredLrp) -> Owner:
    """Read the names in an LRP's metric tags.

    Source: cloud_controller_ng lib/cloud_controller/diego/app_recipe_builder.rb.
    """
    tags = lrp.metric_tags
    return Owner(tags.get("organization_name", ""), tags.get("space_name", ""), tags.get("app_name", ""))


@dataclass(frozen=True, slots=True)
class Selection:
    """Which LRPs are chosen: those that match each list that is not empty.

    Attributes:
        orgs: Names or GUIDs of organizations.
        spaces: Names or GUIDs of spaces.
        apps: Names or GUIDs of apps.
        images: Globs over full references of source images, as in `Policy`.

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
    def is_everything(self) -> bool:
        """Whether every LRP is chosen."""
        return not (self.orgs or self.spaces or self.apps or self.images or self.process_guids)

    def matches_image(self, sources: Iterable[ImageReference]) -> bool:
        """Whether one of an LRP's source images is chosen."""
        if not self.images:
            return True
        canonical = [source.canonical() for source in sources]
        texts = [text for image in canonical for text in (str(image), image.repository)]
        return any(fnmatchcase(text, pattern) for pattern in self.images for text in texts)

    def matches_owner(self, lrp: DesiredLrp) -> bool:
        """Whether an LRP's owner and its process GUID are chosen."""
        tags = lrp.metric_tags
        return (
            _has(self.process_guids, lrp.process_guid)
            and _has(self.orgs, tags.get("organization_name"), tags.get("organization_id"))
            and _has(self.spaces, tags.get("space_name"), tags.get("space_id"))
            and _has(self.apps, tags.get("app_name"), tags.get("app_id"), lrp.app_guid)
        )


def _has(chosen: tuple[str, ...], *texts: str | None) -> bool:
    return not chosen or any(text in chosen for text in texts if text)
