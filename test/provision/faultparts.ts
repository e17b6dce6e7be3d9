import { createHash, randomBytes } from "node:crypto";
import { Failure } from "../../src/kit/failure.js";
import type { Admin } from "../../src/provision/admin.js";
import type { HostRequest, ProvisionParts } from "../../src/provision/parts.js";
import { connectPve } from "../../src/pve/client.js";
import type { Ran } from "../../src/sys/exec.js";
import { type HttpsRequest, openHttps } from "../../src/sys/https.js";
import type { Ssh } from "../../src/sys/ssh.js";
import type { RemoteFile } from "../../src/sys/sshpush.js";
import type { World } from "./faultworld.js";
import type { ModelNetwork } from "./modelcontainer.js";
import { stepOf, type Weather } from "./weather.js";

/** root@pam, with a ticket, in a network that is there; the token of least privilege otherwise. */
export const requestFor = ({ ground, inside }: World): HostRequest => ({
  hostName: "lab",
  login: inside.elsewhere ? "root@pam" : ground.access.token.id,
  pveNode: undefined,
  defaults: {},
});

/** A call that never answers is given up after this long here, not after half a minute. */
const HANG_DEADLINE_MS = 500;
const PATIENT_DEADLINE_MS = 120_000;

export type RunParts = ProvisionParts & { readonly closeAll: () => void };

/** One run's parts, as the command line makes them, with the weather between them and the world. */
export function runParts(world: World, weather: Weather): RunParts {
  const { machine, clock, ground } = world;
  world.weather.current = weather;
  const https = openHttps();
  const request = async (one: HttpsRequest): ReturnType<typeof https.request> => {
    const step = stepOf(`${one.method} ${new URL(one.url).pathname.replace("/api2/json", "")}`);
    await weather.ask(step);
    // All others have the time they need, or a busy machine would end the run before the fault was met.
    const hangs = weather.hit && weather.planned?.kind === "hang" && weather.planned.step === step;
    return https.request({ ...one, deadlineMs: hangs ? HANG_DEADLINE_MS : PATIENT_DEADLINE_MS }).then(
      (reply) => weather.heard(reply),
      async (error: unknown) => {
        await weather.heard(undefined);
        throw error;
      },
    );
  };
  const here = async (step: string, act: () => void): Promise<void> => {
    const kind = await weather.ask(`here ${step}`);
    act();
    if (kind === "kill-after") await weather.die();
  };
  const { access, certificate } = ground;
  const { login } = requestFor(world);
  const secret = login === access.token.id ? access.token.secret : access.rootPassword;
  const host = connectPve(
    { https: { ...https, request }, clock },
    { url: world.url, fingerprint: certificate.fingerprint, login, secret },
  );
  return {
    host,
    clock,
    random: (length) => new Uint8Array(randomBytes(length)),
    files: {
      read: async () => undefined,
      readText: async (path) => machine.files.get(path),
      write: (path, content) => here("write the journal", () => void machine.files.set(path, String(content))),
      remove: (path) => here("remove the journal", () => void machine.files.delete(path)),
      list: async () => [],
    },
    journalFolder: "/state/journal",
    openSsh: (target) => openModelSsh(world, weather, target),
    sshKey: {
      privateKey: "private",
      publicKey: "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA6vWQHfTT8+6ptV97vr2FO7M+Vocn/BEqLTsdSCw5xv exitnode",
    },
    sha256: (content) => createHash("sha256").update(content).digest("hex"),
    payload: async () => ground.payload,
    appliance: async () => ground.appliance,
    book: {
      record: async () => machine.record,
      keep: (record) =>
        here("keep the record", () => {
          machine.record = record;
        }),
      drop: () =>
        here("drop the record", () => {
          machine.record = undefined;
          machine.token = undefined;
        }),
      adminToken: async () => {
        machine.token ??= "token";
        return machine.token;
      },
      admin: async () => (world.inside.elsewhere ? modelAdmin(world.network, weather) : NO_ADMIN),
    },
    progress: { step: (_words, run) => run(() => {}) },
    signal: new AbortController().signal,
    closeAll: () => https.close(),
  };
}

