"""What is so at present, read when somebody scrapes, in a thread of the listener.

From what reading does not change, and without a lock, so two numbers may be a moment apart.
"""

from collections.abc import Callable, Iterator, Mapping

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from .metric_definitions import PREFIX, READINGS

# None: there is nothing to show now.
ReadValue = Callable[[], float | None]
ReadLabels = Callable[[], Mapping[str, str]]


class Readings(Collector):
    """The gauges of `metric_definitions.READINGS` that something can be read for."""

    def __init__(self) -> None:
        self._reads: dict[str, list[tuple[ReadLabels, ReadValue]]] = {}

    def add(self, name: str, read: ReadValue, labels: ReadLabels = dict) -> None:
        """Show `read()` as one series of a gauge. Its labels may change from scrape to scrape."""
        if name not in READINGS:
            raise KeyError(name)
        self._reads.setdefault(name, []).append((labels, read))

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Read everything."""
        for name, reads in self._reads.items():
            definition = READINGS[name]
            family = GaugeMetricFamily(PREFIX + name, definition.meaning, labels=definition.labels)
            for labels, read in reads:
                value = read()
                if value is not None:
                    of = labels()
                    family.add_metric([of[label] for label in definition.labels], float(value))
            yield family
