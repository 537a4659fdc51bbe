"""Replicas of a server part as deployments of Ray Serve: `serve --engine ray`.

Every replica is a deployment of its own with one replica, so that a piece's later exchanges can be
sent to the one that holds its session: Ray Serve's own routing knows which deployment, not which
replica of it. Ray Serve starts a replica again that has died. The market stays one process with one
address and the ledger: only computing goes elsewhere. `docs/adr/0018` says why so.

Needs the extra `ray`.
"""

import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from edgepact.errors import MarketError, MissingExtraError
from edgepact.market.replicas import NoSession, ReplicaAway, Replicas, Worker
from edgepact.tensors import Tensors
from edgepact.work import Job

START_TIMEOUT_S = 180.0
"""How long the replicas may take to start, in all: each of them loads the model."""

START_POLL_S = 0.1

ANSWER_TIMEOUT_S = 10.0
"""How long a replica may take for an exchange, or to start again; then it counts as away."""

THERE_TIMEOUT_S = 1.0
"""How long a replica that was away may take to show that it is back."""

OBJECT_STORE_BYTES = 100 * 2**20
"""Memory that a Ray of our own keeps for what travels; pieces are small."""

CPUS_OF_REPLICA = 0.5
"""What Ray reckons a replica with: two of them fit on a core."""

ONGOING_MAX = 64


class RayReplica:
    """One replica, reached through its deployment's handle.

    Args:
        name: of its application.
        handle: of its deployment.
    """

    def __init__(self, name: str, handle: Any) -> None:
        self.name, self._handle = name, handle

    def is_there(self) -> bool:
        """Whether it answers soon."""
        try:
            self._handle.facts.remote().result(timeout_s=THERE_TIMEOUT_S)
        except Exception:
            return False
        return True

    def work(self, key: str, amount: int, seed: int, first: bool, sent: Tensors) -> Any:
        """See `Worker.work`."""
        return self._asked("work", key, amount, seed, first, sent)

    def passes_audit(self, **told: Any) -> Any:
        """See `Worker.passes_audit`."""
        return self._asked("passes_audit", **told)

    def facts(self) -> Mapping[str, Any]:
        """See `Worker.facts`, with the id of its process."""
        return dict(self._asked("facts"))

    def _asked(self, method: str, *arguments: Any, **named: Any) -> Any:
        from ray.exceptions import RayTaskError

        asked = getattr(self._handle, method)
        try:
            return asked.remote(*arguments, **named).result(timeout_s=ANSWER_TIMEOUT_S)
        except NoSession:
            raise
        except RayTaskError as error:  # the part's own defect, told as if it had happened here
            if isinstance(error.cause, NoSession):
                raise NoSession from None
            raise
        except Exception as error:  # whichever of Ray's many: the replica did not answer
            raise ReplicaAway(f"{self.name}: {type(error).__name__}") from None


class RayEngine:
    """A Ray Serve with the replicas of one server part.

    Args:
        job: of the part.
        model, settings: as `Job.server_part` takes them.
        count: how many replicas.
        address: of a Ray that runs; None starts one on this machine, which ends with `close`.

    Raises:
        MarketError: a replica cannot be started, or Ray has no room for it.
        MissingExtraError: Ray is not installed.
    """

    def __init__(
        self,
        job: Job,
        model: Path | None,
        settings: Mapping[str, Any],
        *,
        count: int,
        address: str | None = None,
    ) -> None:
        # Set before Ray is loaded: nothing is told to its makers.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            import ray
            from ray import serve
        except ImportError:
            raise MissingExtraError("serve --engine ray", "ray") from None
        self._ray, self._serve, self._own = ray, serve, address is None
        self._names = [f"edgepact-{os.getpid()}-{at}" for at in range(count)]
        # Its chatter about every replica goes to standard error otherwise.
        logging.getLogger("ray.serve").setLevel(logging.ERROR)
        of_own: dict[str, Any] = {
            "num_cpus": max(2, count),
            "object_store_memory": OBJECT_STORE_BYTES,
            "include_dashboard": False,
        }
        ray.init(
            address=address,
            namespace="edgepact",
            log_to_driver=False,
            logging_level="error",
            **(of_own if address is None else {}),
        )
        try:
            handles = self._started(job, model, settings)
        except BaseException:
            self.close()
            raise
        named = zip(self._names, handles, strict=True)
        self.replicas = [RayReplica(name, handle) for name, handle in named]
        self.part = Replicas(job.server_part(model, settings), self.replicas)
        """The server part for the market."""

    def __enter__(self) -> "RayEngine":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Takes the replicas down, and a Ray of our own with them."""
        if self._own:
            self._serve.shutdown()  # with all that runs in it; a Ray that begins anew has its own
        else:
            for name in self._names:
                self._serve.delete(name)
        self._ray.shutdown()

    def _started(self, job: Job, model: Path | None, settings: Mapping[str, Any]) -> list[Any]:
        """Handles of the replicas, all of which are begun at once and run when this returns.

        Raises:
            MarketError: one cannot be started, or is not in time.
        """
        serve = self._serve
        serve.start(http_options={"location": "NoServer"}, logging_config={"log_level": "ERROR"})
        deployment = serve.deployment(
            num_replicas=1,
            max_ongoing_requests=ONGOING_MAX,
            health_check_period_s=1.0,
            health_check_timeout_s=5.0,
            ray_actor_options={"num_cpus": CPUS_OF_REPLICA},
        )(_Deployed)
        handles = serve.run_many(
            [
                serve.RunTarget(
                    deployment.bind(job, model, dict(settings)), name=name, route_prefix=None
                )
                for name in self._names
            ],
            # Which would have no limit: without room in Ray a replica is waited for for ever.
            wait_for_ingress_deployment_creation=False,
            wait_for_applications_running=False,
        )
        end_s = time.monotonic() + START_TIMEOUT_S
        while True:
            known = serve.status().applications
            found = {name: known[name] for name in self._names if name in known}
            if all(name in found and found[name].status == "RUNNING" for name in self._names):
                return list(handles)
            late = time.monotonic() >= end_s
            for name, each in found.items():
                if each.status == "DEPLOY_FAILED" or (late and each.status != "RUNNING"):
                    raise MarketError(f"Ray Serve does not run {name}: {_why(each)}")
            if late:
                raise MarketError(f"Ray Serve does not know {set(self._names) - set(found)}")
            time.sleep(START_POLL_S)


class _Deployed:
    """The worker as Ray Serve starts it."""

    def __init__(self, job: Job, model: Path | None, settings: Mapping[str, Any]) -> None:
        self._worker = Worker(job.server_part(model, settings))

    def work(self, *told: Any) -> Any:
        return self._worker.work(*told)

    def passes_audit(self, **told: Any) -> Any:
        return self._worker.passes_audit(**told)

    def facts(self) -> dict[str, Any]:
        return {**self._worker.facts(), "pid": os.getpid()}


def _why(application: Any) -> str:
    """What an application's message ends with: an error, behind its traceback."""
    told = [each.message for each in application.deployments.values()]
    lines = [line for text in (application.message, *told) for line in text.splitlines() if line]
    return str(lines[-1]) if lines else "it has not been started in time"
