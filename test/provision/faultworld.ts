import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { type Ip, parseIp } from "../../src/kit/ip.js";
import { type Access, prepareAccess } from "../../src/lab/pve/access.js";
import { type Certificate, readCertificate } from "../../src/lab/pve/certificate.js";
import { splitOption } from "../../src/lab/pve/guestconfig.js";
import { openPve, type Pve } from "../../src/lab/pve/pve.js";
import type { Running, Runtime } from "../../src/lab/pve/runtime.js";
import { closePve, listenPve } from "../../src/lab/pve/server.js";
import { DEFAULT_STORAGES } from "../../src/lab/pve/storage.js";
import type { Appliance } from "../../src/provision/parts.js";
import type { Clock } from "../../src/sys/clock.js";
import { ModelContainer, ModelNetwork } from "./modelcontainer.js";
import { ModelMachine, readPayload } from "./modelparts.js";
import { HostWeather } from "./weather.js";

/** What every world begins with: made once, copied for each. */
export type Ground = {
  readonly folder: string;
  readonly access: Access;
  readonly certificate: Certificate;
  readonly appliance: Appliance;
  readonly payload: Awaited<ReturnType<typeof readPayload>>;
};

const APPLIANCE = "debian-13-exitnode_0.1.0-1_amd64.tar.zst";
const KEY_FILE = "/etc/ssh/ssh_host_ed25519_key.pub";
const STATE_FILE = "/model.json";

/**
 * In memory where there is such a folder: the lab's server flushes every file to the disk. Containers' root walks to
 * its directory from outside, so the folder is open to pass.
 */
export async function layGround(): Promise<Ground> {
  const base = existsSync("/dev/shm") ? "/dev/shm" : "/var/tmp";
  // What a killed run left: the name has its process.
  for (const name of readdirSync(base)) {
    const pid = /^exn-fm-(\d+)-/.exec(name)?.[1];
    if (pid !== undefined && !existsSync(`/proc/${pid}`)) rmSync(join(base, name), { recursive: true, force: true });
  }
  const folder = mkdtempSync(join(base, `exn-fm-${process.pid}-`));
  execFileSync("chmod", ["755", folder]);
  const stateDir = join(folder, "bare", "state");
  const access = await prepareAccess(stateDir);
  const certificate = await readCertificate(stateDir, "pve1");
  const root = join(folder, "root");
  mkdirSync(join(root, "etc/ssh"), { recursive: true });
  writeFileSync(join(root, "etc/os-release"), "ID=debian\nVERSION_ID=13\n");
  const path = join(folder, APPLIANCE);
  execFileSync("tar", ["--numeric-owner", "-I", "zstd -1", "-cf", path, "-C", root, "."]);
  const content = readFileSync(path);
  const sha512 = createHash("sha512").update(content).digest("hex");
  const appliance = { path, name: APPLIANCE, sizeBytes: statSync(path).size, unpackedBytes: 100, sha512 };
  return { folder, access, certificate, appliance, payload: await readPayload() };
}

export const clearGround = ({ folder }: Ground): void => rmSync(folder, { recursive: true, force: true });

/** A Proxmox with the lab's real API over HTTPS, whose containers are models inside, and the administrator's machine. */
export type World = {
  readonly ground: Ground;
  /** No storage of its host keeps any. */
  readonly noBackups: boolean;
  readonly folder: string;
  readonly pve: Pve;
  readonly url: string;
  readonly inside: ModelRuntime;
  readonly network: ModelNetwork;
  readonly machine: ModelMachine;
  readonly weather: HostWeather;
  readonly clock: Clock;
  close(): Promise<void>;
};

const WITHOUT_BACKUPS = DEFAULT_STORAGES.map((entry) => ({
  ...entry,
  content: entry.content.filter((kind) => kind !== "backup"),
}));
let worlds = 0;

