"""What the command lines share, over mmengine: the runner, hooks, checks of the input and error messages."""
