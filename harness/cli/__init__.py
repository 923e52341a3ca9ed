"""The subcommands of `taskgate`, a file each: `add(subparsers)` declares one, its `run` returns an exit status."""
