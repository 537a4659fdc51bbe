"""`edgepact train`: federated training."""

from edgepact.cli.options import options_of
from edgepact.cli.output import Json, show
from edgepact.settings import flags_of
from edgepact.training.federated.options import TrainOptions


@options_of(TrainOptions)
def train(options: TrainOptions, as_json: Json = False) -> None:
    """Train a model together with devices that keep their images, and pay them.

    The embedded CLIP's image tower learns Fashion-MNIST, split over clients that Flower simulates
    on this machine. In each round the server asks (a contract offers a menu of compression rates
    and rewards, an auction calls for bids), clients answer for their own good, train on their own
    images and send a compressed update; accepted updates are averaged and paid. The folder holds
    checkpoint, ledger, rounds.csv, metrics.json and accuracy.png; the same command resumes it
    after a crash.

    First try: edgepact train --smoke. Needs: pip install 'edgepact[federated]'.
    """
    from edgepact import api
    from edgepact.progress import progress_bar
    from edgepact.training.federated.config import config_of, stated_in
    from edgepact.training.federated.run import expect_ready

    # Errors of the task, which has a settings object of its own, are in options too.
    with stated_in("train", flags_of(TrainOptions), "--{}"):
        config = config_of(options)
        expect_ready(config)
        with progress_bar("train together", enabled=not as_json) as advance:
            trained = api.train(config, on_progress=advance)
    show(trained, as_json)
