"""A registry's images: `registry://HOST[:PORT][/NAMESPACE][?match=…&scheme=http]`."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from taskgate.harness.base.errors import ImageNotFound, RegistryError, RegistryRefused
from taskgate.harness.engine.registries.registry_client import Client
from taskgate.harness.tasks.importers.importer import Importer, Row, Source

SCHEME = "registry://"
AT_ONCE = 16


def recognises(source: Source) -> bool:
    return source.text.startswith(SCHEME)


def load(source: Source) -> Iterator[Row]:
    """A row a tag. Raises UsageError where nothing is there, RegistryError."""
    host, _, namespace = source.text.removeprefix(SCHEME).partition("/")
    namespace, scheme = namespace.strip("/"), source.options.get("scheme")
    if not host or scheme not in (None, "http", "https"):
        raise source.fail("expected registry://HOST[:PORT][/NAMESPACE]")
    client = Client(host, scheme=scheme)
    repositories = _repositories(client, namespace)
    any_image = False
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for repository, tags in zip(
            repositories, pool.map(lambda name: _tags(client, name), repositories), strict=True
        ):
            for tag in tags:
                any_image = True
                name = f"{repository}:{tag}"
                yield Row({"image": f"{host}/{name}", "id": name}, source.text, fallback={"repo_path": None})
    if not any_image:
        raise source.fail("there are no images")


def _repositories(client: Client, namespace: str) -> list[str]:
    """Those of the namespace, from the catalogue; a namespace that is a repository itself needs none."""
    try:
        catalogue = sorted(set(client.repositories()))
    except (RegistryError, ImageNotFound) as error:
        # Docker Hub and others have no catalogue, or don't show it. One that fails for now may have more than is asked.
        if not namespace or not _has_no_catalogue(error):
            raise
        return [namespace]
    return [name for name in catalogue if not namespace or name == namespace or name.startswith(f"{namespace}/")]


def _has_no_catalogue(error: RegistryError | ImageNotFound) -> bool:
    """Is it sure that there is none for us, rather than that the registry fails for now?"""
    return isinstance(error, ImageNotFound | RegistryRefused)


def _tags(client: Client, repository: str) -> list[str]:
    try:
        return sorted(set(client.tags(repository)))
    except ImageNotFound:
        # The catalogue still names what has been deleted.
        return []


IMPORTER = Importer("registry", "registry://HOST[:PORT][/NAMESPACE]", recognises, load, ("scheme",))
