"""The options that several commands share."""

import click
import pytest
from click.testing import CliRunner, Result

from controller.admin.request_options import Filters
from controller.commands.options import (
    filter_options,
    listing_options,
    report_no_match,
    written_filters,
)
from controller.commands.output import Output
from controller.commands.tables import Column
from reconcile.errors import NotFound

COLUMNS = (
    Column("app", lambda row: row["app"]),
    Column("size", lambda row: str(row["size"]), priority=1, value=lambda row: row["size"]),
)
ROWS = [{"app": "b", "size": 9}, {"app": "a", "size": 10}]


@click.command()
@filter_options
@listing_options(COLUMNS)
def listing(*, output: Output, filters: Filters) -> None:
    """List something."""
    output.listing(ROWS, COLUMNS, what="apps")
    output.note(repr(written_filters(filters)))


def run(*arguments: str) -> Result:
    return CliRunner().invoke(listing, arguments, catch_exceptions=False)


def test_text_is_the_default_wherever_it_goes() -> None:
    assert run().stdout.splitlines() == ["2 apps", "APP  SIZE", "b    9", "a    10"]


@pytest.mark.parametrize("option", [("--output", "json"), ("-o", "json"), ("-ojson",)])
def test_json_is_asked_for(option: tuple[str, ...]) -> None:
    assert run(*option).stdout.splitlines() == ['{"app": "b", "size": 9}', '{"app": "a", "size": 10}']


@pytest.mark.parametrize("wanted", ["table", "auto", "yaml", "JSON"])
def test_there_are_two_formats(wanted: str) -> None:
    result = run("--output", wanted)

    assert result.exit_code == 2
    assert "'text', 'json'" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "rows"),
    [
        (("--sort", "app"), ["a    10", "b    9"]),
        (("--sort", "-size"), ["a    10", "b    9"]),
        (("--sort=size",), ["b    9", "a    10"]),
        (("--columns", "size"), ["9", "10"]),
        (("--columns", "SIZE, app", "--sort", "app"), ["10    a", "9     b"]),
    ],
)
def test_columns_and_order_are_chosen_by_name(arguments: tuple[str, ...], rows: list[str]) -> None:
    assert run(*arguments).stdout.splitlines()[2:] == rows


@pytest.mark.parametrize("arguments", [("--sort", "name"), ("--columns", "app,name"), ("--columns", "")])
def test_a_column_that_there_is_not_is_refused_with_those_that_there_are(arguments: tuple[str, ...]) -> None:
    result = run(*arguments)

    assert result.exit_code == 2
    assert "the columns are: app, size" in result.stderr


def test_json_has_every_field_so_no_columns_are_chosen() -> None:
    assert run("--columns", "app", "-o", "json").exit_code == 2


def test_filters_are_told_by_the_options_that_gave_them() -> None:
    result = run(
        "--app", "a", "--org", "o", "--app", "b", "--process-guid", "p", "--space", "s", "--image", "*"
    )

    assert result.stderr == (
        "[('--app', 'a'), ('--app', 'b'), ('--org', 'o'), ('--space', 's'), ('--image', '*'), "
        "('--process-guid', 'p')]\n"
    )


class TestNoMatch:
    def test_what_matches_nothing_is_named(self, capsys: pytest.CaptureFixture[str]) -> None:
        report_no_match(Output("json"), [("--org", "nope"), ("--image", "a b*")])

        assert capsys.readouterr().err == "nothing matches --org nope --image 'a b*'\n"

    @pytest.mark.parametrize("option", ["--app", "--process-guid"])
    def test_an_app_that_is_named_was_expected(self, option: str) -> None:
        with pytest.raises(NotFound) as caught:
            report_no_match(Output("text"), [("--org", "acme"), (option, "nope")])

        assert caught.value.code == "nothing-matches"
        assert f"nothing matches --org acme {option} nope" in caught.value.detail

    def test_the_listing_that_has_the_names_is_said(self) -> None:
        with pytest.raises(NotFound, match="nothing matches --job nope; `jobs` lists the open jobs"):
            report_no_match(Output("text"), [("--job", "nope")], listing="jobs")

    def test_without_filters_nothing_is_said(self, capsys: pytest.CaptureFixture[str]) -> None:
        report_no_match(Output("text"), [])

        assert capsys.readouterr().err == ""
