"""Reads and writes repositories in the specification's words: manifests, blobs, uploads, mounts.

Calls block and are made in threads. Source: OCI distribution specification 1.1; what the CNCF
registry really answers was observed on version 2.8.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from urllib.parse import quote

from controller.registry.addresses import AddressRules, Network
from controller.registry.auth import Authenticator, Identity, follow
from controller.registry.cancellation import Cancellation
from controller.registry.challenges import choose_challenge, merge_scopes, pull_scope, push_scope
from controller.registry.errors import MAX_ERROR_BODY, Headers, Refusal, error_from_refusal, parse_entries
from controller.registry.manifests import (
    ACCEPT,
    MANIFEST_TYPES,
    MAX_MANIFEST,
    Descriptor,
    Document,
    digest_of,
    media_type_of,
    parse_document,
)
from controller.registry.ranges import parse_content_range
from controller.registry.retries import retrying
from controller.registry.settings import RegistrySettings, Retries, Timeouts, api_url
from controller.registry.transport import Answer, Request, Transport, Work
from controller.registry.uploads import closing_url, session_url
from controller.registry.urls import Url
from reconcile.errors import DockerCacheError, Invalid, Unavailable
from reconcile.images import Digest, ImageReference, parse_digest
from reconcile.lrps import Credentials

_IDENTITY = {"Accept-Encoding": "identity"}
_MANIFEST_HEADERS = {"Accept": ACCEPT, **_IDENTITY}
_STORED = frozenset({200, 201, 202, 204})
_REDIRECTED_HEAD = frozenset({400, 403, 405})
_SHA256 = re.compile(rb"sha256:[0-9a-f]{64}")


@dataclass(eq=False)
class BlobsMissing(Invalid):
    """The registry refuses a manifest because blobs that it refers to are not there."""

    digests: frozenset[Digest] = frozenset()


@dataclass(frozen=True, slots=True)
class ManifestHead:
    """What a registry says about a manifest without sending it.

    Attributes:
        digest: None when it does not say, or does not answer such questions.
        media_type: Empty when it is no type of manifest.
    """

    digest: Digest | None
    media_type: str


@dataclass(frozen=True, slots=True)
class BlobHead:
    """A blob is there; its size is None when the registry does not tell."""

    size: int | None


class Repository:
    """One repository as one identity sees it, for the length of one piece of work."""

    def __init__(
        self, image: ImageReference, registries: "Registries", *, credentials: Credentials | None, work: Work
    ) -> None:
        settings = registries.settings_of(image.domain)
        self.image = image
        self._base = api_url(image.domain, settings)
        self._credentials = settings.credentials if credentials is None else credentials
        self._registries = registries
        self._work = work
        self._pull = merge_scopes([pull_scope(image.path)])
        self._push = merge_scopes([push_scope(image.path)])

    def _url(self, path: str) -> Url:
        return Url(self._base.origin, f"{self._base.target}{self.image.path}/{path}")

    def _identity(self, subject: str) -> Identity:
        return Identity(self._base, self._credentials, subject)

    def _subject(self, version: str) -> str:
        return f"{self.image.repository}{'@' if ':' in version else ':'}{version}"

    def _send(self, request: Request, scopes: frozenset[str], subject: str) -> Answer:
        """Send a request with what the registry wants to see, asking it twice at most."""
        auth, identity = self._registries.authenticator, self._identity(subject)
        header = auth.header(identity, scopes, self._work)
        for _ in range(2):
            answer = self._send_as(request, header)
            if answer.status != 401 or answer.url.origin != self._base.origin:
                return answer
            challenge = choose_challenge(answer.headers.get_all("WWW-Authenticate") or ())
            try:
                other = auth.meet(identity, challenge, scopes, refused=header, work=self._work)
            except BaseException:
                answer.close()
                raise
            if other is None:
                return answer
            _drain(answer)
            header = other
        return self._send_as(request, header)

    def _send_as(self, request: Request, header: str | None) -> Answer:
        if header is not None and request.url.origin == self._base.origin:
            request = replace(request, headers={**request.headers, "Authorization": header})
        if request.method in {"GET", "HEAD"}:
            return follow(self._registries.transport, request, self._work)
        return self._registries.transport.send(request, self._work)

    def _error(self, answer: Answer, attempted: str) -> DockerCacheError:
        return error_from_refusal(self._refusal(answer, attempted))

    def _refusal(self, answer: Answer, attempted: str) -> Refusal:
        secrets = self._identity("").secrets
        return Refusal(answer.status, answer.headers, _drain(answer), attempted, secrets)

    def head_manifest(self, version: str) -> ManifestHead:
        """Ask about a tag or a digest; costs no pull on Docker Hub.

        Raises:
            NotFound: It is not there, or so the registry says.
        """
        return retrying(self._registries.retries, self._work.cancellation)(self._head_manifest, version)

    def _head_manifest(self, version: str) -> ManifestHead:
        subject = self._subject(version)
        request = Request("HEAD", self._url(f"manifests/{version}"), _MANIFEST_HEADERS)
        with self._send(request, self._pull, subject) as answer:
            if answer.status == 200:
                media_type = media_type_of(answer.headers.get("Content-Type"))
                return ManifestHead(
                    _digest_header(answer.headers), media_type if media_type in MANIFEST_TYPES else ""
                )
            error = self._error(answer, f"{subject} (look up manifest)")
            if isinstance(error, Invalid):
                return ManifestHead(None, "")
            raise error

    def fetch_manifest(self, version: str) -> Document:
        """Read a manifest or an index; its digest is computed, never believed.

        Raises:
            Invalid: It cannot be read, or is not what its digest says.
        """
        return retrying(self._registries.retries, self._work.cancellation)(self._fetch_manifest, version)

    def _fetch_manifest(self, version: str) -> Document:
        subject = self._subject(version)
        request = Request("GET", self._url(f"manifests/{version}"), _MANIFEST_HEADERS)
        with self._send(request, self._pull, subject) as answer:
            if answer.status != 200:
                error = self._error(answer, f"{subject} (read manifest)")
                if error.code == "MANIFEST_INVALID":  # a pull-through cache that has not read it yet
                    raise Unavailable(error.system, error.code, error.detail)
                raise error
            raw = answer.read(MAX_MANIFEST + 1)
            if len(raw) > MAX_MANIFEST:
                raise Invalid("registry", "manifest-too-large", f"{subject}: larger than 4 MiB")
        asked = parse_digest(version) if ":" in version else _digest_header(answer.headers)
        if asked is not None and digest_of(raw, asked.algorithm) != asked:
            coding = answer.headers.get("Content-Encoding")
            encoded = f" (sent with content coding {coding[:20]!r})" if coding else ""
            raise Invalid(
                "registry", "digest-mismatch", f"{subject}: the bytes are not those of {asked}{encoded}"
            )
        document = parse_document(raw, media_type_of(answer.headers.get("Content-Type")), subject)
        return replace(document, digest=asked) if asked is not None and ":" in version else document

    def push_manifest(self, document: Document, version: str) -> None:
        """Store a document under a tag or its digest.

        Raises:
            BlobsMissing: The registry wants blobs first.
        """
        subject = self._subject(version)
        headers = {"Content-Type": document.media_type}
        request = Request("PUT", self._url(f"manifests/{version}"), headers, document.raw)
        with self._send(request, self._push, subject) as answer:
            if answer.status in _STORED:
                _drain(answer)
                stored = _digest_header(answer.headers)
                if stored is not None and digest_of(document.raw, stored.algorithm) != stored:
                    raise Invalid("registry", "digest-mismatch", f"{subject}: stored as {stored}")
                return
            refusal = self._refusal(answer, f"{subject} (write manifest)")
        error = error_from_refusal(refusal)
        if any(entry.code == "MANIFEST_BLOB_UNKNOWN" for entry in parse_entries(refusal.body)):
            missing = frozenset(parse_digest(each.decode()) for each in _SHA256.findall(refusal.body))
            raise BlobsMissing(error.system, "MANIFEST_BLOB_UNKNOWN", error.detail, missing)
        raise error

    def find_blob(self, digest: Digest) -> BlobHead | None:
        """Ask whether the repository holds a blob; None when it does not."""
        return retrying(self._registries.retries, self._work.cancellation)(self._find_blob, digest)

    def _find_blob(self, digest: Digest) -> BlobHead | None:
        subject = self._subject(str(digest))
        request = Request("HEAD", self._url(f"blobs/{digest}"), _IDENTITY)
        with self._send(request, self._push, subject) as answer:
            if answer.status == 200:
                return BlobHead(answer.length)
            if answer.url.origin != self._base.origin and answer.status in _REDIRECTED_HEAD:
                return BlobHead(None)  # it pointed at storage, which was signed for GET alone
            if answer.status in {403, 404}:  # some registries call forbidden what is not there
                return None
            raise self._error(answer, f"{subject} (look up blob)")

    def open_blob(self, blob: Descriptor, offset: int = 0) -> Answer:
        """Begin to read a blob from an offset; the caller counts, hashes and closes.

        Raises:
            Invalid: `size-mismatch` when the answer's length is not what the manifest says.
            Unavailable: `cut` when the rest of it alone is not to be had.
        """
        return retrying(self._registries.retries, self._work.cancellation)(self._open_blob, blob, offset)

    def _open_blob(self, blob: Descriptor, offset: int) -> Answer:
        subject = self._subject(str(blob.digest))
        ranged = {"Range": f"bytes={offset}-{blob.size - 1}"} if offset else {}
        request = Request("GET", self._url(f"blobs/{blob.digest}"), {**_IDENTITY, **ranged})
        answer = self._send(request, self._pull, subject)
        try:
            self._check_blob(answer, blob, offset, subject)
        except BaseException:
            answer.close()
            raise
        return answer

    def _check_blob(self, answer: Answer, blob: Descriptor, offset: int, subject: str) -> None:
        if offset and answer.status in {200, 206, 416}:
            part = parse_content_range(answer.headers.get_all("Content-Range") or [])
            if (
                answer.status == 206
                and part is not None
                and part.first == offset
                and part.total in {blob.size, None}
            ):
                return
            raise Unavailable("registry", "cut", f"{subject}: cannot be read on from byte {offset}")
        if answer.status != 200:
            raise self._error(answer, f"{subject} (read blob)")
        if answer.length not in {blob.size, None}:
            coding = answer.headers.get("Content-Encoding", "none")
            raise Invalid(
                "registry",
                "size-mismatch",
                f"{subject}: {answer.length} bytes instead of {blob.size} (content coding {coding[:20]!r})",
            )

    def start_upload(self, digest: Digest) -> Url:
        """Open an upload session for a blob."""
        return retrying(self._registries.retries, self._work.cancellation)(self._start_upload, digest)

    def _start_upload(self, digest: Digest) -> Url:
        subject = self._subject(str(digest))
        request = Request("POST", self._url("blobs/uploads/"), {"Content-Length": "0"})
        with self._send(request, self._push, subject) as answer:
            if answer.status != 202:
                raise self._error(answer, f"{subject} (start upload)")
            _drain(answer)
            return session_url(answer.url, answer.headers.get("Location"))

    def mount(self, digest: Digest, holder: str) -> Url | None:
        """Take a blob over from another repository of the registry: None when that was done.

        Otherwise the registry has opened an upload session instead, and this is where it goes on.
        A refusal of any kind is an error, after which a plain upload may still work.
        """
        subject = self._subject(str(digest))
        query = f"?mount={quote(str(digest), safe='')}&from={quote(holder, safe='')}"
        request = Request("POST", self._url(f"blobs/uploads/{query}"), {"Content-Length": "0"})
        scopes = merge_scopes(self._push, [pull_scope(holder)])
        with self._send(request, scopes, subject) as answer:
            if answer.status not in {201, 202}:
                raise self._error(answer, f"{subject} (mount from {holder})")
            _drain(answer)
            return None if answer.status == 201 else session_url(answer.url, answer.headers.get("Location"))

    def upload_blob(self, session: Url, blob: Descriptor, pieces: Iterable[memoryview]) -> None:
        """Send a blob's bytes in one request; errors raised by the pieces come through as they are.

        Raises:
            Unavailable: `token-expired` when the same upload may work once more from its start.
        """
        subject = self._subject(str(blob.digest))
        auth, identity = self._registries.authenticator, self._identity(subject)
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(blob.size)}
        request = Request("PUT", closing_url(session, blob.digest), headers, pieces)
        header = auth.header(identity, self._push, self._work)
        with self._send_as(request, header) as answer:
            if answer.status in _STORED:
                _drain(answer)
                stored = _digest_header(answer.headers)
                if stored is not None and stored.algorithm == blob.digest.algorithm and stored != blob.digest:
                    raise Invalid("registry", "digest-mismatch", f"{subject}: stored as {stored}")
                return
            challenge = choose_challenge(answer.headers.get_all("WWW-Authenticate") or ())
            error = self._error(answer, f"{subject} (upload blob)")
        if answer.status == 401 and auth.meet(
            identity, challenge, self._push, refused=header, work=self._work
        ):
            raise Unavailable("registry", "token-expired", error.detail)
        raise error


class Registries:
    """Opens repositories of any registry; keeps connections and tokens between them.

    Attributes:
        retries: How idempotent requests are repeated.
    """

    def __init__(
        self,
        settings: Mapping[str, RegistrySettings],
        *,
        allowed_networks: tuple[Network, ...] = (),
        timeouts: Timeouts = Timeouts(),  # noqa: B008 - a frozen value
        retries: Retries = Retries(),  # noqa: B008 - a frozen value
    ) -> None:
        self._settings = {domain.lower(): each for domain, each in settings.items()}
        self._rules = AddressRules(allowed_networks)
        self.retries = retries
        self.transport = Transport(self._settings, timeouts)
        self.authenticator = Authenticator(self.transport)

    def settings_of(self, domain: str) -> RegistrySettings:
        """Find how a registry is reached; https with the system's certificates by default."""
        return self._settings.get(domain.lower(), RegistrySettings())

    def repository(
        self, image: ImageReference, credentials: Credentials | None, cancellation: Cancellation
    ) -> Repository:
        """Open the repository that an image lies in."""
        image = image.canonical()
        work = Work(self.settings_of(image.domain).rules(self._rules), cancellation)
        return Repository(image, self, credentials=credentials, work=work)

    def close(self) -> None:
        """Close the connections."""
        self.transport.close()


def _drain(answer: Answer) -> bytes:
    """Read what an answer says beside its head, so that its connection can be kept; lost is lost."""
    try:
        return answer.read(MAX_ERROR_BODY)
    except Unavailable:
        return b""
    finally:
        answer.close()


def _digest_header(headers: Headers) -> Digest | None:
    try:
        return parse_digest(headers.get("Docker-Content-Digest") or "")
    except Invalid:
        return None
