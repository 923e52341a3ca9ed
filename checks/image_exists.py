from collections.abc import Iterator

from taskgate.checks import check
from taskgate.harness.base.errors import ImageNotFound
from taskgate.harness.sandbox.sandbox import Sandbox


@check(published=True)
def image_exists(sandbox: Sandbox) -> Iterator[str]:
    """The image is on the engine, or its registry has it.

    Correct the name or tag in the manifest, or publish the image.
    """
    try:
        _ = sandbox.image
    except ImageNotFound as error:
        yield str(error)
