"""``cx.explore(model, task)``: sliders whose forecast answers while they move, runs in the background, their front."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anywidget
import traitlets

from compression import form, home, methods, zoo
from compression.budget import Budget
from compression.devices import AUTO
from compression.errors import CompressionError
from compression.plots import components, words
from compression.runs.folder import RunFolder
from compression.widgets import messages, panel
from compression.widgets.runs import Runs
from compression.widgets.subject import PLACE, Explored, explored

if TYPE_CHECKING:
    from torch import nn

    from compression.data import DataSet
    from compression.tasks import Task

SCRIPTS = ("components/front.js", "components/sliders.js", "components/explore.js")
STYLES = ("components/front.css", "components/explore.css")
PERIOD = 1.0
"""Seconds between two looks at runs that go on."""


def explore(
    model: nn.Module | str,
    data: Task | DataSet | str,
    *,
    method: str = "",
    options: Mapping[str, Any] | None = None,
    runs: str | Path = home.RUNS,
    device: str = AUTO,
    **budget: Any,
) -> Explorer:
    """A panel for a notebook cell: the asks of a method as sliders, their forecast, runs, and the front of these.

    Args:
        model: a trained network, or the name of a model as the command line takes it, whose trained weights are found
            as there. A module is copied; runs get it from a folder beside that of the runs.
        data: a task, a data set that implies one, or their name.
        method: see ``python -m compression methods``; empty: the first of them.
        options: those of the method.
        runs: the folder of the runs. device: where they work, one of :data:`compression.devices.NAMES`.
        budget: where the sliders begin: what the method asks (``sparsity=0.5``, ``bits=4``, …) and the fields that all
            methods share (``epochs``, ``seed``, …), see :class:`compression.budget.Budget`; ``weights=FILE``.

    Raises:
        CompressionError: unknown model, data, method or field, an impossible value, no trained weights, or a network
            that cannot be compressed.
    """
    root = Path(runs).expanduser().resolve()
    place = {name: budget.pop(name) for name in PLACE[2:] if name in budget}
    subject = explored(model, data, root, place)
    usual = zoo.usual(model) if isinstance(model, str) else {}
    chosen = methods.get(method)
    fields = {ask.field for ask in chosen.asks}
    asks = {**budget.pop("asks", {}), **{name: budget.pop(name) for name in fields & budget.keys()}}
    draft = Budget(**{**usual, **budget, "asks": asks, "options": dict(options or {}), "method": chosen.info.name})
    methods.of_budget(draft)
    return Explorer(subject, draft, Runs(root, device))


class Explorer(anywidget.AnyWidget):
    """The panel that :func:`explore` returns.

    ``budget`` is what its sliders say, and may be set; ``run`` is the folder of the newest run, which
    ``cx.runs.result(panel.run)`` reads; ``runs`` are all of this panel. What the buttons do, :meth:`start`,
    :meth:`pause`, :meth:`resume` and :meth:`cancel` do from code. A run is a process of its own: it goes on when the
    notebook is closed, and :meth:`add` shows it in another panel.
    """

    _esm = components.script(*SCRIPTS)
    _css = components.style(*STYLES)
    fields = traitlets.Dict().tag(sync=True)
    answer = traitlets.Dict().tag(sync=True)
    live = traitlets.Dict().tag(sync=True)

    def __init__(self, subject: Explored, draft: Budget, runs: Runs) -> None:
        """See :func:`explore`."""
        self._watching: asyncio.Task[None] | None = None
        self._busy, self._problem = "", ""
        self._subject, self._runs, self._lock = subject, runs, threading.RLock()
        self._draft = panel.in_place(draft, subject.place)
        super().__init__()
        self.on_msg(lambda _, content, buffers: self._receive(content))
        self._draw()

    # From code

    @property
    def budget(self) -> Budget:
        """What the sliders say: what :meth:`start` would run.

        Raises:
            CompressionError: the method cannot have one of the values.
        """
        with self._lock:
            return methods.of_budget(form.requested(self._draft))[1]

    @budget.setter
    def budget(self, budget: Budget) -> None:
        """Move the sliders; model, data and weights stay those of the panel.

        Raises:
            CompressionError: an unknown method, or a value that it cannot have; nothing has moved then.
        """
        with self._lock:
            self._draft = panel.in_place(budget, self._subject.place)
            self._draw()

    @property
    def run(self) -> RunFolder | None:
        """The newest run of this panel."""
        return self._runs.newest

    @property
    def runs(self) -> list[RunFolder]:
        """The runs of this panel, the newest last."""
        return self._runs.folders

    def start(self) -> RunFolder:
        """Start a run of :attr:`budget` in a process of its own, or queue it behind others.

        Raises:
            CompressionError: what in the budget cannot be.
        """
        folder = self._begin()
        self._look()
        return folder

    def add(self, run: str | RunFolder) -> None:
        """Show a run of the same folder, such as one that was started before the kernel was restarted.

        Raises:
            CompressionError: there is none.
        """
        self._runs.add(run if isinstance(run, str) else run.id)
        self._look()

    def pause(self) -> str:
        """Ask the newest run to write a checkpoint and stop; returns its state.

        Raises:
            CompressionError: there is no run.
        """
        return self._after(self._runs.pause)

    def resume(self) -> str:
        """Continue the newest run; returns its state.

        Raises:
            CompressionError: there is no run, or it cannot be continued.
        """
        return self._after(self._runs.resume)

    def cancel(self) -> str:
        """Ask the newest run to stop, insist after a few seconds; returns its state.

        Raises:
            CompressionError: there is no run.
        """
        return self._after(self._runs.cancel)

    def wait(self, timeout: float | None = None) -> dict[str, Any]:
        """Wait for the newest run to end or pause, the panel growing meanwhile; returns its result.

        Raises:
            CompressionError: there is no run. TimeoutError: it still goes on after ``timeout`` seconds.
        """
        return self._runs.wait(self.refresh, PERIOD, timeout)

    def refresh(self) -> None:
        """Look at the runs once, and show what is new."""
        with self._lock:
            ended = self._runs.read()
            self._show()
            if ended:
                self.answer = {**self.answer, "time": self._time()}

    def close(self) -> None:
        """End the panel and its looking at runs; these go on."""
        if self._watching is not None:
            self._watching.cancel()
        super().close()

    def __repr__(self) -> str:
        """In one line of text, for where no panel can be shown."""
        with self._lock:
            label = methods.get(self._draft.method).info.label
            runs = ", ".join(f"{folder.id} {folder.state}" for folder in self.runs) or "no run yet"
            sizes = [cell["value"] for cell in self.answer["figures"] if cell["kind"] == "bytes"]
            parts = [f"{label}: {self.answer['request'] or self.answer['problem']}", *sizes, runs]
            return f"Explorer({self._subject.title}; {'; '.join(parts)})"

    # From the front end

    def _receive(self, content: Any) -> None:
        """A message from the front end: what is wrong with it becomes a line of the panel."""
        with self._lock, self.hold_sync():
            try:
                message = messages.read(content)
                if message["kind"] == "press":
                    self._press(message["action"])
                    return
            except CompressionError as error:
                self._reply("", 0, str(error))
                return
            problem = ""
            try:
                self._change(message)
            except CompressionError as error:
                problem = str(error)
            self._reply(message["view"], message["n"], problem)

    def _change(self, message: messages.Move | messages.Choose | messages.Use) -> None:
        """What a message says of the form into the draft.

        Raises:
            CompressionError: no such control, method or run, or a value that cannot be; nothing has changed then.
        """
        if message["kind"] == "move":
            self._draft = _moved(self._draft, message["field"], message["value"])
            return
        if message["kind"] == "method":
            draft = form.with_method(self._draft, message["name"])
        else:
            draft = panel.in_place(self._runs.budget(message["run"]), self._subject.place)
        self._draft = draft
        self._set_form()

    def _press(self, action: messages.Action) -> None:
        """A button: what takes long is done beside the kernel's loop, where there is one."""
        verbs: dict[str, Callable[[], object]] = {
            "start": self._begin, "pause": self._runs.pause, "resume": self._runs.resume, "cancel": self._runs.cancel,
        }  # fmt: skip
        if self._busy:
            return
        self._busy, self._problem = action, ""
        self._show()
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # a script, or a test
            self._finish(verbs[action])
            return
        work = loop.run_in_executor(None, verbs[action])
        work.add_done_callback(lambda ended: self._finish(ended.result))

    def _finish(self, result: Callable[[], object]) -> None:
        """What a button came to."""
        with self._lock:
            try:
                result()
            except CompressionError as error:
                self._problem = str(error)
            self._busy = ""
            self._look()

    # What is shown

    def _begin(self) -> RunFolder:
        budget = self.budget
        methods.get(budget.method).forecast(self._subject.subject, budget)  # refuses at once what cannot be met
        self._subject.store()
        return self._runs.start(budget)

    def _after(self, verb: Callable[[], str]) -> str:
        state = verb()
        self._look()
        return state

    def _draw(self) -> None:
        with self.hold_sync():
            self._set_form()
            self._reply("", 0)
            self._look()

    def _set_form(self) -> None:
        self.fields = panel.form_of(self._draft, self._subject.subject.graph, self._subject.title)

    def _reply(self, view: str, n: int, problem: str = "") -> None:
        """Forecast the draft and show it, with the number of the message that asked for it."""
        graph, request = self._subject.subject.graph, ""
        forecast = None
        try:
            budget = self.budget
            request = methods.get(budget.method).request(budget)
            forecast = methods.get(budget.method).forecast(self._subject.subject, budget)
        except CompressionError as error:
            problem = problem or str(error)
        self.answer = {
            "view": view, "n": n, "values": panel.values(self._draft), "request": request, "problem": problem,
            "possible": forecast is not None, "time": self._time(), **panel.forecast_of(forecast, graph),
        }  # fmt: skip

    def _time(self) -> str:
        estimate = self._runs.estimate(self._draft, float(self._subject.subject.graph.macs))
        return f"About {words.duration(estimate.seconds)} ({estimate.basis})" if estimate else ""

    def _show(self) -> None:
        self.live = {**self._runs.shown(), "busy": self._busy, "problem": self._problem or self._runs.problem}

    def _look(self) -> None:
        """Look at the runs now, and from time to time while one goes on and the kernel has a loop."""
        self.refresh()
        if not self._runs.active or (self._watching is not None and not self._watching.done()):
            return
        try:
            self._watching = asyncio.get_running_loop().create_task(self._watch())
        except RuntimeError:  # a script: `wait` and `refresh` look
            self._watching = None

    async def _watch(self) -> None:
        while self._runs.active:
            await asyncio.sleep(PERIOD)
            self.refresh()


def _moved(draft: Budget, field: str, value: Any) -> Budget:
    """The draft with the value of a control, whose values can all be shown.

    Raises:
        CompressionError: there is no such control, or it cannot have this value.
    """
    if field in ("epochs", "seed"):
        whole = isinstance(value, float) and value.is_integer()
        return draft.replace(**{field: int(value) if whole else value})
    asks = {ask.field: ask for ask in methods.get(draft.method).asks if ask.control() is not None}
    if field not in asks:
        raise CompressionError(f"{draft.method} has no control {field!r}; it has: {', '.join(asks)}")
    if isinstance(value, float):
        value = round(value, 6)
    moved = form.with_asks(draft, {field: asks[field].accept(value)})
    form.values(moved)
    return moved
