"""Commands that have something done about copies and the daemon as a whole."""

from contextlib import aclosing
from pathlib import Path

import click

from controller.admin.client import AdminClient
from controller.commands.options import config_option, direct_option, output_option
from controller.commands.output import WIDEST, Column, Format, Output, Row, size
from controller.commands.sessions import Target, call
from reconcile.errors import DockerCacheError
from reconcile.reasons import Reason

OPEN = frozenset({"queued", "copying"})


@click.command()
@config_option
@direct_option
@output_option
@click.option("--follow", is_flag=True, help="Stay until the copy is there, and print its URL.")
@click.argument("reference")
def cache(*, config_path: Path, is_direct: bool, wanted: Format, follow: bool, reference: str) -> None:
    r"""Have an image copied into the private registry by hand.

    A login for its registry is taken from the daemon's config. --direct always follows.

    \b
    Example:
      diego-docker-cache cache --config docker_cache.json --follow docker.io/library/nginx:1.27
    """
    output = Output(wanted)

    async def work(client: AdminClient) -> None:
        job = await client.cache_image(reference)
        if not (follow or is_direct):
            if output.is_json:
                output.lines([job])
            output.say(f"asked for a copy of {job['source']}: job {job['job_id']}")
            output.say("`jobs --watch` shows how it gets on")
            return
        last = await _follow(output, client, job)
        if last["state"] != "cached":
            raise DockerCacheError("admin", Reason.COPY_FAILED, f"{last['source']}: {last['failure']}")
        if not output.is_json:
            click.echo(last["url"])

    call(Target(config_path, is_direct), work)


async def _follow(output: Output, client: AdminClient, job: Row) -> Row:
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
    )
    with Progress(*columns, console=output.notes, transient=True, disable=not output.has_bars) as progress:
        bar = progress.add_task(job["source"], total=None)
        async with aclosing(client.watch_jobs([job["job_id"]])) as jobs:
            async for row in jobs:
                job = row
                if output.is_json:
                    output.lines([row])
                what = f"{row['source']}: {row['failure']}" if row["failure"] else row["source"]
                progress.update(bar, description=what)
                if row["progress"] is not None:
                    done = row["progress"]["moved_bytes"] + row["progress"]["skipped_bytes"]
                    progress.update(bar, total=row["progress"]["total_bytes"] or None, completed=done)
    return job


VERIFIED = (
    Column("source", lambda row: row["source"]),
    Column("copy", lambda row: "whole" if row["whole"] else "damaged", is_state=True),
    Column("size", lambda row: size(row["bytes"]), is_number=True),
    Column("what is wrong", lambda row: row["detail"]),
    Column("cache guid", lambda row: row["cache_guid"], least=WIDEST),
)


@click.command()
@config_option
@direct_option
@output_option
@click.argument("guids", nargs=-1)
def verify(*, config_path: Path, is_direct: bool, wanted: Format, guids: tuple[str, ...]) -> None:
    r"""Read copies back from the private registry, byte for byte, and compare; all without a GUID.

    No other app is moved to a copy that turns out to be damaged.

    \b
    Example:
      diego-docker-cache verify --config docker_cache.json 03943662-ba36-4c22-8f5b-bcaec55a8303
    """
    output = Output(wanted)
    rows = call(Target(config_path, is_direct), lambda client: _verify(output, client, guids))
    if not output.is_json:
        output.rows(rows, VERIFIED, what="copies")
    damaged = [row for row in rows if not row["whole"]]
    if damaged:
        raise DockerCacheError(
            "registry",
            "not-verified",
            f"{len(damaged)} of {len(rows)} copies are damaged or could not be read",
        )


async def _verify(output: Output, client: AdminClient, guids: tuple[str, ...]) -> list[Row]:
    from rich.progress import Progress

    rows = list[Row]()
    with Progress(console=output.notes, transient=True, disable=not output.has_bars) as progress:
        bar = progress.add_task("reading copies", total=None)
        async with aclosing(client.verify(guids)) as verified:
            async for row in verified:
                rows.append(row)
                progress.update(bar, total=row["total"], completed=row["done"])
                if output.is_json:
                    output.lines([row])
    return rows


@click.command()
@config_option
@direct_option
@output_option
@click.argument("guid")
def evict(*, config_path: Path, is_direct: bool, wanted: Format, guid: str) -> None:
    r"""Delete a copy that no LRP runs from.

    \b
    Example:
      diego-docker-cache evict --config docker_cache.json 03943662-ba36-4c22-8f5b-bcaec55a8303
    """
    output = Output(wanted)
    row = call(Target(config_path, is_direct), lambda client: client.evict(guid))
    if output.is_json:
        output.lines([row])
    output.say(f"deleted {row['url']}; the registry's garbage collection frees up to {size(row['bytes'])}")


@click.command()
@config_option
@output_option
def pause(*, config_path: Path, wanted: Format) -> None:
    r"""Let the daemon begin nothing any more, also after a restart: neither copies nor migrations.

    What is under way comes to its end. Stagings are still noted, and what `cache`, `reconcile --apply` and
    `restore` ask for is done.

    \b
    Example:
      diego-docker-cache pause --config docker_cache.json
    """
    call(Target(config_path), lambda client: client.pause())
    _tell(Output(wanted), {"paused": True}, "paused; `resume` lets the daemon go on")


@click.command()
@config_option
@output_option
def resume(*, config_path: Path, wanted: Format) -> None:
    r"""Let a paused daemon go on.

    \b
    Example:
      diego-docker-cache resume --config docker_cache.json
    """
    call(Target(config_path), lambda client: client.resume())
    _tell(Output(wanted), {"paused": False}, "the daemon goes on")


@click.command("reset-circuit")
@config_option
@output_option
def reset_circuit(*, config_path: Path, wanted: Format) -> None:
    r"""Let migrations go on although too many in a row have failed.

    \b
    Example:
      diego-docker-cache reset-circuit --config docker_cache.json
    """
    call(Target(config_path), lambda client: client.reset_circuit())
    _tell(Output(wanted), {"circuit_open": False}, "the circuit is closed")


def _tell(output: Output, row: Row, text: str) -> None:
    """Say what is so by now, for people or for programs."""
    if output.is_json:
        output.lines([row])
    output.say(text)
