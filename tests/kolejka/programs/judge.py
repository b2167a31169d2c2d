"""A judge for kolejka-judge: builds a solution in C++ or Python, runs it, and compares its answer with the hint."""

import os
import sys
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "kolejka-judge"))
    from kolejka.judge import main

    main(__file__)

from kolejka.judge.parse import parse_memory, parse_time
from kolejka.judge.tasks import (
    AnswerHintDiffTask,
    SolutionBuildAutoTask,
    SolutionBuildGXXTask,
    SolutionBuildPython3ScriptTask,
    SolutionExecutableTask,
    SolutionPrepareTask,
    SystemPrepareTask,
)


def judge(checking: Any) -> None:
    """Judge one test; how it goes is written into the results."""
    seconds, memory = parse_time(checking.test["time"]), parse_memory(checking.test["memory"])
    builders = [[SolutionBuildGXXTask, [], {"standard": "c++17"}], [SolutionBuildPython3ScriptTask, [], {}]]
    checking.add_steps(
        prepare=SystemPrepareTask(default_logs=False),
        source=SolutionPrepareTask(source=checking.solution),
        builder=SolutionBuildAutoTask(builders, limit_real_time=parse_time("90s"), limit_memory=parse_memory("300M")),
        run=SolutionExecutableTask(
            input_path=checking.test["input"],
            limit_cores=1,
            limit_cpu_time=seconds,
            limit_real_time=seconds * 20,
            limit_memory=memory,
            limit_pids=8,
        ),
        check=AnswerHintDiffTask(hint_path=checking.test["hint"]),
    )
    checking.run()
