"""What the texts of failed starts speak against, and what of them is shown."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconcile.foreign_text import MAX_FOREIGN_TEXT
from reconcile.start_failures import MAX_TEXT, Blame, StartFailure, placement_failure, start_failure

F = "failed to create container: running image plugin create: "
G = F + "fetching image reference: creating image: "
S = G + "creating image source: "
B = F + f"pulling the image: streaming blob `sha256:{'ab' * 32}`: "
END = "\n: exit status 1"
HOST = "cache.service.cf.internal:8080"
GUID = "0a6bd9a8-71a5-4f52-9f63-7a3b2b0d5c11"
R = f"{HOST}/{GUID}"
LONG_HOST = ".".join(["a" * 60] * 4) + ":65535"
LONG_PATH = "/".join(["b" * 60] * 4)


def ping(host: str, problem: str) -> str:
    return S + f'pinging container registry {host}: Get "https://{host}/v2/": {problem}'


REGISTRY = [
    ping(HOST, "dial tcp: lookup cache.service.cf.internal on 169.254.0.2:53: no such host"),
    ping("127.0.0.1:5999", "dial tcp 127.0.0.1:5999: connect: connection refused"),
    ping("10.0.0.7", "dial tcp 10.0.0.7:443: connect: no route to host"),
    ping(HOST, "dial tcp 10.0.0.7:8080: i/o timeout"),
    ping(HOST, "http: server gave HTTP response to HTTPS client"),
    ping(
        HOST,
        "tls: failed to verify certificate: x509: certificate has expired or is not yet valid: current time",
    ),
    ping(HOST, "x509: certificate is valid for registry.example, not cache.service.cf.internal"),
    ping(HOST, "x509: cannot validate certificate for 10.0.0.7 because it doesn't contain any IP SANs"),
    ping(HOST, "remote error: tls: handshake failure"),
    ping(HOST, "remote error: tls: bad certificate"),
    ping(HOST, "net/http: TLS handshake timeout"),
    ping(HOST, "context deadline exceeded (Client.Timeout exceeded while awaiting headers)"),
    ping(HOST, "EOF"),
    ping(HOST, "unexpected EOF"),
    ping(HOST, "read tcp 10.0.1.2:40000->10.0.0.7:8080: read: connection reset by peer"),
    ping(HOST, "malformed HTTP response"),
    ping(LONG_HOST, f"dial tcp: lookup {LONG_HOST} on 169.254.0.2:53: no such host"),
    S + f"pinging container registry {HOST}: received unexpected HTTP status: 503 Service Unavailable",
    S + f"pinging container registry {HOST}: StatusCode: 404, <html>",
    F
    + "This registry is insecure. To pull images from this registry, please use the --insecure-registry option.",
    F + "authorization failed: username and password are invalid",
    F + f"docker://{R} does not exist or you do not have permissions to see it.",
    S + f"reading manifest latest in {HOST}/t/x: authentication required",
    S + f"reading manifest latest in {R}: unauthorized: authentication required",
    S + f"reading manifest latest in {R}: unauthorized: manifest unknown",
    S + f"reading manifest latest in {R}: errors:\ndenied: requested access to the resource is denied\n",
    S + f"reading manifest latest in {R}: requested access to the resource is denied",
    S + f"reading manifest latest in {R}: denied: manifest unknown",
    S + "unable to retrieve auth token: invalid username/password: unauthorized: access denied",
    S + "requesting bearer token: invalid status code from registry 404 (Not Found)",
    S + f"reading manifest latest in {R}: toomanyrequests: You have reached your pull rate limit",
    S + "too many requests to registry",
    S + f"reading manifest latest in {R}: received unexpected HTTP status: 500 Internal Server Error",
    S + f"reading manifest latest in {R}: received unexpected HTTP status: 502 Bad Gateway",
    S + f"reading manifest latest in {R}: received unexpected HTTP status: 503 Service Unavailable",
    S + f"reading manifest latest in {R}: received unexpected HTTP status: 504 Gateway Timeout",
    S + f"reading manifest latest in {R}: received unexpected HTTP status: 429 Too Many Requests",
    S + f"reading manifest latest in {R}: StatusCode: 502, <html><body>Bad Gateway</body></html>",
    S + f"reading manifest latest in {R}: error parsing HTTP 403 response body: invalid character '<'",
    S + f'reading manifest latest in {R}: Get "https://{HOST}/v2/{GUID}/manifests/latest": EOF',
    G + "invalid character '<' looking for beginning of value",
    F
    + f'fetching image configuration: Get "https://{HOST}/v2/{GUID}/blobs/sha256:ab": context deadline exceeded',
    B + f'fetching blob: Get "https://{HOST}/v2/{GUID}/blobs/sha256:ab": dial tcp 10.0.0.7:8080: i/o timeout',
    B + "fetching blob: received unexpected HTTP status: 503 Service Unavailable",
    B + "fetching blob: invalid status code from registry 500 (Internal Server Error)",
    B + "writing blob to tempfile: read tcp 10.0.1.2:40000->10.0.0.7:8080: read: connection reset by peer",
    B + "writing blob to tempfile: stream error: stream ID 5; INTERNAL_ERROR; received from peer",
]

COPY = [
    S + f"reading manifest latest in {R}: manifest unknown",
    S + f"reading manifest {'t' * 128} in {LONG_HOST}/{LONG_PATH}: manifest unknown: denied: by nobody",
    S + f"reading manifest latest in {R}: name unknown: repository name not known to registry",
    S + f"reading manifest latest in {R}: received unexpected HTTP status: 404 Not Found",
    S + f"reading manifest latest in {R}: error parsing HTTP 404 response body: invalid character '<'",
    B + "fetching blob: blob unknown to registry",
    B + "fetching blob: received unexpected HTTP status: 404 Not Found",
    F + "fetching image configuration: fetching blob: blob unknown to registry",
    B + "writing blob to tempfile: unexpected EOF",
    B + "writing blob to tempfile: gzip: invalid checksum",
    B + "writing blob to tempfile: flate: corrupt input before offset 219",
    B + "expected blob to be of type application/vnd.docker.image.rootfs.diff.tar.gzip: EOF",
    B
    + "validating reported blob size: layer size is different from the value in the manifest; expected: 259, actual 219",
    B
    + "validating actual blob size: layer size is different from the value in the manifest; expected: 259, actual 219",
    B + "layerID digest mismatch: expected: ab, actual: cd",
    G + "invalid character 'x' looking for beginning of value",
    G + "unexpected end of JSON input",
    F + "something that nobody has seen",
    F,
]

IMAGE = [
    G + "no FSLayers in manifest",
    G
    + 'choosing image instance: no image found in image index for architecture "amd64", variant "", OS "linux"',
    B + f"diffID digest mismatch: expected: {'ab' * 32}, actual: {'cd' * 32}",
    B + "expected blob to be of type application/vnd.oci.image.layer.v1.tar+gzip: gzip: invalid header",
    F + "pulling the image: layers exceed disk quota 3147046/1048576 bytes",
    B + "writing blob to tempfile: uncompressed layer size exceeds quota",
    F + "making image: creating image: applying disk limits: disk limit is smaller than volume size",
    F
    + f"pulling the image: unpacking layer `sha256:{'ab' * 32}`: failed to unpack: link /denied: unauthorized: EOF",
    F + "panic: runtime error: index out of range [1] with length 1",
]

PROCESS = [
    'exec failed: unable to start container process: exec: "/nope": stat /nope: no such file or directory',
    "unable to find user vcap: no matching entries in passwd file",
    "runc run: exit status 1: runc create failed",
    "failed to create container: external networker up: no free addresses",
    "failed to create container",
    F + "making image: mounting overlay: invalid argument",
    F + "acquiring lock: open /var/vcap/data/grootfs/store/unprivileged/locks: no such file or directory",
]

APP = [
    "Exited with status 3",
    "APP/PROC/WEB: Exited with status 137 (out of memory)",
    "Instance never healthy after 1m0s: Failed to make TCP connection to 10.0.0.1:8080: connection refused",
    "Instance became unhealthy: received status code 500 in 3ms: unable to find user",
    "cell disappeared before completion",
    "manifest unknown",  # an app may say anything of itself
]

ROOM = [
    "insufficient resources: memory",
    "found no compatible cell for required rootfs",
    'found no compatible cell with placement tag "segment"',
    "unable to communicate to compatible cells",
    "waiting to start instance: reached in-flight start limit",
    B + "writing blob to tempfile: write /var/vcap/data/tmp/blob-sha256-ab: no space left on device",
    F + "pulling the image: unpacking layer `sha256:ab`: failed to unpack: write /x: no space left on device",
]

TABLE = [
    *((text, Blame.REGISTRY) for text in REGISTRY),
    *((text, Blame.COPY) for text in COPY),
    *((text, Blame.IMAGE) for text in IMAGE),
    *((text, Blame.PROCESS) for text in PROCESS),
    *((text, Blame.APP) for text in APP),
    *((text, Blame.ROOM) for text in ROOM),
]


@pytest.mark.parametrize(("text", "blame"), TABLE)
def test_a_failed_start_speaks_against_what_its_text_names(text: str, blame: Blame) -> None:
    failure = start_failure(text)

    assert failure is not None
    assert failure.blame == blame
    assert failure == start_failure(text + END)
    assert failure.is_pull_failure == (blame in {Blame.REGISTRY, Blame.COPY, Blame.IMAGE})


@pytest.mark.parametrize(("text", "blame"), TABLE)
def test_a_text_that_the_bbs_has_cut_speaks_against_the_same(text: str, blame: Blame) -> None:
    cut = text + " and more" * 200
    said = start_failure(cut.encode()[:1013].decode(errors="ignore") + "(truncated)")

    assert said is not None
    room = blame is Blame.ROOM and text.startswith(F)  # the end of this text decides
    assert said.blame == blame or room
    assert len(said.detail) <= MAX_FOREIGN_TEXT


def test_a_text_cut_within_the_cause_speaks_against_what_is_left_of_it() -> None:
    text = S + f"reading manifest latest in {LONG_HOST}/{LONG_PATH}: den(truncated)"
    failure = start_failure(text)

    assert failure is not None
    assert failure.blame == Blame.COPY


@pytest.mark.parametrize("text", ["", " ", "\n", "\x00\x1b\n \t", ": : "])
def test_an_empty_text_is_no_failure(text: str) -> None:
    assert start_failure(text) is None
    assert placement_failure(text) is None


def test_what_every_failed_pull_begins_and_ends_with_is_not_shown() -> None:
    failure = start_failure(B + "fetching blob: blob unknown to registry" + END)

    blob = f"streaming blob `sha256:{'ab' * 32}`"
    assert failure == StartFailure(
        Blame.COPY, f"pulling the image: {blob}: fetching blob: blob unknown to registry"
    )
    assert start_failure(S + f"reading manifest latest in {R}: manifest unknown" + END) == StartFailure(
        Blame.COPY, f"reading manifest latest in {R}: manifest unknown"
    )
    assert start_failure(F + END) == StartFailure(Blame.COPY, F.removesuffix(": "))
    assert start_failure("exit status 1") == StartFailure(Blame.APP, "exit status 1")


def test_a_text_is_shown_without_control_characters_and_credentials() -> None:
    problem = 'Get "https://me:s3cr3t@cache.example/v2/?token=s3cr3t": Authorization: Basic bWU6czNjcjN0'
    failure = start_failure(F + "\x1b[31m" + problem + "\r\npassword=s3cr3t\x00" + END)

    assert failure is not None
    assert failure.blame == Blame.COPY  # a control character hides what it is in
    assert failure.detail.isprintable()
    assert "s3cr3t" not in failure.detail
    assert "bWU6czNjcjN0" not in failure.detail
    placed = placement_failure("insufficient resources:\x1b memory\npassword=s3cr3t")
    assert placed == StartFailure(Blame.ROOM, "insufficient resources: memory: ***")


def test_a_placement_error_is_about_room_whatever_it_says() -> None:
    assert placement_failure("insufficient resources: disk") == StartFailure(
        Blame.ROOM, "insufficient resources: disk"
    )
    assert placement_failure("something new") == StartFailure(Blame.ROOM, "something new")


@given(st.text(max_size=3000), st.sampled_from([F, S, B, ""]))
def test_any_text_is_read(text: str, beginning: str) -> None:
    failure = start_failure(beginning + text)

    assert failure is None or (failure.detail.isprintable() and 0 < len(failure.detail) <= MAX_FOREIGN_TEXT)
    if beginning:
        assert failure is not None


@pytest.mark.parametrize(
    "piece",
    [
        ": ",
        "a: ",
        "\n",
        "x-amz-",
        '"',
        "docker://a",
        "://a@",
        "making image: ",
        "expected blob to be of type ",
    ],
)
def test_no_text_takes_long_to_read(piece: str) -> None:
    text = F + piece * (1_000_000 // len(piece))
    begin = time.process_time()
    start_failure(text)

    assert time.process_time() - begin < 0.25
    assert len(text) > MAX_TEXT
