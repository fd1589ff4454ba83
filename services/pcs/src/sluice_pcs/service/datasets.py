"""Data sets: composition of locked tags, blocks, files (contract 5.4, decision 22)."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection

from sluice_core.auth import Identity
from sluice_core.database import Database
from sluice_core.rest import ApiError, Attempt, Resource
from sluice_core.rest.errors import not_found
from sluice_pcs.events import Events
from sluice_pcs.kinds import KINDS
from sluice_pcs.service import names
from sluice_pcs.service.rights import claim
from sluice_pcs.store.datasets import DatasetStore, Report
from sluice_pcs.store.editions import EditionStore

__all__ = ["FILES_PER_BLOCK", "MOST_BYTES", "MOST_FILES", "Datasets"]

Row = dict[str, Any]
# What Rucio takes in one data set.
FILES_PER_BLOCK = 100_000
# Files of one report: a hundred blocks.
MOST_FILES = 10_000_000
# Bytes of one report, and of a block, which a column of 64 bits holds.
MOST_BYTES = 2**53
MOST_BLOCK_BYTES = 2**63 - 1
LONGEST_DID = 300


class Datasets:
    """Data sets, each with its blocks.

    Parameters
    ----------
    configs
        The resource of physics configurations, read by label.
    require_locked
        Refuse drafts in a data set.
    """

    def __init__(
        self,
        database: Database,
        resource: Resource,
        configs: Resource,
        events: Events,
        *,
        require_locked: bool = True,
    ) -> None:
        self._database = database
        self._editions = EditionStore(configs)
        self._events = events
        self._require_locked = require_locked
        self.store = DatasetStore(resource)
        self.resource = replace(resource, prepare=self._prepare, on_change=events.following("dataset", "dataset_name"))

    async def add_block(self, key: int, created_by: str | None) -> Row:
        """Open a further block of the data set that a block belongs to; return it.

        Parameters
        ----------
        key
            Id of any block.
        created_by
            Of the new block; None: that of the block with this id.

        Raises
        ------
        ApiError
            404.
        """

        def work(connection: Connection) -> Row:
            row = self._found(connection, key)
            name = row["dataset_name"]
            number = self.store.hold(connection, name) + 1
            block = {"block_num": number, "did": names.did(row["scope"], name, number)}
            empty = {**block, "file_count": 0, "data_size": 0}
            (added,) = self.store.add_blocks(connection, name, [empty], created_by or row["created_by"])
            new = self._found(connection, added)
            self._events.say(connection, "dataset", "block-added", name, new)
            return new

        return await self._database.run(self._database.transact, work)

    async def add_files(self, key: int, count: int, size: int, request: str | None, caller: Identity) -> list[Row]:
        """Account for files: fill the last block, and open further ones where it is full.

        Parameters
        ----------
        key
            Id of any block.
        count, size
            Files, and their bytes together; blocks share the bytes as they share the files.
        request
            Key of the report: one that comes again is answered as before, and changes nothing.

        Returns
        -------
        list
            ``did`` and ``file_count`` of each block that got some.

        Raises
        ------
        ApiError
            404; 409: another report had this key.
        """

        def work(connection: Connection) -> list[Row]:
            row = self._found(connection, key)
            name, scope = row["dataset_name"], row["scope"]
            number = self.store.hold(connection, name)
            if request is not None and (known := self.store.report(connection, name, request)) is not None:
                if (known.files, known.size) != (count, size):
                    raise ApiError(409, {"detail": "Another report had this key."})
                return list(known.answer)
            last = self.store.last_block(connection, name)
            touched: list[Row] = []
            files, left = count, size
            if room := min(files, FILES_PER_BLOCK - last["file_count"]):
                share = left * room // files
                if last["data_size"] + share > MOST_BLOCK_BYTES:
                    raise ApiError(409, {"detail": "The last block has no room for so many bytes."})
                touched.append(self.store.fill(connection, last["id"], room, share))
                files, left = files - room, left - share
            added = []
            while files:
                room = min(files, FILES_PER_BLOCK)
                share = left * room // files
                number += 1
                did = names.did(scope, name, number)
                added.append({"block_num": number, "did": did, "file_count": room, "data_size": share})
                files, left = files - room, left - share
            if added:
                self.store.add_blocks(connection, name, added, row["created_by"])
                touched += [{"did": each["did"], "file_count": each["file_count"]} for each in added]
            if request is not None:
                self.store.keep_report(connection, name, request, Report(files=count, size=size, answer=touched))
            event = {"dataset_name": name, "count": count, "bytes": size, "blocks": touched, "by": caller.subject}
            self._events.say(connection, "dataset", "files-added", name, event)
            return touched

        return await self._database.run(self._database.transact, work)

    async def manifest(self, key: int) -> dict[str, Any]:
        """Return what a data set is made of, with totals.

        Raises
        ------
        ApiError
            404.
        """

        def work(connection: Connection) -> dict[str, Any]:
            row = self._found(connection, key)
            blocks = self.store.blocks(connection, row["dataset_name"])
            return {
                "dataset_name": row["dataset_name"],
                "scope": row["scope"],
                "detector_version": row["detector_version"],
                "detector_config": row["detector_config"],
                "tags": {kind.name: row[f"{kind.name}_tag_label"] for kind in KINDS},
                "blocks": len(blocks),
                "file_count": sum(block["file_count"] for block in blocks),
                "data_size": sum(block["data_size"] for block in blocks),
                "files": blocks,
            }

        return await self._database.run(self._database.read, work)

    async def find(self, text: str) -> Row:
        """Return the block that a DID names; the first one for a name without a block.

        Raises
        ------
        ApiError
            404.
        """
        parsed = names.parse(text)
        scope, _, name = text.rpartition(":")

        def work(connection: Connection) -> Row | None:
            row = self.store.find(connection, parsed.base, min(parsed.block or 1, 2**31 - 1))
            return row if row is not None and scope in ("", row["scope"]) else None

        row: Row | None = None
        # Suffixes in another order, or twice, name nothing.
        if parsed.written == name and "\x00" not in text:
            row = await self._database.run(self._database.read, work)
        if row is None:
            raise ApiError(404, {"detail": "No dataset has this DID."})
        return row

    def forget(self, age: timedelta) -> int:
        """Delete some of the reports of files that are older; return how many."""
        return self._database.transact(lambda connection: self.store.forget_reports(connection, age))

    def _prepare(self, connection: Connection, attempt: Attempt) -> None:
        claim(connection, attempt)
        values, errors = attempt.values, attempt.errors
        for message in _metadata_complaints(values.get("metadata")):
            errors.setdefault("metadata", []).append(message)
        sample = values.get("sample_name", "")
        if sample and (complaint := names.sample_complaint(sample)):
            errors["sample_name"] = [complaint]
        labels = self._labels(connection, values, errors)
        if errors:
            return
        parts = (values["scope"], values["detector_version"], values["detector_config"])
        name = names.compose(*parts, labels, sample)
        did = names.did(values["scope"], name, 1)
        if len(name) > names.MOST_CHARACTERS:
            errors["dataset_name"] = [f"Ensure this field has no more than {names.MOST_CHARACTERS} characters."]
        elif len(did) > LONGEST_DID:
            errors["did"] = [f"Ensure this field has no more than {LONGEST_DID} characters."]
        elif not self.store.claim_name(connection, name):
            raise ApiError(409, {"detail": f"Dataset {name} exists already."})
        if not errors:
            values.update(dataset_name=name, did=did, physics_config=self._config(connection, values))

    def _config(self, connection: Connection, values: Mapping[str, Any]) -> int | None:
        """Return the id of the physics configuration that a new data set is an edition of (contract 10.3)."""
        key, new = self._editions.config_of(connection, values)
        if new and key is not None:
            label = self._editions.label_of(connection, key)
            self._events.say(connection, "physics-config", "created", label, self._editions.get(connection, label))
        return key

    def _labels(self, connection: Connection, values: Mapping[str, Any], errors: dict[str, list[str]]) -> list[str]:
        """Return the labels of the tags, and note the ones that do not exist, or else the first that is a draft."""
        found = []
        for kind in KINDS:
            field = f"{kind.name}_tag"
            if values.get(field) is None:
                continue
            tag = self.store.tag(connection, kind.letter, values[field])
            if tag is None:
                errors[field] = [f'Invalid pk "{values[field]}" - object does not exist.']
                continue
            found.append((field, tag))
        if not errors and self._require_locked:
            for field, tag in found:
                if tag["status"] != "locked":
                    errors[field] = [f"Tag {tag['tag_label']} must be locked before use in a dataset."]
                    break
        return [tag["tag_label"] for _, tag in found]

    def _found(self, connection: Connection, key: int) -> Row:
        row = self.store.get(connection, key)
        if row is None:
            raise not_found("Dataset")
        return row


def _metadata_complaints(metadata: Any) -> list[str]:
    """Say what is wrong with where the files of an external data set are (contract 10.2)."""
    if not isinstance(metadata, dict):
        return []  # contract 2.3: any JSON
    found = []
    if "external" in metadata:
        found.append("metadata.external is obsolete; external status is derived from metadata.source.kind.")
    if "source" not in metadata:
        return found
    source = metadata["source"]
    if not isinstance(source, dict):
        return [*found, "metadata.source must be a JSON object."]
    if not source.get("kind"):
        found.append("external datasets require metadata.source.kind.")
    elif source["kind"] not in ("csv_manifest", "path", "url", "rucio_did", "file_list"):
        found.append("metadata.source.kind must be one of: csv_manifest, path, url, rucio_did, file_list.")
    if not source.get("location") or not isinstance(source["location"], str):
        found.append("external datasets require metadata.source.location.")
    return found
