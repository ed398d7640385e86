"""The one error that a person is meant to read."""

from __future__ import annotations


class StockAssetsError(Exception):
    """Something a person can mend.

    Parameters
    ----------
    problem : str
        What is wrong and where, in one line.
    remedy : str
        What to do about it, in one line: a command wherever there is one.

    The command line prints ``problem. remedy.`` and exits with status 1; a traceback is shown only
    when it is asked for. A problem that ends in a question keeps its mark.
    """

    def __init__(self, problem: str, remedy: str) -> None:
        self.problem = problem.rstrip(".")
        self.remedy = remedy.rstrip(".")
        end = "" if self.problem.endswith("?") else "."
        super().__init__(f"{self.problem}{end} {self.remedy}.")

    def __reduce__(self) -> tuple[type[StockAssetsError], tuple[str, str]]:
        """Survive the way back from another process, which an exception of two parts does not."""
        return type(self), (self.problem, self.remedy)
