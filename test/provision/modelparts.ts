import { createHash } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { Failure } from "../../src/kit/failure.js";
import type { CoordinatorRecord, HostRequest, ProvisionParts } from "../../src/provision/parts.js";
import type { Clock } from "../../src/sys/clock.js";
import type { Files } from "../../src/sys/files.js";
import type { ModelProxmox } from "./modelhost.js";

/** The administrator's machine: what outlives a killed run. */
export class ModelMachine {
  readonly files = new Map<string, string>();
  record: CoordinatorRecord | undefined;
  token: string | undefined;
  appliance: { name: string; sizeBytes: number } | undefined = {
    name: "debian-13-exitnode_0.1.0-1_amd64.tar.zst",
    sizeBytes: 60_000_000,
  };
}

/** Thrown by every part once the run was killed: nothing of it goes on. */
export class Killed extends Error {}

/** Counts what changes the world; the run dies at the chosen one, before it is done or after. */
export type Death = { readonly at: number; readonly when: "before" | "after"; count: number; dead: boolean };

const WRITES = new Set(["create", "start", "stop", "shutdown", "destroy", "setConfig", "upload", "push"]);

export async function modelParts(proxmox: ModelProxmox, machine: ModelMachine, death?: Death): Promise<ProvisionParts> {
  const mortal = <T>(write: boolean, act: () => Promise<T>): Promise<T> => passing(death, write, act);
  const payload = await readPayload();
  const host = proxmox.client();
  const hostParts = Object.fromEntries(
    Object.entries(host).map(([name, call]) => [
      name,
      (...given: unknown[]) => mortal(WRITES.has(name), async () => (call as (...all: unknown[]) => unknown)(...given)),
    ]),
  ) as unknown;
  let now = 0;
  const clock: Clock = {
    wall: () => 1_700_000_000_000 + now,
    now: () => now,
    sleep: async (duration) => {
      now += duration;
    },
  };
  const files: Files = {
    read: async () => undefined,
    readText: async (path) => machine.files.get(path),
    write: (path, content) => mortal(true, async () => void machine.files.set(path, String(content))),
    remove: async (path) => void machine.files.delete(path),
    list: async () => [],
  };
  let bytes = 0;
  return {
    host: hostParts as ProvisionParts["host"],
    clock,
    files,
    random: (length) => new Uint8Array(length).fill(++bytes + machine.files.size),
    journalFolder: "/state/journal",
    sshKey: { privateKey: "private", publicKey: "ssh-ed25519 AAAA exitnode" },
    sha256: (content) => createHash("sha256").update(content).digest("hex"),
    payload: async () => payload,
    appliance: async () =>
      machine.appliance === undefined
        ? undefined
        : { ...machine.appliance, path: "/cache/a", unpackedBytes: 1, sha512: "00" },
    openSsh: async (target) => {
      const container = [...proxmox.containers.values()].find((one) => one.running && one.address === target.address);
      if (container === undefined) throw new Failure("ssh-unreachable", `cannot reach ${target.address}`);
      if (container.hostKey !== target.hostKey) throw new Failure("host-key-mismatch", "another host key");
      const ssh = container.open();
      const looks = (input: unknown): boolean => typeof input === "string" && input.includes("#exn-section#");
      return {
        run: (argv, options) => mortal(!looks(options?.input), () => ssh.run(argv, options)),
        push: (pushed) => mortal(true, () => ssh.push(pushed)),
        close() {},
      };
    },
    book: {
      record: async () => machine.record,
      keep: (record) =>
        mortal(true, async () => {
          machine.record = record;
        }),
      drop: async () => {
        machine.record = undefined;
        machine.token = undefined;
      },
      adminToken: async () => {
        machine.token ??= "token";
        return machine.token;
      },
      admin: async () => {
        const unreachable = () => Promise.reject(new Failure("coordinator-unreachable", "no coordinator answers"));
        return { createKey: unreachable, devices: unreachable, forget: unreachable };
      },
    },
    progress: { step: (_words, run) => run(() => {}) },
    signal: new AbortController().signal,
  };
}

async function passing<T>(death: Death | undefined, write: boolean, act: () => Promise<T>): Promise<T> {
  if (death === undefined) return act();
  if (death.dead) throw new Killed("killed");
  if (!write) return act();
  const mine = ++death.count === death.at;
  if (mine && death.when === "before") {
    death.dead = true;
    throw new Killed("killed");
  }
  const value = await act();
  if (mine) {
    death.dead = true;
    throw new Killed("killed");
  }
  return value;
}

export const REQUEST: HostRequest = { hostName: "lab", login: "root@pam", pveNode: undefined, defaults: {} };

export async function readPayload(): Promise<Awaited<ReturnType<ProvisionParts["payload"]>>> {
  let root = dirname(fileURLToPath(import.meta.url));
  while (!(await readdir(root)).includes("templates")) root = dirname(root);
  const folder = join(root, "templates");
  const templates: Record<string, string> = {};
  for (const name of await readdir(folder)) templates[name] = await readFile(join(folder, name), "utf8");
  const names = ["agent.js", "coordinator.js", "koffi.node", "libsql.node", "package.json"];
  const bundles = Object.fromEntries(names.map((name) => [name, new TextEncoder().encode(name)]));
  const sum = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");
  return {
    version: "0",
    templates,
    bundles,
    bundleSha256: Object.fromEntries(Object.entries(bundles).map(([name, bytes]) => [name, sum(bytes)])),
  };
}
