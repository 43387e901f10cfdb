"""Finds UAA through the root of Cloud Controller's API, whose links anybody may read.

Source: cloud_controller_ng app/controllers/runtime/root_controller.rb.
"""

from dataclasses import dataclass

from controller.capi.capi_errors import SYSTEM, error_from_response, misunderstood
from controller.capi.documents import document_of, within
from controller.capi.exchanges import Exchanges
from controller.capi.origin import parse_origin
from reconcile.errors import Denied, ErrorCode, Invalid, Unavailable
from reconcile.foreign_text import one_line


@dataclass(frozen=True, slots=True)
class ApiRoot:
    """What the root of the API says.

    Attributes:
        uaa_url: Where UAA is, without a slash at the end.
        version: Of API v3; empty where the API does not name it.
        date: The Date header; None where there is none.
    """

    uaa_url: str
    version: str
    date: str | None


async def find_uaa(exchanges: Exchanges, api_url: str) -> str:
    """Ask the API for the URL of UAA; raises as `read_root`."""
    return (await read_root(exchanges, api_url)).uaa_url


async def read_root(exchanges: Exchanges, api_url: str) -> ApiRoot:
    """Read the root of the API.

    Raises:
        Invalid: What answers is no Cloud Controller with API v3, or it names a UAA that the secret is not
            sent to: one without TLS, unless the API has none either.
    """
    answer = await exchanges.send(exchanges.http.build_request("GET", f"{api_url}/"))
    error = error_from_response(answer)
    if isinstance(error, Denied):  # the root takes no token: something before the API refuses it
        raise Unavailable(SYSTEM, ErrorCode.CLOUD_CONTROLLER_FAILED, error.detail, may_have_happened=False)
    if error is not None:
        raise error
    links = within(await document_of(answer), "links")
    if not isinstance(within(links, "cloud_controller_v3", "href"), str):
        raise misunderstood(answer, system=SYSTEM, what="no Cloud Controller with API v3 answers here")
    url, version = within(links, "uaa", "href"), within(links, "cloud_controller_v3", "meta", "version")
    if not isinstance(url, str):
        raise misunderstood(answer, system=SYSTEM, what="the API names no UAA")
    version_text = one_line(version) if isinstance(version, str) else ""
    return ApiRoot(_checked(url, api_url), version_text, answer.headers.get("Date"))


def _checked(url: str, api_url: str) -> str:
    refusal = f"the API leads to UAA at {one_line(url)}"
    try:
        uaa, api = parse_origin(url), parse_origin(api_url)
    except Invalid as error:
        raise Invalid(SYSTEM, ErrorCode.CLOUD_CONTROLLER_LINK_REFUSED, f"{refusal}: no URL") from error
    if "?" in url or "#" in url or (api.has_tls and not uaa.has_tls):
        detail = f"{refusal}: the client's secret is sent over https alone, to a URL without a query"
        raise Invalid(SYSTEM, ErrorCode.CLOUD_CONTROLLER_LINK_REFUSED, detail)
    return url.rstrip("/")
