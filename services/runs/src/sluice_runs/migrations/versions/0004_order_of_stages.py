"""Stages in the order of their workflows."""

from alembic import op
from sqlalchemy import Column, DateTime

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.add_column("workflow_stage", Column("generated_time", DateTime(timezone=True)))
    op.execute(
        "UPDATE workflow_stage SET generated_time = workflow.generated_time FROM workflow "
        "WHERE workflow.workflow_id = workflow_stage.workflow_id"
    )
    op.alter_column("workflow_stage", "generated_time", nullable=False)
    op.drop_index("workflow_stage_created", "workflow_stage")
    op.create_index("ix_workflow_stage_generated_time", "workflow_stage", ["generated_time"])
