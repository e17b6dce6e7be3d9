export type Migration = { readonly id: string; readonly up: readonly string[] };

/**
 * How the tables came to be. Appended to, never edited: a store in the field has run them already. Every statement is
 * understood by SQLite and by PostgreSQL; milliseconds are bigint, which to SQLite is an integer like any other.
 */
export const MIGRATIONS: readonly Migration[] = [
  {
    id: "0001-birth",
    up: [
      `create table setting (name text primary key, value text not null)`,
      `create table join_key (
        id text primary key,
        secret_hash text not null unique,
        role text not null check (role in ('exit-node', 'device')),
        name text,
        reusable integer not null check (reusable in (0, 1)),
        created_at_ms bigint not null,
        expires_at_ms bigint not null,
        revoked_at_ms bigint,
        used_at_ms bigint,
        used_by text
      )`,
      `create table device (
        id text primary key,
        name text not null unique,
        wanted_name text not null,
        role text not null check (role in ('exit-node', 'device')),
        machine_key text not null unique,
        public_key text not null,
        ipv4 text not null unique,
        ipv6 text not null unique,
        report text not null,
        agent_version text not null,
        join_key_id text references join_key (id) on delete set null,
        created_at_ms bigint not null,
        last_seen_at_ms bigint,
        revoked_at_ms bigint
      )`,
    ],
  },
  {
    id: "0002-identity",
    up: [
      `create table member (
        id text primary key,
        login text not null unique,
        display_name text not null,
        role text not null check (role in ('owner', 'admin', 'auditor', 'member')),
        issuer text,
        subject text,
        created_at_ms bigint not null,
        last_seen_at_ms bigint,
        disabled_at_ms bigint,
        unique (issuer, subject)
      )`,
      `create table passkey (
        id text primary key,
        user_id text not null references member (id) on delete cascade,
        public_key text not null,
        counter bigint not null,
        name text not null,
        created_at_ms bigint not null,
        used_at_ms bigint
      )`,
      `create table web_session (
        id text primary key,
        user_id text not null references member (id) on delete cascade,
        created_at_ms bigint not null,
        expires_at_ms bigint not null,
        remote text not null
      )`,
      `create table api_token (
        id text primary key,
        secret_hash text not null unique,
        name text not null,
        user_id text references member (id) on delete cascade,
        scopes text not null,
        created_at_ms bigint not null,
        expires_at_ms bigint,
        revoked_at_ms bigint,
        used_at_ms bigint
      )`,
      `alter table join_key add column user_id text references member (id) on delete cascade`,
      `alter table join_key add column tags text not null default '[]'`,
      `alter table join_key add column ephemeral integer not null default 0`,
      `alter table join_key add column preapproved integer not null default 1`,
      `alter table device add column user_id text references member (id)`,
      `alter table device add column tags text not null default '[]'`,
      `alter table device add column ephemeral integer not null default 0`,
      // Who was in before approval was thought of stays in.
      `alter table device add column approved_at_ms bigint default 0`,
      `alter table device add column key_expires_at_ms bigint`,
      `alter table device add column approved_routes text not null default '[]'`,
      `alter table device add column lock_signature text`,
    ],
  },
  {
    id: "0003-operations",
    up: [
      `create table policy (version bigint primary key, text text not null, actor text not null, created_at_ms bigint not null)`,
      `create table audit (
        seq bigint primary key,
        at_ms bigint not null,
        actor text not null,
        remote text not null,
        action text not null,
        target text not null,
        details text not null,
        hash text not null
      )`,
      `create table webhook (
        id text primary key,
        url text not null,
        secret text not null,
        actions text not null,
        created_at_ms bigint not null,
        disabled_at_ms bigint
      )`,
      `create table delivery (
        id text primary key,
        webhook_id text not null references webhook (id) on delete cascade,
        body text not null,
        attempts integer not null,
        next_at_ms bigint not null
      )`,
      `create table replay (
        id text primary key,
        request_hash text not null,
        status integer not null,
        body text not null,
        at_ms bigint not null
      )`,
      `create table change (seq bigint primary key, kind text not null, id text not null, at_ms bigint not null)`,
      `create table lease (name text primary key, holder text not null, expires_at_ms bigint not null)`,
      `create table presence (device_id text primary key references device (id) on delete cascade, holder text not null)`,
      `create table invite (
        id text primary key,
        user_id text not null references member (id) on delete cascade,
        created_at_ms bigint not null,
        expires_at_ms bigint not null
      )`,
      `create table sign_in (
        machine_key text primary key,
        code text not null unique,
        url text not null,
        name text not null,
        remote text not null,
        state text not null check (state in ('waiting', 'confirmed', 'refused')),
        user_id text references member (id) on delete cascade,
        created_at_ms bigint not null,
        expires_at_ms bigint not null
      )`,
      `alter table device add column rotate_at_ms bigint`,
      `alter table device add column lock_key text`,
      `alter table device add column lock_statement text`,
    ],
  },
  {
    id: "0004-apps",
    up: [
      `alter table device add column app_exit_id text`,
      `alter table device add column app_exit_key text`,
      `alter table device add column app_endpoint text`,
    ],
  },
];
