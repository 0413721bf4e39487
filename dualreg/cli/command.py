"""Building blocks of commands: groups that import a command on use, and options under headings."""

from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import click

from dualreg.messages import safe_lines

#: The last heading of the help, over options that name no other.
_OTHER = "Options"
#: The widest column of option names; click puts the text of longer ones on the next line.
_NAMES_WIDTH = 30


class LazyGroup(click.Group):
    """A group that imports the module of a command when the command is used."""

    def __init__(
        self,
        *args: Any,  # noqa: ANN401 -- click's
        lazy: Mapping[str, tuple[str, str]],
        package: str,
        **attributes: Any,  # noqa: ANN401 -- click's
    ) -> None:
        """Make the group.

        Args:
            lazy: For each command, in the order of the help: MODULE:NAME below *package*, and its short help.
        """
        super().__init__(*args, **attributes)
        self._lazy, self._package = lazy, package

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401 -- click's
        """Run the command; what its error message quotes is made safe to show.

        Raises:
            click.ClickException: also for a full or failing disk or database, in one line.
        """
        try:
            return super().invoke(ctx)
        except click.ClickException as error:
            error.message = safe_lines(error.message)  # type: ignore[misc]  # there is no other way to change it
            raise
        except (click.exceptions.Exit, click.Abort, BrokenPipeError):  # click ends the command itself
            raise
        except Exception as error:
            failures = import_module(f"{self._package}.failures")  # which loads much
            if isinstance(error, failures.OUTAGES):
                raise click.ClickException(failures.reason_of(error)) from error
            raise

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return [*self._lazy]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in self._lazy:
            return None
        module, _, name = self._lazy[cmd_name][0].partition(":")
        command: click.Command = getattr(import_module(f"{self._package}.{module}"), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, short) for name, (_, short) in self._lazy.items()])


class Chosen(NamedTuple):
    """The server of the global options; without a *url*, commands work on this machine."""

    url: str | None = None
    key_file: Path | None = None
    ca: Path | None = None


class ServerGroup(LazyGroup):
    """The group of all commands: with a server, only those run that its API offers."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that *args* name.

        Raises:
            click.ClickException: it cannot run on the server of the global options.
        """
        found = super().resolve_command(ctx, args)
        if ctx.params.get("server") and found[1]:
            names = [str(found[0]), *_names_below(ctx, found[1], found[2])]
            local = import_module("dualreg.operations.local")  # which loads much
            if reason := local.why_local(" ".join(names)):
                raise click.ClickException(f"dualreg {' '.join(names)} cannot run on a server: {reason}")
        return found


def _names_below(ctx: click.Context, command: click.Command, args: Sequence[str]) -> Iterator[str]:
    """Yield the names of the commands below *command* that *args* name."""
    for each in args:
        below = command.get_command(ctx, each) if isinstance(command, click.Group) else None
        if below is None:
            if each.startswith("-"):
                continue
            return
        yield each
        command = below


class Option(click.Option):
    """An option that the help lists under the heading *section*."""

    def __init__(self, *args: Any, section: str = _OTHER, **attributes: Any) -> None:  # noqa: ANN401 -- click's
        super().__init__(*args, **attributes)
        self.section = section


class SectionedCommand(click.Command):
    """A command whose help lists options under headings, in the order in which they are declared."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        sections = dict[str, list[tuple[str, str]]]()
        for parameter in self.get_params(ctx):
            heading = parameter.section if isinstance(parameter, Option) else _OTHER
            if isinstance(parameter, click.Option) and (line := parameter.get_help_record(ctx)):
                sections.setdefault(heading, []).append(line)
        last = sections.pop(_OTHER)
        width = min(max(len(name) for lines in (*sections.values(), last) for name, _ in lines), _NAMES_WIDTH)
        for heading, lines in {**sections, _OTHER: last}.items():
            with formatter.section(heading):
                formatter.write_dl([(name.ljust(width), text) for name, text in lines])
