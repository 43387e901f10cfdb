"""Which tasks are Docker staging tasks, in every form since 2015, and what is read out of them."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconcile.lrps import (
    Action,
    AppGuid,
    Credentials,
    OtherAction,
    RunAction,
    Secret,
    Task,
    TaskGuid,
    TaskState,
    WrapperAction,
)
from reconcile.references import Rootfs, parse_image_reference
from reconcile.staging import (
    IgnoredTask,
    IgnoreReason,
    OwnerChoice,
    StagedImage,
    detect,
    owner_choice_of,
)

APP = "0d6c0b8a-51c5-4b2c-8f2e-0f0f5f2a9b11"
BUILD = TaskGuid("6b1f2c1e-7f0a-4d47-9a4b-2b7f0a9e5c31")
HEX = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
RESULT = "-outputMetadataJSONFilename=/tmp/result.json"
LOGIN = Credentials("robot-payments", Secret("not-a-real-one"))


def wrapped(*actions: Action, depth: int = 2) -> Action:
    action: Action = WrapperAction(actions)
    for _ in range(depth - 1):
        action = WrapperAction((action,))
    return action


def staging_task(*args: str, path: str = "/tmp/lifecycle/builder", env: dict[str, str] | None = None) -> Task:
    return Task(
        task_guid=BUILD,
        domain="cf-app-staging",
        state=TaskState.RUNNING,
        created_at=1755680400123456789,
        rootfs=Rootfs("preloaded:cflinuxfs4"),
        log_guid=APP,
        action=wrapped(RunAction(path, args, env or {})),
        metric_tags={
            "source_id": APP,
            "app_id": APP,
            "app_name": "payments-api",
            "space_id": "5b1c7f5e-2222-4f6b-9d1e-0a0b0c0d0e0f",
            "space_name": "prod",
            "organization_id": "9f4b3c2a-1111-4a5b-8c6d-7e8f90a1b2c3",
            "organization_name": "acme",
        },
    )


def staged(task: Task) -> StagedImage:
    found = detect(task)
    assert isinstance(found, StagedImage), found
    return found


def refused(task: Task) -> IgnoredTask:
    found = detect(task)
    assert isinstance(found, IgnoredTask), found
    return found


def test_a_staging_task_of_today_is_read_whole() -> None:
    task = staging_task(
        RESULT,
        "-dockerRef=registry.example.com/payments/api:2.4",
        "-insecureDockerRegistries=10.0.16.7:8080",
        "-dockerUser=robot-payments",
        "-dockerPassword=not-a-real-one",
        env={"IMAGE_CACHE": "true", "MEMORY_LIMIT": "1024m", "VCAP_SERVICES": "{}"},
    )

    assert detect(replace(task, credentials=LOGIN)) == StagedImage(
        task_guid=BUILD,
        app_guid=AppGuid(APP),
        organization_guid="9f4b3c2a-1111-4a5b-8c6d-7e8f90a1b2c3",
        text="registry.example.com/payments/api:2.4",
        source=parse_image_reference("registry.example.com/payments/api:2.4"),
        credentials=LOGIN,
        staged_at=1755680400123456789,
        owner_choice=OwnerChoice.NONE,
    )


def test_an_app_task_of_a_docker_app_is_not_staging() -> None:
    """Trap 3 of Cloud Controller."""
    task = replace(
        staging_task("app", "bin/migrate --all", "{}", path="/tmp/lifecycle/launcher"),
        domain="cf-tasks",
        rootfs=Rootfs("docker://registry.example.com/payments/api#2.4"),
    )

    assert detect(task) == IgnoredTask(IgnoreReason.APP_TASK)


OLD = "/tmp/docker_app_lifecycle/builder"
MOUNT = RunAction("/tmp/docker_app_lifecycle/mount_cgroups")
OLD_RESULT = ("-outputMetadataJSONFilename", "/tmp/docker-result/result.json")
ADDRESSES = ("-dockerRegistryAddresses", "10.244.2.6:8080,10.244.2.7:8080")
HOST = ("-dockerRegistryHost", "docker-registry.service.cf.internal", "-dockerRegistryPort", "8080")
IPS = ("-dockerRegistryIPs", "10.244.2.6,10.244.2.7")
INSECURE = ("-insecureDockerRegistries", "docker-registry.service.cf.internal:8080")
OLD_LOGIN = ("-dockerLoginServer", "https://index.docker.io/v1/", "-dockerUser", "u", "-dockerPassword", "p")
EMAIL = ("-dockerEmail", "u@example.com")

PERIODS = {
    "2015 URL": (
        ("-dockerImageURL", "docker:///library/busybox#1"),
        "docker.io/library/busybox:1",
        None,
        OwnerChoice.NONE,
    ),
    "2015-03": (
        (*OLD_RESULT, "-dockerRef", "busybox", *ADDRESSES),
        "docker.io/library/busybox:latest",
        None,
        OwnerChoice.NONE,
    ),
    "2015-03 caching": (
        (*OLD_RESULT, "-dockerRef", "busybox", *ADDRESSES, "-cacheDockerImage"),
        "docker.io/library/busybox:latest",
        None,
        OwnerChoice.OPT_IN,
    ),
    "2015-05 caching": (
        ("-cacheDockerImage", *ADDRESSES, *OLD_LOGIN, *EMAIL, *OLD_RESULT, "-dockerRef", "team/app:1"),
        "docker.io/team/app:1",
        Credentials("u", Secret("p")),
        OwnerChoice.OPT_IN,
    ),
    "2015-08 caching": (
        ("-cacheDockerImage", *HOST, *IPS, *INSECURE, *OLD_RESULT, "-dockerRef", "reg.example:5000/app"),
        "reg.example:5000/app:latest",
        None,
        OwnerChoice.OPT_IN,
    ),
    "2015-10 without caching": (
        (*INSECURE, *OLD_RESULT, "-dockerRef", "team/app"),
        "docker.io/team/app:latest",
        None,
        OwnerChoice.NONE,
    ),
    "2016-12": ((*OLD_RESULT, "-dockerRef", "team/app:v1"), "docker.io/team/app:v1", None, OwnerChoice.NONE),
    "2017-05": (
        (*OLD_RESULT, "-dockerRef", "team/app", "-dockerUser", "u", "-dockerPassword", "p"),
        "docker.io/team/app:latest",
        Credentials("u", Secret("p")),
        OwnerChoice.NONE,
    ),
}


@pytest.mark.parametrize(
    ("args", "source", "credentials", "owner_choice"),
    [pytest.param(*row, id=period) for period, row in PERIODS.items()],
)
def test_the_tasks_of_the_stager_are_read(
    args: tuple[str, ...], source: str, credentials: Credentials | None, owner_choice: OwnerChoice
) -> None:
    serial = wrapped(WrapperAction((MOUNT,)), OtherAction(), WrapperAction((RunAction(OLD, args),)))
    found = staged(replace(staging_task(), action=serial, metric_tags={}))

    assert str(found.source) == source
    assert found.credentials == credentials
    assert found.owner_choice is owner_choice
    assert found.organization_guid == ""


CNB_ARGS = ("--cache-dir", "/tmp/cache", "--cache-output", "/tmp/cache-output.tgz", "--buildpack")


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        (
            (
                "-buildpackOrder=a1,b2",
                "-skipDetect=false",
                "-buildDir=/tmp/app",
                "-outputDroplet=/tmp/droplet",
            ),
            IgnoreReason.BUILDPACK,
        ),
        (("-outputMetadata=/tmp/result.json",), IgnoreReason.BUILDPACK),
        ((*CNB_ARGS, "docker://registry.example.com/buildpack:1", "--pass-env-var", "FOO"), IgnoreReason.CNB),
        ((*CNB_ARGS, "-dockerRef=x"), IgnoreReason.CNB),
        (("--buildpack", "-dockerRef=x"), IgnoreReason.CNB),
        (("--pass-env-var", "-dockerRef=x", "--buildpack", "a"), IgnoreReason.CNB),
        (("-dockerRef=x", "--buildpack", "a"), IgnoreReason.CNB),
        ((), IgnoreReason.NO_IMAGE),
        ((RESULT,), IgnoreReason.NO_IMAGE),
        (("-dockerRef=",), IgnoreReason.NO_IMAGE),
        (("-dockerRef", ""), IgnoreReason.NO_IMAGE),
        (("-dockerRef",), IgnoreReason.NO_IMAGE),
        (("-dockerRef=a", "-dockerRef="), IgnoreReason.NO_IMAGE),
        (("x", "-dockerRef=a"), IgnoreReason.NO_IMAGE),
        (("--", "-dockerRef=a"), IgnoreReason.NO_IMAGE),
        (("-", "-dockerRef=a"), IgnoreReason.NO_IMAGE),
        (("", "-dockerRef=a"), IgnoreReason.NO_IMAGE),
        (("-cacheDockerImage", "true", "-dockerRef=a"), IgnoreReason.NO_IMAGE),
        (("dockerRef=a",), IgnoreReason.NO_IMAGE),
        (("-dockerref=a",), IgnoreReason.NO_IMAGE),
        (("---dockerRef=a",), IgnoreReason.MALFORMED),
        (("-=a", "-dockerRef=a"), IgnoreReason.MALFORMED),
        (("-dockerRef=a", "-dockerUser"), IgnoreReason.MALFORMED),
        (("-cacheDockerImage=yes", "-dockerRef=a"), IgnoreReason.MALFORMED),
        (("-newFlag", "-dockerRef=a"), IgnoreReason.MALFORMED),
    ],
)
def test_other_arguments_of_a_builder_are_not_ours(args: tuple[str, ...], reason: str) -> None:
    """Trap 2 of Cloud Controller: a buildpack of a CNB staging may be an image."""
    assert refused(staging_task(*args)).reason == reason


@pytest.mark.parametrize(
    "args",
    [
        ("-dockerRef=team/app:1",),
        ("--dockerRef=team/app:1",),
        ("-dockerRef", "team/app:1"),
        ("--dockerRef", "team/app:1"),
        ("-dockerRef=other", "-dockerRef=team/app:1"),
        ("-dockerRef", "other", "--dockerRef=team/app:1"),
        ("-cacheDockerImage", "-dockerRef=team/app:1"),
        ("-cacheDockerImage=false", "-dockerRef=team/app:1"),
        ("-dockerRegistryRequireTLS", "-dockerRef", "team/app:1", "rest", "-dockerRef=other"),
        ("-dockerUser", "-dockerRef=other", "-dockerRef=team/app:1"),
        ("-newFlag=value", "-dockerRef=team/app:1"),
        ("-dockerImageURL=docker:///other", "-dockerRef=team/app:1"),
        ("-dockerRef=team/app:1", "--", "--buildpack"),
    ],
)
def test_flags_are_read_as_go_reads_them(args: tuple[str, ...]) -> None:
    """Trap 1 of Cloud Controller: a flag and its value are two items or one, with one dash or two."""
    found = staged(staging_task(*args))

    assert found.text == "team/app:1"
    assert str(found.source) == "docker.io/team/app:1"


@pytest.mark.parametrize(
    "domain", ["", "cf-apps", "cf-app-staging ", "CF-APP-STAGING", "docker-cache-bridge"]
)
def test_another_domain_is_not_ours(domain: str) -> None:
    assert detect(replace(staging_task("-dockerRef=a"), domain=domain)) == IgnoredTask(
        IgnoreReason.OTHER_DOMAIN
    )


@pytest.mark.parametrize(
    "action",
    [
        None,
        OtherAction(),
        WrapperAction(),
        RunAction("/tmp/lifecycle/launcher", ("-dockerRef=a",)),
        RunAction("/tmp/builder/run", ("-dockerRef=a",)),
        RunAction("/tmp/lifecycle/builder/", ("-dockerRef=a",)),
        RunAction("", ("-dockerRef=a",)),
    ],
)
def test_a_task_without_the_builder_is_not_ours(action: Action | None) -> None:
    assert detect(replace(staging_task(), action=action)) == IgnoredTask(IgnoreReason.NO_BUILDER)


def test_the_builder_is_found_among_other_programs_at_any_depth() -> None:
    builder = RunAction("builder", ("-dockerRef=team/app",))
    action = wrapped(MOUNT, OtherAction(), RunAction("builder"), wrapped(builder, depth=20))

    assert staged(replace(staging_task(), action=action)).text == "team/app"


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("busybox", "docker.io/library/busybox:latest"),
        ("busybox:", "docker.io/library/busybox:latest"),
        ("docker.io/busybox", "docker.io/library/busybox:latest"),
        ("index.docker.io/busybox", "docker.io/library/busybox:latest"),
        ("registry-1.docker.io/busybox", "docker.io/library/busybox:latest"),
        ("registry-1.docker.io/library/busybox:1", "docker.io/library/busybox:1"),
        ("localhost/app", "localhost/app:latest"),
        ("registry:5000/app", "registry:5000/app:latest"),
        ("registry:5000/app:1", "registry:5000/app:1"),
        ("registry.example.com", "docker.io/library/registry.example.com:latest"),
        ("myregistry:5000", "docker.io/library/myregistry:5000"),
        ("REGISTRY.Example.com/team/app:1", "registry.example.com/team/app:1"),
        ("[2001:db8::1]:5000/app", "[2001:db8::1]:5000/app:latest"),
        (f"busybox@sha256:{HEX}", f"docker.io/library/busybox@sha256:{HEX}"),
        (f"registry.example.com/p/a@sha256:{HEX}", f"registry.example.com/p/a@sha256:{HEX}"),
        (HEX, f"docker.io/library/{HEX}:latest"),
    ],
)
def test_an_image_is_read_as_the_builder_reads_it(text: str, source: str) -> None:
    """Trap 4 of Cloud Controller: a port without a tag, a digest."""
    found = staged(staging_task(f"-dockerRef={text}"))

    assert (found.text, str(found.source)) == (text, source)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("   ", "illegal repository"),
        ("docker://ubuntu", "has a scheme"),
        ("https://registry.example.com/app", "has a scheme"),
        ("registry.example.com/Team/app", "capitals in its repository 'Team/app'"),
        ("FOO/bar", "capitals in its repository 'FOO/bar'"),
        ("foo_bar.com/image", "illegal host 'foo_bar.com'"),
        ("registry.example.com/p/a:v1/x", "illegal tag 'v1/x:latest'"),
        ("repo@tag", "after '@'"),
        ("repo::", "illegal tag"),
        ("busybox@sha256:abc", "after '@'"),
        ("app:1+2", "illegal tag '1+2'"),
        ("-dockerUser", "capitals in its repository"),
    ],
)
def test_an_image_that_staging_cannot_read_is_refused_with_the_reason(text: str, why: str) -> None:
    found = refused(staging_task("-dockerRef", text))

    assert found.reason == IgnoreReason.UNPARSABLE_IMAGE
    assert why in found.detail


@pytest.mark.parametrize("url", ["busybox", "https://registry.example.com/app", "docker://", "docker:///UP"])
def test_an_image_url_of_2015_needs_its_scheme_and_a_legal_image(url: str) -> None:
    assert refused(staging_task("-dockerImageURL", url)).reason == IgnoreReason.UNPARSABLE_IMAGE


@pytest.mark.parametrize("name", ["ubuntu:22.04", "registry.example.com:5000/p/a:v1"])
def test_a_tag_beside_a_digest_is_skipped(name: str) -> None:
    """Trap 4 of Cloud Controller: staging itself fails for those."""
    assert refused(staging_task(f"-dockerRef={name}@sha256:{HEX}")).reason == IgnoreReason.TAG_AND_DIGEST


USER, PASSWORD = "-dockerUser=u", "-dockerPassword=p"


@pytest.mark.parametrize(
    ("args", "credentials"),
    [
        ((), LOGIN),
        ((USER, PASSWORD), Credentials("u", Secret("p"))),
        ((USER, "-dockerPassword="), Credentials("u", Secret(""))),
        ((USER, "-dockerPassword=a=b"), Credentials("u", Secret("a=b"))),
        (("-dockerUser", "u", "-dockerPassword", "-p"), Credentials("u", Secret("-p"))),
        ((USER,), LOGIN),
        ((PASSWORD,), LOGIN),
        (("-dockerUser=", "-dockerPassword="), LOGIN),
    ],
)
def test_a_whole_login_in_the_flags_comes_before_the_tasks_own(
    args: tuple[str, ...], credentials: Credentials
) -> None:
    task = staging_task("-dockerRef=a", *args)

    assert staged(replace(task, credentials=LOGIN)).credentials == credentials
    assert staged(task).credentials == (None if credentials == LOGIN else credentials)


@pytest.mark.parametrize(
    "args",
    [
        ("-dockerRef=a", "-dockerPassword=s3cr3t"),
        ("-dockerRef=UP", "-dockerUser=u", "-dockerPassword", "s3cr3t"),
        ("-dockerRef=u:s3cr3t@registry.example.com/app",),
        ("-dockerRef=https://u:s3cr3t@registry.example.com/app",),
        ("-dockerImageURL=docker://u:s3cr3t@registry.example.com/UP",),
        ("-dockerImageURL=oci://u:s3cr3t@registry.example.com/app",),
        ("-dockerRef=u:a@s3cr3t@registry.example.com/app",),
        ("-dockerRef=u:a/s3cr3t@registry.example.com/app",),
        ("-dockerRef=u:a/S:s3cr3t@registry.example.com/app",),
        ("-dockerImageURL=docker://u:a/s3cr3t@registry.example.com/app",),
        ("-dockerImageURL=docker://u:a#s3cr3t@registry.example.com/app",),
    ],
)
def test_a_password_is_shown_nowhere(args: tuple[str, ...]) -> None:
    task = replace(staging_task(*args), credentials=Credentials("u", Secret("s3cr3t")))
    found = detect(task)

    if isinstance(found, StagedImage):
        assert "s3cr3t" not in repr(found.credentials)
    assert "s3cr3t" not in repr(found)
    assert "s3cr3t" not in repr(task)


@pytest.mark.parametrize(
    ("log_guid", "tags", "app_guid"),
    [
        ("a", {"app_id": "b", "source_id": "c"}, "a"),
        ("", {"app_id": "b", "source_id": "c"}, "b"),
        ("", {"source_id": "c"}, "c"),
    ],
)
def test_the_app_is_the_log_guid_else_a_metric_tag(
    log_guid: str, tags: dict[str, str], app_guid: str
) -> None:
    assert (
        staged(replace(staging_task("-dockerRef=a"), log_guid=log_guid, metric_tags=tags)).app_guid
        == app_guid
    )


def test_a_task_of_no_app_or_without_a_guid_is_malformed() -> None:
    task = staging_task("-dockerRef=a")

    assert refused(replace(task, log_guid="", metric_tags={})).reason == IgnoreReason.MALFORMED
    assert refused(replace(task, task_guid=TaskGuid(""))).reason == IgnoreReason.MALFORMED


@pytest.mark.parametrize(
    ("value", "owner_choice"),
    [
        ("true", OwnerChoice.OPT_IN),
        ("false", OwnerChoice.OPT_OUT),
        ("TRUE", OwnerChoice.NONE),
        ("1", OwnerChoice.NONE),
        (" true", OwnerChoice.NONE),
        ("", OwnerChoice.NONE),
    ],
)
def test_only_exact_words_in_the_environment_are_a_choice(value: str, owner_choice: OwnerChoice) -> None:
    env = {"DIEGO_DOCKER_CACHE": value}

    assert staged(staging_task("-dockerRef=a", env=env)).owner_choice is owner_choice
    assert (
        owner_choice_of(wrapped(RunAction("/tmp/lifecycle/launcher", ("app",), env), MOUNT)) is owner_choice
    )


@pytest.mark.parametrize(
    ("flag", "env", "owner_choice"),
    [
        ("-cacheDockerImage", {}, OwnerChoice.OPT_IN),
        ("--cacheDockerImage=T", {}, OwnerChoice.OPT_IN),
        ("-cacheDockerImage=false", {}, OwnerChoice.NONE),
        ("-cacheDockerImage=false", {"DIEGO_DOCKER_CACHE": "true"}, OwnerChoice.OPT_IN),
        ("-cacheDockerImage", {"DIEGO_DOCKER_CACHE": "false"}, OwnerChoice.OPT_OUT),
    ],
)
def test_the_caching_flag_asks_unless_the_environment_refuses(
    flag: str, env: dict[str, str], owner_choice: OwnerChoice
) -> None:
    assert staged(staging_task(flag, "-dockerRef=a", env=env)).owner_choice is owner_choice


def test_an_action_without_a_wish_gives_no_signal() -> None:
    flagged = RunAction("/tmp/lifecycle/launcher", ("-cacheDockerImage",))

    for action in (
        None,
        OtherAction(),
        WrapperAction(),
        flagged,
        RunAction("builder", ("-cacheDockerImage=?",)),
    ):
        assert owner_choice_of(action) is OwnerChoice.NONE


def test_a_no_outweighs_a_yes() -> None:
    yes, no = (RunAction("run", env={"DIEGO_DOCKER_CACHE": value}) for value in ("true", "false"))

    assert owner_choice_of(wrapped(yes, no)) is owner_choice_of(wrapped(no, yes)) is OwnerChoice.OPT_OUT


names = st.sampled_from(
    [
        "dockerRef",
        "dockerImageURL",
        "cacheDockerImage",
        "dockerUser",
        "dockerPassword",
        "buildpack",
        "x",
        "",
        "-",
    ]
)
values = st.text(max_size=20) | st.sampled_from(
    ["busybox:1", "docker:///a#b", "a.b/c", f"a@sha256:{HEX}", "true"]
)
arguments = st.one_of(
    st.builds("{}{}={}".format, st.sampled_from(["-", "--", "---", ""]), names, values),
    st.builds("{}{}".format, st.sampled_from(["-", "--"]), names),
    values,
)
programs = st.builds(
    RunAction,
    path=st.sampled_from(["/tmp/lifecycle/builder", "builder", "/bin/sh", ""]) | st.text(max_size=5),
    args=st.lists(arguments, max_size=6).map(tuple),
    env=st.dictionaries(st.sampled_from(["DIEGO_DOCKER_CACHE", "X"]), st.sampled_from(["true", "false", ""])),
)
actions = st.recursive(
    st.just(OtherAction()) | programs,
    lambda inner: st.builds(WrapperAction, st.lists(inner, max_size=3).map(tuple)),
    max_leaves=6,
)
tasks = st.builds(
    Task,
    task_guid=st.text(max_size=5).map(TaskGuid),
    domain=st.sampled_from(["cf-app-staging", "cf-app-staging", "cf-tasks", ""]),
    state=st.sampled_from(TaskState),
    created_at=st.integers(),
    rootfs=st.text(max_size=10).map(Rootfs),
    log_guid=st.text(max_size=5),
    action=st.none() | actions,
    failed=st.booleans(),
    failure_reason=st.text(max_size=5),
    metric_tags=st.dictionaries(st.sampled_from(["app_id", "source_id", "space_id"]), st.text(max_size=5)),
    credentials=st.none() | st.just(LOGIN),
)


@given(tasks)
def test_any_task_is_read_or_ignored(task: Task) -> None:
    found = detect(task)

    if isinstance(found, StagedImage):
        assert found.task_guid
        assert found.app_guid
        assert found.source == found.source.canonical() == parse_image_reference(str(found.source))
    else:
        assert found.reason
