/** The store's tables, and how they came to be. */

export type Tables = {
  setting: { name: string; value: string };
  device: DeviceRow;
  join_key: JoinKeyRow;
};

export type DeviceRow = {
  id: string;
  name: string;
  wanted_name: string;
  role: string;
  machine_key: string;
  public_key: string;
  ipv4: string;
  ipv6: string;
  /** JSON of a DeviceReport. */
  report: string;
  agent_version: string;
  join_key_id: string | null;
  created_at_ms: number;
  last_seen_at_ms: number | null;
  revoked_at_ms: number | null;
};

export type JoinKeyRow = {
  id: string;
  secret_hash: string;
  role: string;
  name: string | null;
  reusable: number;
  created_at_ms: number;
  expires_at_ms: number;
  revoked_at_ms: number | null;
  used_at_ms: number | null;
  used_by: string | null;
};

export type Migration = { readonly id: string; readonly up: readonly string[] };

/** Appended to, never edited: a store in the field has run them already. */
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
        created_at_ms integer not null,
        expires_at_ms integer not null,
        revoked_at_ms integer,
        used_at_ms integer,
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
        created_at_ms integer not null,
        last_seen_at_ms integer,
        revoked_at_ms integer
      )`,
    ],
  },
];
