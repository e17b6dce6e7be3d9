/** The store's tables, the same in SQLite and in PostgreSQL: text, integers, JSON as text, 0 or 1 for no or yes. */
export type Tables = {
  setting: { name: string; value: string };
  device: DeviceRow;
  join_key: JoinKeyRow;
  member: UserRow;
  passkey: PasskeyRow;
  web_session: SessionRow;
  api_token: TokenRow;
  policy: PolicyRow;
  audit: AuditRow;
  webhook: WebhookRow;
  delivery: DeliveryRow;
  replay: ReplayRow;
  change: ChangeRow;
  lease: LeaseRow;
  presence: PresenceRow;
  invite: InviteRow;
  sign_in: SignInRow;
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
  user_id: string | null;
  /** JSON of tag names. */
  tags: string;
  ephemeral: number;
  approved_at_ms: number | null;
  key_expires_at_ms: number | null;
  /** JSON of the prefixes an administrator approved, beyond what its role gives. */
  approved_routes: string;
  /** By a trusted device, where the network has a device lock. */
  lock_signature: string | null;
  lock_key: string | null;
  /** By its lock key, of its other keys. */
  lock_statement: string | null;
  rotate_at_ms: number | null;
  /** Of a WireGuard app; of none else. */
  app_exit_id: string | null;
  app_exit_key: string | null;
  app_endpoint: string | null;
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
  user_id: string | null;
  tags: string;
  ephemeral: number;
  preapproved: number;
};

/** A person. (`user` is a reserved word of SQL.) */
export type UserRow = {
  id: string;
  /** How the policy names them: an address of an identity provider, or a name given here. */
  login: string;
  display_name: string;
  role: string;
  issuer: string | null;
  subject: string | null;
  created_at_ms: number;
  last_seen_at_ms: number | null;
  disabled_at_ms: number | null;
};

export type PasskeyRow = {
  id: string;
  user_id: string;
  public_key: string;
  counter: number;
  name: string;
  created_at_ms: number;
  used_at_ms: number | null;
};

export type SessionRow = {
  /** SHA-256 of the cookie. */
  id: string;
  user_id: string;
  created_at_ms: number;
  expires_at_ms: number;
  remote: string;
};

export type TokenRow = {
  id: string;
  secret_hash: string;
  name: string;
  user_id: string | null;
  /** JSON of scopes. */
  scopes: string;
  created_at_ms: number;
  expires_at_ms: number | null;
  revoked_at_ms: number | null;
  used_at_ms: number | null;
};

export type PolicyRow = {
  version: number;
  text: string;
  actor: string;
  created_at_ms: number;
};

export type AuditRow = {
  seq: number;
  at_ms: number;
  actor: string;
  remote: string;
  action: string;
  target: string;
  /** JSON. */
  details: string;
  hash: string;
};

export type WebhookRow = {
  id: string;
  url: string;
  secret: string;
  /** JSON of action patterns. */
  actions: string;
  created_at_ms: number;
  disabled_at_ms: number | null;
};

export type DeliveryRow = {
  id: string;
  webhook_id: string;
  body: string;
  attempts: number;
  next_at_ms: number;
};

/** What was answered to a request with an idempotency key. */
export type ReplayRow = {
  id: string;
  request_hash: string;
  status: number;
  body: string;
  at_ms: number;
};

/** What other coordinators have to read anew. */
export type ChangeRow = {
  seq: number;
  kind: string;
  id: string;
  at_ms: number;
};

export type LeaseRow = {
  name: string;
  holder: string;
  expires_at_ms: number;
};

/** Which of several coordinators a device is connected to. */
export type PresenceRow = {
  device_id: string;
  holder: string;
};

/** A one-time link with which a person enrols a passkey. */
export type InviteRow = {
  /** Hash of its secret. */
  id: string;
  user_id: string;
  created_at_ms: number;
  expires_at_ms: number;
};

/** A machine that waits for a person to let it in. */
export type SignInRow = {
  machine_key: string;
  /** What the person compares. */
  code: string;
  /** Where the person confirms it. */
  url: string;
  name: string;
  remote: string;
  state: string;
  /** Who has let it in. */
  user_id: string | null;
  created_at_ms: number;
  expires_at_ms: number;
};
