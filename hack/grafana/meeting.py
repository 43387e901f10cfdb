"""Lets two instances of the daemon meet one fault after the other, and shows the dashboard in each.

A person looks at what is shown: does it say what is wrong, and what it costs?
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from hack.alerts import JOB
from hack.grafana.description import read_description
from hack.grafana.document import grafana_document
from hack.grafana.faults import FAULTS
from hack.grafana.prometheus import Prometheus
from hack.grafana.scene import open_scene
from hack.grafana.text import PanelQueries, show

SETTLES = 18.0
"""Seconds in which what follows from a fault shows as well: some gauges are computed every 15 s."""
SETTLES_WITHIN = 90.0


async def meet(directory: Path, names: Sequence[str], report: Callable[[str], None]) -> list[str]:
    """Meet faults one after the other, and report what the dashboard shows in each.

    Returns:
        The names of those that it never saw, or whose end it never saw.
    """
    unseen = list[str]()
    async with open_scene(directory) as scene:
        for name in names:
            begun, met = time.time(), FAULTS[name]
            try:
                async with met.meet(scene):
                    await asyncio.sleep(SETTLES)
                    shown = await asyncio.to_thread(_shown, scene.prometheus, met.rows, begun)
                    while met.settled not in shown and time.time() < begun + SETTLES_WITHIN:
                        await asyncio.sleep(SETTLES / 4)
                        shown = await asyncio.to_thread(_shown, scene.prometheus, met.rows, begun)
                    report(f"######## {name}: {met.story}\n\n{shown}")
            except (TimeoutError, AssertionError):
                report(f"######## {name}: {met.story}\n\nIt was not seen, or not its end.\n")
                unseen.append(name)
    return unseen


def _shown(prometheus: Prometheus, rows: Sequence[str], begun: float) -> str:
    document, now = grafana_document(read_description()), time.time()
    queries = PanelQueries(prometheus, JOB, now, max(20.0, now - begun + 5.0))
    return show(document, queries, rows=(document["panels"][0]["title"], *rows) if rows else ())
