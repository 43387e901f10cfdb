"""The rules for answers hold for what registries really send: each rule by an answer, each call by its name."""

from collections.abc import Callable

import pytest

from controller.registry.http.refusals import Refusal, error_from_refusal
from controller.registry.oci.blob_probes import why_not_held, why_not_readable
from controller.registry.oci.catalog import list_repositories, list_tags
from controller.registry.oci.manifests import Descriptor
from controller.registry.oci.ranges import parse_least_chunk
from controller.registry.oci.referrers import list_referrers
from controller.registry.oci.repository import Repository
from controller.registry.oci.results import UploadTooLarge
from reconcile.answers import RULES, AnswerRule, RefusedAnswer, RegistryCall, Side, rule_for
from reconcile.errors import Denied, DockerCacheError, ErrorCode, Invalid, NotFound, Unavailable, Verdict
from tests.controller.registry.conftest import OpenRepository
from tests.controller.registry.test_registries import BLOB, LAYER, SAMPLE, put
from tests.simulators.registry import Cut, Refuse, RegistrySimulator, WithHeaders

WRITES = {
    RegistryCall.START_UPLOAD: "POST",
    RegistryCall.MOUNT_BLOB: "POST",
    RegistryCall.UPLOAD_BLOB: "PUT",
    RegistryCall.WRITE_MANIFEST: "PUT",
}


def example(rule: AnswerRule) -> Refusal:
    """Make an answer that no rule before this one is about."""
    for side in sorted(rule.sides):
        for call in sorted(rule.calls or RegistryCall):
            for status in sorted(rule.statuses or {418, 500, 403}):
                for code in sorted(rule.codes) or [""]:
                    answer = RefusedAnswer(
                        side, call, status, (code,) if code else (), names_a_time=rule.names_a_time
                    )
                    if rule_for(answer) is rule:
                        headers = {"Retry-After": "60"} if rule.names_a_time else {}
                        body = b'{"errors":[{"code":"%b"}]}' % code.encode() if code else b""
                        method = WRITES.get(call, "GET")
                        return Refusal(status, headers, body, "x", method=method, side=side, call=call)
    raise AssertionError(rule)


@pytest.mark.parametrize("rule", RULES, ids=[f"{n}-{rule.verdict}" for n, rule in enumerate(RULES)])
def test_each_rule_makes_its_error_of_an_answer(rule: AnswerRule) -> None:
    refusal = example(rule)

    error = error_from_refusal(refusal)

    assert (type(error), error.verdict) == (rule.error, rule.verdict)
    if isinstance(error, Unavailable):
        assert error.retry_after == (60.0 if rule.names_a_time else None)


def upload(repository: Repository) -> None:
    repository.uploads.upload(repository.uploads.start(BLOB.digest), BLOB, [memoryview(LAYER.content)])


def append(repository: Repository) -> None:
    pieces = [memoryview(LAYER.content)[:1000]]
    repository.uploads.append(repository.uploads.start(BLOB.digest), BLOB, pieces, offset=0, length=1000)


CALLS: list[tuple[RegistryCall, str, str, Callable[[Repository], object]]] = [
    (RegistryCall.READ_MANIFEST, "GET", "/manifests/", lambda it: it.fetch_manifest("1")),
    (
        RegistryCall.WRITE_MANIFEST,
        "PUT",
        "/manifests/",
        lambda it: it.push_manifest(it.fetch_manifest("1"), "2"),
    ),
    (RegistryCall.DELETE_MANIFEST, "DELETE", "/manifests/", lambda it: it.delete_manifest(BLOB.digest)),
    (RegistryCall.LOOK_UP_BLOB, "HEAD", "/blobs/", lambda it: it.find_blob(BLOB.digest)),
    (RegistryCall.LOOK_UP_BLOB, "HEAD", "/blobs/", lambda it: why_not_held(it, BLOB)),
    (RegistryCall.READ_BLOB, "GET", "/blobs/", lambda it: it.open_blob(BLOB)),
    (RegistryCall.READ_BLOB, "GET", "/blobs/", lambda it: why_not_readable(it, BLOB)),
    (RegistryCall.MOUNT_BLOB, "POST", "mount=", lambda it: it.uploads.mount(BLOB.digest, "a/b")),
    (RegistryCall.START_UPLOAD, "POST", "/uploads/", lambda it: it.uploads.start(BLOB.digest)),
    (RegistryCall.UPLOAD_BLOB, "PUT", "/uploads/", upload),
    (RegistryCall.UPLOAD_BLOB, "PATCH", "/uploads/", append),
    (RegistryCall.LIST_REPOSITORIES, "GET", "_catalog", list_repositories),
    (RegistryCall.LIST_TAGS, "GET", "/tags/", list_tags),
]


@pytest.fixture(autouse=True)
def stored(registry: RegistrySimulator) -> None:
    put(registry)


