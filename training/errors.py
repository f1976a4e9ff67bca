"""The errors that a user can cause or meet, each with the exit code of the command contract.

An error says what is wrong, where, what was expected against what was found, and what to type next:

    raise UsageError("unknown key 'learning_rat'", where="recipes/ppo.yaml, line 12",
                     expected="one of learning_rate, kl_coef", found="learning_rat",
                     next_step="rename the key to learning_rate")
"""

from __future__ import annotations

EXIT_OK = 0
EXIT_BUG = 1
EXIT_USAGE = 2
EXIT_GATE = 3
EXIT_MISMATCH = 4
EXIT_HUB = 5
EXIT_INTERRUPTED = 130


class SlipwayError(Exception):
    """An error with an explanation for the person at the keyboard; `exit_code` is the command's exit status."""

    exit_code = EXIT_BUG

    def __init__(
        self,
        what: str,
        *,
        where: str | None = None,
        expected: str | None = None,
        found: str | None = None,
        next_step: str | None = None,
    ) -> None:
        self.what, self.where, self.expected, self.found, self.next_step = what, where, expected, found, next_step
        super().__init__(self.render())

    def render(self) -> str:
        """The message on several lines, leaving out what is not known."""
        lines = [self.what]
        for label, value in (
            ("where", self.where),
            ("expected", self.expected),
            ("found", self.found),
            ("next", self.next_step),
        ):
            if value is not None:
                lines.append(f"  {label + ':':<10}{value}")
        return "\n".join(lines)

    def put_at(self, where: str) -> None:
        """Say where it is from the outside in: `where`, before what the error itself says of the place."""
        self.where = "; ".join(filter(None, [where, self.where]))
        self.args = (self.render(),)

    def as_dict(self) -> dict[str, str | int | None]:
        """The same for `--json`."""
        return {
            "type": type(self).__name__,
            "what": self.what,
            "where": self.where,
            "expected": self.expected,
            "found": self.found,
            "next": self.next_step,
            "exit_code": self.exit_code,
        }


class UsageError(SlipwayError):
    """Usage, configuration, input data or the machine (no space, no permission) is not as it must be. Exit 2."""

    exit_code = EXIT_USAGE


class GateRefused(SlipwayError):
    """A gate of the release policy refused. Nothing was made visible. Exit 3."""

    exit_code = EXIT_GATE


class VerificationMismatch(SlipwayError):
    """What stands on the Hub is not what the receipt says. Exit 4."""

    exit_code = EXIT_MISMATCH


class HubError(SlipwayError):
    """The Hub refused, or cannot be reached. Exit 5."""

    exit_code = EXIT_HUB
