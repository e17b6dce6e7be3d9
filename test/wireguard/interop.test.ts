import assert from "node:assert/strict";
import { type ChildProcessWithoutNullStreams, execFileSync, spawn } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { after, before, describe, type TestContext, test } from "node:test";
import { fileURLToPath } from "node:url";
import { keyPairOf } from "../../src/kit/crypto.js";
import { type Key, keyOf } from "../../src/kit/key.js";
import { removeNamespace } from "../engine/removenamespace.js";
import type { HarnessWant } from "./harness.js";
import { bytesOf, chanceOf, presharedKeyOf } from "./world.js";

/** Our device in one namespace against wireguard-go and the kernel's TUN in another. */

const OURS = "exn-wg-a";
const THEIRS = "exn-wg-b";
const INTERFACE = "exnwg0";
const DEADLINE_MS = 60_000;
const able = process.getuid?.() === 0 && existsSync("/dev/net/tun") && existsSync("/usr/bin/wireguard-go");

function run(command: string): string {
  const [program = "", ...args] = command.split(" ");
  return execFileSync(program, args, {
    encoding: "utf8",
    stdio: "pipe",
    timeout: DEADLINE_MS,
  });
}

/** A child in a namespace whose output is awaited line by line, and which is dead after `stop`. */
class Program {
  readonly #child: ChildProcessWithoutNullStreams;
  readonly #seen: string[] = [];
  readonly #waiting = new Set<() => void>();

  constructor(namespace: string, argv: readonly string[], env: NodeJS.ProcessEnv = process.env) {
    this.#child = spawn("ip", ["netns", "exec", namespace, ...argv], { env });
    for (const stream of [this.#child.stdout, this.#child.stderr])
      createInterface({ input: stream }).on("line", (line) => {
        this.#seen.push(line);
        for (const check of [...this.#waiting]) check();
      });
  }

  write(line: string): void {
    this.#child.stdin.write(`${line}\n`);
  }

  count(text: string): number {
    return this.#seen.filter((line) => line.includes(text)).length;
  }

  until(text: string, times = 1): Promise<void> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        reject(new Error(`no "${text}" (${times} times) in:\n${this.#seen.join("\n")}`));
      }, DEADLINE_MS);
      const check = (): void => {
        if (this.count(text) < times) return;
        clearTimeout(timer);
        this.#waiting.delete(check);
        resolve();
      };
      this.#waiting.add(check);
      check();
    });
  }

  async stop(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const gone = new Promise<void>((resolve) => this.#child.once("exit", () => resolve()));
    this.#child.kill("SIGTERM");
    await gone;
  }
}

function cleanUp(): void {
  for (const name of [OURS, THEIRS]) removeNamespace(name);
}

async function startTheirs(
  t: TestContext,
  privateKey: Key,
  peer: { publicKey: Key; presharedKey?: Key; endpoint?: string },
): Promise<void> {
  const env = { ...process.env, WG_PROCESS_FOREGROUND: "1", LOG_LEVEL: "verbose" };
  const theirs = new Program(THEIRS, ["wireguard-go", INTERFACE], env);
  t.after(() => theirs.stop());
  await theirs.until("UAPI listener started");
  const config = [
    "[Interface]",
    `PrivateKey = ${privateKey}`,
    "ListenPort = 51820",
    "[Peer]",
    `PublicKey = ${peer.publicKey}`,
    ...(peer.presharedKey === undefined ? [] : [`PresharedKey = ${peer.presharedKey}`]),
    ...(peer.endpoint === undefined ? [] : [`Endpoint = ${peer.endpoint}`]),
    "AllowedIPs = 10.77.0.1/32",
  ];
  const folder = mkdtempSync(join(tmpdir(), "exn-wg-"));
  t.after(() => rmSync(folder, { recursive: true }));
  const file = join(folder, "wg.conf");
  writeFileSync(file, `${config.join("\n")}\n`, { mode: 0o600 });
  run(`ip netns exec ${THEIRS} wg setconf ${INTERFACE} ${file}`);
  run(`ip -n ${THEIRS} address add 10.77.0.2/24 dev ${INTERFACE}`);
  run(`ip -n ${THEIRS} link set ${INTERFACE} up mtu 1420`);
}

async function startOurs(t: TestContext, want: HarnessWant): Promise<Program> {
  const harness = fileURLToPath(new URL("./harness.js", import.meta.url));
  const ours = new Program(OURS, [process.execPath, harness]);
  t.after(() => ours.stop());
  ours.write(JSON.stringify(want));
  await ours.until("ready");
  return ours;
}

describe("against wireguard-go", { skip: !able, timeout: 4 * DEADLINE_MS }, () => {
  before(() => {
    cleanUp();
    run(`ip netns add ${OURS}`);
    run(`ip netns add ${THEIRS}`);
    run(`ip -n ${OURS} link add veth0 type veth peer name veth0 netns ${THEIRS}`);
    run(`ip -n ${OURS} address add 192.0.2.1/24 dev veth0`);
    run(`ip -n ${THEIRS} address add 192.0.2.2/24 dev veth0`);
    for (const name of [OURS, THEIRS]) {
      run(`ip -n ${name} link set lo up`);
      run(`ip -n ${name} link set veth0 up`);
    }
  });
  after(cleanUp);

  const random = bytesOf(chanceOf(21));
  const pairOf = (): { privateKey: Key; publicKey: Key } => {
    const { privateKey, publicKey } = keyPairOf(random(32));
    return { privateKey: keyOf(privateKey), publicKey: keyOf(publicKey) };
  };

  for (const presharedKey of [undefined, presharedKeyOf(22)]) {
    const secret = presharedKey === undefined ? {} : { presharedKey };
    const how = presharedKey === undefined ? "without a preshared key" : "with a preshared key";
    const a = pairOf();
    const b = pairOf();
    const want: HarnessWant = {
      listen: "192.0.2.1:51820",
      privateKey: a.privateKey,
      peer: { publicKey: b.publicKey, ...secret, allowedIps: ["10.77.0.2/32"] },
      own: "10.77.0.1",
      other: "10.77.0.2",
    };

    test(`as initiator ${how}: its kernel answers our echo requests`, async (t) => {
      await startTheirs(t, b.privateKey, { publicKey: a.publicKey, ...secret });
      const ours = await startOurs(t, { ...want, peer: { ...want.peer, endpoint: "192.0.2.2:51820" } });
      for (let sequence = 1; sequence <= 3; sequence++) {
        ours.write("ping");
        await ours.until("reply", sequence);
      }
      assert.equal(ours.count("datagram 2 "), 1, "one response");
      assert.equal(ours.count("datagram 1 "), 0, "no initiation of theirs");
    });

    test(`as responder ${how}: its ping reaches us and is answered`, async (t) => {
      const ours = await startOurs(t, want);
      await startTheirs(t, b.privateKey, {
        publicKey: a.publicKey,
        ...secret,
        endpoint: "192.0.2.1:51820",
      });
      const ping = new Program(THEIRS, ["ping", "-c", "3", "-i", "0.2", "-W", "20", "-s", "1392", "10.77.0.1"]);
      t.after(() => ping.stop());
      await ping.until("3 received");
      assert.equal(ours.count("datagram 1 "), 1, "one initiation");
    });
  }
});
