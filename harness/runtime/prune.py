"""Removes what no manifest uses any more: bundles in the cache, volumes and injected images on the engine."""

from __future__ import annotations

from taskgate.harness.engine.client import Engine
from taskgate.harness.runtime import injected, sources, volume
from taskgate.harness.runtime.bundle import Store
from taskgate.harness.tasks.task import Task


def used(engine: Engine, store: Store, tasks: list[Task]) -> set[str]:
    """The names of the bundles that these tasks use. Nothing is built: a bundle that does not exist is not used."""
    names = set()
    for runtime, platform in {(task.runtime, task.platform) for task in tasks if task.runtime}:
        assert runtime is not None
        if runtime.mode == "present":
            names.add(f"{(runtime.path or '').rpartition('/')[2]}-{'-'.join(platform.split('/')[:2])}")
        elif known := sources.known(engine, store, runtime, platform):
            names.add(known.name)
    return names


def prune(engine: Engine, store: Store, tasks: list[Task], *, dry: bool = False) -> list[str]:
    """Remove what is not used; returns what that was. What a container still uses stays. Raises InfraError."""
    keep = used(engine, store, tasks)
    removed = []
    for name, bundle in injected.images(engine).items():
        if bundle not in keep and (dry or engine.remove_image(name)):
            removed.append(f"image {name}")
    for name in volume.volumes(engine):
        if name.removeprefix("taskgate-runtime-") not in keep and (dry or engine.remove_volume(name)):
            removed.append(f"volume {name}")
    for bundle_kept in store.all():
        if bundle_kept.name not in keep:
            if not dry:
                store.remove(bundle_kept)
            removed.append(f"bundle {bundle_kept.name} ({bundle_kept.size >> 20} MiB)")
    return removed