/** A world as another one is now, or a new one. */
export async function openWorld(ground: Ground, from?: World, noBackups = from?.noBackups ?? false): Promise<World> {
  const folder = join(ground.folder, `world-${++worlds}`);
  execFileSync("cp", ["-a", from?.folder ?? join(ground.folder, "bare"), folder]);
  const stateDir = join(folder, "state");
  const network = new ModelNetwork();
  const machine = new ModelMachine();
  const inside = new ModelRuntime(network);
  if (from !== undefined) {
    for (const [path, content] of from.machine.files) machine.files.set(path, content);
    machine.record = from.machine.record;
    machine.token = from.machine.token;
    network.devices.push(...from.network.devices);
    inside.elsewhere = from.inside.elsewhere;
    inside.takeOver(from.inside, (root) => root.replace(from.folder, folder));
  }
  let keys = 0;
  const pve = openPve({
    nodeName: "pve1",
    stateDir,
    storageDir: join(folder, "storage"),
    storages: noBackups ? WITHOUT_BACKUPS : DEFAULT_STORAGES,
    runtime: inside,
    fingerprint: ground.certificate.fingerprint,
    address: "127.0.0.1",
    // A new one for each create, and none of RSA: those take most of the time.
    hostKeys: async () => {
      const fingerprint = `SHA256:${createHash("sha256").update(`${folder} ${++keys}`).digest("base64").slice(0, 43)}`;
      const files = [{ path: KEY_FILE, content: fingerprint, mode: 0o644 }];
      return [{ name: "ssh_host_ed25519_key", fingerprint: `${fingerprint} root@x`, files }];
    },
  });
  const weather = new HostWeather();
  const { certificate } = ground;
  const server = await listenPve(pve, { certificate, address: "127.0.0.1", port: 0, delayMs: 0, faults: weather });
  const url = `https://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const close = async (): Promise<void> => {
    await closePve(pve, server);
    rmSync(folder, { recursive: true, force: true });
  };
  return { ground, noBackups, folder, pve, url, inside, network, machine, weather, clock: hostClock(pve), close };
}

/** Its network has a coordinator somewhere else, which the administrator's machine knows. */
export async function worldWithNetwork(ground: Ground, options: { noBackups?: boolean } = {}): Promise<World> {
  const world = await openWorld(ground, undefined, options.noBackups);
  const urls = ["https://203.0.113.99:443"];
  world.inside.elsewhere = true;
  world.machine.record = { urls, adminUrls: urls, publicKey: `${"A".repeat(43)}=`, tlsFingerprint: "AA" };
  world.machine.token = "token";
  return world;
}

/** Time passes at once, but never past a task of the host that still runs. */
function hostClock(pve: Pve): Clock {
  let now = 0;
  return {
    wall: () => 1_700_000_000_000 + now,
    now: () => now,
    async sleep(duration, signal) {
      signal?.throwIfAborted();
      while (pve.tasks.list().some(({ state }) => state.kind === "running")) await delay(3);
      now += duration;
    },
  };
}

/** Starts and stops models: their disks are real directories, so the host key is the one that the create task made. */
export class ModelRuntime implements Runtime {
  readonly containers = new Map<number, ModelContainer>();
  /** Where the disk of each is. */
  readonly #roots = new Map<number, string>();
  /** By MAC address, as a DHCP server has them. */
  readonly #leases = new Map<string, Ip>();
  readonly #network: ModelNetwork;
  /** The coordinator is not in a container of this host. */
  elsewhere = false;
  kernelWireguard = true;

  constructor(network: ModelNetwork) {
    this.#network = network;
  }

  running(vmid: number): Running | undefined {
    if (this.containers.get(vmid)?.running !== true) return undefined;
    return { pid: 4_000 + vmid, uptimeSeconds: 1, memoryBytes: 1, cpuSeconds: 0, receivedBytes: 0, sentBytes: 0 };
  }

  async start(vmid: number, root: string, options: Record<string, string>): Promise<void> {
    const network = this.elsewhere ? this.#network : undefined;
    const hostKey = readFileSync(join(root, KEY_FILE), "utf8");
    const container = new ModelContainer({ vmid, ...options }, this.kernelWireguard, { hostKey, network });
    if (existsSync(join(root, STATE_FILE))) container.load(readFileSync(join(root, STATE_FILE), "utf8"));
    const mac = splitOption(options.net0 ?? "").hwaddr ?? "";
    container.address = this.#leases.get(mac) ?? this.#freeAddress(container.address);
    this.#leases.set(mac, container.address);
    this.#roots.set(vmid, root);
    this.containers.set(vmid, container);
    container.start();
  }

  #freeAddress(wanted: Ip): Ip {
    const taken = new Set(this.#leases.values());
    for (let last = 200; taken.has(wanted); last++) wanted = parseIp(`198.18.77.${last}`);
    return wanted;
  }

  /** Every container of another world, and its address. */
  takeOver(from: ModelRuntime, placed: (root: string) => string): void {
    this.kernelWireguard = from.kernelWireguard;
    for (const [vmid, container] of from.containers)
      this.containers.set(vmid, container.copy(this.elsewhere ? this.#network : undefined));
    for (const [vmid, root] of from.#roots) this.#roots.set(vmid, placed(root));
    for (const [mac, ip] of from.#leases) this.#leases.set(mac, ip);
  }

  /** What is inside is on the disk from here on. */
  #flush(vmid: number): void {
    const [root, container] = [this.#roots.get(vmid), this.containers.get(vmid)];
    if (root !== undefined && container?.running === true) writeFileSync(join(root, STATE_FILE), container.saved());
  }

  async kill(vmid: number): Promise<void> {
    this.#flush(vmid);
    this.containers.get(vmid)?.stop();
  }

  async shutdown(vmid: number): Promise<boolean> {
    await this.kill(vmid);
    return true;
  }

  async freeze(vmid: number, frozen: boolean): Promise<void> {
    if (frozen) this.#flush(vmid);
  }

  async addresses(vmid: number): Promise<string> {
    const local = this.containers.get(vmid)?.address;
    const eth0 = {
      ifname: "eth0",
      address: "bc:24:11:00:00:01",
      addr_info: [{ family: "inet", local, prefixlen: 24 }],
    };
    return JSON.stringify([eth0]);
  }

  async update(vmid: number, before: Record<string, string>, after: Record<string, string>): Promise<void> {
    const container = this.containers.get(vmid);
    container?.set(after);
    if (before.net0 === after.net0) return;
    const mac = splitOption(after.net0 ?? "").hwaddr ?? "";
    container?.readdress(this.#leases.get(mac) ?? container.address, mac);
  }

  forget(vmid: number): void {
    this.containers.delete(vmid);
  }
}
