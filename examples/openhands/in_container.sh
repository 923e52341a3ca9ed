#!/bin/sh
# The driver in a container of the image that has the SDK, for hosts whose Python is older than 3.12.
here=$(cd "$(dirname "$0")" && pwd)
exec docker run --rm --network host -v "$here:$here:ro" -v "$TASKGATE_OUT:$TASKGATE_OUT" \
  -e TASKGATE_URL -e TASKGATE_TASK -e TASKGATE_OUT -e TASKGATE_ENDPOINT -e MODEL \
  -e LITELLM_LOCAL_MODEL_COST_MAP=True -e OPENHANDS_SUPPRESS_BANNER=1 \
  taskgate-demo/openhands-server:1 /opt/openhands/bin/python "$here/driver.py" "$@"