@pytest.mark.parametrize(
    ("call", "method", "path", "ask"), CALLS, ids=[f"{call}-{n}" for n, (call, *_) in enumerate(CALLS)]
)
def test_each_call_names_itself_in_what_it_is_refused_with(
    registry: RegistrySimulator,
    open_repository: OpenRepository,
    call: RegistryCall,
    method: str,
    path: str,
    ask: Callable[[Repository], object],
) -> None:
    registry.fail(method, path, Refuse(423, b"not now"), times=None)

    with pytest.raises(DockerCacheError) as refused:
        ask(open_repository())

    assert f"({call})" in refused.value.detail
    assert refused.value.verdict is rule_for(RefusedAnswer(Side.SOURCE, call, 423)).verdict


@pytest.mark.parametrize("status", [401, 403])
def test_a_manifest_that_is_denied_to_a_look_is_read(
    registry: RegistrySimulator, open_repository: OpenRepository, status: int
) -> None:
    registry.fail("HEAD", "/manifests/", Refuse(status), times=None)

    assert str(open_repository().head_manifest("1").digest) == SAMPLE.manifest.digest

    assert [each.method for each in registry.requests if "/manifests/" in each.path] == ["HEAD", "GET"]


@pytest.mark.parametrize("status", [401, 403])
def test_a_manifest_that_is_denied_says_why(
    registry: RegistrySimulator, open_repository: OpenRepository, status: int
) -> None:
    registry.fail("HEAD", "/manifests/", Refuse(status), times=None)
    registry.fail("GET", "/manifests/", Refuse(status, b"the account is locked"), times=None)

    with pytest.raises(Denied, match="the account is locked"):
        open_repository().head_manifest("1")


@pytest.mark.parametrize("status", [400, 405, 500, 501, 502])
def test_a_registry_that_refuses_to_look_a_manifest_up_is_not_asked_again_so(
    registry: RegistrySimulator, open_repository: OpenRepository, status: int
) -> None:
    registry.fail("HEAD", "/manifests/", Refuse(status), times=None)

    assert open_repository().head_manifest("1").digest is None

    assert registry.count("HEAD") == 1


@pytest.mark.parametrize("status", [400, 401, 405, 500, 501, 502])
def test_a_blob_that_cannot_be_looked_up_is_read_by_one_byte(
    registry: RegistrySimulator, open_repository: OpenRepository, status: int
) -> None:
    registry.fail("HEAD", "/blobs/", Refuse(status), times=None)
    repository = open_repository()

    found = repository.find_blob(BLOB.digest)

    assert found is not None
    assert found.size == BLOB.size
    assert why_not_held(repository, BLOB) == ""
    missing = Descriptor(BLOB.media_type, SAMPLE_DIGEST, 7)
    assert repository.find_blob(missing.digest) is None
    assert why_not_held(repository, missing) == "is not there"
    reads = [each for each in registry.requests if each.method == "GET" and "/blobs/" in each.path]
    assert {each.headers["range"] for each in reads} == {"bytes=0-0"}


SAMPLE_DIGEST = BLOB.digest.__class__("sha256", "0" * 64)


@pytest.mark.parametrize("length", ["0", "7", "99999999"])
def test_a_length_that_a_proxy_makes_up_is_not_taken_for_a_damaged_blob(
    registry: RegistrySimulator, open_repository: OpenRepository, length: str
) -> None:
    registry.fail("HEAD", "/blobs/", WithHeaders({"Content-Length": length}), times=None)

    assert why_not_held(open_repository(), BLOB) == ""


def test_a_blob_of_another_length_is_damaged_whatever_is_asked(
    registry: RegistrySimulator, open_repository: OpenRepository
) -> None:
    longer = Descriptor(BLOB.media_type, BLOB.digest, BLOB.size + 1)

    assert why_not_held(open_repository(), longer) == f"has {BLOB.size} bytes instead of {BLOB.size + 1}"


def test_a_refusal_to_look_a_blob_up_and_to_read_it_says_why(
    registry: RegistrySimulator, open_repository: OpenRepository
) -> None:
    registry.fail("HEAD", "/blobs/", Refuse(401), times=None)
    registry.fail(
        "GET", "/blobs/", Refuse(401, b'{"errors":[{"code":"DENIED","message":"no pull"}]}'), times=None
    )

    with pytest.raises(Denied, match="no pull"):
        open_repository().find_blob(BLOB.digest)


@pytest.mark.parametrize("status", [400, 404])
def test_a_manifest_that_is_being_written_is_read_again(
    registry: RegistrySimulator, open_repository: OpenRepository, status: int
) -> None:
    body = b'{"errors":[{"code":"MANIFEST_BLOB_UNKNOWN","message":"blob unknown to registry"}]}'
    registry.fail("GET", "/manifests/", Refuse(status, body))

    assert open_repository().fetch_manifest("1").raw == SAMPLE.manifest.content

    assert registry.count("GET", "/manifests/") == 2


