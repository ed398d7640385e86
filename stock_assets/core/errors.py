"""The error whose message is written for the user."""

from __future__ import annotations


class StockAssetsError(Exception):
    """A problem that the user can fix.

    Parameters
    ----------
    problem : str
        What is wrong and where, in one line.
    remedy : str
        What to do about it, in one line: a command wherever there is one.

    The command line prints ``problem. remedy.`` and exits with status 1; a traceback is shown only
    on request. A problem that ends in a question mark keeps it.
    """

    def __init__(self, problem: str, remedy: str) -> None:
        self.problem = problem.rstrip(".")
        self.remedy = remedy.rstrip(".")
        end = "" if self.problem.endswith("?") else "."
        super().__init__(f"{self.problem}{end} {self.remedy}.")

    def __reduce__(self) -> tuple[type[StockAssetsError], tuple[str, str]]:
        """Support pickling: an exception with two arguments fails to unpickle by default."""
        return type(self), (self.problem, self.remedy)
