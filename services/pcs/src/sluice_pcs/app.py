"""The application of the physics configuration service."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial

from fastapi import FastAPI

from sluice_core.outbox import Relay
from sluice_core.rest.operations import Operations
from sluice_core.retention import regularly
from sluice_core.service import Service, build
from sluice_pcs import resources, tables
from sluice_pcs.events import Events
from sluice_pcs.handlers import campaigns as campaign_doors
from sluice_pcs.handlers import categories, index
from sluice_pcs.handlers import datasets as dataset_doors
from sluice_pcs.handlers import definitions as definition_doors
from sluice_pcs.handlers import intake as intake_doors
from sluice_pcs.handlers import tags as tag_doors
from sluice_pcs.handlers import tasks as task_doors
from sluice_pcs.handlers import transfer as transfer_doors
from sluice_pcs.service.campaigns import Campaigns
from sluice_pcs.service.catalogue import Catalogue
from sluice_pcs.service.computing import check_config, kept_while_used
from sluice_pcs.service.datasets import Datasets
from sluice_pcs.service.definitions import Definitions
from sluice_pcs.service.instancing import Instancing
from sluice_pcs.service.intake import Intake, Requestors
from sluice_pcs.service.rights import claim, owned
from sluice_pcs.service.submissions import Submissions
from sluice_pcs.service.tags import Tags
from sluice_pcs.service.tasks import Tasks
from sluice_pcs.service.transfer import Transfer
from sluice_pcs.settings import Settings

__all__ = ["create_app"]

# A campaign of ten thousand tags.
BODY_LIMIT = 4 * 2**20


def create_app(settings: Settings | None = None) -> FastAPI:
    """Return the application; nothing connects before its lifespan begins.

    Parameters
    ----------
    settings
        Read from the environment when absent.
    """
    settings = settings or Settings()
    service = Service("pcs", settings)
    database, zone = service.database, service.zone
    relay = Relay(database, service.bus, tables.outbox)
    service.metrics.outbox(relay)
    events = Events(relay.wake, to_broker=settings.operations_queue)
    definitions = Definitions(database, events)
    tags = Tags(database, resources.TAGS, definitions, events, zone)
    locked = settings.require_locked
    datasets = Datasets(database, resources.DATASETS, resources.PHYSICS_CONFIGS, events, require_locked=locked)
    category = replace(
        resources.CATEGORIES, admit=owned, prepare=claim, on_change=events.following("category", "digit")
    )
    configs = replace(
        resources.PROD_CONFIGS, admit=owned, prepare=check_config, on_change=events.following("config", "name")
    )
    campaigns = replace(resources.CAMPAIGNS, admit=owned, prepare=claim, on_change=events.following("campaign", "name"))
    instancing = Instancing(
        database,
        campaigns,
        resources.DATASETS,
        resources.PROD_TASKS,
        resources.PHYSICS_CONFIGS,
        events,
        require_locked=locked,
    )
    intake = Intake(database, datasets, events, zone)
    tasks = Tasks(
        database,
        resources.PROD_TASKS,
        resources.DATASETS,
        resources.PROD_CONFIGS,
        resources.TAGS_BY_ID,
        events,
        transformation=settings.transformation,
    )
    computing = tuple(
        replace(resource, admit=kept_while_used(field), on_change=events.following(kind, "name"))
        for resource, field, kind in (
            (resources.PANDA_QUEUES, "panda_queue", "queue"),
            (resources.RUCIO_ENDPOINTS, "rucio_rse", "endpoint"),
        )
    )

    @asynccontextmanager
    async def wire(service: Service) -> AsyncIterator[None]:
        tasks = service.supervisor
        tasks.spawn("outbox", relay.run)
        forget = partial(datasets.forget, settings.report_retention)
        tasks.spawn("retention of reports of files", partial(regularly, service.database, forget))
        yield

    return build(
        service,
        title="Sluice physics configurations",
        package="sluice_pcs",
        resources=(
            category,
            *tags.resources.values(),
            datasets.resource,
            configs,
            campaigns,
            resources.PHYSICS_CONFIGS,
            tasks.resource,
            *computing,
        ),
        endpoints=(
            *index.endpoints(),
            *categories.endpoints(database, Operations(category, database, zone), category),
            *tag_doors.endpoints(tags),
            *definition_doors.endpoints(definitions),
            *dataset_doors.endpoints(datasets),
            *intake_doors.endpoints(intake, Requestors(database, resources.PHYSICS_CONFIGS, events)),
            *task_doors.endpoints(
                tasks,
                Submissions(database, tasks, events),
                Catalogue(database, tasks, zone),
            ),
        ),
        routers=(
            tag_doors.router(tags),
            dataset_doors.router(datasets),
            campaign_doors.router(Campaigns(database, campaigns, events), instancing),
            transfer_doors.router(Transfer(database, tags, definitions, events)),
        ),
        wire=wire,
        body_limit=BODY_LIMIT,
    )
