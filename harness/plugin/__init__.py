"""The pytest plugin: options, hooks, the controller and its workers, and the packaged suite."""
