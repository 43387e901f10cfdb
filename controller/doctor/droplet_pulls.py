"""Checks whether cells can pull what Cloud Controller desires from a droplet that names a copy.

It has no login for the image of a public source, else that of the source registry, which the private registry
does not know. The registry itself is asked first, without a cell: what it refuses here it refuses them.
"""

from collections.abc import Mapping
from contextlib import closing

from controller.config import Config
from controller.doctor.findings import Finding, ok, warning
from controller.doctor.probe import ProbeImage, read_probe
from controller.doctor.request_limits import ONCE, TIMEOUTS
from controller.threads import Cancellation
from controller.wiring import open_foreign_view
from reconcile.canary import make_up_login
from reconcile.errors import Denied, DockerCacheError, NotFound
from reconcile.pull_proof import CanaryLogin, CanaryResult

DROPLET_PULLS = "droplet-pulls"

_HOW: Mapping[CanaryLogin, str] = {
    CanaryLogin.NONE: "without a login",
    CanaryLogin.MADE_UP: "with a login that it does not know",
}

_ADVICE = (
    "let the private registry serve pulls inside the platform without a login, or with any, or set "
    "update_droplets to false; until then such droplets stay as they are, and apps are migrated as without "
    "Cloud Controller"
)
_OTHER_ADVICE = "follow this message, and run this again"


def logins_of_droplets(config: Config) -> tuple[CanaryLogin, ...]:
    """Name the logins that cells may get from droplets; none where no droplet is updated."""
    if config.cloud_controller_api_url is None or not config.update_droplets:
        return ()
    if config.cache_pull_username is None:  # then cells have none of their own
        return (CanaryLogin.MADE_UP,)
    return CanaryLogin.NONE, CanaryLogin.MADE_UP


def pull_for_droplets(config: Config, probe: ProbeImage, cancellation: Cancellation) -> tuple[Finding, ...]:
    """Pull a test image with each login that cells may get from a droplet."""
    return tuple(_pull(config, probe, cancellation, login) for login in logins_of_droplets(config))


def _pull(config: Config, probe: ProbeImage, cancellation: Cancellation, login: CanaryLogin) -> Finding:
    credentials = make_up_login() if login is CanaryLogin.MADE_UP else None
    with closing(open_foreign_view(config, credentials, timeouts=TIMEOUTS, retries=ONCE)) as registries:
        try:
            read_probe(registries.repository(probe.reference, None, cancellation), probe)
        except DockerCacheError as error:
            advice = _ADVICE if isinstance(error, Denied | NotFound) else _OTHER_ADVICE
            text = f"pulling the test image {_HOW[login]}, as what is desired from a droplet: {error}"
            return warning(DROPLET_PULLS, text, advice)
    text = f"{probe.reference} was pulled {_HOW[login]}, as what is desired from a droplet is"
    return ok(DROPLET_PULLS, text)


def finding_of_cells(result: CanaryResult, login: CanaryLogin, registry: str) -> Finding:
    """Report what cells have shown of pulls with a login that droplets bring."""
    how = f"{_HOW[login]}, as what is desired from a droplet"
    if result.failures:
        return warning(DROPLET_PULLS, f"cells cannot pull from {registry} {how}: {result.said}", _ADVICE)
    if result.problem or not result.pulled:
        return warning(DROPLET_PULLS, f"cells not asked to pull {how}: {result.problem}", _OTHER_ADVICE)
    cells = ", ".join(sorted(result.pulled))
    return ok(DROPLET_PULLS, f"pulled from {registry} {how} is, by the cells {cells}")
