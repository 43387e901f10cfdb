"""Asks an LRP's source whether it still has the image, before the LRP goes back to it."""

import asyncio

from reconcile.apply.action_ports import ActionPorts, Outcome
from reconcile.errors import Denied, Invalid, NotFound, Unavailable
from reconcile.missing_copies import ASK_SOURCE_AGAIN
from reconcile.observed import Observed
from reconcile.reasons import Reason
from reconcile.references import image_from_rootfs

ASK_SOURCE_WITHIN = 20.0
"""Seconds that a source may take to say whether it has an image."""

ASK_SOURCE_SOON = 30.0
"""Seconds until a source that did not answer is asked again."""


async def why_not_at_source(observed: Observed, ports: ActionPorts) -> Outcome | None:
    """Return why an LRP stays on its copy although that is incomplete; None when its source has the image."""
    source = observed.original_source
    if source is None:
        raise AssertionError("the original source is known before an LRP is restored to it")
    image = image_from_rootfs(source.rootfs).canonical()
    try:
        async with asyncio.timeout(ASK_SOURCE_WITHIN):
            await ports.engine.resolve(image, source.credentials)
    except (NotFound, Denied, Invalid) as error:
        copy = observed.current_copy
        is_lost = copy is not None and bool(copy.lost_since)
        reason = Reason.COPY_AND_SOURCE_LOST if is_lost else Reason.COPY_INCOMPLETE
        return Outcome(reason, f"its source says: {error}", ASK_SOURCE_AGAIN)
    except (Unavailable, TimeoutError) as error:
        answer = str(error) or "no answer in time"
        return Outcome(Reason.COPY_INCOMPLETE, f"its source does not answer: {answer}", ASK_SOURCE_SOON)
    return None
