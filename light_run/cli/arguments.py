"""Where the words of a container's command begin, on a line that has options of ours as well."""

from __future__ import annotations

import click


class ImageAndCommand(click.Command):
    """A command with the arguments IMAGE and COMMAND..., whose options come before and behind IMAGE.

    As with docker, what follows the first word of COMMAND is its own, also where it looks like an option of ours.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse `args`. Raises `click.UsageError`."""
        before, words = self._up_to_a_word(ctx, args)
        image, behind = words[:1], words[1:]
        # Behind a `--` there are no options: IMAGE itself came after one.
        between, command = ([], behind) if before[-1:] == ["--"] else self._up_to_a_word(ctx, behind)
        options = [*before, *between]
        dashes = [] if options[-1:] == ["--"] else ["--"]
        return super().parse_args(ctx, [*options, *dashes, *image, *command])

    def _up_to_a_word(self, ctx: click.Context, args: list[str]) -> tuple[list[str], list[str]]:
        parser = self.make_parser(ctx)
        parser.allow_interspersed_args = False
        found, _, _ = parser.parse_args(list(args))
        # Every word there is has become one of the two arguments; what has got none is neither of these types.
        image, command = found.get("image"), found.get("command")
        count = isinstance(image, str) + (len(command) if isinstance(command, tuple) else 0)
        return args[: len(args) - count], args[len(args) - count :]
