"""Data sets beside what their resource does: composition, blocks, files."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, NamedTuple

from sqlalchemy import Connection, bindparam, insert, select, text, update

from sluice_core.rest import Resource
from sluice_core.rest.store import ResourceStore
from sluice_core.retention import BATCH, deletion
from sluice_pcs.store.claims import claim
from sluice_pcs.tables import dataset, file_report, tags

__all__ = ["DatasetStore", "Report"]

Row = dict[str, Any]
# What a further block takes from the first one; the rest is its own.
OWN = ("id", "block_num", "blocks", "did", "file_count", "data_size", "created_by", "created_at")
SAME = [column.name for column in dataset.c if column.name not in OWN]
_FILL = (
    update(dataset)
    .where(dataset.c.id == bindparam("_id"))
    .values(file_count=dataset.c.file_count + bindparam("files"), data_size=dataset.c.data_size + bindparam("bytes"))
    .returning(dataset.c.did, dataset.c.file_count)
)
_FORGET = deletion((file_report.c.dataset_name, file_report.c.key), file_report.c.created_at)
# The first block stands for all: whoever adds a block or files holds it.
_HOLD = text("SELECT id, blocks FROM dataset WHERE dataset_name = :name AND block_num = 1 FOR NO KEY UPDATE")


class Report(NamedTuple):
    """A report of files that was taken."""

    files: int
    size: int
    answer: Any


class DatasetStore:
    """The ``dataset`` and ``file_report`` tables. Never commits."""

    def __init__(self, resource: Resource) -> None:
        self._rows = ResourceStore(resource)

    def get(self, connection: Connection, key: int) -> Row | None:
        """Return one block."""
        return self._rows.get(connection, key)

    def tag(self, connection: Connection, letter: str, key: int) -> Row | None:
        """Return label and status of a tag by its id; nobody deletes it until the transaction ends."""
        table = tags[letter]
        query = select(table.c.tag_label, table.c.status).where(table.c.id == key).with_for_update(read=True, of=table)
        found = connection.execute(query).mappings().first()
        return None if found is None else dict(found)

    def claim_name(self, connection: Connection, name: str) -> bool:
        """Whether no data set has this name; nobody else claims it until the transaction ends."""
        claim(connection, "dataset", name)
        return connection.execute(select(dataset.c.id).where(dataset.c.dataset_name == name).limit(1)).first() is None

    def hold(self, connection: Connection, name: str) -> int:
        """Let nobody else change the blocks of a data set until the transaction ends; return how many it has."""
        return int(connection.execute(_HOLD, {"name": name}).one().blocks)

    def last_block(self, connection: Connection, name: str) -> Row:
        """Return the last block of a data set that is held."""
        query = select(dataset.c.id, dataset.c.file_count, dataset.c.data_size).where(
            dataset.c.dataset_name == name, dataset.c.block_num == dataset.c.blocks
        )
        return dict(connection.execute(query).mappings().one())

    def add_blocks(
        self, connection: Connection, name: str, blocks: Sequence[Mapping[str, Any]], created_by: str
    ) -> list[int]:
        """Store further blocks of a data set that is held; return their ids.

        Parameters
        ----------
        blocks
            Each with ``block_num``, ``did``, ``file_count`` and ``data_size``.
        """
        first = connection.execute(
            select(*(dataset.c[each] for each in SAME)).where(dataset.c.dataset_name == name, dataset.c.block_num == 1)
        )
        same = dict(first.mappings().one())
        total = blocks[-1]["block_num"]
        rows = [{**same, **each, "blocks": total, "created_by": created_by} for each in blocks]
        keys = connection.execute(insert(dataset).returning(dataset.c.id, sort_by_parameter_order=True), rows).scalars()
        found = list(keys)
        connection.execute(update(dataset).where(dataset.c.dataset_name == name).values(blocks=total))
        return found

    def fill(self, connection: Connection, key: int, files: int, size: int) -> dict[str, Any]:
        """Add files to a block; return its ``did`` and how many files it has now."""
        return dict(connection.execute(_FILL, {"_id": key, "files": files, "bytes": size}).mappings().one())

    def report(self, connection: Connection, name: str, key: str) -> Report | None:
        """Return the report of files that had this key."""
        query = select(file_report.c.files, file_report.c.size, file_report.c.answer).where(
            file_report.c.dataset_name == name, file_report.c.key == key
        )
        found = connection.execute(query).first()
        return None if found is None else Report(*found)

    def keep_report(self, connection: Connection, name: str, key: str, report: Report) -> None:
        """Store a report of files with its key."""
        connection.execute(insert(file_report), {"dataset_name": name, "key": key, **report._asdict()})

    def forget_reports(self, connection: Connection, age: timedelta) -> int:
        """Delete some of the reports that are older; return how many."""
        return connection.execute(_FORGET, {"age": age, "most": BATCH}).rowcount

    def blocks(self, connection: Connection, name: str) -> list[Row]:
        """Return all blocks of a data set in their order."""
        columns = (dataset.c.block_num, dataset.c.did, dataset.c.file_count, dataset.c.data_size)
        query = select(*columns).where(dataset.c.dataset_name == name).order_by(dataset.c.block_num)
        return [dict(row) for row in connection.execute(query).mappings()]

    def find(self, connection: Connection, name: str, block: int) -> Row | None:
        """Return a block of a data set."""
        query = select(dataset.c.id).where(dataset.c.dataset_name == name, dataset.c.block_num == block)
        key = connection.execute(query).scalar()
        return None if key is None else self._rows.get(connection, key)

    def at(self, connection: Connection, kind: str, place: str) -> Row | None:
        """Return the first block of the data set whose files are at a place."""
        source = dataset.c.metadata["source"]
        where = (source["kind"].astext == kind, source["location"].astext == place, dataset.c.block_num == 1)
        key = connection.execute(select(dataset.c.id).where(*where).order_by(dataset.c.id).limit(1)).scalar()
        return None if key is None else self._rows.get(connection, key)

    def claim_place(self, connection: Connection, kind: str, place: str) -> None:
        """Let nobody else take in the data set of a place until the transaction ends."""
        claim(connection, "place", f"{kind}:{place}")

    def labelled(self, connection: Connection, letter: str, label: str) -> int | None:
        """Return the id of a tag by its label."""
        table = tags[letter]
        key: int | None = connection.execute(select(table.c.id).where(table.c.tag_label == label)).scalar()
        return key

    def change(self, connection: Connection, name: str, values: Mapping[str, Any]) -> None:
        """Write columns of all blocks of a data set."""
        connection.execute(update(dataset).where(dataset.c.dataset_name == name).values(dict(values)))
