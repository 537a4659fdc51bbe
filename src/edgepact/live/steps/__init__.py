"""A whole scenario: the framework's four steps, a table for each, and the job done for real.

1. a resource-efficient method leaves a variable open, measured here;
2. a mechanism prices it: its exact optimum and its audit;
3. a solver finds the decision, held against that optimum;
4. the job uses it.

Private costs appear in steps 2 and 3 as the yardstick of whoever looks on; the solver and the
server of step 4 never see them.
"""

from collections.abc import Callable
from pathlib import Path

from edgepact.errors import InputError
from edgepact.files.scenario import Inference, Scenario
from edgepact.live.steps.inference import infer
from edgepact.live.steps.tables import Record
from edgepact.live.steps.training import train_together

FIELDS = {
    "--model": "efficiency.model",
    "--images-from": "job.images_from",
    "--rate": "efficiency.rate",
    "--per-round": "efficiency.per_round",
    "--selector": "efficiency.selector",
    "--deadline": "job.deadline_s",
    "--clients": "job.clients",
    "--budget": "budget",
    "costs": "job.cost_min, job.cost_max",
}
"""Where a scenario says what is an option of the job's own command."""


def run_scenario(
    scenario: Scenario, out: Path, *, smoke: bool, on_live: Callable[[], None] = lambda: None
) -> Path:
    """Takes all four steps; returns the path of the page with their tables.

    Args:
        scenario: what to do.
        out: folder of the results.
        smoke: in small: does it run?
        on_live: called before the first process is started.

    Raises:
        InputError: as the job's own settings.
        MissingExtraError: federated training without Flower.
        MarketError: the job broke down.
    """
    record = Record()
    try:
        if isinstance(scenario.job, Inference):
            infer(scenario, scenario.job, out, smoke, record, on_live)
        else:
            train_together(scenario, scenario.job, out, smoke, record)
    except InputError as error:
        if error.field not in FIELDS:
            raise
        # The job names its own options, which nobody has typed here.
        field = FIELDS[error.field]
        raise InputError(scenario.source, field, error.expected, error.found) from None
    return record.write(out, scenario)
