"""The group of commands, one for each file in ``cli/commands``; errors become one message and an exit code.

torch is imported inside the commands only, so that ``--help`` is quick.
"""

from __future__ import annotations

import errno
import importlib
import io
import os
import pkgutil
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import click

from saconv_surgeon._version import __version__
from saconv_surgeon.cli import commands
from saconv_surgeon.cli.command_line import ARGUMENTS
from saconv_surgeon.cli.encoding import prepare_streams
from saconv_surgeon.cli.endings import (
    AT_ONCE,
    end_interrupted,
    is_of_the_model,
    loaded_files,
    system_said,
    tidy_when_told_to_end,
)
from saconv_surgeon.cli.streams import OwnExit, complain, fail, show_traceback
from saconv_surgeon.cli.warning_lines import warnings_in_lines
from saconv_surgeon.errors import ModelError, SurgeonError, UserCodeError
from saconv_surgeon.models.loading.users_code import how_it_ended

CLOSED_PIPE = "PacifyFlushWrapper"
"""What click puts in the place of a stdout that nobody reads any more."""


class SurgeonGroup(click.Group):
    """Turns an error into one message and an exit code."""

    def make_context(self, info_name: str | None, args: list[str], *rest: Any, **extra: Any) -> click.Context:
        """See ``click.Group``; reports say by which command they were made."""
        given = list(args)
        ctx = super().make_context(info_name, args, *rest, **extra)
        ctx.meta[ARGUMENTS] = given
        return ctx

    def invoke(self, ctx: click.Context) -> Any:
        """See ``click.Group``."""
        known = loaded_files()
        try:
            with no_sudden_end(), warnings_in_lines():
                return super().invoke(ctx)
        except SurgeonError as error:
            if isinstance(error, UserCodeError) and error.__cause__ is not None:
                show_traceback(error.__cause__)
            fail(str(error), error.exit_code)
        except KeyboardInterrupt:
            end_interrupted()
        except (MemoryError, RecursionError, OSError, UnicodeError) as error:
            if isinstance(error, OSError) and error.errno == errno.EPIPE:
                raise
            if is_of_the_model(error, known):
                show_traceback(error)
            fail(system_said(error), ModelError.exit_code)
        except OwnExit:
            raise
        except Exception as error:
            if not is_of_the_model(error, known):
                raise
            show_traceback(error)
            fail(f"the model's code {how_it_ended(error)}", UserCodeError.exit_code)
        except BaseException as error:  # nothing of ours raises such a thing
            show_traceback(error)
            fail(f"the model's code {how_it_ended(error)}", UserCodeError.exit_code)

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """See ``click.Group``."""
        prepare_streams()
        run: Any = super().main
        if not kwargs.pop("standalone_mode", True):
            return run(*args, standalone_mode=False, **kwargs)
        code: Any
        try:
            code = run(*args, standalone_mode=False, **kwargs)
        except click.ClickException as error:
            shown = io.StringIO()
            error.show(file=shown)
            complain(shown.getvalue())
            code = error.exit_code
        except (click.Abort, KeyboardInterrupt):
            end_interrupted()
        except SystemExit as error:
            nobody_reads = type(sys.stdout).__name__.endswith(CLOSED_PIPE) and not isinstance(error, OwnExit)
            code = 0 if nobody_reads else error.code
        sys.exit(0 if code is None else code)


@contextmanager
def no_sudden_end() -> Iterator[None]:
    """Inside, ``os._exit`` is an exit like any other, so that an aborted command is not taken for a finished one."""
    process, thread = os.getpid(), threading.get_ident()

    def exit_with_a_word(status: int) -> NoReturn:
        if os.getpid() == process:
            if threading.get_ident() == thread:
                raise SystemExit(status)
            os.write(2, b"saconv-surgeon: a thread of the model's code ended the process\n")
            status = status or UserCodeError.exit_code
        AT_ONCE(status)

    os._exit = exit_with_a_word
    try:
        yield
    finally:
        os._exit = AT_ONCE


@click.group(cls=SurgeonGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="saconv-surgeon")
def cli() -> None:
    """Swap the convolutions of a trained PyTorch model for switchable atrous ones without losing a prediction.

    MODEL is file.py:factory or package.module:factory(arguments), where a factory is a function or class that returns the model;
    timm:NAME, torchvision:NAME, smp:NAME, ultralytics:NAME.yaml or transformers:FOLDER; a model.pt2; a pickled model.pt with
    --trust; or the folder that an earlier convert wrote.

    \b
    saconv-surgeon inspect timm:resnet50
    saconv-surgeon convert sample_models/tiny_resnet.py:build -o out
    saconv-surgeon plan    nets.py:build --data F --loss F --budget "latency<1.3x"
    saconv-surgeon profile my.nets:make(depth=18) --input 1x3x224x224
    saconv-surgeon diff    sample_models/tiny_resnet.py:build out
    saconv-surgeon fold    out --weights trained.pt -o fast.onnx

    Exit codes: 0 done, 1 a check failed, 2 usage, 3 a model cannot be found, loaded, run or saved, 4 nothing eligible,
    130 interrupted.
    """


for file in pkgutil.iter_modules(commands.__path__):
    cli.add_command(getattr(importlib.import_module(f"{commands.__name__}.{file.name}"), file.name))


def main() -> None:
    """The console script."""
    try:
        with tidy_when_told_to_end():
            cli(prog_name="saconv-surgeon")
    except KeyboardInterrupt:
        end_interrupted()
    except Exception as error:
        complain("".join(traceback.format_exception(error)))
        fail(
            f"that is a defect of saconv-surgeon {__version__} ({type(error).__name__}): please report it with these lines and "
            "what saconv-surgeon env prints; nothing half-written was left",
            ModelError.exit_code,
        )
