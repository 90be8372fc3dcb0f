"""How a broken property is told."""

from __future__ import annotations

from fusedops.verify.case import Case


class Failure(AssertionError):
    """A property that does not hold, with the line that shows it again."""

    def __init__(
        self,
        subject: str,
        case: Case,
        message: str,
        *,
        fraction: float = 0.0,
        replay: str | None = None,
    ) -> None:
        option = "--kernel" if "." in subject else "--backend"
        self.subject = subject
        self.case = case
        self.reason = message
        self.fraction = fraction
        self.replay = replay or f"python -m fusedops verify {option} {subject} --case '{case}'"
        super().__init__(f"{subject}: {message}\n  {self.replay}")


class DeviceLost(BaseException):
    """The card reported an error that ends its context: nothing after it can be trusted.

    Not an Exception, so that Hypothesis stops at once: every smaller example would fail too.
    """

    def __init__(self, failure: Failure) -> None:
        self.failure = failure
        super().__init__(str(failure))
