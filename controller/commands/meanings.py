"""Explains the reasons that a table shows, below the table."""

from collections.abc import Iterable

from controller.commands.output import Output
from reconcile.reasons import Reason


def explain(output: Output, reasons: Iterable[str]) -> None:
    """Write the meaning of each reason; nothing with `--output json`."""
    known = [Reason(text) for text in sorted(set(reasons)) if text in set(Reason)]
    if output.is_json or not known:
        return
    output.say()
    output.pairs([(reason, reason.meaning.replace("`", "")) for reason in known])
