"""Copying through a docker daemon that misbehaves: what becomes an error, and what is left behind."""

import asyncio
import json
import logging
import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path

import httpx
import pytest

from controller.engines.copy_limits import CopyLimits
from controller.engines.docker_daemon import DaemonSettings, DockerCopy
from controller.registry.http.settings import RegistrySettings, Retries, Timeouts
from controller.registry.registries import ClientPolicy, Registries
from reconcile.copying_ports import CopiedImage
from reconcile.errors import Denied, DockerCacheError, Invalid, NotFound, Unavailable
from reconcile.lrps import Credentials, Secret
from reconcile.references import CacheRepositories, parse_digest, parse_image_reference
from tests.conftest import PassTime
from tests.simulators import docker_daemon, images
from tests.simulators import registry as registries
from tests.simulators.docker_daemon import DockerDaemonSimulator, Script, lines
from tests.simulators.registry import RegistrySimulator

GUID = "9b2f0a4e-5d0c-4c3e-9a52-2f0c8f6c2b11"
OTHER_GUID = "1c0de7a8-0000-4000-8000-000000000001"
SAMPLE = images.image([images.layer(5000, 1), images.layer(3000, 2)])
REPACKED = images.image(
    [images.layer(5001, 3), images.layer(3001, 4)],
    docker=True,
    diff_ids=[layer.digest for layer in SAMPLE.layers],
)
PUSHED = replace(
    REPACKED,
    config=SAMPLE.config,
    manifest=images.Blob(
        images.DOCKER_MANIFEST,
        REPACKED.manifest.content.replace(REPACKED.config.digest.encode(), SAMPLE.config.digest.encode()),
    ),
)
TEAM = Credentials("team", Secret('marker-"paßword~~~???'))
OPERATOR = Credentials("operator", Secret("marker-push-password"))
FAILURE = {"errorDetail": {"message": "m"}, "error": "m"}
DONE = {"status": f"latest: digest: {PUSHED.manifest.digest} size: 900"}


class Scene:
    """Two registries with a daemon between them, which "pushes" what lies in the private one already."""

    def __init__(
        self, source: RegistrySimulator, private: RegistrySimulator, daemon: DockerDaemonSimulator
    ) -> None:
        self.source, self.private, self.daemon = source, private, daemon
        self.image = parse_image_reference(f"{source.address}/team/app:1")
        self.target = parse_image_reference(f"{private.address}/{GUID}:latest")
        self.pulled = f"{source.address}/team/app@{SAMPLE.manifest.digest}"
        self.policy = ClientPolicy()
        self.engines: list[DockerCopy] = []
        daemon.image_id = SAMPLE.config.digest
        daemon.diff_ids = tuple(layer.digest for layer in SAMPLE.layers)
        daemon.pull = Script(lines({"status": "Status: Downloaded newer image"}))
        daemon.push = Script(lines({"status": "Pushed"}, DONE))

    def engine(
        self, *, idle: float = 600.0, total: float = 900.0, limits: CopyLimits = CopyLimits(), login: Credentials | None = None  # noqa: B008 - a frozen value
    ) -> DockerCopy:  # fmt: skip
        client = Registries(
            {
                self.source.address: RegistrySettings(
                    plain_http=True, allowed_networks=(ip_network("127.0.0.0/8"),)
                ),
                self.private.address: RegistrySettings(plain_http=True, any_address=True, credentials=login),
            },
            timeouts=Timeouts(connect=60.0, idle=60.0),
            retries=Retries(attempts=1),
            policy=self.policy,
        )
        settings = DaemonSettings(self.daemon.address, idle=idle, total=total)
        engine = DockerCopy(client, CacheRepositories(self.private.address), settings, limits=limits)
        self.engines.append(engine)
        return engine

    async def copy(
        self, engine: DockerCopy | None = None, credentials: Credentials | None = None
    ) -> CopiedImage:
        engine = engine or self.engine()
        return await engine.copy(await engine.resolve(self.image, None), self.target, credentials)


