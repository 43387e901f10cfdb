"""Reads and writes the image texts of droplets, of which Cloud Controller makes rootfs.

Cloud Controller takes any text for a droplet, and one that it can make no rootfs of keeps it from marking
the domain `cf-apps` as fresh: then no surplus instance of any app is removed. So a text is read as Cloud
Controller reads it before it is written.

Source: cloud_controller_ng app/controllers/v3/droplets_controller.rb, lib/utils/uri_utils.rb,
    lib/cloud_controller/diego/docker/docker_uri_converter.rb; the column has 255 characters on MySQL.
"""

from reconcile.errors import Invalid
from reconcile.references import (
    CacheGuid,
    CacheRepositories,
    ImageReference,
    image_from_rootfs,
    rootfs_from_image_text,
    source_from_rootfs,
    without_login,
)

MAX_TEXT = 255
"""Characters of a droplet's image text."""


def check_text(text: str) -> None:
    """Refuse an image text that must not be written into a droplet.

    Raises:
        Invalid: It is too long, it holds a login, Cloud Controller would make no rootfs of it, or no registry
            could have such an image.
    """
    if len(text) > MAX_TEXT:
        raise Invalid(
            "image",
            "name-too-long",
            f"{without_login(text)!r} has {len(text)} characters: at most {MAX_TEXT}",
        )
    rootfs = rootfs_from_image_text(text)
    if rootfs.login:  # no staging leaves one in a text, and no record is to hold one
        raise Invalid("image", "invalid-format", f"{without_login(text)!r} holds a login")
    image_from_rootfs(rootfs)


def text_of_copy(cache: CacheRepositories, guid: CacheGuid) -> str:
    """Write the image text that names a copy in the present private registry.

    Raises:
        Invalid: See `check_text`; or Cloud Controller would make the rootfs of something else of it.
    """
    text = str(cache.image(guid))
    check_text(text)
    image = image_of_text(text)
    if image is None or cache.guid_of(image) != guid:
        raise Invalid("image", "invalid-format", f"{text!r} is not read as the name of the copy {guid}")
    return text


def image_of_text(text: str | None) -> ImageReference | None:
    """Read the image that cells would pull for a droplet, in its canonical spelling; None for no image."""
    if text is None:
        return None
    try:
        check_text(text)
    except Invalid:
        return None
    return source_from_rootfs(rootfs_from_image_text(text))
