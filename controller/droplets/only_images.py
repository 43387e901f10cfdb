"""Finds apps whose droplets all have one image: whichever is current has it, and nobody need be asked."""

import asyncio
from collections.abc import Mapping

from reconcile.droplet_texts import image_of_text
from reconcile.droplets import Droplet, DropletGuid, DropletRecord
from reconcile.lrps import AppGuid
from reconcile.references import ImageReference

BATCH = 200
"""Droplets after which others get a turn on the event loop."""


async def find_only_images(
    listed: Mapping[DropletGuid, Droplet], records: Mapping[DropletGuid, DropletRecord]
) -> dict[AppGuid, ImageReference]:
    """Find the apps whose droplets all have one image, as their current ones have, too."""
    images: dict[AppGuid, set[ImageReference | None]] = {}
    for number, droplet in enumerate(listed.values()):
        record = records.get(droplet.guid)
        is_target = record is not None and record.target == droplet.image
        text = record.original if record is not None and is_target else droplet.image
        images.setdefault(droplet.app_guid, set()).add(image_of_text(text))
        if number % BATCH == 0:
            await asyncio.sleep(0)
    only = {app_guid: next(iter(each)) for app_guid, each in images.items() if len(each) == 1}
    return {app_guid: image for app_guid, image in only.items() if image is not None}
