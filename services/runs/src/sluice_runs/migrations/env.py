from sluice_core.database.alembic_env import run

run()
