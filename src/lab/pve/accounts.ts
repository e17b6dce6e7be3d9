import { createHash, randomBytes, randomUUID, scryptSync, timingSafeEqual } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { BUILT_IN_ROLES } from "./privilege.js";
import { writeWhole } from "./statefile.js";

export type Token = { secretHash: string; privsep: number; expire: number; comment?: string };
export type User = {
  enable: number;
  expire: number;
  comment?: string;
  email?: string;
  firstname?: string;
  lastname?: string;
  /** scrypt: "salt:hash" in hex. */
  password?: string;
  tokens: Record<string, Token>;
};
export type Grant = { path: string; type: "user" | "token"; ugid: string; roleid: string; propagate: number };
export type Pool = { comment?: string; vms: number[]; storage: string[] };

type State = {
  users: Record<string, User>;
  roles: Record<string, readonly string[]>;
  acl: Grant[];
  pools: Record<string, Pool>;
};

/** Users, tokens, roles, grants and pools: what Proxmox keeps in user.cfg, token.cfg and shadow.cfg. */
export class Accounts {
  readonly #path: string;
  readonly #state: State;

  constructor(stateDir: string) {
    this.#path = join(stateDir, "access.json");
    this.#state = readState(this.#path);
  }

  get users(): Record<string, User> {
    return this.#state.users;
  }
  get acl(): Grant[] {
    return this.#state.acl;
  }
  get pools(): Record<string, Pool> {
    return this.#state.pools;
  }
  /** The roles made here; the built-in ones are in privilege.ts. */
  get roles(): Record<string, readonly string[]> {
    return this.#state.roles;
  }

  role(roleid: string): readonly string[] | undefined {
    return BUILT_IN_ROLES[roleid] ?? this.#state.roles[roleid];
  }

  poolOf(member: { vmid: number } | { storage: string }): string | undefined {
    return Object.entries(this.pools).find(([, pool]) =>
      "vmid" in member ? pool.vms.includes(member.vmid) : pool.storage.includes(member.storage),
    )?.[0];
  }

  /** Grants at the path, and at nothing below it, go away. */
  dropGrantsAt(path: string): void {
    this.#state.acl = this.#state.acl.filter((grant) => grant.path !== path);
    this.save();
  }

  dropGrantsTo(holds: (grant: Grant) => boolean): void {
    this.#state.acl = this.#state.acl.filter((grant) => !holds(grant));
  }

  save(): void {
    writeWhole(this.#path, JSON.stringify(this.#state, undefined, 1), 0o600);
  }
}

function readState(path: string): State {
  try {
    return JSON.parse(readFileSync(path, "utf8")) as State; // written by this class alone
  } catch (error) {
    if (!(error instanceof Error && "code" in error && error.code === "ENOENT")) throw error;
    return { users: { "root@pam": { enable: 1, expire: 0, tokens: {} } }, roles: {}, acl: [], pools: {} };
  }
}

export function hashPassword(password: string): string {
  const salt = randomBytes(16);
  return `${salt.toString("hex")}:${scryptSync(password, salt, 32).toString("hex")}`;
}

export function passwordMatches(stored: string | undefined, password: string): boolean {
  const [salt, hash] = (stored ?? "").split(":");
  if (salt === undefined || hash === undefined) return false;
  return timingSafeEqual(scryptSync(password, Buffer.from(salt, "hex"), 32), Buffer.from(hash, "hex"));
}

/** A new token secret; only its hash is kept, as the secret is random enough to need no salt. */
export function newSecret(): { secret: string; hash: string } {
  const secret = randomUUID();
  return { secret, hash: hashSecret(secret) };
}

export const hashSecret = (secret: string): string => createHash("sha256").update(secret).digest("hex");

/** 0 never expires; otherwise seconds since the epoch. */
export const expired = (expire: number, nowMs: number): boolean => expire !== 0 && expire * 1_000 <= nowMs;
