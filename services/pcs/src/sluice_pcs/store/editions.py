"""Physics configurations, and their editions in campaigns (contract 10.3)."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, insert, select, text

from sluice_core.rest import Resource
from sluice_core.rest.store import ResourceStore
from sluice_pcs.store.numbers import Numbers
from sluice_pcs.tables import USES, dataset, physics_config, prod_task, tags

__all__ = ["CARRIED", "EditionStore"]

Row = dict[str, Any]
COUNTER = "physics_config"
CARRIED = ("prod_config", "requestor", "priority", *USES, "csv_file", "description")
"""What a task of the next campaign takes from the one before."""
_IDENTITY = text(
    """
    SELECT physics_config_key(p.tag_label, e.parameters, k.tag_label, :sample_name) AS config_key,
        left(concat_ws(' ', e.parameters ->> 'generator', e.parameters ->> 'generator_version',
            'radiative ' || nullif(e.parameters ->> 'radiative', '')), 300) AS evgen_display
    FROM physics_tag AS p CROSS JOIN evgen_tag AS e
    LEFT JOIN background_tag AS k ON k.id = CAST(:background_tag AS bigint)
    WHERE p.id = :physics_tag AND e.id = :evgen_tag
    """
)


class EditionStore:
    """The ``physics_config`` table, and data sets as editions of its rows. Never commits.

    Parameters
    ----------
    configs
        The resource of physics configurations, read by label.
    """

    def __init__(self, configs: Resource) -> None:
        self._configs = ResourceStore(configs)

    def config_of(self, connection: Connection, values: Mapping[str, Any]) -> tuple[int | None, bool]:
        """Return the configuration that a data set is an edition of, and whether it is new.

        Parameters
        ----------
        values
            Columns of the data set.

        Returns
        -------
        tuple
            The id; None where the tag of event generation names no generator and version.
        """
        parts = {"background_tag": None, "sample_name": "", **values}
        key, display = connection.execute(_IDENTITY, parts).one()
        if key is None:
            return None, False
        known = select(physics_config.c.id).where(physics_config.c.config_key == key)
        if (found := connection.execute(known).scalar()) is not None:
            return found, False
        numbers = Numbers(connection)
        # Whoever makes one is alone from here on; he before us may have made this one.
        numbers.at_least(COUNTER)
        if (found := connection.execute(known).scalar()) is not None:
            return found, False
        new = {
            "label": f"pc{numbers.take(COUNTER)}",
            "config_key": key,
            "evgen_display": display,
            "requestors": [],
            **{name: parts[name] for name in ("physics_tag", "background_tag", "sample_name")},
        }
        made: int = connection.execute(insert(physics_config).values(new).returning(physics_config.c.id)).scalar_one()
        return made, True

    def get(self, connection: Connection, label: str, *, lock: bool = False) -> Row | None:
        """Return a configuration by its label."""
        return self._configs.get(connection, label, lock=lock)

    def label_of(self, connection: Connection, key: int) -> str:
        """Return the label of a configuration by its id."""
        return str(connection.execute(select(physics_config.c.label).where(physics_config.c.id == key)).scalar_one())

    def put(self, connection: Connection, label: str, values: Mapping[str, Any]) -> Row:
        """Write columns of a configuration and return it."""
        row = self._configs.update(connection, label, values)
        assert row is not None
        return row

    def editions(self, connection: Connection, campaign: int) -> list[Row]:
        """Return the data sets of a campaign, each once, oldest first, with the labels that they are composed of."""
        label = physics_config.c.label.label("config")
        labels = [tags[letter].c.tag_label.label(letter) for letter in ("p", "e", "k")]
        query = (
            select(dataset, label, *labels)
            .outerjoin(physics_config, physics_config.c.id == dataset.c.physics_config)
            .join(tags["p"], tags["p"].c.id == dataset.c.physics_tag)
            .join(tags["e"], tags["e"].c.id == dataset.c.evgen_tag)
            .outerjoin(tags["k"], tags["k"].c.id == dataset.c.background_tag)
            .where(dataset.c.campaign == campaign, dataset.c.block_num == 1)
            .order_by(dataset.c.id)
        )
        return [dict(row) for row in connection.execute(query).mappings()]

    def tasks(self, connection: Connection, campaign: int) -> list[Row]:
        """Return what the tasks over the data sets of a campaign hand on, with ``dataset_name`` and ``name``."""
        columns = [prod_task.c[name] for name in CARRIED]
        query = select(dataset.c.dataset_name, prod_task.c.name, *columns).join(
            prod_task, prod_task.c.dataset == dataset.c.id
        )
        found = connection.execute(query.where(dataset.c.campaign == campaign).order_by(prod_task.c.id))
        return [dict(row) for row in found.mappings()]

    def taken(self, connection: Connection, names: Sequence[str]) -> set[str]:
        """Return which of these names data sets or tasks have."""
        named = select(dataset.c.dataset_name).where(dataset.c.dataset_name.in_(names), dataset.c.block_num == 1)
        called = select(prod_task.c.name).where(prod_task.c.name.in_(names))
        return set(connection.execute(named.union(called)).scalars())

    def labelled(self, connection: Connection, letter: str, label: str) -> tuple[int, str] | None:
        """Return id and status of a tag by its label."""
        table = tags[letter]
        found = connection.execute(select(table.c.id, table.c.status).where(table.c.tag_label == label)).first()
        return None if found is None else (found.id, found.status)
