"""What taskgate does with a set of task images, one folder a layer.

A folder imports only from those below it: cli, plugin, runner, proof, gate, sandbox, runtime, tasks, engine, base.
"""
