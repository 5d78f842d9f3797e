"""Run by Alembic at every migration."""

from alembic import context

from lib.store.tables import store_version

context.configure(connection=context.config.attributes["connection"], version_table=store_version.name)
context.run_migrations()