@pytest.mark.parametrize("status", [403, 405, 409, 412, 418])
def test_a_refusal_that_names_a_time_is_for_that_time(
    registry: RegistrySimulator, open_repository: OpenRepository, status: int
) -> None:
    registry.fail("GET", "/blobs/", Refuse(status, b"<html>", {"Retry-After": "60"}), times=None)

    with pytest.raises(Unavailable) as refused:
        open_repository().open_blob(BLOB)

    assert refused.value.retry_after == 60.0
    assert registry.count("GET", "/blobs/") == 1


@pytest.mark.parametrize("status", [403, 418])
@pytest.mark.parametrize("past", ["0", "Mon, 01 Jan 2024 00:00:00 GMT"])
def test_a_refusal_that_names_a_time_that_is_over_is_final(
    registry: RegistrySimulator, open_repository: OpenRepository, status: int, past: str
) -> None:
    registry.fail("GET", "/blobs/", Refuse(status, b"<html>", {"Retry-After": past}), times=None)

    with pytest.raises((Denied, Invalid)):
        open_repository().open_blob(BLOB)


def test_an_upload_that_is_too_long_for_a_proxy_is_told_apart(
    registry: RegistrySimulator, open_repository: OpenRepository
) -> None:
    registry.longest_body = 1000

    with pytest.raises(UploadTooLarge) as refused:
        upload(open_repository("new/app"))

    assert refused.value.verdict is Verdict.OTHER_WAY
    assert "client_max_body_size" in refused.value.detail


def test_an_upload_in_parts_is_completed(
    registry: RegistrySimulator, open_repository: OpenRepository
) -> None:
    repository, pieces = open_repository("new/app"), memoryview(LAYER.content)
    session = repository.uploads.start(BLOB.digest)

    session = repository.uploads.append(session, BLOB, [pieces[:1000]], offset=0, length=1000)
    repository.uploads.upload(session, BLOB, [pieces[1000:]], offset=1000)

    assert registry.store.find_blob("new/app", LAYER.digest) == LAYER.content


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("5242880", 5242880),
        ("0", 0),
        (None, 0),
        ("-1", 0),
        ("x", 0),
        ("9" * 30, 0),
        ("1073741825", 0),
        ("²", 0),
    ],
)
def test_a_stated_shortest_part_is_believed_within_reason(text: str | None, length: int) -> None:
    assert parse_least_chunk(text) == length


# Uploads that fail are cancelled


def test_a_small_blob_whose_upload_fails_leaves_no_upload(
    registry: RegistrySimulator, open_repository: OpenRepository
) -> None:
    registry.fail("PUT", "/uploads/", Refuse(400))

    with pytest.raises(Invalid):
        open_repository("new/app").uploads.push(BLOB, LAYER.content)

    assert registry.cancelled == 1
    assert registry.uploads == {}


def test_an_upload_is_cancelled_at_its_newest_location(
    registry: RegistrySimulator, open_repository: OpenRepository
) -> None:
    registry.resumable = True
    repository = open_repository("new/app")
    session = repository.uploads.start(BLOB.digest)
    repository.uploads.append(session, BLOB, [memoryview(LAYER.content)[:500]], offset=0, length=500)

    assert repository.uploads.cancel(session) is True

    assert (registry.uploads, registry.partial) == ({}, {})


@pytest.mark.parametrize("status", [401, 403, 404, 405, 500, 503])
def test_an_upload_that_cannot_be_cancelled_stays_and_nothing_is_raised(
    registry: RegistrySimulator, open_repository: OpenRepository, status: int
) -> None:
    repository = open_repository("new/app")
    session = repository.uploads.start(BLOB.digest)
    registry.fail("DELETE", "/uploads/", Refuse(status), times=None)

    assert repository.uploads.cancel(session) is False


def test_referrers_that_are_denied_in_both_places_are_denied(
    registry: RegistrySimulator, open_repository: OpenRepository
) -> None:
    registry.fail("GET", "/referrers/", Refuse(403), times=None)
    registry.fail("GET", "/manifests/sha256-", Refuse(403), times=None)

    with pytest.raises(Denied):
        list_referrers(open_repository(), BLOB.digest)


def test_a_lost_body_is_not_an_answer(registry: RegistrySimulator, open_repository: OpenRepository) -> None:
    registry.fail("GET", "/manifests/", Cut(after=3), times=None)

    with pytest.raises(Unavailable) as cut:
        open_repository().fetch_manifest("1")

    assert cut.value.code == ErrorCode.CUT
    assert cut.value.verdict is None


def test_a_missing_manifest_is_final_at_a_source(
    registry: RegistrySimulator, open_repository: OpenRepository
) -> None:
    with pytest.raises(NotFound) as missing:
        open_repository().fetch_manifest("nope")

    assert missing.value.verdict is Verdict.FINAL
