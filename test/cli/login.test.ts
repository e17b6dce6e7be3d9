import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { chmodSync, existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import * as z from "zod";
import { localExec, mustRun } from "../../src/sys/exec.js";
import { agentStatus } from "../../src/wire/agentsocket.js";
import { cannotShip, program, type Ran, run } from "../e2e/world.js";
import { until } from "../engine/patience.js";
import { must, placeOf, removePlaces, stop } from "../engine/places.js";

/** `exitnode up --login` as a person types it: the shipped program, its agent, a coordinator, a real identity provider. */
const LIMIT = { timeout: 300_000, skip: cannotShip };
const [MACHINE, NETWORK] = ["exn-ky-lm", "exn-ky-ln"];
const ADDRESS = "192.0.2.1";
const DAY_MS = 24 * 3_600_000;
const said = z.object({ url: z.string(), publicKey: z.string(), issuer: z.string(), folder: z.string() });

const machine = placeOf(MACHINE);
const folder = mkdtempSync(join(tmpdir(), "exn-ky-up-"));
const env = Object.fromEntries(
  ["etc", "var", "run"].map((name) => [`EXITNODE_${name.toUpperCase()}`, join(folder, name)]),
);
let network: ChildProcess;
let there: z.infer<typeof said>;
const answers: ((line: string) => void)[] = [];

before(async () => {
  chmodSync(folder, 0o755); // the agent is another user
  removePlaces(MACHINE, NETWORK);
  for (const name of [MACHINE, NETWORK]) await mustRun(localExec, ["ip", "netns", "add", name]);
  const place = placeOf(NETWORK);
  await must(place, `ip link add wire type veth peer name wire netns ${MACHINE}`);
  await must(place, `ip address add ${ADDRESS}/24 dev wire`);
  await must(machine, "ip address add 192.0.2.2/24 dev wire");
  for (const one of [place, machine]) await must(one, "ip -batch -", "link set lo up\nlink set wire up\n");
  const path = fileURLToPath(new URL("loginnetwork.js", import.meta.url));
  network = spawn("ip", ["netns", "exec", NETWORK, process.execPath, "--enable-source-maps", path, ADDRESS], {
    stdio: ["pipe", "pipe", "inherit"],
  });
  if (network.stdout !== null)
    createInterface({ input: network.stdout }).on("line", (line) => {
      if (line.startsWith("= ")) answers.shift()?.(line.slice(2));
    });
  there = said.parse(JSON.parse(await nextLine()));
}, LIMIT);
after(async () => {
  await typed("down");
  network.stdin?.end();
  await new Promise((resolve) => (network.exitCode === null ? network.once("exit", resolve) : resolve(undefined)));
  await stop(network);
  removePlaces(MACHINE, NETWORK);
  rmSync(folder, { recursive: true, force: true });
});

const nextLine = (): Promise<string> => new Promise((resolve) => answers.push(resolve));

async function ask(request: object): Promise<unknown> {
  const answered = nextLine();
  network.stdin?.write(`${JSON.stringify(request)}\n`);
  return JSON.parse(await answered);
}

/** The program on the machine, which trusts the coordinator's certificate as a browser would. */
function typed(...argv: readonly string[]): Promise<Ran> {
  return typedAnd(() => undefined, ...argv);
}

function typedAnd(heard: (text: string) => void, ...argv: readonly string[]): Promise<Ran> {
  const trusting = { NODE_EXTRA_CA_CERTS: join(there.folder, "tls.crt") };
  return run(["ip", "netns", "exec", MACHINE, process.execPath, program, ...argv], {
    ...{ env: { ...env, ...trusting }, heard, timeoutMs: 120_000 },
  });
}

/** `up` with a person who does what it says. */
async function signedIn(login: string, ...argv: readonly string[]): Promise<Ran & { readonly shown: string }> {
  let shown = "";
  let confirmed: Promise<unknown> | undefined;
  const ran = await typedAnd(
    (text) => {
      shown += text;
      const [, url, code] = /(https:\/\/\S+)\s+and compare the code: +(\S+)/.exec(shown) ?? [];
      if (url !== undefined && code !== undefined) confirmed ??= ask({ do: "confirm", url, code, login });
    },
    ...argv,
  );
  assert.equal(await confirmed, 200, `${shown}${ran.stdout}`);
  return { ...ran, shown };
}

const status = async () => agentStatus.parse(JSON.parse((await typed("status", "--json")).stdout));

test("somebody who may not sign in is refused, and the machine is as it was", LIMIT, async () => {
  const { code, stderr } = await signedIn("mallory", "up", "--login", there.url, "--name", "laptop");
  assert.equal(code, 1, stderr);
  assert.match(stderr, /the sign-in was refused/);
  assert.equal(existsSync(join(folder, "etc", "agent.yaml")), false);
  assert.doesNotMatch((await machine.exec.run(["ip", "-brief", "link"])).stdout, /exn/);
  const { devices } = z.object({ devices: z.array(z.unknown()) }).parse(await ask(call("/api/v1/devices")));
  assert.deepEqual(devices, []);
});

test("a person confirms the machine at their identity provider, and it is up as theirs", LIMIT, async () => {
  const { code, stdout, stderr, shown } = await signedIn("anna", "up", "--login", there.url, "--name", "laptop");
  assert.equal(code, 0, stderr);
  assert.ok(shown.includes(there.issuer), shown);
  assert.match(stdout, /^laptop is up: 100\.64\.0\.\d+/);
  const { coordinator, user, addresses, interface: device } = await status();
  assert.deepEqual([coordinator.connected, user], [true, "anna@example.com"]);
  const shows = async (): Promise<string> =>
    (await machine.exec.run(["ip", "-brief", "address", "show", "dev", device])).stdout;
  await until("its interface has the address", async () => (await shows()).includes(addresses[0] ?? "none"));
  const known = JSON.stringify(await ask(call("/api/v1/devices")));
  assert.match(known, /"name":"laptop".*"user":"anna@example\.com"/);
});

test("when its key has expired, up asks its person again, and the device is the same one", LIMIT, async () => {
  const { addresses } = await status();
  await ask({ do: "advance", ms: 181 * DAY_MS });
  await until("its key has expired", async () => (await status()).waiting === "key-expired");
  const { code, stderr } = await signedIn("anna", "up");
  assert.equal(code, 0, stderr);
  await until("it is let in", async () => (await status()).waiting === undefined);
  assert.deepEqual((await status()).addresses, addresses);
});

test(
  "its agent makes itself a new WireGuard key when the coordinator wants one, and is still the same device",
  LIMIT,
  async () => {
    const before = await status();
    // For a coordinator whose clock is far behind, every moment at which a key is to change is long over.
    await ask({ do: "advance", ms: -1_000 * DAY_MS });
    await ask({ ...call("/api/v1/settings", "PATCH"), body: { keyRotationMs: 30 * DAY_MS } });
    await until("another key is in use", async () => (await status()).publicKey !== before.publicKey);
    const now = await status();
    assert.deepEqual([now.coordinator.connected, now.addresses], [true, before.addresses]);
    const { devices } = z
      .object({ devices: z.array(z.object({ publicKey: z.string() })) })
      .parse(await ask(call("/api/v1/devices")));
    assert.deepEqual(devices, [{ publicKey: now.publicKey }]);
  },
);

const call = (path: string, method = "GET"): object => ({ do: "call", method, path });
