"""One task's container: created, entered by a shell, given commands and files, isolated from networks, removed."""
