"""The shared parts of the command lines, on top of mmengine: the runner, hooks, checks of the input and error messages."""
