"""What is remembered of a study between passes, and may be lost at any time.

Nothing here is needed to be right; it saves calls, spaces out retries, and spares a run from being
taken for lost when we know that its Job was never made.
"""

from dataclasses import dataclass, field
from itertools import chain

from primo_operator.evidence import Traces
from primo_operator.mirror import Kind
from primo_study.queries import Measured
from primo_study.study import JobState, Outcome, Study, Template, TrialRecord, Trouble, Waiting
from primo_study.understanding import Understood
from primo_study.warm_start import Source

Fingerprint = tuple[int, tuple[TrialRecord, ...], tuple[tuple[int, str, int, int], ...]]


UNREAD = Understood(None, legible=False)


@dataclass(frozen=True, slots=True)
class Refusal:
    """The API server refused to create a Job.

    Attributes:
        retry_at: by the clock that never goes back.
        final: set if no retry can help: this is how the run ends.
    """

    waiting: Waiting
    retry_at: float
    final: Outcome | None = None
    count: int = 1


@dataclass(frozen=True, slots=True)
class TooLarge:
    """The status of a trial could not be written, as of this version of the trial."""

    version: str
    message: str


@dataclass(frozen=True, slots=True)
class Stuck:
    """A pod waits for what cannot cure itself.

    Attributes:
        crashes: a container of it ends again and again: that it runs now and then is no cure.
        since: when it was first seen so, by the API server's clock.
    """

    pod: str
    crashes: bool
    since: float


@dataclass(slots=True)
class Memory:
    """About one study.

    Attributes:
        uid: of the study this is about; another one of the same name starts afresh.
        jobs: what is known of Jobs that our view lacks, by name.
        gone: the version that a trial had when its Job was asked for and was not there, by the
            Job's name. Another operator may make that Job later, and says so in the trial.
        refusals: by the Job's name.
        too_large: by the trial's name.
        unkept: what the API server did not keep of the latest write to a kind, in words.
        podless: why a Job has no pod, by the Job's name.
        stuck: since when a run's pod cannot start, by the Job's name.
        events_read_at: when that was last asked, by the API server's clock.
        searched: Jobs that have ended, by name, whose pods were listed since then.
        noted: what a run was said to wait for, and when, by its Job's name.
        measured: what Prometheus has said of a run, by its Job's name.
        asked: how often it was asked of that run.
        ttls: what has been said of how long a Job is kept: once, whatever an admission policy makes
            of it.
        spec: as understood, for this generation.
        template: the API server's answer, for this generation of the spec.
        vain: for exactly this spec and these trials the optimizer had nothing to start.
        suggested: the optimizer has been asked.
        degraded: what was wrong with the latest ask.
        changed: what admission has made of the latest Job that may cost its result; else empty.
        obstacle: what kept the latest pass from doing all there was to do.
        failed_asks: in a row, that left nothing to start.
        ask_at: not earlier, by the clock that never goes back.
        used_numbers: trial numbers seen in use that the study's status does not count yet.
        looked_up_to: trials below this are in our view, or are not there.
        sound: UIDs of trials whose configurations were looked at before they came to rest.
        traced: of what the evidence about a trial was made, and the trial with it, by its name.
        sources: of the warm start, as of this time (`synced_at`) and generation of the spec.
        synced_at: when its objects were last listed for it alone, apart from everybody's.
        doubted: our view of it was seen to be wrong: it is listed before the next pass.
        status_at: when its status was last written.
    """

    uid: str = ""
    spec: Understood = UNREAD
    spec_generation: int = 0
    jobs: dict[str, JobState] = field(default_factory=dict)
    gone: dict[str, str] = field(default_factory=dict)
    refusals: dict[str, Refusal] = field(default_factory=dict)
    too_large: dict[str, TooLarge] = field(default_factory=dict)
    unkept: dict[Kind, str] = field(default_factory=dict)
    podless: dict[str, Waiting] = field(default_factory=dict)
    stuck: dict[str, Stuck] = field(default_factory=dict)
    events_read_at: float = 0.0
    searched: dict[str, bool] = field(default_factory=dict)
    noted: dict[str, tuple[Waiting, float]] = field(default_factory=dict)
    measured: dict[str, Measured] = field(default_factory=dict)
    asked: dict[str, int] = field(default_factory=dict)
    ttls: dict[str, int | None] = field(default_factory=dict)
    template: Template = field(default_factory=Template)
    template_generation: int = 0
    template_retry_at: float = 0.0
    vain: Fingerprint | None = None
    suggested: bool = False
    degraded: Trouble | None = None
    changed: str = ""
    obstacle: Trouble | None = None
    failed_asks: int = 0
    ask_at: float = float("-inf")
    used_numbers: set[int] = field(default_factory=set)
    looked_up_to: int = 0
    sound: set[str] = field(default_factory=set)
    traced: dict[str, tuple[Traces, TrialRecord]] = field(default_factory=dict)
    sources: tuple[Source, ...] = ()
    sources_of: tuple[float, int] = (float("-inf"), 0)
    synced_at: float = float("-inf")
    doubted: bool = False
    status_at: float = float("-inf")

    def fits(self, trial: str, version: str) -> bool:
        """Whether a trial may be written: not as it was when it was too large for that."""
        known = self.too_large.get(trial)
        return known is None or known.version != version


def fingerprint(study: Study) -> Fingerprint:
    """Equal as long as a suggestion would be: the spec, numbers, phases, runs, observations.

    Trials at rest stand for themselves: one that has not been read anew is equal at a glance.
    """
    at_rest = tuple(chain.from_iterable(block.items for block in study.rest))
    moving = tuple(
        (trial.number, trial.phase.value, len(trial.runs), len(trial.observations))
        for trial in study.moving
    )
    return study.generation, at_rest, moving
