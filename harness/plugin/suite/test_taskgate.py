"""The packaged suite: one image is one case, judged while the test runs."""

from taskgate.harness.plugin import outcomes
from taskgate.harness.plugin.fixtures import Judge
from taskgate.harness.tasks.task import Task


def test_image(task: Task, judge: Judge) -> None:
    """The image is sound: an agent can work in it."""
    outcomes.conclude(judge(task))


# Whatever python_functions a project has set.
test_image.__test__ = True  # type: ignore[attr-defined]
