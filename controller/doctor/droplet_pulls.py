"""Pulls from the private registry as cells do what Cloud Controller desires from a droplet that names a copy.

It has no login for the image of a public source, else that of the source registry, which the private registry
does not know. No cell is asked: what the registry refuses here it refuses them.
"""

from contextlib import closing

from controller.config import Config
from controller.doctor.findings import Finding, ok, warning
from controller.doctor.probe import ProbeImage, read_probe
from controller.doctor.request_limits import ONCE, TIMEOUTS
from controller.threads import Cancellation
from controller.wiring import open_foreign_view
from reconcile.canary import make_up_login
from reconcile.errors import Denied, DockerCacheError, NotFound
from reconcile.lrps import Credentials

DROPLET_PULLS = "droplet-pulls"

_ADVICE = (
    "let the private registry serve pulls inside the platform without a login, or with any, or set "
    "update_droplets to false; until then such droplets stay as they are, and apps are migrated as without "
    "Cloud Controller"
)
_OTHER_ADVICE = "follow what cache-registry says, and run this again"


def pull_for_droplets(config: Config, probe: ProbeImage, cancellation: Cancellation) -> tuple[Finding, ...]:
    """Pull a test image with each login that cells may get from a droplet; not where none is updated."""
    if config.cloud_controller_api_url is None or not config.update_droplets:
        return ()
    logins: list[tuple[str, Credentials | None]] = [("with a login that it does not know", make_up_login())]
    if config.cache_pull_username is not None:  # otherwise cells have none anyway
        logins.insert(0, ("without a login", None))
    return tuple(_pull(config, probe, cancellation, login) for login in logins)


def _pull(
    config: Config, probe: ProbeImage, cancellation: Cancellation, login: tuple[str, Credentials | None]
) -> Finding:
    how, credentials = login
    with closing(open_foreign_view(config, credentials, timeouts=TIMEOUTS, retries=ONCE)) as registries:
        try:
            read_probe(registries.repository(probe.reference, None, cancellation), probe)
        except DockerCacheError as error:
            advice = _ADVICE if isinstance(error, Denied | NotFound) else _OTHER_ADVICE
            text = f"pulling the test image {how}, as what is desired from a droplet: {error}"
            return warning(DROPLET_PULLS, text, advice)
    text = f"{probe.reference} was pulled {how}, as what is desired from a droplet is"
    return ok(DROPLET_PULLS, text)
