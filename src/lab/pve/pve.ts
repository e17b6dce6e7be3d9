import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { Accounts } from "./accounts.js";
import { Guests } from "./guest.js";
import { makeHostKeys } from "./hostkey.js";
import type { Caller } from "./permission.js";
import type { Params } from "./property.js";
import type { Release } from "./release.js";
import type { Runtime } from "./runtime.js";
import type { Resolver } from "./setup.js";
import { DEFAULT_STORAGES, type StorageEntry, Storages } from "./storage.js";
import { Tasks } from "./task.js";
import { Tickets } from "./ticket.js";

export type Cluster = { readonly name: string; readonly members: readonly Pve[] };

/** One Proxmox VE node: everything a method may use. */
export type Pve = {
  readonly nodeName: string;
  readonly release: Release;
  /** Set by joinCluster; a node by itself has none. */
  cluster: Cluster | undefined;
  readonly stateDir: string;
  readonly accounts: Accounts;
  readonly tickets: Tickets;
  readonly tasks: Tasks;
  readonly guests: Guests;
  readonly storages: Storages;
  readonly runtime: Runtime;
  /** Makes a new container's SSH host keys. */
  readonly hostKeys: typeof makeHostKeys;
  readonly resolver: () => Resolver;
  /** SHA-256 of the certificate, colon-separated. */
  readonly fingerprint: string;
  readonly now: () => number;
  /** The address the node is known by. */
  readonly address: string;
  /** Told the MAC addresses of a destroyed container: their leases are free. */
  readonly released: (mac: string) => Promise<void>;
  /** What goes before a command that is to run in the node's network; nothing where this process is in it. */
  readonly enter: readonly string[];
};

export type Call = { readonly pve: Pve; readonly caller: Caller; readonly params: Params };
/** What a method answers: the value of `data`, or with it fields beside `data`. */
export class WithTotal {
  readonly data: unknown;
  readonly total: number;
  constructor(data: unknown, total: number) {
    this.data = data;
    this.total = total;
  }
}
export type Handler = (call: Call) => unknown;
/** "GET /nodes/{node}/lxc" → its handler. */
export type Handlers = Readonly<Record<string, Handler>>;

export function openPve(options: {
  nodeName: string;
  stateDir: string;
  storageDir: string;
  runtime: Runtime;
  /** Without it, ssh-keygen, whose RSA key takes most of a create's time. */
  hostKeys?: Pve["hostKeys"];
  fingerprint: string;
  address: string;
  storages?: readonly StorageEntry[];
  /** Without it, what the state folder's `release` says, or else the newest. */
  release?: Release;
  /** The cluster's first member, whose accounts this one has too. */
  shares?: Pve;
  released?: Pve["released"];
  enter?: Pve["enter"];
}): Pve {
  const { nodeName, stateDir, storageDir, runtime, fingerprint, address, released = async () => {} } = options;
  const { storages = DEFAULT_STORAGES, release = readRelease(stateDir), shares } = options;
  return {
    nodeName,
    release,
    cluster: undefined,
    stateDir,
    accounts: shares?.accounts ?? new Accounts(stateDir),
    tickets: shares?.tickets ?? new Tickets(stateDir),
    tasks: new Tasks(stateDir, nodeName),
    guests: new Guests(stateDir, nodeName),
    storages: new Storages(storageDir, storages),
    runtime,
    hostKeys: options.hostKeys ?? makeHostKeys,
    resolver: () => readResolver(stateDir),
    fingerprint,
    now: () => Date.now(),
    address,
    released,
    enter: options.enter ?? [],
  };
}

/** Kept where the server finds it again after a restart. */
function readRelease(stateDir: string): Release {
  const path = join(stateDir, "release");
  return existsSync(path) && readFileSync(path, "utf8").trim() === "8.4" ? "8.4" : "9.2";
}

/** The node's resolver, which containers without `nameserver` get: the state folder's resolv.conf, else the machine's. */
function readResolver(stateDir: string): Resolver {
  const own = join(stateDir, "resolv.conf");
  const path = existsSync(own) ? own : "/etc/resolv.conf";
  const lines = existsSync(path) ? readFileSync(path, "utf8").split("\n") : [];
  const values = (key: string): string[] =>
    lines.filter((line) => line.startsWith(`${key} `)).map((line) => line.slice(key.length).trim());
  return { nameservers: values("nameserver"), search: values("search")[0] };
}

/** The number of a container in the path; the schema has checked it. */
export const vmidOf = ({ params }: Call): number => Number(params.vmid);

export function text(params: Params, name: string): string | undefined {
  const value = params[name];
  return value === undefined ? undefined : String(value);
}
