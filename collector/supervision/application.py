"""Applications: OTP's ``application``: parts of a service that start and stop as a whole, in order.

::

    class LmCollect(Application):
        async def start(self, start_type, config):
            return await Supervisor.start_link(LmCollectSup, config, name="lmcollect_sup")

    spec = ApplicationSpec("lmcollect", LmCollect, args=(config,), applications=("metadata",))
    await application.ensure_all_started(spec, "permanent")
    await application.stop("lmcollect")

The type says what the end of an application means: ``temporary`` nothing but a report; ``transient`` the end
of everything, unless it ended ``normal`` (a supervisor that gives up ends ``shutdown``, which is not that);
``permanent`` the end of everything. Where OTP then takes the node down, here all applications are stopped,
the latest first, and :func:`wait_down` returns the reason, upon which a service exits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from collector.supervision.clock import Clock
from collector.supervision.errors import ApplicationError, ServerDown, StartError
from collector.supervision.messages import wait_ended
from collector.supervision.pid import Pid
from collector.supervision.process import resolve
from collector.supervision.reasons import NOPROC, Reason
from collector.supervision.server import call

__all__ = ["Application", "ApplicationSpec", "ApplicationType", "boot", "ensure_all_started", "load"]
__all__ += ["shut_down", "start", "stop", "unload", "wait_down", "which_applications"]

ApplicationType = Literal["permanent", "transient", "temporary"]

CONTROLLER = "application_controller"


class Application:
    """An application's callbacks. A new instance for every start; it lives in the application's own task."""

    async def start(self, start_type: str, *args: Any) -> Any:
        """Start the top supervisor (``Supervisor.start_link``) and return its Pid, or ``(pid, state)``.

        Called in the application's own process. Raise to refuse."""
        raise NotImplementedError(f"{type(self).__qualname__} needs start()")

    async def prep_stop(self, state: Any) -> Any:
        """Called before the top supervisor is stopped, and also when it died. Return the state for stop."""
        return state

    async def stop(self, state: Any) -> None:
        """Called when the top supervisor is gone, however it went. Clean up."""


@dataclass(frozen=True)
class ApplicationSpec:
    """What OTP keeps in an ``.app`` file.

    module: the callbacks; None for an application without processes. args: for ``Application.start``.
    applications: names that must run before it starts. optional_applications: those of them that may be
    missing altogether.
    """

    name: str
    module: type[Application] | None = None
    args: Sequence[Any] = ()
    applications: Sequence[str] = ()
    optional_applications: Sequence[str] = ()
    description: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise ValueError(f"application name is {self.name!r}; it must be a string that is not empty")
        if self.module is not None and not (
            isinstance(self.module, type) and issubclass(self.module, Application)
        ):
            raise ValueError(
                f"application {self.name!r}: module is {self.module!r}; it must be an Application class"
            )
        for attribute in ("args", "applications", "optional_applications"):
            if isinstance(getattr(self, attribute), str):
                raise ValueError(f"application {self.name!r}: {attribute} must be a sequence, not a string")
            object.__setattr__(self, attribute, tuple(getattr(self, attribute)))


async def boot(clock: Clock | None = None) -> Pid:
    """Start the application controller if it does not run yet. The functions below do that themselves."""
    from collector.supervision.application_controller import Controller

    pid = resolve(CONTROLLER)
    if pid is None:
        # It belongs to the whole program, not to who happens to come first.
        try:
            pid = await Controller._start_process((), {}, name=CONTROLLER, clock=clock, detached=True)
        except StartError as error:
            pid = resolve(CONTROLLER)
            if pid is None:
                raise ApplicationError("boot", CONTROLLER, error.reason) from None
    assert pid is not None
    return pid


async def _ask(operation: str, name: str, *args: Any) -> Any:
    from collector.supervision.application_controller import Failed

    pid = await boot()
    try:
        answer = await call(pid, (operation, name, *args), timeout=None)
    except ServerDown as error:
        raise ApplicationError(operation, name, ("down", error.reason)) from None
    if isinstance(answer, Failed):
        raise ApplicationError(operation, name, answer.reason)
    return answer


async def load(spec: ApplicationSpec) -> None:
    """Make an application known. A changed spec replaces the one known, unless it runs.

    Raises ApplicationError(("already_loaded", name)) if the same name runs with another spec."""
    await _ask("load", spec.name, spec)


async def unload(name: str) -> None:
    """Forget an application. Raises ApplicationError: ``("running", name)``, ``("not_loaded", name)``."""
    await _ask("unload", name)


async def start(app: ApplicationSpec | str, type: ApplicationType = "temporary") -> None:
    """Start one application (a spec is loaded first); what it depends on must be running.

    Raises ApplicationError: ``("already_started", name)``, ``("not_started", dependency)``,
    ``("not_loaded", name)``, ``("bad_return", ...)``, or the reason its start gave.
    """
    name = await _loaded(app)
    await _ask("start", name, type)


async def _loaded(app: ApplicationSpec | str) -> str:
    if isinstance(app, ApplicationSpec):
        if not await _ask("is_running", app.name):
            await load(app)
        return app.name
    return app


async def ensure_all_started(
    app: ApplicationSpec | str | Sequence[ApplicationSpec | str], type: ApplicationType = "temporary"
) -> list[str]:
    """Start an application, or several, and all they depend on, which get the same type. The names that
    were started now, in order.

    If one fails, only what this call started is stopped, the latest first, and ApplicationError with the
    reason ``(name, reason)`` is raised.
    """
    started: list[str] = []
    apps = [app] if isinstance(app, (ApplicationSpec, str)) else list(app)
    names = [await _loaded(each) for each in apps]
    try:
        for name in names:
            await _ensure(name, type, started)
    except ApplicationError:
        for name in reversed(started):
            try:
                await stop(name)
            except ApplicationError:  # it ended by itself, or everything went down
                pass
        raise
    return started


async def _ensure(name: str, type: ApplicationType, started: list[str], optional: bool = False) -> None:
    if await _ask("is_running", name):
        return
    spec: ApplicationSpec | None = await _ask("spec", name)
    if spec is None:
        if optional:
            return
        raise ApplicationError("ensure_all_started", name, (name, ("not_loaded", name)))
    for needed in spec.applications:
        await _ensure(needed, type, started, needed in spec.optional_applications)
    try:
        await _ask("start", name, type)
    except ApplicationError as error:
        if error.reason != ("already_started", name):
            raise ApplicationError("ensure_all_started", name, (name, error.reason)) from None
    else:
        started.append(name)


async def stop(name: str) -> None:
    """Stop an application; what depends on it is not looked at, as in OTP. Returns when all of it is gone.

    Raises ApplicationError(("not_started", name))."""
    await _ask("stop", name)


async def which_applications() -> list[str]:
    """The running applications, the latest first."""
    result: list[str] = await _ask("which", "")
    return result


async def wait_down() -> Reason:
    """Wait until the end of an application took everything down, or :func:`shut_down` did; the reason."""
    pid = resolve(CONTROLLER)
    return NOPROC if pid is None else await wait_ended(pid)


async def shut_down(timeout: float | None = None) -> None:
    """Stop all applications, the latest first, and the controller. Harmless if nothing runs.

    Raises asyncio.TimeoutError after ``timeout`` seconds; the rest then goes on stopping."""
    pid = resolve(CONTROLLER)
    if pid is None:
        return
    from collector.supervision.application_controller import request_shut_down

    request_shut_down(pid)
    try:
        await wait_ended(pid, timeout)
    except asyncio.TimeoutError:
        raise asyncio.TimeoutError(f"applications are still stopping after {timeout} s") from None
