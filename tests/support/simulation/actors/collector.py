"""A collector that keeps few ended pods, as kube-controller-manager's does when there are many."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from primo_operator.mirror import Kind

if TYPE_CHECKING:
    from support.simulation.world import World

ROUND_S = 10.0
KEPT = 1


@dataclass
class Collector:
    """At each round, by the scenario's probability, it removes all but the newest ended pods."""

    world: "World"

    def start(self) -> None:
        if self.world.scenario.collect:
            self.world.later(ROUND_S, self._round)

    def _round(self) -> None:
        if self.world.calm:
            return
        if self.world.chance(self.world.scenario.collect):
            pods = self.world.api.objects[Kind.POD]
            ended = [n for n, p in pods.items() if p["status"]["phase"] in ("Succeeded", "Failed")]
            for name in ended[:-KEPT]:
                self.world.say(f"COLLECTOR removes {name}")
                self.world.api.remove(Kind.POD, name)
        self.world.later(ROUND_S, self._round)
