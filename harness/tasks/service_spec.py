"""The manifest's `services` and `healthcheck`: what runs beside a task's container, and what says it is ready."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, ClassVar

from pydantic import ConfigDict, Field, WithJsonSchema

from taskgate.harness.tasks import values
from taskgate.harness.tasks.values import Form, Part, invalid

Env = Annotated[
    dict[
        Annotated[str, Form(values.matching(values.VARIABLE, "name of an environment variable"))],
        Annotated[str, Form(partial(values.text, empty=True))],
    ],
    WithJsonSchema(
        {
            "type": "object",
            "additionalProperties": {"type": "string"},
            "propertyNames": {"pattern": f"^{values.VARIABLE.pattern}$"},
        }
    ),
]


@dataclass(frozen=True, slots=True)
class Healthcheck:
    """A command that ends with status 0 once all is ready. Times in seconds."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    command: Annotated[
        values.Argv,
        Field(
            description="A program and its arguments, or one text for /bin/sh -c.",
            examples=["redis-cli ping"],
        ),
    ]
    interval: Annotated[values.Seconds, Field(description="Seconds between two attempts.", examples=[5])] = 5.0
    timeout: Annotated[values.Seconds, Field(description="Seconds that an attempt may take.", examples=[30])] = 30.0
    start_period: Annotated[
        values.Period,
        Field(
            description="Seconds after the start in which failures don't count.",
            examples=[10],
        ),
    ] = 0.0
    retries: Annotated[
        values.Count, Field(description="Failures in a row after which it counts as failed.", examples=[3])
    ] = 3


@dataclass(frozen=True, slots=True)
class Service:
    """A container beside the task's, reachable from it under the service's name.

    `depends_on` names services that must be started, and healthy where they have a healthcheck, before it. `volumes`
    are `NAME:PATH[:ro]`, of a volume that the services of one task share and that is removed with them.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    image: Annotated[values.ImageName, Field(description="The service's image.", examples=["redis:7"])]
    command: Annotated[
        values.Words | None,
        Field(
            description="In place of the image's CMD; one text is split into words.",
            examples=[["redis-server", "--save", ""]],
        ),
    ] = None
    entrypoint: Annotated[
        values.Words | None,
        Field(
            description="In place of the image's ENTRYPOINT; one text is split into words.",
            examples=[["/start.sh"]],
        ),
    ] = None
    env: Annotated[
        Env, Field(description="Environment variables of the service.", examples=[{"POSTGRES_DB": "app"}])
    ] = field(default_factory=dict)
    user: Annotated[
        values.User | None, Field(description="The user that it runs as; null: the image's.", examples=["redis"])
    ] = None
    workdir: Annotated[
        values.AbsolutePath | None,
        Field(description="Where it starts; null: the image's WORKDIR.", examples=["/srv"]),
    ] = None
    healthcheck: Annotated[
        Annotated[Healthcheck, Part()] | None,
        Field(
            description="Says when it is ready; null: the image's HEALTHCHECK, if it has one.",
            examples=[{"command": "redis-cli ping"}],
        ),
    ] = None
    depends_on: Annotated[
        tuple[values.Text, ...],
        Field(
            description="Services that must be up, and healthy if they have a healthcheck, before it.",
            examples=[["database"]],
        ),
    ] = ()
    volumes: Annotated[
        tuple[Annotated[str, Form(values.matching(values.VOLUME, "volume"), values.VOLUME_SCHEMA)], ...],
        Field(
            description="Volumes as NAME:PATH[:ro], shared by the services of this task.",
            examples=[["data:/var/lib/data"]],
        ),
    ] = ()


def check_services(services: Mapping[str, Service]) -> None:
    """Every dependency is a service, and none depends on itself. Raises what `invalid` returns."""
    for name, service in services.items():
        if unknown := [other for other in service.depends_on if other not in services]:
            raise invalid(f"depends on {unknown[0]!r}, which is not one of {', '.join(services)}", at=name)
    if cycle := _cycle(services):
        raise invalid("depends on itself", at=cycle)


def start_order(services: Mapping[str, Service]) -> list[str]:
    """The services' names, each after those that it depends on."""
    order: list[str] = []
    waiting = list(services)
    while waiting:
        ready = [name for name in waiting if all(other in order for other in services[name].depends_on)]
        if not ready:
            return order
        order += ready
        waiting = [name for name in waiting if name not in ready]
    return order


def _cycle(services: Mapping[str, Service]) -> str | None:
    ordered = start_order(services)
    return next((name for name in services if name not in ordered), None)


Services = Annotated[
    dict[
        Annotated[str, Form(values.matching(values.SERVICE, "name of a service"))],
        Annotated[Service, Part()],
    ],
    values.Mapped(check_services, values.SERVICE),
]
