"""Gold and nop runs: can a task be solved, and is it not solved already?

Each control runs in a fresh container. The task's own harness decides whether its tests passed.
"""
