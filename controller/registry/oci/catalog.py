"""Lists the repositories of a registry, and the tags of a repository.

Source: CNCF registry, "Listing Repositories"; OCI distribution specification, "Listing Tags".
"""

from controller.registry.auth.challenges import catalog_scope, merge_scopes, pull_scope
from controller.registry.http.bounded_json import load_json
from controller.registry.http.links import next_page
from controller.registry.http.request import Request
from controller.registry.http.urls import Url
from controller.registry.oci.repository import Repository
from reconcile.answers import RegistryCall
from reconcile.errors import Invalid

_PAGE = 1000
_MOST_PAGES = 1000
_MAX_PAGE_BYTES = 4 * 1024 * 1024
_MAX_NAME = 255
_FIELDS = {RegistryCall.LIST_REPOSITORIES: "repositories", RegistryCall.LIST_TAGS: "tags"}


def list_repositories(repository: Repository) -> list[str]:
    """List the names of a registry's repositories; the given one is any of them.

    Raises:
        DockerCacheError: The registry does not list them.
    """
    base = repository.session.base
    url = Url(base.origin, f"{base.target}_catalog?n={_PAGE}")
    return _list(repository, url, RegistryCall.LIST_REPOSITORIES, frozenset({catalog_scope()}))


def list_tags(repository: Repository) -> list[str]:
    """List the tags of a repository.

    Raises:
        NotFound: There is no such repository.
    """
    url = repository.session.url(f"tags/list?n={_PAGE}")
    return _list(repository, url, RegistryCall.LIST_TAGS, merge_scopes([pull_scope(repository.image.path)]))


def _list(repository: Repository, url: Url, call: RegistryCall, scopes: frozenset[str]) -> list[str]:
    found: dict[str, None] = {}
    following: Url | None = url
    for _ in range(_MOST_PAGES):
        if following is None:
            return list(found)
        names, following = repository.session.retry(_page, repository, following, call, scopes)
        found |= dict.fromkeys(names)
    raise Invalid("registry", "list-too-long", f"{url}: more than {_MOST_PAGES} pages")


def _page(
    repository: Repository, url: Url, call: RegistryCall, scopes: frozenset[str]
) -> tuple[list[str], Url | None]:
    session, subject, field = repository.session, str(url), _FIELDS[call]
    with session.send(Request("GET", url), scopes, subject) as response:
        if response.status != 200:
            raise session.error(response, subject, call)
        raw = response.read(_MAX_PAGE_BYTES + 1)
        links = response.headers.get_all("Link") or ()
    try:
        document = load_json(raw) if len(raw) <= _MAX_PAGE_BYTES else None
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise Invalid("registry", "bad-list", f"{subject}: the list of {field} cannot be read")
    names = document.get(field) or []
    if not isinstance(names, list):
        raise Invalid("registry", "bad-list", f"{subject}: the list of {field} is no list")
    return [name for name in names if isinstance(name, str) and len(name) <= _MAX_NAME], next_page(url, links)