const unreachable = (): Promise<never> =>
  Promise.reject(new Failure("coordinator-unreachable", "no coordinator answers", { advice: "exitnode list" }));
const NO_ADMIN: Admin = { createKey: unreachable, devices: unreachable, forget: unreachable };

/** The coordinator elsewhere, over HTTPS: what a lost answer and a refusal look like from cli/admin.ts. */
function modelAdmin(network: ModelNetwork, weather: Weather): Admin {
  const asked = async <T>(step: string, act: () => T): Promise<T> => {
    const kind = await weather.ask(`coordinator ${step}`);
    if (kind === "lost-before") return unreachable();
    if (kind === "500") throw new Failure("internal", "the coordinator failed");
    if (kind === "401") throw new Failure("admin-token-refused", "the coordinator refused the admin token");
    const value = act();
    if (kind === "kill-after") return weather.die();
    if (kind === "lost-after") throw new Failure("connection-lost", "the connection to the coordinator broke");
    if (kind === "hang") throw new Failure("deadline-exceeded", "no answer from the coordinator");
    return value;
  };
  return {
    createKey: (request) =>
      asked("create a key", () => ({
        id: "k1",
        role: request.role,
        reusable: false,
        ...{ tags: [], ephemeral: false, preapproved: false },
        createdAtMs: 0,
        expiresAtMs: 1,
        state: "valid",
        joinKey: network.makeKey(),
      })),
    devices: () => asked("list devices", () => [...network.devices]),
    forget: (id) => asked("forget a device", () => network.forget(id)),
  };
}

async function openModelSsh(
  world: World,
  weather: Weather,
  target: Parameters<ProvisionParts["openSsh"]>[0],
): Promise<Ssh> {
  const kind = await weather.ask("ssh open");
  if (kind !== undefined && kind !== "kill-after")
    throw new Failure("ssh-unreachable", `cannot reach ${target.address} over SSH`);
  const container = [...world.inside.containers.values()].find((one) => one.running && one.address === target.address);
  if (container === undefined) throw new Failure("ssh-unreachable", `cannot reach ${target.address} over SSH`);
  if (container.hostKey !== target.hostKey) throw new Failure("host-key-mismatch", "another host key");
  if (kind === "kill-after") return weather.die();
  const inside = container.open();
  let lost = false;
  const lose = (): never => {
    lost = true;
    throw new Failure("exec-failed", "cannot run it over SSH: the connection was lost");
  };
  const stepped = async <T>(
    step: string,
    act: () => Promise<T>,
    otherwise: { readonly refused: () => T; readonly half?: () => Promise<unknown> },
  ): Promise<T> => {
    if (lost) throw new Failure("exec-failed", "cannot run it over SSH: Not connected");
    const bad = await weather.ask(`ssh ${step}`);
    if (bad === "lost-before") return lose();
    if (bad === "refused") return otherwise.refused();
    if (bad === "lost-half") {
      await otherwise.half?.();
      return lose();
    }
    const value = await act();
    if (bad === "kill-after") return weather.die();
    if (bad === "lost-after") return lose();
    if (bad === "hang") throw new Failure("exec-failed", "cannot run it over SSH: no end after 60000 ms");
    return value;
  };
  const failed: Ran = { exitCode: 1, stdout: "", stderr: "it did not go well" };
  return {
    run: (argv, options) => {
      const looks = String(options?.input ?? "").includes("#exn-section#");
      const step = looks ? "look" : argv.join(" ").split("\n").slice(0, 3).join("; ");
      return stepped(step, () => inside.run(argv, options), { refused: () => failed });
    },
    push: (files: readonly RemoteFile[]) =>
      stepped(`push ${files.length} files`, () => inside.push(files), {
        refused: () => {
          throw new Failure("command-failed", "sh exited 1: No space left on device");
        },
        half: () => inside.push(files.slice(0, files.length / 2)),
      }),
    close() {},
  };
}
