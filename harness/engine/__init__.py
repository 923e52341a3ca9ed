"""The container engine, Docker or Podman: client, discovery, error classification, pulls, disk budget, ownership.

It takes images, platforms and pull policies; it knows no tasks."""
