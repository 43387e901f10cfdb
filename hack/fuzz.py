"""Feeds untrusted input to the readers of foreign bytes, and says what they must not have done with it.

Started by hack/fuzz. The same seed begins with the same inputs; what is mutated further depends on how long
inputs take. Each finding is kept in a file, and --input feeds a file to one reader, so that it comes again.
"""

import argparse
import hashlib
import sys
import tempfile
import time
from pathlib import Path

from tests.fuzz.campaign import Campaign, Tally, judge
from tests.fuzz.readers import READERS, Reader

_BY_NAME = {each.name: each for each in READERS}
_REPORTED_EVERY = 60.0


def report(campaign: Campaign) -> None:
    """Print what each reader has stood so far."""
    print(f"{'reader':15}{'inputs':>10}{'taken':>10}{'slowest':>12}{'memory':>12}")
    for name, tally in campaign.tallies.items():
        slowest, memory = f"{tally.seconds * 1000:.1f} ms", f"{tally.memory / (1 << 20):.1f} MiB"
        print(f"{name:15}{tally.inputs:>10}{tally.accepted:>10}{slowest:>12}{memory:>12}", flush=True)


def fuzz(readers: list[Reader], minutes: float, seed: int, keep: Path | None) -> int:
    """Fuzz for a time, and give the exit status."""
    campaign, end, shown = Campaign(readers, seed), time.monotonic() + minutes * 60, 0
    while (left := end - time.monotonic()) > 0:
        campaign.run(min(left, _REPORTED_EVERY))
        report(campaign)
        for finding in campaign.findings[shown:]:
            directory = Path(tempfile.mkdtemp(prefix="fuzz-")) if keep is None else keep
            directory.mkdir(parents=True, exist_ok=True)
            path = directory / f"{finding.reader}-{hashlib.sha256(finding.data).hexdigest()[:12]}"
            path.write_bytes(finding.data)
            again = f"hack/fuzz --reader {finding.reader} --split {finding.split} --input {path}"
            print(f"  {finding}\n  once more: {again}", flush=True)
            shown += 1
    print(f"seed {seed}: {shown} findings")
    return 1 if shown else 0


def feed(reader: Reader, path: Path, split: int) -> int:
    """Feed one file to a reader, and give the exit status."""
    tally = Tally()
    problem, seconds = judge(reader, path.read_bytes(), split, is_weighed=True, tally=tally)
    print(f"{reader.name}: {seconds * 1000:.1f} ms, {tally.memory / (1 << 20):.1f} MiB: {problem or 'fine'}")
    return 1 if problem else 0


def main() -> None:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser(prog="hack/fuzz", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--reader",
        action="append",
        default=[],
        choices=list(_BY_NAME),
        metavar="NAME",
        help=f"only this one; may be given several times: {', '.join(_BY_NAME)}",
    )
    parser.add_argument("--input", type=Path, help="feed this file to the one reader that is named")
    parser.add_argument("--split", type=int, default=0, help="seed of the chunks that the file is read in")
    parser.add_argument("--keep", type=Path, help="directory for the inputs that are found")
    arguments = parser.parse_args()
    if arguments.minutes <= 0:
        parser.error("--minutes must be more than 0")
    readers = [_BY_NAME[name] for name in arguments.reader] or list(READERS)
    if arguments.input is None:
        sys.exit(fuzz(readers, arguments.minutes, arguments.seed, arguments.keep))
    if len(arguments.reader) != 1:
        parser.error("--input needs one --reader")
    if not arguments.input.is_file():
        parser.error(f"there is no file {arguments.input}")
    sys.exit(feed(readers[0], arguments.input, arguments.split))


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
