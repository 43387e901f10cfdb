"""What `status` says of how much the copies occupy."""

import pytest

from controller.commands.control_commands import describe_sizes


@pytest.mark.parametrize(
    ("distinct", "text"),
    [
        (0, "4.0 GB"),  # it was not counted yet, or no daemon counts it
        (4_000_000_000, "4.0 GB"),
        (1_500_000_000, "1.5 GB (4.0 GB with shared layers counted for each)"),
    ],
)
def test_what_copies_occupy_comes_first_where_it_is_less_than_the_sum(distinct: int, text: str) -> None:
    assert describe_sizes({"image_bytes": 4_000_000_000, "distinct_image_bytes": distinct}) == text
