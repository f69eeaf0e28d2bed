"""The first tables"""

import sqlalchemy as sa
from alembic import op

revision = '0001'
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table('acknowledgments',
    sa.Column('run', sa.String(), nullable=False),
    sa.Column('ordinal', sa.Integer(), nullable=False),
    sa.Column('attempt', sa.Integer(), nullable=False),
    sa.Column('org', sa.String(), nullable=False),
    sa.Column('success', sa.Boolean(), nullable=False),
    sa.Column('result', sa.Text(), nullable=False),
    sa.Column('accumulator', sa.Text(), nullable=False),
    sa.Column('text', sa.Text(), nullable=False),
    sa.Column('by', sa.String(), nullable=False),
    sa.Column('at', sa.BigInteger(), nullable=False),
    sa.PrimaryKeyConstraint('run', 'ordinal', 'attempt')
    )
    op.create_table('admissions',
    sa.Column('org', sa.String(), nullable=False),
    sa.Column('gateway', sa.String(), nullable=False),
    sa.Column('mark', sa.String(), nullable=False),
    sa.Column('next_token', sa.String(), nullable=True),
    sa.Column('must_prove', sa.Boolean(), nullable=False),
    sa.Column('ended_session', sa.String(), nullable=True),
    sa.Column('refused_code', sa.String(), nullable=True),
    sa.Column('refused_at', sa.BigInteger(), nullable=True),
    sa.Column('awaited', sa.Boolean(), nullable=False),
    sa.PrimaryKeyConstraint('org', 'gateway')
    )
    with op.batch_alter_table('admissions', schema=None) as batch_op:
        batch_op.create_index('admissions_awaited', ['org', 'gateway'], unique=False, sqlite_where=sa.text('awaited'), postgresql_where=sa.text('awaited'))
        batch_op.create_index('admissions_to_tell', ['org', 'gateway'], unique=False, sqlite_where=sa.text('ended_session IS NOT NULL'), postgresql_where=sa.text('ended_session IS NOT NULL'))

    op.create_table('artifacts',
    sa.Column('org', sa.String(), nullable=False),
    sa.Column('name', sa.String(), nullable=False),
    sa.Column('sha256', sa.String(), nullable=False),
    sa.Column('size', sa.BigInteger(), nullable=False),
    sa.Column('media_type', sa.String(), nullable=False),
    sa.Column('image_version', sa.String(), nullable=True),
    sa.Column('image_hash', sa.String(), nullable=True),
    sa.Column('created_at', sa.BigInteger(), nullable=False),
    sa.Column('created_by', sa.String(), nullable=False),
    sa.PrimaryKeyConstraint('org', 'name')
    )
    with op.batch_alter_table('artifacts', schema=None) as batch_op:
        batch_op.create_index(batch_op.f('ix_artifacts_sha256'), ['sha256'], unique=False)

    op.create_table('attempts',
    sa.Column('run', sa.String(), nullable=False),
    sa.Column('ordinal', sa.Integer(), nullable=False),
    sa.Column('attempt', sa.Integer(), nullable=False),
    sa.Column('org', sa.String(), nullable=False),
    sa.Column('gateway', sa.String(), nullable=False),
    sa.Column('journal', sa.String(), nullable=False),
    sa.Column('status', sa.String(), nullable=False),
    sa.Column('revision', sa.Integer(), nullable=False),
    sa.Column('begun', sa.Boolean(), nullable=False),
    sa.Column('offered_at', sa.BigInteger(), nullable=False),
    sa.Column('started_at', sa.BigInteger(), nullable=True),
    sa.Column('ended_at', sa.BigInteger(), nullable=True),
    sa.Column('failure_code', sa.String(), nullable=True),
    sa.Column('failure_text', sa.Text(), nullable=True),
    sa.Column('snapshot', sa.Text(), nullable=True),
    sa.Column('late', sa.Text(), nullable=True),
    sa.Column('late_revision', sa.BigInteger(), nullable=True),
    sa.PrimaryKeyConstraint('run', 'ordinal', 'attempt')
    )
    op.create_table('audit',
    sa.Column('number', sa.Integer(), nullable=False),
    sa.Column('org', sa.String(), nullable=False),
    sa.Column('at', sa.BigInteger(), nullable=False),
    sa.Column('by', sa.String(), nullable=False),
    sa.Column('by_name', sa.String(), nullable=False),
    sa.Column('action', sa.String(), nullable=False),
    sa.Column('subject', sa.String(), nullable=False),
    sa.Column('detail', sa.Text(), nullable=False),
    sa.PrimaryKeyConstraint('number')
    )
    with op.batch_alter_table('audit', schema=None) as batch_op:
        batch_op.create_index('audit_by_org', ['org', 'number'], unique=False)
        batch_op.create_index('audit_by_subject', ['org', 'subject', 'number'], unique=False)

    op.create_table('authorities',
    sa.Column('org', sa.String(), nullable=False),
    sa.Column('certificate', sa.Text(), nullable=False),
    sa.Column('sealed_key', sa.Text(), nullable=False),
    sa.Column('created_at', sa.BigInteger(), nullable=False),
    sa.PrimaryKeyConstraint('org')
    )
    op.create_table('calls',
    sa.Column('run', sa.String(), nullable=False),
    sa.Column('key', sa.String(), nullable=False),
    sa.Column('org', sa.String(), nullable=False),
    sa.Column('ordinal', sa.Integer(), nullable=False),
    sa.Column('attempt', sa.Integer(), nullable=False),
    sa.Column('step', sa.String(), nullable=False),
    sa.Column('verb', sa.String(), nullable=False),
    sa.Column('result', sa.Text(), nullable=False),
    sa.Column('at', sa.BigInteger(), nullable=False),
    sa.PrimaryKeyConstraint('run', 'key')
    )
    op.create_table('certificates',
    sa.Column('org', sa.String(), nullable=False),
    sa.Column('serial', sa.String(), nullable=False),
    sa.Column('device', sa.String(), nullable=False),
    sa.Column('fingerprint', sa.String(), nullable=False),
    sa.Column('not_before', sa.BigInteger(), nullable=False),
    sa.Column('not_after', sa.BigInteger(), nullable=False),
    sa.Column('issued_at', sa.BigInteger(), nullable=False),
    sa.Column('committed_at', sa.BigInteger(), nullable=True),
    sa.Column('retired_at', sa.BigInteger(), nullable=True),
    sa.Column('revoked_at', sa.BigInteger(), nullable=True),
    sa.Column('run', sa.String(), nullable=False),
    sa.Column('ordinal', sa.Integer(), nullable=False),
    sa.Column('attempt', sa.Integer(), nullable=False),
    sa.Column('step', sa.String(), nullable=False),
    sa.PrimaryKeyConstraint('org', 'serial')
    )
    with op.batch_alter_table('certificates', schema=None) as batch_op:
        batch_op.create_index('certificates_by_device', ['org', 'device', 'issued_at'], unique=False)
        batch_op.create_index('certificates_by_fingerprint', ['org', 'fingerprint'], unique=False)

    op.create_table('contacts',
    sa.Column('org', sa.String(), nullable=False),
    sa.Column('id', sa.String(), nullable=False),
    sa.Column('name', sa.String(), nullable=False),
    sa.Column('type', sa.String(), nullable=False),
    sa.Column('email', sa.String(), nullable=False),
    sa.Column('phone', sa.String(), nullable=False),
    sa.Column('tags', sa.Text(), nullable=False),
    sa.Column('attributes', sa.Text(), nullable=False),
    sa.Column('created_at', sa.BigInteger(), nullable=False),
    sa.Column('updated_at', sa.BigInteger(), nullable=False),
    sa.PrimaryKeyConstraint('org', 'id')
    )
    op.create_table('data_rows',
    sa.Column('org', sa.String(), nullable=False),
    sa.Column('of_table', sa.String(), nullable=False),
    sa.Column('key', sa.BigInteger(), nullable=False),
    sa.Column('data', sa.Text(), nullable=False),
    sa.Column('updated_at', sa.BigInteger(), nullable=False),
    sa.PrimaryKeyConstraint('org', 'of_table', 'key')
    )
    op.create_table('data_tables',
    sa.Column('org', sa.String(), nullable=False),
    sa.Column('id', sa.String(), nullable=False),
    sa.Column('name', sa.String(), nullable=False),
    sa.Column('columns', sa.Text(), nullable=False),
    sa.Column('next_key', sa.BigInteger(), nullable=False),
    sa.Column('created_at', sa.BigInteger(), nullable=False),
    sa.Column('updated_at', sa.BigInteger(), nullable=False),
    sa.PrimaryKeyConstraint('org', 'id')
    )
    op.create_table('deleted_jobs',
    sa.Column('org', sa.String(), nullable=False),
    sa.Column('job', sa.String(), nullable=False),
    sa.Column('upto', sa.BigInteger(), nullable=False),
    sa.Column('at', sa.BigInteger(), nullable=False),
    sa.Column('by', sa.String(), nullable=False),
    sa.PrimaryKeyConstraint('org', 'job')
    )
    op.create_table('deleted_runs',
    sa.Column('run', sa.String(), nullable=False),
    sa.Column('org', sa.String(), nullable=False),
    sa.Column('job', sa.String(), nullable=False),
    sa.Column('at', sa.BigInteger(), nullable=False),
    sa.Column('swept', sa.Boolean(), nullable=False),
    sa.PrimaryKeyConstraint('run')
    )
    with op.batch_alter_table('deleted_runs', schema=None) as batch_op:
        batch_op.create_index('deleted_runs_to_sweep', ['at'], unique=False, sqlite_where=sa.text('NOT swept'), postgresql_where=sa.text('NOT swept'))

    op.create_table('device_claims',
    sa.Column('org', sa.String(), nullable=False),
    sa.Column('device', sa.String(), nullable=False),
    sa.Column('gateway', sa.String(), nullable=False),
    sa.Column('inventory', sa.Text(), nullable=False),
    sa.Column('at', sa.BigInteger(), nullable=False),
    sa.PrimaryKeyConstraint('org', 'device', 'gateway')
    )
    with op.batch_alter_table('device_claims', schema=None) as batch_op:
        batch_op.create_index('device_claims_by_gateway', ['org', 'gateway'], unique=False)

    op.create_table('device_samples',
    sa.Column('org', sa.String(), nullable=False),
    sa.Column('device', sa.String(), nullable=False),
    sa.Column('at', sa.BigInteger(), nullable=False),
    sa.Column('source', sa.String(), nullable=False),
    sa.Column('number', sa.BigInteger(), nullable=False),
    sa.Column('link', sa.String(), nullable=False),
    sa.Column('state', sa.Text(), nullable=False),
    sa.PrimaryKeyConstraint('org', 'device', 'at', 'source', 'number')
    )
    with op.batch_alter_table('device_samples', schema=None) as batch_op:
        batch_op.create_index('device_samples_by_time', ['org', 'at'], unique=False)

    op.create_table('devices',
    sa.Column('org', sa.String(), nullable=False),
    sa.Column('id', sa.String(), nullable=False),
    sa.Column('gateway', sa.String(), nullable=True),
    sa.Column('type', sa.String(), nullable=False),
    sa.Column('name', sa.String(), nullable=False),
    sa.Column('driver', sa.String(), nullable=False),
    sa.Column('address', sa.Text(), nullable=False),
    sa.Column('bus', sa.Text(), server_default='', nullable=False),
    sa.Column('link', sa.String(), nullable=False),
    sa.Column('tags', sa.Text(), nullable=False),
    sa.Column('attributes', sa.Text(), nullable=False),
    sa.Column('edits', sa.Text(), server_default='{}', nullable=False),
    sa.Column('state', sa.Text(), nullable=False),
    sa.Column('state_at', sa.BigInteger(), nullable=True),
    sa.Column('state_marks', sa.Text(), server_default='{}', nullable=False),
    sa.Column('held_by', sa.String(), nullable=True),
    sa.Column('last_heard_at', sa.BigInteger(), nullable=True),
    sa.Column('created_at', sa.BigInteger(), nullable=False),
    sa.PrimaryKeyConstraint('org', 'id')
    )
    with op.batch_alter_table('devices', schema=None) as batch_op:
        batch_op.create_index('devices_by_gateway', ['org', 'gateway'], unique=False)

    op.create_table('gateway_drains',
    sa.Column('operation', sa.String(), nullable=False),
    sa.Column('run', sa.String(), nullable=False),
    sa.Column('ordinal', sa.Integer(), nullable=False),
    sa.Column('attempt', sa.Integer(), nullable=False),
    sa.PrimaryKeyConstraint('operation', 'run', 'ordinal', 'attempt')
    )
    op.create_table('gateway_profiles',
    sa.Column('org', sa.String(), nullable=False),
    sa.Column('gateway', sa.String(), nullable=False),
    sa.Column('name', sa.String(), nullable=False),
    sa.Column('sha256', sa.String(), nullable=True),
    sa.Column('size', sa.BigInteger(), nullable=False),
    sa.Column('before_sha256', sa.String(), nullable=True),
    sa.Column('before_size', sa.BigInteger(), nullable=False),
    sa.Column('state', sa.String(), nullable=False),
    sa.Column('problem', sa.Text(), nullable=False),
    sa.Column('watch', sa.String(), nullable=True),
    sa.Column('wanted_at', sa.BigInteger(), nullable=False),
    sa.PrimaryKeyConstraint('org', 'gateway', 'name')
    )
    with op.batch_alter_table('gateway_profiles', schema=None) as batch_op:
        batch_op.create_index('gateway_profiles_watched', ['watch'], unique=False, sqlite_where=sa.text('watch IS NOT NULL'), postgresql_where=sa.text('watch IS NOT NULL'))

    op.create_table('gateways',
    sa.Column('org', sa.String(), nullable=False),
    sa.Column('id', sa.String(), nullable=False),
    sa.Column('name', sa.String(), nullable=False),
    sa.Column('token_hash', sa.String(), nullable=False),
    sa.Column('type', sa.String(), nullable=False),
    sa.Column('tags', sa.Text(), nullable=False),
    sa.Column('attributes', sa.Text(), nullable=False),
    sa.Column('created_at', sa.BigInteger(), nullable=False),
    sa.Column('journal', sa.String(), nullable=True),
    sa.Column('instance', sa.String(), nullable=True),
    sa.Column('session', sa.String(), nullable=True),
    sa.Column('session_at', sa.BigInteger(), nullable=True),
    sa.Column('previous_instance', sa.String(), nullable=True),
    sa.Column('conflict_at', sa.BigInteger(), nullable=True),
    sa.Column('digest_misses', sa.Integer(), nullable=False),
    sa.Column('foreign_devices', sa.Integer(), nullable=False),
    sa.Column('last_heard_at', sa.BigInteger(), nullable=True),
    sa.Column('version', sa.String(), nullable=False),
    sa.Column('verbs', sa.Text(), nullable=False),
    sa.Column('health', sa.Text(), nullable=False),
    sa.Column('dropped', sa.Text(), nullable=False),
    sa.Column('stop', sa.String(), server_default='', nullable=False),
    sa.Column('stop_run', sa.String(), nullable=True),
    sa.Column('takes_profiles', sa.Boolean(), server_default=sa.text('(false)'), nullable=False),
    sa.PrimaryKeyConstraint('org', 'id'),
    sa.UniqueConstraint('token_hash')
    )
    op.create_table('group_members',
    sa.Column('org', sa.String(), nullable=False),
    sa.Column('of_group', sa.String(), nullable=False),
    sa.Column('member', sa.String(), nullable=False),
    sa.PrimaryKeyConstraint('org', 'of_group', 'member')
    )
    with op.batch_alter_table('group_members', schema=None) as batch_op:
        batch_op.create_index('groups_by_member', ['org', 'member'], unique=False)

    op.create_table('groups',
    sa.Column('org', sa.String(), nullable=False),
    sa.Column('id', sa.String(), nullable=False),
    sa.Column('name', sa.String(), nullable=False),
    sa.Column('type', sa.String(), nullable=False),
    sa.Column('resource', sa.String(), nullable=False),
    sa.Column('query', sa.Text(), nullable=True),
    sa.Column('tags', sa.Text(), nullable=False),
    sa.Column('attributes', sa.Text(), nullable=False),
    sa.Column('created_at', sa.BigInteger(), nullable=False),
    sa.Column('updated_at', sa.BigInteger(), nullable=False),
    sa.PrimaryKeyConstraint('org', 'id')
    )
    op.create_table('holds',
    sa.Column('org', sa.String(), nullable=False),
    sa.Column('kind', sa.String(), nullable=False),
    sa.Column('id', sa.String(), nullable=False),
    sa.Column('reason', sa.Text(), nullable=False),
    sa.Column('until', sa.BigInteger(), nullable=True),
    sa.Column('by', sa.String(), nullable=False),
    sa.Column('at', sa.BigInteger(), nullable=False),
    sa.PrimaryKeyConstraint('org', 'kind', 'id')
    )
    op.create_table('instance',
    sa.Column('id', sa.Integer(), nullable=False),
    sa.Column('incarnation', sa.String(), nullable=False),
    sa.Column('recovering', sa.Boolean(), nullable=False),
    sa.Column('restored_at', sa.BigInteger(), nullable=True),
    sa.Column('link_key', sa.String(), nullable=False),
    sa.Column('created_at', sa.BigInteger(), nullable=False),
    sa.PrimaryKeyConstraint('id')
    )
    op.create_table('job_references',
    sa.Column('org', sa.String(), nullable=False),
    sa.Column('job', sa.String(), nullable=False),
    sa.Column('place', sa.String(), nullable=False),
    sa.Column('kind', sa.String(), nullable=False),
    sa.Column('target', sa.String(), nullable=False),
    sa.PrimaryKeyConstraint('org', 'job', 'place')
    )
    with op.batch_alter_table('job_references', schema=None) as batch_op:
        batch_op.create_index('job_references_to', ['org', 'target'], unique=False)

    op.create_table('jobs',
    sa.Column('org', sa.String(), nullable=False),
    sa.Column('id', sa.String(), nullable=False),
    sa.Column('name', sa.String(), nullable=False),
    sa.Column('description', sa.Text(), nullable=False),
    sa.Column('type', sa.String(), nullable=False),
    sa.Column('resource', sa.String(), nullable=False),
    sa.Column('system', sa.Boolean(), nullable=False),
    sa.Column('document', sa.Text(), nullable=False),
    sa.Column('revision', sa.Integer(), nullable=False),
    sa.Column('created_at', sa.BigInteger(), nullable=False),
    sa.Column('updated_at', sa.BigInteger(), nullable=False),
    sa.Column('created_by', sa.String(), nullable=False),
    sa.Column('last_run', sa.String(), nullable=True),
    sa.Column('last_run_at', sa.BigInteger(), nullable=True),
    sa.Column('paused_at', sa.BigInteger(), nullable=True),
    sa.Column('paused_by', sa.String(), nullable=False),
    sa.PrimaryKeyConstraint('org', 'id')
    )
    op.create_table('leases',
    sa.Column('name', sa.String(), nullable=False),
    sa.Column('holder', sa.String(), nullable=False),
    sa.Column('term', sa.BigInteger(), nullable=False),
    sa.Column('until', sa.BigInteger(), nullable=False),
    sa.PrimaryKeyConstraint('name')
    )
    op.create_table('orgs',
    sa.Column('id', sa.String(), nullable=False),
    sa.Column('name', sa.String(), nullable=False),
    sa.Column('created_at', sa.BigInteger(), nullable=False),
    sa.PrimaryKeyConstraint('id')
    )
    op.create_table('profile_sets',
    sa.Column('org', sa.String(), nullable=False),
    sa.Column('gateway', sa.String(), nullable=False),
    sa.Column('revision', sa.BigInteger(), nullable=False),
    sa.Column('answered', sa.BigInteger(), nullable=False),
    sa.Column('send_at', sa.BigInteger(), nullable=False),
    sa.PrimaryKeyConstraint('org', 'gateway')
    )
    with op.batch_alter_table('profile_sets', schema=None) as batch_op:
        batch_op.create_index('profile_sets_to_send', ['send_at'], unique=False, sqlite_where=sa.text('answered < revision'), postgresql_where=sa.text('answered < revision'))

    op.create_table('refused',
    sa.Column('org', sa.String(), nullable=False),
    sa.Column('gateway', sa.String(), nullable=False),
    sa.Column('task', sa.String(), nullable=False),
    sa.Column('attempt', sa.BigInteger(), nullable=False),
    sa.Column('code', sa.String(), nullable=False),
    sa.Column('revision', sa.BigInteger(), nullable=False),
    sa.Column('detail', sa.Text(), nullable=False),
    sa.Column('raw', sa.Text(), nullable=False),
    sa.Column('at', sa.BigInteger(), nullable=False),
    sa.PrimaryKeyConstraint('org', 'gateway', 'task', 'attempt')
    )
    op.create_table('retired_journals',
    sa.Column('org', sa.String(), nullable=False),
    sa.Column('gateway', sa.String(), nullable=False),
    sa.Column('journal', sa.String(), nullable=False),
    sa.Column('at', sa.BigInteger(), nullable=False),
    sa.PrimaryKeyConstraint('org', 'gateway', 'journal')
    )
    op.create_table('run_bodies',
    sa.Column('run', sa.String(), nullable=False),
    sa.Column('name', sa.String(), nullable=False),
    sa.Column('hash', sa.String(), nullable=False),
    sa.Column('body', sa.Text(), nullable=False),
    sa.PrimaryKeyConstraint('run', 'name')
    )
    op.create_table('run_counts',
    sa.Column('run', sa.String(), nullable=False),
    sa.Column('shard', sa.Integer(), nullable=False),
    sa.Column('scheduled', sa.Integer(), nullable=False),
    sa.Column('offered', sa.Integer(), nullable=False),
    sa.Column('accepted', sa.Integer(), nullable=False),
    sa.Column('running', sa.Integer(), nullable=False),
    sa.Column('awaiting', sa.Integer(), nullable=False),
    sa.Column('rescheduled', sa.Integer(), nullable=False),
    sa.Column('succeeded', sa.Integer(), nullable=False),
    sa.Column('failed', sa.Integer(), nullable=False),
    sa.Column('timed_out', sa.Integer(), nullable=False),
    sa.Column('cancelled', sa.Integer(), nullable=False),
    sa.Column('progress', sa.BigInteger(), nullable=False),
    sa.Column('stranded', sa.Integer(), nullable=False),
    sa.PrimaryKeyConstraint('run', 'shard')
    )
    op.create_table('run_extensions',
    sa.Column('run', sa.String(), nullable=False),
    sa.Column('key', sa.String(), nullable=False),
    sa.Column('first', sa.Integer(), nullable=False),
    sa.Column('number', sa.Integer(), nullable=False),
    sa.Column('at', sa.BigInteger(), nullable=False),
    sa.PrimaryKeyConstraint('run', 'key')
    )
    op.create_table('run_feeds',
    sa.Column('handler', sa.String(), nullable=False),
    sa.Column('run', sa.String(), nullable=False),
    sa.PrimaryKeyConstraint('handler', 'run')
    )
    op.create_table('run_log',
    sa.Column('journal', sa.String(), nullable=False),
    sa.Column('stream', sa.String(), nullable=False),
    sa.Column('number', sa.BigInteger(), nullable=False),
    sa.Column('org', sa.String(), nullable=False),
    sa.Column('run', sa.String(), nullable=False),
    sa.Column('ordinal', sa.Integer(), nullable=True),
    sa.Column('device', sa.String(), nullable=True),
    sa.Column('at', sa.BigInteger(), nullable=False),
    sa.Column('level', sa.String(), nullable=False),
    sa.Column('text', sa.Text(), nullable=False),
    sa.Column('data', sa.Text(), nullable=False),
    sa.PrimaryKeyConstraint('journal', 'stream', 'number')
    )
    with op.batch_alter_table('run_log', schema=None) as batch_op:
        batch_op.create_index('run_log_by_run', ['run', 'at'], unique=False)
        batch_op.create_index('run_log_by_task', ['run', 'ordinal', 'at'], unique=False)

    op.create_table('run_triggers',
    sa.Column('run', sa.String(), nullable=False),
    sa.Column('kind', sa.String(), nullable=False),
    sa.Column('position', sa.Integer(), nullable=False),
    sa.Column('org', sa.String(), nullable=False),
    sa.Column('job', sa.String(), nullable=False),
    sa.Column('context', sa.Text(), nullable=False),
    sa.Column('conditions', sa.Text(), nullable=False),
    sa.PrimaryKeyConstraint('run', 'kind', 'position')
    )
    op.create_table('runs',
    sa.Column('id', sa.String(), nullable=False),
    sa.Column('org', sa.String(), nullable=False),
    sa.Column('job', sa.String(), nullable=False),
    sa.Column('name', sa.String(), nullable=False),
    sa.Column('type', sa.String(), nullable=False),
    sa.Column('status', sa.String(), nullable=False),
    sa.Column('kind', sa.String(), nullable=False),
    sa.Column('resource', sa.String(), nullable=False),
    sa.Column('target_table', sa.String(), nullable=False),
    sa.Column('operation', sa.Text(), nullable=False),
    sa.Column('results', sa.Text(), nullable=False),
    sa.Column('secrets', sa.Text(), nullable=False),
    sa.Column('priority', sa.Integer(), nullable=False),
    sa.Column('document', sa.Text(), nullable=False),
    sa.Column('query', sa.Text(), nullable=False),
    sa.Column('context', sa.Text(), nullable=False),
    sa.Column('body', sa.Text(), nullable=False),
    sa.Column('body_hash', sa.String(), nullable=False),
    sa.Column('verbs', sa.Text(), nullable=False),
    sa.Column('concurrency', sa.Integer(), nullable=False),
    sa.Column('per_gateway', sa.Integer(), nullable=True),
    sa.Column('timeout', sa.BigInteger(), nullable=False),
    sa.Column('start_by', sa.BigInteger(), nullable=False),
    sa.Column('retry', sa.Text(), nullable=False),
    sa.Column('attempts', sa.Integer(), nullable=False),
    sa.Column('total', sa.Integer(), nullable=False),
    sa.Column('creating', sa.Boolean(), nullable=False),
    sa.Column('itemized', sa.Boolean(), nullable=False),
    sa.Column('retry_online', sa.Boolean(), nullable=False),
    sa.Column('continuous', sa.Boolean(), nullable=False),
    sa.Column('looked_at', sa.BigInteger(), nullable=False),
    sa.Column('created_to', sa.String(), nullable=False),
    sa.Column('cancel', sa.String(), nullable=True),
    sa.Column('cancel_at', sa.BigInteger(), nullable=True),
    sa.Column('cancelled_to', sa.Integer(), nullable=False),
    sa.Column('cancel_then', sa.String(), nullable=False),
    sa.Column('reason', sa.Text(), nullable=False),
    sa.Column('starts_at', sa.BigInteger(), nullable=True),
    sa.Column('expires_after', sa.BigInteger(), nullable=False),
    sa.Column('replaces', sa.String(), nullable=True),
    sa.Column('replaced_by', sa.String(), nullable=True),
    sa.Column('paused_by', sa.String(), nullable=False),
    sa.Column('recalled_to', sa.Integer(), nullable=False),
    sa.Column('retry_asked', sa.Text(), nullable=True),
    sa.Column('retried_to', sa.Integer(), nullable=False),
    sa.Column('retried', sa.Integer(), nullable=False),
    sa.Column('offered_at', sa.BigInteger(), nullable=True),
    sa.Column('serial', sa.Boolean(), nullable=False),
    sa.Column('turn', sa.Integer(), nullable=False),
    sa.Column('turn_since', sa.BigInteger(), nullable=True),
    sa.Column('accumulator', sa.Text(), nullable=False),
    sa.Column('accumulated', sa.Integer(), nullable=False),
    sa.Column('delay', sa.BigInteger(), nullable=False),
    sa.Column('offline', sa.String(), nullable=False),
    sa.Column('offline_after', sa.BigInteger(), nullable=False),
    sa.Column('per_bus', sa.Integer(), nullable=True),
    sa.Column('per_site', sa.Integer(), nullable=True),
    sa.Column('created_at', sa.BigInteger(), nullable=False),
    sa.Column('started_at', sa.BigInteger(), nullable=True),
    sa.Column('ended_at', sa.BigInteger(), nullable=True),
    sa.Column('expires_at', sa.BigInteger(), nullable=False),
    sa.Column('run_by', sa.String(), nullable=False),
    sa.Column('run_by_name', sa.String(), nullable=False),
    sa.Column('has_errors', sa.Boolean(), nullable=False),
    sa.Column('system', sa.Boolean(), nullable=False),
    sa.Column('origin', sa.String(), nullable=True),
    sa.Column('origin_run', sa.String(), nullable=True),
    sa.Column('origin_task', sa.String(), nullable=True),
    sa.Column('origin_step', sa.String(), nullable=True),
    sa.Column('depth', sa.Integer(), nullable=False),
    sa.Column('fed', sa.Boolean(), nullable=False),
    sa.Column('has_parameters', sa.Boolean(), nullable=False),
    sa.Column('batch', sa.Integer(), nullable=False),
    sa.Column('targets', sa.Integer(), nullable=False),
    sa.PrimaryKeyConstraint('id')
    )
    with op.batch_alter_table('runs', schema=None) as batch_op:
        batch_op.create_index('runs_by_job', ['org', 'job', 'created_at'], unique=False)
        batch_op.create_index('runs_by_origin', ['origin_run', 'created_at'], unique=False, sqlite_where=sa.text('origin_run IS NOT NULL'), postgresql_where=sa.text('origin_run IS NOT NULL'))
        batch_op.create_index('runs_by_time', ['org', 'created_at'], unique=False)
        batch_op.create_index('runs_live', ['org', 'job'], unique=True, sqlite_where=sa.text("ended_at IS NULL AND started_at IS NOT NULL AND kind = 'job'"), postgresql_where=sa.text("ended_at IS NULL AND started_at IS NOT NULL AND kind = 'job'"))
        batch_op.create_index('runs_open', ['created_at'], unique=False, sqlite_where=sa.text('ended_at IS NULL'), postgresql_where=sa.text('ended_at IS NULL'))
        batch_op.create_index('runs_to_come', ['starts_at'], unique=False, sqlite_where=sa.text('ended_at IS NULL AND started_at IS NULL'), postgresql_where=sa.text('ended_at IS NULL AND started_at IS NULL'))
        batch_op.create_index('runs_to_find', ['org', 'created_at', 'id', 'status', 'type', 'system', 'has_errors', 'started_at', 'ended_at', 'job'], unique=False)

    op.create_table('sample_counts',
    sa.Column('org', sa.String(), nullable=False),
    sa.Column('kept', sa.BigInteger(), nullable=False),
    sa.PrimaryKeyConstraint('org')
    )
    op.create_table('sample_streams',
    sa.Column('journal', sa.String(), nullable=False),
    sa.Column('stream', sa.String(), nullable=False),
    sa.Column('number', sa.BigInteger(), nullable=False),
    sa.PrimaryKeyConstraint('journal', 'stream')
    )
    op.create_table('secrets',
    sa.Column('org', sa.String(), nullable=False),
    sa.Column('name', sa.String(), nullable=False),
    sa.Column('sealed', sa.Text(), nullable=False),
    sa.Column('created_at', sa.BigInteger(), nullable=False),
    sa.Column('updated_at', sa.BigInteger(), nullable=False),
    sa.Column('updated_by', sa.String(), nullable=False),
    sa.PrimaryKeyConstraint('org', 'name')
    )
    op.create_table('slot_rests',
    sa.Column('run', sa.String(), nullable=False),
    sa.Column('ordinal', sa.Integer(), nullable=False),
    sa.Column('attempt', sa.Integer(), nullable=False),
    sa.Column('until', sa.BigInteger(), nullable=False),
    sa.PrimaryKeyConstraint('run', 'ordinal', 'attempt')
    )
    with op.batch_alter_table('slot_rests', schema=None) as batch_op:
        batch_op.create_index('slot_rests_by_time', ['run', 'until'], unique=False)

    op.create_table('task_parameters',
    sa.Column('run', sa.String(), nullable=False),
    sa.Column('ordinal', sa.Integer(), nullable=False),
    sa.Column('parameters', sa.Text(), nullable=False),
    sa.PrimaryKeyConstraint('run', 'ordinal')
    )
    op.create_table('task_targets',
    sa.Column('run', sa.String(), nullable=False),
    sa.Column('ordinal', sa.Integer(), nullable=False),
    sa.Column('position', sa.Integer(), nullable=False),
    sa.Column('target', sa.String(), nullable=False),
    sa.Column('gone', sa.Boolean(), nullable=False),
    sa.PrimaryKeyConstraint('run', 'ordinal', 'position')
    )
    op.create_table('tasks',
    sa.Column('run', sa.String(), nullable=False),
    sa.Column('ordinal', sa.Integer(), nullable=False),
    sa.Column('org', sa.String(), nullable=False),
    sa.Column('device', sa.String(), nullable=True),
    sa.Column('target', sa.String(), nullable=True),
    sa.Column('gateway', sa.String(), nullable=True),
    sa.Column('status', sa.String(), nullable=False),
    sa.Column('priority', sa.Integer(), nullable=False),
    sa.Column('attempt', sa.Integer(), nullable=False),
    sa.Column('tries', sa.Integer(), nullable=False),
    sa.Column('attempts', sa.Integer(), nullable=False),
    sa.Column('revision', sa.Integer(), nullable=False),
    sa.Column('journal', sa.String(), nullable=True),
    sa.Column('due_at', sa.BigInteger(), nullable=False),
    sa.Column('parked', sa.String(), nullable=True),
    sa.Column('offered_at', sa.BigInteger(), nullable=True),
    sa.Column('sent_at', sa.BigInteger(), nullable=True),
    sa.Column('deadline', sa.BigInteger(), nullable=True),
    sa.Column('begun', sa.Boolean(), nullable=False),
    sa.Column('started_at', sa.BigInteger(), nullable=True),
    sa.Column('ended_at', sa.BigInteger(), nullable=True),
    sa.Column('progress', sa.Integer(), nullable=False),
    sa.Column('current_step', sa.String(), nullable=True),
    sa.Column('waiting_for', sa.String(), nullable=True),
    sa.Column('cancel', sa.String(), nullable=True),
    sa.Column('cancel_sent_at', sa.BigInteger(), nullable=True),
    sa.Column('places', sa.Text(), nullable=True),
    sa.Column('steps', sa.String(), nullable=True),
    sa.Column('targets', sa.Integer(), server_default=sa.text('1'), nullable=False),
    sa.Column('stranded', sa.Boolean(), server_default=sa.text('(false)'), nullable=False),
    sa.Column('failure_code', sa.String(), nullable=True),
    sa.Column('failure_text', sa.Text(), nullable=True),
    sa.PrimaryKeyConstraint('run', 'ordinal')
    )
    with op.batch_alter_table('tasks', schema=None) as batch_op:
        batch_op.create_index('tasks_awaiting', ['deadline'], unique=False, sqlite_where=sa.text("status = 'awaiting'"), postgresql_where=sa.text("status = 'awaiting'"))
        batch_op.create_index('tasks_by_device', ['org', 'device'], unique=False)
        batch_op.create_index('tasks_due', ['run', 'due_at', 'ordinal'], unique=False, sqlite_where=sa.text("status IN ('rescheduled', 'scheduled') AND parked IS NULL"), postgresql_where=sa.text("status IN ('rescheduled', 'scheduled') AND parked IS NULL"))
        batch_op.create_index('tasks_ended_badly', ['run', 'ordinal'], unique=False, sqlite_where=sa.text("status IN ('failed', 'timed_out')"), postgresql_where=sa.text("status IN ('failed', 'timed_out')"))
        batch_op.create_index('tasks_open', ['org', 'gateway'], unique=False, sqlite_where=sa.text("status IN ('accepted', 'awaiting', 'offered', 'running')"), postgresql_where=sa.text("status IN ('accepted', 'awaiting', 'offered', 'running')"))
        batch_op.create_index('tasks_parked', ['org', 'parked'], unique=False, sqlite_where=sa.text("status IN ('rescheduled', 'scheduled') AND parked IS NOT NULL"), postgresql_where=sa.text("status IN ('rescheduled', 'scheduled') AND parked IS NOT NULL"))

    op.create_table('tokens',
    sa.Column('id', sa.String(), nullable=False),
    sa.Column('org', sa.String(), nullable=False),
    sa.Column('name', sa.String(), nullable=False),
    sa.Column('hash', sa.String(), nullable=False),
    sa.Column('role', sa.String(), nullable=False),
    sa.Column('created_at', sa.BigInteger(), nullable=False),
    sa.Column('last_used_at', sa.BigInteger(), nullable=True),
    sa.Column('expires_at', sa.BigInteger(), nullable=True),
    sa.Column('revoked_at', sa.BigInteger(), nullable=True),
    sa.PrimaryKeyConstraint('id'),
    sa.UniqueConstraint('hash')
    )
    op.create_table('trigger_firings',
    sa.Column('run', sa.String(), nullable=False),
    sa.Column('kind', sa.String(), nullable=False),
    sa.Column('position', sa.Integer(), nullable=False),
    sa.Column('ordinal', sa.Integer(), nullable=False),
    sa.Column('number', sa.Integer(), nullable=False),
    sa.Column('org', sa.String(), nullable=False),
    sa.Column('job', sa.String(), nullable=False),
    sa.Column('status', sa.String(), nullable=False),
    sa.Column('reason', sa.Text(), nullable=False),
    sa.Column('handler', sa.String(), nullable=True),
    sa.Column('at', sa.BigInteger(), nullable=False),
    sa.Column('fired_at', sa.BigInteger(), nullable=True),
    sa.PrimaryKeyConstraint('run', 'kind', 'position', 'ordinal', 'number')
    )
    with op.batch_alter_table('trigger_firings', schema=None) as batch_op:
        batch_op.create_index('trigger_firings_pending', ['org', 'job', 'at'], unique=False, sqlite_where=sa.text("status = 'pending'"), postgresql_where=sa.text("status = 'pending'"))

    op.create_table('untold_ends',
    sa.Column('run', sa.String(), nullable=False),
    sa.Column('ordinal', sa.Integer(), nullable=False),
    sa.Column('attempt', sa.Integer(), nullable=False),
    sa.Column('org', sa.String(), nullable=False),
    sa.Column('gateway', sa.String(), nullable=False),
    sa.Column('journal', sa.String(), nullable=False),
    sa.Column('sent_at', sa.BigInteger(), nullable=True),
    sa.PrimaryKeyConstraint('run', 'ordinal', 'attempt')
    )
    with op.batch_alter_table('untold_ends', schema=None) as batch_op:
        batch_op.create_index('untold_ends_by_gateway', ['org', 'gateway'], unique=False)

    # ### end Alembic commands ###