@pytest.fixture
def parts(servers: None, tmp_path: Path) -> Iterator[Scene]:
    with (
        registries.serve() as source,
        registries.serve() as private,
        docker_daemon.serve(tmp_path) as daemon,
        httpx.Client(base_url=source.url) as at_source,
        httpx.Client(base_url=private.url) as at_private,
    ):
        images.push_image(at_source, "team/app", "1", SAMPLE)
        images.push_image(at_private, GUID, "latest", PUSHED)
        yield Scene(source, private, daemon)


@pytest.fixture
async def scene(parts: Scene) -> AsyncIterator[Scene]:
    yield parts
    for engine in parts.engines:
        await engine.close()


async def test_a_copy_is_what_the_private_registry_holds(scene: Scene) -> None:
    copied = await scene.copy()

    assert copied.digest == parse_digest(PUSHED.manifest.digest)
    assert copied.size == copied.transferred
    assert copied.size == len(PUSHED.manifest.content) + sum(len(blob.content) for blob in PUSHED.blobs)
    assert copied.blobs == tuple(parse_digest(blob.digest) for blob in PUSHED.blobs)
    assert scene.daemon.names == {}


async def test_the_daemon_is_told_digest_platform_and_one_tag(scene: Scene) -> None:
    await scene.copy()

    (pull,) = scene.daemon.called("/images/create")
    (push,) = scene.daemon.called("/push")
    assert pull.query == {
        "fromImage": f"{scene.source.address}/team/app",
        "tag": SAMPLE.manifest.digest,
        "platform": "linux/amd64",
    }
    assert push.path == f"/images/{scene.private.address}/{GUID}/push"
    assert push.query == {"tag": "latest"}


async def test_each_side_gets_its_own_credentials(scene: Scene) -> None:
    await scene.copy(scene.engine(login=OPERATOR), TEAM)

    (pull,) = scene.daemon.called("/images/create")
    (push,) = scene.daemon.called("/push")
    assert pull.auth == {"username": "team", "password": TEAM.password.value}
    assert push.auth == {"username": "operator", "password": OPERATOR.password.value}


@pytest.mark.parametrize(
    ("username", "name"), [("<token>", "identitytoken"), ("<registrytoken>", "registrytoken")]
)
async def test_tokens_are_given_to_the_daemon_as_what_they_are(
    scene: Scene, username: str, name: str
) -> None:
    await scene.copy(credentials=Credentials(username, Secret("marker-token")))

    (pull,) = scene.daemon.called("/images/create")
    assert pull.auth == {name: "marker-token"}


