import type { Ip } from "../kit/ip.js";
import type { PveHost } from "../pve/guests.js";
import type { PveRecovery } from "../pve/recovery.js";
import type { Clock } from "../sys/clock.js";
import type { Files } from "../sys/files.js";
import type { Random } from "../sys/random.js";
import type { Ssh, SshTarget } from "../sys/ssh.js";
import type { SshKeyPair } from "../sys/sshkey.js";
import type { Admin } from "./admin.js";
import type { Payload } from "./payload.js";
import type { HostDefaults } from "./spec.js";

/** What provisioning uses of the world. */
export type ProvisionParts = {
  readonly host: PveHost & PveRecovery;
  readonly clock: Clock;
  readonly random: Random;
  readonly files: Files;
  /** Where journals are kept. */
  readonly journalFolder: string;
  readonly openSsh: (target: SshTarget, signal?: AbortSignal) => Promise<Ssh>;
  /** A shell as root on the PVE node, when the host's entry names one: what no token may do is done there. */
  readonly hostShell?: (signal?: AbortSignal) => Promise<Ssh>;
  readonly sshKey: SshKeyPair;
  readonly sha256: (content: string | Uint8Array) => string;
  /** Read when files are compared for the first time: a host that refuses us costs no reading. */
  readonly payload: () => Promise<Payload>;
  /** The template in this machine's cache, checked against its manifest; undefined when none was built. */
  readonly appliance: () => Promise<Appliance | undefined>;
  readonly book: CoordinatorBook;
  readonly progress: Progress;
  readonly signal: AbortSignal;
  /** Connects to the public address from here, within seconds: does a coordinator with that certificate answer? */
  readonly leadsTo?: (address: string, tlsFingerprint: string) => Promise<boolean>;
  /** Goes into the network as a device of its own for some seconds, and out by that exit node. What fails, in words. */
  readonly tunnel?: (exit: ProbedExit) => Promise<string | undefined>;
};

/** An exit node by its name in the network, and where this machine reaches its container. */
export type ProbedExit = {
  readonly name: string;
  readonly address: Ip;
  readonly admin: Admin;
  /** Somebody in the Internet to talk to. */
  readonly whoami: readonly string[];
};

export type Appliance = {
  readonly path: string;
  readonly name: string;
  readonly sizeBytes: number;
  readonly unpackedBytes: number;
  readonly sha512: string;
};

/** What this administrator knows of coordinators, beyond this host. */
export interface CoordinatorBook {
  record(): Promise<CoordinatorRecord | undefined>;
  keep(record: CoordinatorRecord): Promise<void>;
  /** The admin token of the coordinator we install: made and kept before it is used, so that a crash loses none. */
  adminToken(): Promise<string>;
  /** The recorded coordinator is gone: its record and admin token go too. */
  drop(): Promise<void>;
  /** Administers the recorded coordinator over HTTPS. */
  admin(record: CoordinatorRecord): Promise<Admin>;
}

export type CoordinatorRecord = {
  readonly urls: readonly string[];
  readonly adminUrls: readonly string[];
  readonly publicKey: string;
  readonly tlsFingerprint: string;
};

/** Shows steps as they run. */
export interface Progress {
  step<T>(words: string, run: (note: (words: string) => void) => Promise<T>): Promise<T>;
}

/** The Proxmox entry as provisioning sees it. */
export type HostRequest = {
  readonly hostName: string;
  /** user@realm, or user@realm!token. */
  readonly login: string;
  readonly pveNode: string | undefined;
  readonly defaults: HostDefaults;
};
