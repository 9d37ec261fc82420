"""The node service put together."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hil.onboard.node.answers import PORT, Health
from hil.onboard.node.client import Connect, connect
from hil.onboard.node.cluster import Cluster
from hil.onboard.node.distribute import Distributor
from hil.onboard.node.epoch import Config, Member
from hil.onboard.node.errors import ApiError
from hil.onboard.node.facts import Facts, Places, boot_clock
from hil.onboard.node.flight import OWN, TRUST, Credentials, Gate, secured
from hil.onboard.node.guest_work import GuestWork
from hil.onboard.node.infer import Inference
from hil.onboard.node.jobs import Job, Jobs
from hil.onboard.node.request_record import RequestRecord
from hil.onboard.node.routes import Api
from hil.onboard.node.server import NodeServer
from hil.onboard.node.store import Store, cms_check


@dataclass(frozen=True)
class Settings:
    """Where a node listens, keeps its state and finds its facts."""

    host: str = "0.0.0.0"
    port: int = PORT
    data: Path = Path("/data/hil")
    places: Places = field(default_factory=Places)


class Node:
    """One board's service: ``start`` it, ``stop`` it."""

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Callable[[], float] = boot_clock,
        connector: Connect = connect,
        member_type: type[Member] = Member,
    ) -> None:
        data = settings.data
        data.mkdir(parents=True, exist_ok=True)
        self.settings = settings
        self.facts = Facts(settings.places, data)
        gate = self._gate(data)
        if gate is not None:
            connector = secured(connector, gate.credentials, self.facts.name_of)
        self.record = RequestRecord(data / "requests.jsonl")
        self.store = Store(data / "artefacts", cms_check(settings.places.keyring))
        self.distributor = Distributor(self.store, name_of=self.facts.name_of, connector=connector)
        self.cluster = Cluster(
            self.facts.name,
            data / "cluster",
            self._fit,
            clock=clock,
            connector=connector,
            member_type=member_type,
            addresses=self.facts.addresses,
            ordered=gate.check_configuration if gate is not None else None,
        )
        self.inference = Inference()
        self.jobs = Jobs(data / "jobs", connector=connector)
        self.guests = GuestWork(data / "guests", self.jobs, self._begin_job)
        self._warming = threading.Lock()
        self._server = NodeServer((settings.host, settings.port), Api(self).routes(), gate, self.record)

    def _gate(self, data: Path) -> Gate | None:
        """Return what lets in who has a certificate, where the board has to have flight security.

        OSError when its own certificate cannot be read: better no service than an open one.
        """
        if self.facts.flight_security != "mtls":
            return None
        place = self.settings.places.flight
        return Gate(self.facts.name, Credentials(place / TRUST, place / OWN), data / "orders.json")

    @property
    def port(self) -> int:
        return self._server.server_port

    def start(self) -> None:
        self.warm_up()
        self.cluster.start()
        self.distributor.resume()
        self._server.start()

    def stop(self) -> None:
        """Close the server and end the threads; what was acknowledged stays on disk."""
        self._server.stop()
        self.distributor.stop()
        self.cluster.stop()
        self.store.close()

    def _fit(self, config: Config) -> bool:
        return not self._unfit(config)

    def _unfit(self, config: Config) -> list[str]:
        model = config.content.model
        try:
            installed = bool(model) and self.store.installed(str(model)) is not None
        except OSError as exc:
            return [f"the model cannot be read: {exc.strerror}"]
        return self.facts.unfit(config, installed)

    def model(self, config: Config) -> tuple[str, Path]:
        """Return id and file of the configuration's model; ApiError 409 when it has none or it is not installed."""
        model = config.content.model
        path = self.store.installed(model) if model else None
        if model is None or path is None:
            raise ApiError(409, "no model is configured" if not model else "the model is not installed")
        return model, path

    def warm_up(self) -> None:
        """Verify and load the model in the background, so that the first tile does not wait for it."""

        def work() -> None:
            with self._warming:
                stored = self.cluster.member.state.stored
                if not stored:
                    return
                try:
                    artefact, path = self.model(max(stored, key=lambda c: c.epoch))
                    self.inference.prepare(artefact, path)
                except (ApiError, OSError):
                    return  # /health shows the reason

        threading.Thread(target=work, name="warm-up", daemon=True).start()

    def start_job(self, scene: str) -> dict[str, Any]:
        """``POST /jobs``: ApiError 409 when this board does not claim, 404 when the scene is not here."""
        self._gateway_claim()
        path = self.store.installed(scene)
        if path is None:
            raise ApiError(404, "the scene is not installed here")
        return self._begin_job(scene, path).document()

    def _begin_job(self, scene: str, path: Path) -> Job:
        """Begin a job over a scene in a file; ApiError 409 when this board does not claim, or another job runs."""
        config = self._gateway_claim()
        return self.jobs.start(scene, path, config, lambda: self.cluster.claim().epoch == config.epoch)

    def _gateway_claim(self) -> Config:
        """Return the configuration that this board claims; ApiError 409 without one, or when it is not its gateway."""
        epoch = self.cluster.claim().epoch
        if epoch is None:
            raise ApiError(409, "this board claims no epoch")
        config = self.cluster.claims(epoch)
        if config.content.gateway != self.facts.name:
            raise ApiError(409, f"jobs start at the gateway, {config.content.gateway}")
        return config

    def health(self) -> Health:
        """Return what ``GET /health`` says."""
        state = self.cluster.member.state
        latest = max(state.stored, key=lambda c: c.epoch, default=None)
        problems = self.facts.problems()
        return Health(
            board=self.facts.name,
            boot_id=self.facts.boot_id,
            os_version=self.facts.os_version,
            slot=self.facts.slot,
            image_sha256=self.facts.image_sha256,
            confirmed=self.facts.confirmed,
            uptime_s=round(boot_clock() - self.facts.started_s, 3),
            services=self.facts.services(),
            healthy=not problems,
            problems=tuple(problems),
            claim=self.cluster.claim(),
            blocked_by=tuple(self._unfit(latest)) if latest is not None else (),
            prepared=state.prepared.epoch if state.prepared is not None else None,
            committed=state.committed.epoch if state.committed is not None else None,
            epoch_at_start=self.cluster.epoch_at_start,
            model=self.inference.loaded,
            model_provider=self.inference.provider,
            model_providers=self.inference.providers,
            model_left_out=self.inference.left_out,
            model_error=self.inference.error,
        )
