"""Converts the JSON of Cloud Controller's resources into values.

Source: cloud_controller_ng app/presenters/v3/{app,build,droplet,organization,package,space}_presenter.rb.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime

from controller.capi.capi_errors import SYSTEM
from controller.capi.documents import JsonObject, within
from reconcile.droplets import Build, BuildGuid, BuildState, Droplet, DropletGuid, Package, PackageGuid
from reconcile.errors import ErrorCode, Invalid
from reconcile.foreign_text import one_line
from reconcile.lrps import AppGuid

DOCKER = "docker"
MAX_IMAGE = 4096
"""Characters that are kept of an image text. No reference is so long; and one app's must not spoil a list."""

_GUID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,254}")
_MAX_TEXT = 255
_BUILD_STATES = frozenset(map(str, BuildState))


def is_guid(text: str) -> bool:
    """Whether a text can be the GUID of a resource, so that it can stand in a path."""
    return _GUID.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class NamedResource:
    """An app, a space or an organization.

    Attributes:
        parent: GUID of an app's space, or of a space's organization; empty for an organization.
    """

    guid: str
    name: str
    parent: str


def named_resource_from_json(document: JsonObject) -> NamedResource:
    """Convert an app, a space or an organization; raises as `build_from_json`."""
    relationships = [
        within(document, "relationships", each, "data", "guid") for each in ("space", "organization")
    ]
    parents = [each for each in relationships if isinstance(each, str) and is_guid(each)]
    name = one_line(_text(document, "name"), _MAX_TEXT)
    return NamedResource(_guid(document, "guid"), name, parents[0] if parents else "")


def build_from_json(document: JsonObject) -> Build:
    """Convert a build.

    Raises:
        Invalid: A part is missing or not what it should be.
    """
    state = _text(document, "state")
    if state not in _BUILD_STATES:
        raise _bad(f"a build in the state {one_line(state)}")
    droplet, package = _guid_or_none(document, "droplet"), _guid_or_none(document, "package")
    return Build(
        guid=BuildGuid(_guid(document, "guid")),
        state=BuildState(state),
        droplet_guid=None if droplet is None else DropletGuid(droplet),
        app_guid=_app_guid(document),
        package_guid=None if package is None else PackageGuid(package),
        created_at=_moment(document, "created_at"),
    )


def droplet_from_json(document: JsonObject) -> Droplet:
    """Convert a droplet; raises as `build_from_json`."""
    package = _last_segment(within(document, "links", "package", "href"))
    return Droplet(
        guid=DropletGuid(_guid(document, "guid")),
        state=one_line(_text(document, "state")),
        is_docker=within(document, "lifecycle", "type") == DOCKER,
        image=_image(document.get("image")),
        app_guid=_app_guid(document),
        package_guid=None if package is None else PackageGuid(package),
        created_at=_moment(document, "created_at"),
        updated_at=_moment(document, "updated_at"),
    )


def package_from_json(document: JsonObject) -> Package:
    """Convert a package; raises as `build_from_json`."""
    is_docker = document.get("type") == DOCKER
    username = within(document, "data", "username")
    return Package(
        guid=PackageGuid(_guid(document, "guid")),
        is_docker=is_docker,
        image=_image(within(document, "data", "image")) if is_docker else None,
        username=_storable(username, _MAX_TEXT) if is_docker and isinstance(username, str) else "",
    )


def _app_guid(document: JsonObject) -> AppGuid:
    """Return the app's GUID: of its relationship, or of the link that older versions have alone."""
    guid = within(document, "relationships", "app", "data", "guid")
    if guid is None:
        guid = _last_segment(within(document, "links", "app", "href"))
    if not isinstance(guid, str) or not is_guid(guid):
        raise _bad("a resource without its app")
    return AppGuid(guid)


def _guid(document: JsonObject, *names: str) -> str:
    guid = within(document, *names)
    if not isinstance(guid, str) or not is_guid(guid):
        raise _bad(f"a resource without {' '.join(names)}")
    return guid


def _guid_or_none(document: JsonObject, name: str) -> str | None:
    return None if within(document, name, "guid") is None else _guid(document, name, "guid")


def _last_segment(href: object) -> str | None:
    guid = href.rpartition("/")[2] if isinstance(href, str) else ""
    return guid if is_guid(guid) else None


def _image(text: object) -> str | None:
    if text is None:
        return None
    if not isinstance(text, str):
        raise _bad("an image that is no text")
    return _storable(text, MAX_IMAGE)


def _storable(text: str, most: int) -> str:
    """Bound a text, and replace NUL and halves of characters, which JSON can hold and databases cannot."""
    return text[:most].replace("\0", "?").encode("utf-8", "replace").decode("utf-8")


def _text(document: JsonObject, name: str) -> str:
    text = document.get(name)
    if not isinstance(text, str):
        raise _bad(f"a resource without {name}")
    return text


def _moment(document: JsonObject, name: str) -> float:
    text = _text(document, name)
    try:
        moment = datetime.fromisoformat(text[:_MAX_TEXT])
    except ValueError as error:
        raise _bad(f"{name} that is no time: {one_line(text)}") from error
    return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()


def _bad(what: str) -> Invalid:
    return Invalid(SYSTEM, ErrorCode.BAD_ANSWER, f"Cloud Controller answered with {what}")
