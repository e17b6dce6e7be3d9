import type { Ip } from "../kit/ip.js";
import type { Millis } from "../kit/time.js";
import type { Upid } from "./upid.js";

/**
 * What the rest of the program may ask of a Proxmox VE host: narrow calls whose answers were checked and put into
 * our own words. `connectPve` (client.ts) gives one over HTTPS.
 *
 * Every call throws a Failure of errors.ts. Reading calls may be repeated by the engine; each writing call is sent
 * exactly once, and one whose answer got lost throws `outcome-unknown`: look at the host before asking again.
 */
export interface PveHost extends PveGuests, PveAccess, PveDiagnosis {
  version(): Promise<{ version: string; release: string }>;
  nodes(): Promise<{ name: string; online: boolean; fingerprint: string | undefined }[]>;
  /** Kernel and manager version; needs Sys.Audit on /nodes/N. */
  nodeStatus(node: string): Promise<{ kernel: string; pveVersion: string; rootFreeBytes?: number }>;
  /** Only the storages the login may see. */
  storages(node: string): Promise<Storage[]>;
  bridges(node: string): Promise<Bridge[]>;
  /**
   * The login's own rights. Without `paths`, every path that carries an ACL; with them, the effective rights at
   * exactly those paths, which also counts what a pool grants.
   */
  permissions(paths?: readonly string[]): Promise<Permissions>;
  templates(node: string, storage: string): Promise<Volume[]>;
  /** Backups of one container, newest first. */
  backups(node: string, storage: string, vmid: number): Promise<Volume[]>;
  pools(): Promise<string[]>;
  /** Installed packages of the node, name → version; needs Sys.Audit on /nodes/N. */
  packages(node: string): Promise<ReadonlyMap<string, string>>;
  /** Sends a template, waits for the task, and finds the file in the storage afterwards. */
  upload(node: string, storage: string, file: UploadFile, options?: UploadOptions): Promise<Volume>;
  /** Templates and backups; a volume that is not there counts as deleted. */
  deleteVolume(node: string, storage: string, volid: string): Promise<Upid>;
  waitTask(upid: Upid, options?: WaitOptions): Promise<TaskResult>;
  taskLog(upid: Upid): Promise<string[]>;
  /** Running and finished tasks of one guest that the login may see, newest first. */
  tasks(node: string, vmid: number): Promise<Upid[]>;
  /** Closes pooled connections. */
  close(): void;
}

/** Containers. */
export interface PveGuests {
  nextVmid(): Promise<number>;
  /** Every guest of the cluster that the login may see (VM.Audit). */
  guests(): Promise<Guest[]>;
  /** Undefined when there is no such container. */
  config(node: string, vmid: number): Promise<ContainerConfig | undefined>;
  /** Undefined when there is no such container. */
  status(node: string, vmid: number): Promise<"running" | "stopped" | undefined>;
  /** Empty while the container is stopped; an address may be missing for some seconds after the start. */
  interfaces(node: string, vmid: number): Promise<Interface[]>;
  /** From a template; `restore` (recovery.ts) is the one from a backup. */
  create(node: string, params: CreateParams): Promise<Upid>;
  start(node: string, vmid: number): Promise<Upid>;
  stop(node: string, vmid: number): Promise<Upid>;
  shutdown(node: string, vmid: number, timeoutSeconds?: number): Promise<Upid>;
  /** Removes the container, its snapshots, its ACLs and its place in backup jobs. It must be stopped. */
  destroy(node: string, vmid: number): Promise<Upid>;
  /** `delete` lists options to unset; `digest` refuses the change when the config was changed in between. */
  setConfig(node: string, vmid: number, changes: PveParams): Promise<void>;
  /** False when a volume of the container is on a storage without snapshots. */
  canSnapshot(node: string, vmid: number): Promise<boolean>;
  /** Without the pseudo snapshot "current". */
  snapshots(node: string, vmid: number): Promise<Snapshot[]>;
  snapshot(node: string, vmid: number, name: string, description?: string): Promise<Upid>;
  /** Stops a running container hard; `start` starts it afterwards. */
  rollback(node: string, vmid: number, name: string, start: boolean): Promise<Upid>;
  deleteSnapshot(node: string, vmid: number, name: string): Promise<Upid>;
  /** vzdump in suspend or stop mode; the archive is the newest of `backups` afterwards. */
  backup(node: string, vmid: number, storage: string, options: BackupOptions): Promise<Upid>;
  clone(node: string, vmid: number, params: PveParams & { newid: number }): Promise<Upid>;
  resize(node: string, vmid: number, sizeGib: number): Promise<Upid>;
}

/** Users, roles, tokens and ACLs: what `setup` does with a root login. */
export interface PveAccess {
  roles(): Promise<ReadonlyMap<string, readonly string[]>>;
  setRole(role: string, privs: readonly string[], exists: boolean): Promise<void>;
  users(): Promise<string[]>;
  createUser(user: string, comment: string): Promise<void>;
  tokens(user: string): Promise<{ id: string; privsep: boolean }[]>;
  /** The secret is told once. */
  createToken(user: string, id: string, comment: string): Promise<{ tokenId: string; secret: string }>;
  deleteToken(user: string, id: string): Promise<void>;
  createPool(pool: string, comment: string): Promise<void>;
  acls(): Promise<Acl[]>;
  setAcl(acl: Acl): Promise<void>;
}

