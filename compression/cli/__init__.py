"""The command line: ``python -m compression COMMAND``; errors are one line, torch is imported only when needed.

Exit status: 0 done, 1 failed, paused or cancelled, 2 bad input.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from cyclopts import App, CycloptsError, Parameter
from cyclopts.help import DefaultFormatter, PanelSpec
from rich.box import Box

from compression import __version__, home
from compression.errors import CompressionError, RunFailed

COLUMNS = DefaultFormatter(panel_spec=PanelSpec(box=Box("    \n" * 8), padding=(0, 0)))
"""How ``--help`` is laid out: aligned columns without frames."""
COMMANDS = {
    "models": ("catalogue:models", "names, parameters, MACs, data sets they go with"),
    "methods": ("catalogue:methods", "names, what they ask for, their options"),
    "tasks": ("catalogue:tasks", "what networks are for, how each is measured, data sets"),
    "train": ("train:train", "train a dense model, stored where `run` looks for it"),
    "graph": ("graph:graph", "groups, units, what is frozen and why"),
    "forecast": ("forecast:forecast", "sizes, work and error of a budget, before any training"),
    "allocate": ("forecast:allocate", "zeros and bits from the weights alone, no training"),
    "untrained": ("untrained:untrained", "score of allocations before any training"),
    "sensitivity": ("sensitivity:sensitivity", "validation score with one layer quantized or pruned at a time"),
    "run": ("run:run", "compress a model with one budget"),
    "sweep": ("run:sweep", "compress a model with several budgets (--sparsity 0.3,0.5), one after another"),
    "runs": ("runs:list_runs", "list the runs, newest first"),
    "show": ("runs:show", "the result of a run so far"),
    "label": ("runs:label", "name runs, or tag them"),
    "pause": ("runs:pause", "write a checkpoint and stop; `resume` continues from there"),
    "resume": ("runs:resume", "continue a run that was paused, cancelled, failed or lost"),
    "cancel": ("runs:cancel", "stop a run or a sweep"),
    "delete": ("runs:delete", "delete runs with everything they wrote"),
    "track": ("track:track", "hand runs over to TensorBoard or MLflow, and follow those that go on"),
    "export": ("export:export", "a bundle from a finished run: smaller files that run without us"),
    "push": ("push:push", "a bundle on the Hugging Face Hub, with its card"),
    "report": ("report:report", "runs as one HTML file: front, layers, bytes, budget, provenance; opens anywhere"),
    "site": ("site:site", "the gallery as web pages without a server: draw a digit, fronts, reports"),
    "app": ("app:app", "open the app in the browser"),
}
"""Command → its function in this package, which is imported when the command is used, and what it is for."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Carry out one command and return its exit status; COMPRESSION_DEBUG=1 shows where an unforeseen error is."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if words == ["--version"]:
            print(__version__)
            return 0
        if not words or words[0] not in {*COMMANDS, "-h", "--help"}:
            typed = f", not {words[0]}" if words else ""
            raise CompressionError(f"COMMAND must be one of {', '.join(COMMANDS)}{typed}")
        app = parser()
        with home.optional():
            status = app(_full_names(app, words), exit_on_error=False, print_error=False)
        sys.stdout.flush()
        return int(status or 0)
    except CycloptsError as error:
        return _refuse(f"{str(error).rstrip('.')} (see {home.PROGRAM} {words[0]} --help)", 2)
    except CompressionError as error:
        return _refuse(str(error), 1 if isinstance(error, RunFailed) else 2)
    except KeyboardInterrupt:
        return _refuse("interrupted", 1)
    except BrokenPipeError:  # the reader of a pipe has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        return _refuse(f"{error.filename or 'file'}: {error.strerror or error}", 1)
    except Exception as error:
        if os.environ.get("COMPRESSION_DEBUG"):
            raise
        line = (str(error).strip().splitlines() or [""])[0]
        return _refuse(f"unforeseen {type(error).__name__}: {line} (COMPRESSION_DEBUG=1 shows where)", 1)


def parser() -> App:
    """The parser with every command; an option that is repeated counts as it is typed last."""
    app = App(
        name=home.PROGRAM,
        help="Explore and run the compression of neural networks.",
        version_flags=[],
        help_format="plaintext",
        help_formatter=COLUMNS,
        default_parameter=Parameter(negative=(), allow_repeating=True, show_default=lambda value: value or None),
        result_action="return_value",
        suppress_keyboard_interrupt=False,
    )
    for place, (name, (function, help)) in enumerate(COMMANDS.items()):
        app.command(f"{__name__}.{function}", name=name, help=help, sort_key=place)
    return app


def _full_names(app: App, words: Sequence[str]) -> list[str]:
    """The words with abbreviated options (``--activation 8``) in full, where no other option begins in the same way."""
    arguments = app[words[0]].assemble_argument_collection() if words[0] in COMMANDS else ()
    names = [name for argument in arguments for name in argument.names]

    def full(word: str) -> str:
        option, equals, value = word.partition("=")
        if option[:2] == "--" and ("." in option or option[2:3] == "_"):  # would reach a parameter, not an option
            raise CompressionError(f"unknown option {option} (see {home.PROGRAM} {words[0]} --help)")
        matches = [name for name in names if name.startswith(option)] if option[:2] == "--" != option else []
        return f"{matches[0]}{equals}{value}" if len(matches) == 1 else word

    return [full(word) for word in words]


def _refuse(message: str, status: int) -> int:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    return status