@pytest.mark.parametrize("step", ["pull", "push"])
async def test_an_old_login_of_the_operator_is_looked_up_again(
    scene: Scene, step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = (scene.source if step == "pull" else scene.private).address
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    scene.daemon.old_passwords = {"marker-1"}

    def engine_with_helper() -> DockerCopy:
        program, counter, file = (tmp_path / name for name in ("docker-credential-x", "count", "auth.json"))
        answer = f"""'{{"Username":"u","Secret":"marker-'$(wc -l < {counter})'"}}'"""
        program.write_text(f"#!/bin/sh\necho >> {counter}\necho {answer}\n")
        program.chmod(0o755)
        file.write_text(json.dumps({"credHelpers": {host: "x"}}))
        scene.policy = ClientPolicy(auth_file=file)
        return scene.engine()

    await scene.copy(await asyncio.to_thread(engine_with_helper))

    calls = scene.daemon.called("/images/create" if step == "pull" else "/push")
    assert [call.auth for call in calls] == [
        {"username": "u", "password": "marker-1"},
        {"username": "u", "password": "marker-2"},
    ]


async def test_an_old_login_of_a_team_is_denied_at_once(scene: Scene) -> None:
    scene.daemon.old_passwords = {TEAM.password.value}

    with pytest.raises(Denied):
        await scene.copy(scene.engine(login=OPERATOR), TEAM)

    assert len(scene.daemon.called("/images/create")) == 1


async def test_without_credentials_nobody_elses_are_sent(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The SDK would look into the home directory, and into the file that an environment names."""
    login = '{"auths": {"%s": {"auth": "bWFya2VyOm1hcmtlcg=="}}, "HttpHeaders": {"X-Marker": "m"}}'
    (tmp_path / ".docker").mkdir()
    (tmp_path / ".docker/config.json").write_text(login % scene.source.address)
    (tmp_path / ".netrc").write_text("machine localhost login marker password marker")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / ".docker"))
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")

    await scene.copy()

    assert [call.auth for call in scene.daemon.calls if call.auth is not None] == [{}, {}]
    assert sorted(path.name for path in (tmp_path / ".docker").iterdir()) == ["config.json"]


@pytest.mark.parametrize("step", ["pull", "push"])
@pytest.mark.parametrize(
    "chunks",
    [
        lines(FAILURE),
        lines({"status": "Pushing"}, FAILURE, DONE),
        lines({"status": "Pushing"}, DONE, FAILURE),
        lines({"status": "Pushing"}, DONE, {"error": "m"}),
    ],
    ids=["first", "middle", "last", "no-detail"],
)
async def test_a_failure_in_a_stream_fails_the_copy(
    scene: Scene, step: str, chunks: tuple[bytes, ...]
) -> None:
    """docker-progress row 1; G1, G6."""
    setattr(scene.daemon, step, Script(chunks))

    with pytest.raises(Unavailable, match=f"docker: daemon-error: {step} .*: m"):
        await scene.copy()

    assert scene.daemon.names == {}


@pytest.mark.parametrize("step", ["pull", "push"])
async def test_a_failure_with_the_code_of_a_refusal_is_a_refusal(scene: Scene, step: str) -> None:
    """docker-progress row 2."""
    setattr(scene.daemon, step, Script(lines({"errorDetail": {"code": 401, "message": "m"}, "error": "m"})))

    with pytest.raises(Denied):
        await scene.copy()


async def test_white_space_in_the_stream_changes_nothing(scene: Scene) -> None:
    """docker-progress row 3."""
    (line,) = lines(DONE)
    scene.daemon.push = Script((b"\r\n\r\n", b" ", line[:9], line[9:-2], b"\r", b"\n \r\n", b"\r\n"))

    assert (await scene.copy()).digest == parse_digest(PUSHED.manifest.digest)


@pytest.mark.parametrize("step", ["pull", "push"])
@pytest.mark.parametrize(
    "script",
    [
        Script((*lines({"status": "Pushing"}), b'{"status": "Pu'), is_cut=True),
        Script((*lines({"status": "Pushing"}), b'{"status": "Pu')),
        Script(lines({"status": "Pushing"}), is_cut=True),
        Script((*lines({"status": "Pushing"}), b'{"status": "Pu'), is_chunked=False),
        Script(is_cut=True),
    ],
    ids=["in-object", "in-object-chunk-end", "between-objects", "no-chunks", "empty"],
)
async def test_a_stream_that_is_cut_is_never_success(scene: Scene, step: str, script: Script) -> None:
    """docker-progress row 4; P4."""
    setattr(scene.daemon, step, script)

    with pytest.raises(Unavailable) as caught:
        await scene.copy()

    assert caught.value.code in {"stream-cut", "daemon-lost"}


async def test_a_push_that_tells_no_digest_is_no_success(scene: Scene) -> None:
    scene.daemon.push = Script(lines({"status": "Pushed"}))

    with pytest.raises(Unavailable) as caught:
        await scene.copy()

    assert caught.value.code == "stream-cut"


@pytest.mark.parametrize("step", ["pull", "push"])
async def test_trying_again_counts_against_the_deadline(scene: Scene, step: str, pass_time: PassTime) -> None:
    """docker-progress row 5: each line ends the silence, none ends the copy."""
    (line,) = lines({"status": "Retrying in 5 seconds", "id": "a" * 12})
    setattr(scene.daemon, step, Script(then_repeat=line))

    copying = asyncio.create_task(scene.copy(scene.engine(total=900.0)))
    assert await asyncio.to_thread(scene.daemon.waits.wait, 60.0)
    await pass_time(900.0)
    with pytest.raises(Unavailable) as caught:
        await copying

    assert caught.value.code == "deadline"
    assert await asyncio.to_thread(scene.daemon.gone.wait, 60.0)
    assert scene.daemon.names == {}


@pytest.mark.parametrize("step", ["pull", "push"])
async def test_silence_has_a_limit(scene: Scene, step: str) -> None:
    setattr(scene.daemon, step, Script(lines({"status": "Waiting"}), then_hang=True))

    with pytest.raises(Unavailable, match="imed out") as caught:
        await scene.copy(scene.engine(idle=0.3))

    assert caught.value.code == "daemon-lost"


@pytest.mark.parametrize("step", ["pull", "push"])
async def test_a_cancelled_copy_hangs_up_at_once_and_cleans_up(scene: Scene, step: str) -> None:
    setattr(scene.daemon, step, Script(lines({"status": "Waiting"}), then_hang=True))
    copying = asyncio.create_task(scene.copy())
    assert await asyncio.to_thread(scene.daemon.waits.wait, 60.0)

    copying.cancel()
    with pytest.raises(asyncio.CancelledError):
        await copying

    assert await asyncio.to_thread(scene.daemon.gone.wait, 60.0)
    assert scene.daemon.names == {}


@pytest.mark.parametrize("step", ["pull", "push"])
@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (404, b'{"message": "manifest for x not found: manifest unknown"}', NotFound),
        (500, b'{"message": "unauthorized: authentication required"}', Denied),
        (500, b'{"message": "dial tcp: connection refused"}', Unavailable),
        (500, b"<html>no daemon at all</html>", Unavailable),
        (400, b'{"message": "invalid reference format"}', Invalid),
    ],
)
async def test_the_status_is_heeded_before_the_stream(
    scene: Scene, step: str, status: int, body: bytes, kind: type[DockerCacheError]
) -> None:
    """G3."""
    setattr(scene.daemon, step, Script((body,), status=status))

    with pytest.raises(DockerCacheError) as caught:
        await scene.copy()

    assert type(caught.value) is kind
    assert caught.value.system == "docker"
    assert scene.daemon.names == {}


@pytest.mark.parametrize("step", ["pull", "push"])
async def test_a_full_disk_of_the_daemon_says_so(scene: Scene, step: str) -> None:
    """G4: it stands in mere progress."""
    line = {"status": "write /var/lib/docker/tmp/x: no space left on device"}
    setattr(scene.daemon, step, Script(lines(line), then_hang=True))

    with pytest.raises(Unavailable, match="free space") as caught:
        await scene.copy()

    assert caught.value.code == "daemon-disk-full"
    assert scene.daemon.names == {}


async def test_a_digest_that_is_not_in_the_private_registry_is_no_success(scene: Scene) -> None:
    """G6, P11: the stream ended well, and another image lies under the tag."""
    missing = f"sha256:{'0' * 64}"
    scene.daemon.push = Script(lines({"aux": {"Tag": "latest", "Digest": missing, "Size": 9}}))

    with pytest.raises(Unavailable, match="is not there after its push"):
        await scene.copy()


async def test_another_image_under_the_pushed_digest_is_refused(scene: Scene) -> None:
    """G6: same layers, another config."""

    def push_other() -> None:
        with httpx.Client(base_url=scene.private.url) as client:
            images.push_image(client, GUID, "latest", images.image(SAMPLE.layers, architecture="arm64"))

    await asyncio.to_thread(push_other)
    other = images.image(SAMPLE.layers, architecture="arm64").manifest.digest
    scene.daemon.push = Script(lines({"aux": {"Tag": "latest", "Digest": other, "Size": 9}}))

    with pytest.raises(Invalid) as caught:
        await scene.copy()

    assert caught.value.code == "image-changed"


async def test_another_image_than_the_source_names_is_never_pushed(scene: Scene) -> None:
    scene.daemon.image_id = f"sha256:{'1' * 64}"

    with pytest.raises(Invalid) as caught:
        await scene.copy()

    assert caught.value.code == "image-changed"
    assert scene.daemon.called("/push") == []


async def test_progress_without_totals_and_new_words_is_tolerated(scene: Scene) -> None:
    """G7."""
    scene.daemon.push = Script(
        lines(
            {"status": "Unpacking", "id": "aaaaaaaaaaaa", "progressDetail": {"current": 5}},
            {"status": "Pushing", "progressDetail": {"current": 7, "total": -1}, "id": "layer-sha"},
            {"aux": {"ManifestPushedInsteadOfIndex": {"selectedManifest": {}}}},
            {"stream": "words"},
            DONE,
        )
    )

    assert (await scene.copy()).digest == parse_digest(PUSHED.manifest.digest)


async def test_progress_counts_both_ways_while_the_daemon_works(scene: Scene) -> None:
    first, second = (layer.digest[7:19] for layer in SAMPLE.layers)
    scene.daemon.pull = Script(
        lines(
            {"status": "Downloading", "id": first, "progressDetail": {"current": 2500, "total": 5000}},
            {"status": "Pull complete", "id": first},
            {"status": "Already exists", "id": second},
        )
    )
    scene.daemon.push = Script(
        lines({"status": "Pushing", "id": first, "progressDetail": {"current": 50, "total": 100}}),
        then_hang=True,
    )
    engine = scene.engine()
    copying = asyncio.create_task(scene.copy(engine))

    async with asyncio.timeout(60.0):
        while (progress := engine.progress(scene.target)) is None or progress.transferred < 7500:  # noqa: ASYNC110 - a meter sets no event
            await asyncio.sleep(0.01)
    copying.cancel()
    with pytest.raises(asyncio.CancelledError):
        await copying

    assert (progress.total, progress.transferred, progress.skipped) == (16000, 7500, 3000)
    assert engine.progress(scene.target) is None


async def test_a_name_that_is_in_use_or_gone_does_not_fail_the_copy(scene: Scene) -> None:
    scene.daemon.remove_status = 409

    assert (await scene.copy()).digest == parse_digest(PUSHED.manifest.digest)


async def test_an_image_that_was_there_before_stays(scene: Scene) -> None:
    scene.daemon.names[scene.pulled] = SAMPLE.config.digest

    await scene.copy()

    assert list(scene.daemon.names) == [scene.pulled]


async def test_leftovers_of_a_crashed_run_are_removed_and_nothing_else(scene: Scene) -> None:
    kept = {
        f"{scene.private.address}/base/builder:latest": f"sha256:{'2' * 64}",
        f"{scene.private.address}/{GUID}:other": f"sha256:{'3' * 64}",
        "busybox:latest": f"sha256:{'4' * 64}",
        "busybox@sha256:" + "5" * 64: f"sha256:{'4' * 64}",
    }
    scene.daemon.names |= kept
    scene.daemon.names |= {
        f"{scene.private.address}/{OTHER_GUID}:latest": f"sha256:{'6' * 64}",
        f"r.example/app@sha256:{'7' * 64}": f"sha256:{'6' * 64}",
        f"{scene.private.address}/{GUID}:latest": f"sha256:{'4' * 64}",
    }

    await scene.copy()

    assert scene.daemon.names == kept


async def test_two_copies_of_one_image_do_not_remove_it_under_each_other(scene: Scene) -> None:
    engine = scene.engine()

    copies = await asyncio.gather(scene.copy(engine), scene.copy(engine))

    assert {copied.digest for copied in copies} == {parse_digest(PUSHED.manifest.digest)}
    assert scene.daemon.names == {}


async def test_a_large_image_is_refused_before_the_daemon_pulls(scene: Scene) -> None:
    with pytest.raises(Invalid) as caught:
        await scene.copy(scene.engine(limits=CopyLimits(max_image_bytes=4000)))

    assert caught.value.code == "image-too-large"
    assert scene.daemon.called("/images/create") == []


async def test_without_a_daemon_a_copy_is_unavailable(scene: Scene) -> None:
    engine = scene.engine()
    scene.daemon.socket_path, path = f"{scene.daemon.socket_path}-gone", scene.daemon.socket_path
    await asyncio.to_thread(os.rename, path, scene.daemon.socket_path)

    with pytest.raises(Unavailable, match="daemon-lost"):
        await scene.copy(engine)


async def test_no_password_gets_into_logs_errors_or_arguments(
    scene: Scene, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """I1."""
    caplog.set_level(logging.DEBUG)
    scene.daemon.push = Script(
        lines({"error": f"refused {OPERATOR.password.value} and {TEAM.password.value}"})
    )

    with pytest.raises(DockerCacheError) as caught:
        await scene.copy(scene.engine(login=OPERATOR), TEAM)

    written = capsys.readouterr()
    told = f"{caught.value} {caplog.text} {written.out} {written.err}"
    assert "marker-push" not in told
    arguments = await asyncio.to_thread(Path("/proc/self/cmdline").read_text, errors="replace")
    assert "marker" not in arguments
