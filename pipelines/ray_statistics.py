"""Ray Data's statistics of an execution, which would fill the driver's memory over a long one.

Not Ray's public API: `StreamingExecutor._topology` and `MapOperator._output_blocks_stats` (2.60). The executor keeps
1 kB for each block that a stage gives out, which is 3 kB a row, until the execution ends, for a summary that is not
shown here. Where a later Ray calls them otherwise, the run goes on and the driver grows by 3 GB in a million rows.
"""

from collections import deque
from typing import Any


class KeepNoStatistics:
    """For `DataContext.custom_execution_callback_classes`; the methods are those that Ray calls."""

    def before_execution_starts(self, executor: Any) -> None:
        """Have the operators put their statistics where nothing stays."""
        for operator in getattr(executor, "_topology", None) or ():
            if isinstance(getattr(operator, "_output_blocks_stats", None), list):
                operator._output_blocks_stats = deque(maxlen=0)

    def on_execution_step(self, executor: Any) -> None:
        """Nothing to do."""

    def after_execution_succeeds(self, executor: Any) -> None:
        """Nothing to do."""

    def after_execution_fails(self, executor: Any, error: Exception) -> None:
        """Nothing to do."""
