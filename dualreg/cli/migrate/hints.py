"""What to do next: the command that follows, with the options that were given to this one."""

import shlex
from collections.abc import Iterator

import click

#: Where a command keeps its arguments as they were written.
ARGUMENTS = "dualreg.arguments"
#: Options that say which registry is meant, which source, and which of its tags.
HERE = ("data", "config")
THERE = (*HERE, "flavor", "repository", "user", "password_file", "ca")
CHOOSING = ("include", "exclude", "listed", "since", "latest", "shard", "library", "mapping", "untagged")
CHOSEN = (*THERE, *CHOOSING, "plan_file")


def command_line(names: tuple[str, ...], *words: str) -> str:
    """Return what to type for another migration command, with those of the given options called *names*."""
    return shlex.join(["dualreg", "migrate", *words, *_given(click.get_current_context(), names)])


def _given(context: click.Context, names: tuple[str, ...]) -> Iterator[str]:
    """Yield options as they were written; not those of the environment, which the next command has too."""
    values, _, parameters = context.command.make_parser(context).parse_args([*context.meta[ARGUMENTS]])
    for option in dict.fromkeys(parameters):
        if not isinstance(option, click.Option) or option.name not in names or option.name not in values:
            continue
        value = values[option.name]
        for each in value if isinstance(value, list) else [value]:
            yield option.opts[0]
            if not option.is_flag:
                yield str(each)