/** What only a look at the host's health asks for. */
export interface PveDiagnosis {
  /**
   * How far the host's clock was ahead of ours at its last answer, to about a second (RFC 9110 §6.6.1, Date); undefined
   * before the first one.
   */
  skewMs(): Promise<Millis | undefined>;
  /** What Proxmox's firewall would do with a container whose network card asks for it; needs VM.Audit. */
  guestFirewall(node: string, vmid: number): Promise<GuestFirewall>;
  /** Whether the firewall is on at all; needs Sys.Audit on /. */
  firewallOn(): Promise<boolean>;
  /** The newest tasks that failed, of those the login may see. */
  failedTasks(node: string): Promise<FailedTask[]>;
}

export type FailedTask = { readonly upid: Upid; readonly exit: string };

export type GuestFirewall = {
  readonly on: boolean;
  /** Lets out only what comes from an address in the container's configuration. */
  readonly ipFilter: boolean;
  readonly policyIn: string;
  readonly policyOut: string;
  readonly rules: readonly FirewallRule[];
};
export type FirewallRule = {
  readonly on: boolean;
  /** "in", "out", or "group": then `action` names a security group, whose rules are not told here. */
  readonly type: string;
  readonly action: string;
  readonly proto: string;
  /** "51820", "51000:52000", "80,443", or a service's name; empty for all. */
  readonly dport: string;
  readonly source: string;
};

export type Storage = {
  readonly id: string;
  /** "dir", "zfspool", "lvmthin", … */
  readonly type: string;
  /** What it may hold: "rootdir", "vztmpl", "backup", … */
  readonly content: readonly string[];
  readonly active: boolean;
  readonly shared: boolean;
  readonly availBytes: number;
  readonly totalBytes: number;
};

export type Bridge = {
  readonly name: string;
  readonly active: boolean;
  /** The node's own address on it, "192.168.1.10/24". */
  readonly cidr: string | undefined;
  readonly gateway: string | undefined;
  readonly vlanAware: boolean;
  /** The PVE node itself got its address there by DHCP. */
  readonly byDhcp?: boolean;
};

/** path → the privileges held there; `propagates` says which of them reach below. */
export type Permissions = ReadonlyMap<string, ReadonlyMap<string, { readonly propagates: boolean }>>;

export type Volume = {
  readonly volid: string;
  readonly sizeBytes: number;
  readonly createdAtSeconds: number;
  /** Of a backup: what was written beside it, and whether it may be deleted. */
  readonly notes?: string;
  readonly protected?: boolean;
};

export type Snapshot = {
  readonly name: string;
  readonly description: string;
  readonly takenAtSeconds?: number;
  /** The snapshot before it. */
  readonly parent?: string;
};

export type Guest = {
  readonly vmid: number;
  readonly name: string;
  readonly node: string;
  readonly type: "lxc" | "qemu";
  readonly status: string;
  readonly tags: readonly string[];
  readonly template: boolean;
  /** "backup", "snapshot", …: what is being done to it, or was when the host died. */
  readonly lock?: string;
};

/** Everything of a cluster that a login may see. */
export type Resources = {
  readonly nodes: readonly { readonly name: string; readonly online: boolean }[];
  readonly guests: readonly Guest[];
  readonly storages: readonly {
    readonly id: string;
    readonly node: string;
    readonly type: string;
    readonly content: readonly string[];
    readonly available: boolean;
    readonly usedBytes: number;
    readonly totalBytes: number;
  }[];
};

export type ContainerConfig = {
  readonly hostname: string;
  readonly description: string;
  readonly tags: readonly string[];
  readonly cores: number | undefined;
  readonly memoryMib: number;
  readonly swapMib: number;
  readonly unprivileged: boolean;
  readonly onboot: boolean;
  readonly protection: boolean;
  readonly lock: string | undefined;
  readonly digest: string;
  /** Every option as Proxmox wrote it: net0, rootfs, features, dev0, … */
  readonly options: Readonly<Record<string, string>>;
  /** Lines for LXC that somebody wrote into the file by hand: "lxc.mount.entry: /dev/net/tun …". */
  readonly lxc?: readonly string[];
};

export type Interface = {
  readonly name: string;
  /** Upper case, "BC:24:11:97:9D:6A". */
  readonly mac: string;
  readonly addresses: readonly Ip[];
};

/** Parameters as the API names them; booleans become 1 and 0, undefined is left out. */
export type PveParams = Readonly<Record<string, PveParam | readonly PveParam[] | undefined>>;
export type PveParam = string | number | boolean;
export type CreateParams = PveParams & { readonly vmid: number; readonly ostemplate: string };
export type BackupOptions = { readonly mode: "snapshot" | "suspend" | "stop"; readonly notes?: string };

export type UploadFile = {
  readonly path: string;
  /** As it will be called in the storage; must end in .tar.zst, .tar.xz or .tar.gz. */
  readonly name: string;
  readonly sizeBytes: number;
  /** Hex. */
  readonly sha512: string;
};
export type UploadOptions = {
  readonly onProgress?: (sentBytes: number) => void;
  readonly signal?: AbortSignal;
};

export type WaitOptions = {
  readonly deadlineMs?: Millis;
  readonly signal?: AbortSignal;
  /** An aborted wait also asks the host to end the task. */
  readonly abortTask?: boolean;
  /** Each new line of the task's log, in order. */
  readonly onLog?: (line: string) => void;
};
export type TaskResult = { readonly warnings: number; readonly log: readonly string[] };

export type Acl = {
  readonly path: string;
  readonly role: string;
  readonly kind: "user" | "token" | "group";
  readonly holder: string;
  readonly propagate: boolean;
};
