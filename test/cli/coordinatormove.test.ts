import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { putBackup, takeBackup } from "../../src/cli/backupstore.js";
import { type CoordinatorMachine, moveCoordinator } from "../../src/cli/coordinatormove.js";
import { Failure } from "../../src/kit/failure.js";
import { systemClock } from "../../src/sys/clock.js";
import type { CoordinatorStatus } from "../../src/wire/adminapi.js";
import { TestDevice } from "../coordinator/bench.js";
import { freePort } from "../coordinator/freeport.js";
import { CoordinatorProcess } from "../coordinator/process.js";

/** Machines are folders with a real coordinator each; devices are real clients of the control channel. */
const LIMIT = { timeout: 240_000 };
let folder: string;
const processes: CoordinatorProcess[] = [];
const devices: TestDevice[] = [];
before(async () => {
  folder = await mkdtemp(join(tmpdir(), "exn-move-"));
});
after(async () => {
  for (const device of devices) device.stop();
  await Promise.all(devices.map(({ stopped }) => stopped));
  await Promise.all(processes.map((one) => one.end()));
  await rm(folder, { recursive: true, force: true });
});

async function machine(name: string): Promise<CoordinatorMachine & { readonly process: CoordinatorProcess }> {
  const home = join(folder, name);
  const places = { etc: home, var: home, run: home };
  const process = await CoordinatorProcess.start({ folder: home, port: await freePort(), store: { kind: "sqlite" } });
  processes.push(process);
  return {
    where: name,
    process,
    status: async () => (await process.call("GET", "/status")) as CoordinatorStatus,
    away: async () => (await process.devices()).filter(({ online }) => !online).map((device) => device.name),
    async put(urls) {
      await process.end("SIGTERM");
      process.configure(urls);
      await process.start();
    },
    stop: () => process.end("SIGTERM"),
    start: () => process.start(),
    backup: async () => (await takeBackup(places, Date.now())).bytes,
    async restore(backup) {
      await process.end("SIGTERM");
      await putBackup(places, backup, Date.now());
      await process.start();
    },
  };
}

/** Tries what its map names and then what it was told when it joined, as an agent does. */
async function joined(at: CoordinatorProcess, name: string): Promise<TestDevice> {
  let device: TestDevice | undefined;
  const reachable = {
    port: at.port,
    publicKey: at.publicKey,
    get urls(): readonly string[] {
      return [...new Set([...(device?.map?.coordinatorUrls ?? []), at.url])];
    },
  };
  device = new TestDevice(reachable, name, await at.key({ role: "device" }));
  devices.push(device);
  return device.until(({ map }) => map !== undefined);
}

const progress = { step: <T>(_words: string, run: (note: () => void) => Promise<T>) => run(() => undefined) };
const parts = { progress, clock: systemClock, signal: new AbortController().signal };

test("devices that are there follow a coordinator to another machine and another URL", LIMIT, async () => {
  const [from, to] = [await machine("old"), await machine("new")];
  const [one, two] = [await joined(from.process, "one"), await joined(from.process, "two")];
  await one.sees("two");
  const { publicKey } = from.process;
  const moved = await moveCoordinator(parts, from, to, [to.process.url], false);
  assert.equal(moved.status.publicKey, publicKey);
  assert.deepEqual(moved.away, []);
  await Promise.all([one, two].map((device) => device.until(({ states }) => isAt(states.at(-1), to.process.url))));
  await Promise.all([one.sees("two"), two.sees("one")]);
  await assert.rejects(from.status(), "the old one is stopped");
});

test("a device that is away keeps a coordinator where it is, unless one insists", LIMIT, async () => {
  const [from, to] = [await machine("home"), await machine("cloud")];
  const gone = await joined(from.process, "gone");
  gone.stop();
  await gone.stopped;
  const staying = await joined(from.process, "staying");
  await staying.until(({ map }) => map?.peers.some((peer) => peer.name === "gone" && !peer.online) === true);
  const url = to.process.url;
  await assert.rejects(moveCoordinator(parts, from, to, [url], false), { code: "devices-away" });
  assert.deepEqual((await from.status()).urls, [from.process.url], "nothing was begun");
  assert.deepEqual((await moveCoordinator(parts, from, to, [url], true)).away, ["gone"]);
});

test("when the new machine fails, the old coordinator runs again", LIMIT, async () => {
  const [from, to] = [await machine("good"), await machine("bad")];
  const device = await joined(from.process, "device");
  const bad: CoordinatorMachine = {
    ...to,
    restore: async () => {
      throw new Failure("disk-full", "no space is left on bad");
    },
  };
  await assert.rejects(moveCoordinator(parts, from, bad, [to.process.url], false), { code: "disk-full" });
  await device.until(({ states }) => isAt(states.at(-1), from.process.url));
  assert.equal((await from.status()).publicKey, from.process.publicKey);
  await assert.rejects(to.status(), "only one of them runs");
});

function isAt(state: TestDevice["states"][number] | undefined, url: string): boolean {
  return state?.connected === true && state.url === url;
}
