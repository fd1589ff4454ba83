"""Production tasks beside what their resource does: how they are called, attempts, what they are made of."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, func, insert, or_, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from sluice_core.rest import Resource
from sluice_core.rest.store import ResourceStore
from sluice_pcs.store.claims import claim
from sluice_pcs.tables import attempt, campaign, dataset, prod_config, prod_task, task_output

__all__ = ["TaskStore"]

Row = dict[str, Any]
# Candidates that a refusal lists.
LISTED = 20


class TaskStore:
    """The ``prod_task`` and ``attempt`` tables, and the rows that a task refers to. Never commits.

    Parameters
    ----------
    tasks, datasets, configs
        Their resources.
    tags
        The resources of tags by the names of their kinds; their key is the id.
    """

    def __init__(self, tasks: Resource, datasets: Resource, configs: Resource, tags: Mapping[str, Resource]) -> None:
        self._tasks = ResourceStore(tasks)
        self._datasets = ResourceStore(datasets)
        self._configs = ResourceStore(configs)
        self._tags = {name: ResourceStore(resource) for name, resource in tags.items()}

    def called(self, connection: Connection, name: str) -> Sequence[tuple[int, str]]:
        """Return ids and names of the tasks that a text may mean: the first way of meaning one that finds some.

        It may be the composed name, the stored name, the beginning of one of them up to a dot, or the id.
        """
        joined = select(prod_task.c.id, prod_task.c.name).join(dataset, prod_task.c.dataset == dataset.c.id)
        ways = [
            dataset.c.dataset_name == name,
            prod_task.c.name == name,
            or_(func.starts_with(dataset.c.dataset_name, f"{name}."), func.starts_with(prod_task.c.name, f"{name}.")),
        ]
        if name.isascii() and name.isdigit() and len(name) < 19:
            ways.append(prod_task.c.id == int(name))
        for way in ways:
            query = joined.where(way).order_by(prod_task.c.name).limit(LISTED)
            if found := connection.execute(query).all():
                return [(row.id, row.name) for row in found]
        return []

    def get(self, connection: Connection, key: int, *, lock: bool = False) -> Row | None:
        """Return a task; with ``lock`` nobody else changes it until the transaction ends."""
        return self._tasks.get(connection, key, lock=lock)

    def put(self, connection: Connection, key: int, values: Mapping[str, Any]) -> Row:
        """Write columns of a task and return it."""
        row = self._tasks.update(connection, key, values)
        assert row is not None
        return row

    def dataset(self, connection: Connection, key: int) -> Row:
        """Return a data set."""
        row = self._datasets.get(connection, key)
        assert row is not None
        return row

    def config(self, connection: Connection, key: int) -> Row:
        """Return a production configuration."""
        row = self._configs.get(connection, key)
        assert row is not None
        return row

    def tag(self, connection: Connection, kind: str, key: int) -> Row:
        """Return a tag by its id."""
        row = self._tags[kind].get(connection, key)
        assert row is not None
        return row

    def campaign(self, connection: Connection, key: int | None) -> str:
        """Return the name of a campaign; empty without one."""
        if key is None:
            return ""
        return str(connection.execute(select(campaign.c.name).where(campaign.c.id == key)).scalar_one())

    def locations(self, connection: Connection, dids: Sequence[str]) -> dict[str, str | None]:
        """Return where data sets have their files, by DID; None where nobody said."""
        where = dataset.c.metadata[("source", "location")].astext
        query = select(dataset.c.did, where).where(dataset.c.did.in_(dids))
        return {row[0]: row[1] for row in connection.execute(query)}

    def attempts(self, connection: Connection, task: int) -> list[Row]:
        """Return what was submitted for a task, in order."""
        query = select(attempt).where(attempt.c.prod_task == task).order_by(attempt.c.try_number)
        return [dict(row) for row in connection.execute(query).mappings()]

    def claim_number(self, connection: Connection, number: int) -> None:
        """Let nobody else bind a number of JEDI until the transaction ends."""
        claim(connection, "jedi", number)

    def submitted_as(self, connection: Connection, number: int) -> Row | None:
        """Return the attempt that JEDI knows by a number."""
        found = connection.execute(select(attempt).where(attempt.c.jedi_task_id == number)).mappings().first()
        return None if found is None else dict(found)

    def attempt(self, connection: Connection, key: int) -> Row | None:
        """Return an attempt."""
        found = connection.execute(select(attempt).where(attempt.c.id == key)).mappings().first()
        return None if found is None else dict(found)

    def add_attempt(self, connection: Connection, values: Mapping[str, Any]) -> Row:
        """Store an attempt."""
        statement = insert(attempt).values(dict(values)).returning(*attempt.c)
        return dict(connection.execute(statement).mappings().one())

    def change_attempt(self, connection: Connection, key: int, values: Mapping[str, Any]) -> None:
        """Write columns of an attempt."""
        connection.execute(update(attempt).where(attempt.c.id == key).values(dict(values)))

    def outputs(self, connection: Connection, task: int) -> set[str]:
        """Return the files that attempts of a task have made, as far as somebody has said so."""
        return set(connection.execute(select(task_output.c.name).where(task_output.c.prod_task == task)).scalars())

    def output_dids(self, connection: Connection, task: int) -> list[str]:
        """Return where these files are."""
        query = select(task_output.c.did).where(task_output.c.prod_task == task)
        return list(connection.execute(query.distinct().order_by(task_output.c.did)).scalars())

    def add_outputs(self, connection: Connection, task: int, did: str, files: Sequence[str]) -> int:
        """Store names of files that a task has made; return how many are new."""
        rows = [{"prod_task": task, "name": name, "did": did} for name in sorted(set(files))]
        statement = upsert(task_output).on_conflict_do_nothing().returning(task_output.c.name)
        return len(connection.execute(statement, rows).all())

    def claim_entry(self, connection: Connection, keys: Mapping[str, Any]) -> None:
        """Let nobody else make the task of an entry of the catalogue until the transaction ends."""
        claim(connection, "catalogue", sorted(keys.items()))

    def of_catalogue(self, connection: Connection, keys: Mapping[str, Any]) -> Row | None:
        """Return the task whose overrides have these values."""
        where = prod_task.c.overrides.contains(dict(keys))
        key = connection.execute(select(prod_task.c.id).where(where).order_by(prod_task.c.id).limit(1)).scalar()
        return None if key is None else self.get(connection, key)

    def dataset_called(self, connection: Connection, name: str, block: int) -> int | None:
        """Return the id of a block by the name of its data set."""
        where = (dataset.c.dataset_name == name, dataset.c.block_num == min(block, 2**31 - 1))
        key: int | None = connection.execute(select(dataset.c.id).where(*where)).scalar()
        return key

    def config_called(self, connection: Connection, name: str) -> int | None:
        """Return the id of a production configuration by its name."""
        key: int | None = connection.execute(select(prod_config.c.id).where(prod_config.c.name == name)).scalar()
        return key
