"""How each family of task sets decides whether its tests passed, one file per family."""
