import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { createSocket } from "node:dgram";
import { toBase64, toHex } from "../../src/kit/bytes.js";
import { keyPairOf } from "../../src/kit/crypto.js";
import type { Millis } from "../../src/kit/time.js";
import { CookieJar } from "../../src/wireguard/cookie.js";
import type { Device, Effect } from "../../src/wireguard/device.js";
import { hex } from "./hex.js";
import { echoReplyTo, echoRequest } from "./icmp.js";
import {
  deviceOf,
  OUR_ADDRESS,
  OUR_ENDPOINT,
  type Step,
  THEIR_ADDRESS,
  THEIR_ENDPOINT,
  type Transcript,
} from "./transcript.js";

/**
 * Records conversations of our device with wireguard-go on the loopback of a network namespace, for
 * test/data/wireguard/transcripts.json. As root, after scripts/t built the tests:
 *
 *   ip netns add exn-record && ip -n exn-record link set lo up
 *   ip netns exec exn-record node build/test/wireguard/recordtranscript.js > test/data/wireguard/transcripts.json
 *   ip netns delete exn-record
 */
const INTERFACE = "exnrecord";
const PATIENCE_MS = 5_000;
/** wireguard-go is under load while an eighth of its queue of 1,024 handshake messages is taken. */
const FLOOD = 3_000;

/** The sender index of the flood: cookies for it are not for us. */
const NOBODY = [0xff, 0xff, 0xff, 0xff];

const secret = (): string => toHex(randomBytes(32));

class Recording {
  readonly steps: Step[] = [];
  readonly secrets = {
    ourPrivateKey: secret(),
    theirPrivateKey: secret(),
    presharedKey: secret(),
    ephemerals: [secret(), secret()],
    indices: [toHex(randomBytes(4)), toHex(randomBytes(4))],
  };
  readonly #socket = createSocket("udp4");
  readonly #arrived: Uint8Array[] = [];
  #wallMs: Millis = 0;
  readonly #device: Device;
  #theirs: ChildProcess | undefined;
  #wake = (): void => {};

  constructor() {
    this.time(Date.now());
    this.#device = deviceOf(this.secrets, () => this.#wallMs);
    this.#socket.on("message", (datagram) => {
      if (datagram.subarray(4, 8).equals(Uint8Array.of(...NOBODY))) return;
      this.#arrived.push(new Uint8Array(datagram));
      this.#wake();
    });
  }

  async start(): Promise<void> {
    await new Promise<void>((resolve) => this.#socket.bind(OUR_ENDPOINT.port, OUR_ENDPOINT.address, resolve));
    const env = { ...process.env, WG_PROCESS_FOREGROUND: "1", LOG_LEVEL: "verbose" };
    const theirs = spawn("wireguard-go", [INTERFACE], { env, stdio: ["ignore", "pipe", "inherit"] });
    this.#theirs = theirs;
    await new Promise<void>((resolve) => {
      theirs.stdout.on("data", (chunk) => String(chunk).includes("UAPI listener started") && resolve());
    });
    const config = [
      "[Interface]",
      `PrivateKey = ${toBase64(hex(this.secrets.theirPrivateKey))}`,
      `ListenPort = ${THEIR_ENDPOINT.port}`,
      "[Peer]",
      `PublicKey = ${toBase64(keyPairOf(hex(this.secrets.ourPrivateKey)).publicKey)}`,
      `PresharedKey = ${toBase64(hex(this.secrets.presharedKey))}`,
      `Endpoint = ${OUR_ENDPOINT.address}:${OUR_ENDPOINT.port}`,
      `AllowedIPs = ${OUR_ADDRESS}/32`,
      "",
    ];
    // A pipe, because what node hands a child as its input is a socket, which cannot be opened by name.
    execFileSync("sh", ["-c", `cat | wg setconf ${INTERFACE} /dev/stdin`], { input: config.join("\n") });
    execFileSync("ip", ["address", "add", `${THEIR_ADDRESS}/24`, "dev", INTERFACE]);
    execFileSync("ip", ["link", "set", INTERFACE, "up", "mtu", "1420"]);
  }

  async stop(): Promise<void> {
    this.#socket.close();
    const gone = new Promise((resolve) => this.#theirs?.once("exit", resolve));
    this.#theirs?.kill("SIGTERM");
    await gone;
  }

  time(wallMs: Millis): void {
    this.#wallMs = wallMs;
    this.steps.push({ kind: "time", wallMs });
  }

  packetOut(packet: Uint8Array): void {
    this.steps.push({ kind: "packet out", hex: toHex(packet) });
    this.#carry(this.#device.send(packet, this.#wallMs));
  }

  tick(): void {
    this.#carry(this.#device.tick(this.#wallMs));
  }

  /** Their next datagram, which must be of this type, and what our device makes of it. */
  async datagramIn(type: number): Promise<Uint8Array | undefined> {
    const datagram = await this.#next();
    if (datagram[0] !== type) throw new Error(`expected a message of type ${type}, got ${toHex(datagram)}`);
    this.steps.push({ kind: "datagram in", hex: toHex(datagram) });
    return this.#carry(this.#device.receive(datagram, THEIR_ENDPOINT, this.#wallMs));
  }

  async flood(): Promise<void> {
    const jar = new CookieJar(keyPairOf(hex(this.secrets.theirPrivateKey)).publicKey);
    for (let i = 0; i < FLOOD; i++) {
      const junk = new Uint8Array(randomBytes(148));
      junk.set([1, 0, 0, 0, ...NOBODY]);
      jar.sign(junk, 0);
      await this.#send(junk, i === FLOOD - 1);
    }
    // The queue has room again long before the load is forgotten, a second after it was last seen.
    await new Promise((resolve) => setTimeout(resolve, 300));
  }

  #carry(effects: readonly Effect[]): Uint8Array | undefined {
    let delivered: Uint8Array | undefined;
    for (const effect of effects)
      if (effect.kind === "send") {
        this.steps.push({ kind: "datagram out", hex: toHex(effect.datagram) });
        void this.#send(effect.datagram, false);
      } else {
        this.steps.push({ kind: "packet in", hex: toHex(effect.packet) });
        delivered = effect.packet;
      }
    return delivered;
  }

  #send(datagram: Uint8Array, wait: boolean): Promise<void> {
    return new Promise((resolve) => {
      this.#socket.send(datagram, THEIR_ENDPOINT.port, THEIR_ENDPOINT.address, () => resolve());
      if (!wait) resolve();
    });
  }

  async #next(): Promise<Uint8Array> {
    const until = Date.now() + PATIENCE_MS;
    while (this.#arrived.length === 0) {
      if (Date.now() >= until) throw new Error("wireguard-go keeps silent");
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
        setTimeout(resolve, 100);
      });
    }
    return this.#arrived.shift() ?? new Uint8Array();
  }
}

async function record(name: string, conversation: (recording: Recording) => Promise<void>): Promise<Transcript> {
  const recording = new Recording();
  await recording.start();
  try {
    await conversation(recording);
    return { name, ...recording.secrets, steps: recording.steps };
  } finally {
    await recording.stop();
  }
}

const request = echoRequest(OUR_ADDRESS, THEIR_ADDRESS, 1);

const transcripts = [
  await record("we begin", async (recording) => {
    recording.packetOut(request);
    await recording.datagramIn(2);
    await recording.datagramIn(4);
  }),
  await record("wireguard-go begins", async (recording) => {
    const ping = spawn("ping", ["-c", "1", "-W", "5", OUR_ADDRESS], { stdio: "ignore" });
    await recording.datagramIn(1);
    const asked = await recording.datagramIn(4);
    const reply = asked === undefined ? undefined : echoReplyTo(asked);
    if (reply === undefined) throw new Error("no echo request came");
    recording.packetOut(reply);
    const exitCode = await new Promise((resolve) => ping.once("exit", resolve));
    if (exitCode !== 0) throw new Error("ping took no reply");
  }),
  await record("wireguard-go is under load", async (recording) => {
    await recording.flood();
    recording.packetOut(request);
    await recording.datagramIn(3);
    recording.time(Date.now() + 5_000);
    await recording.flood();
    recording.tick();
    await recording.datagramIn(2);
    await recording.datagramIn(4);
  }),
];
process.stdout.write(`${JSON.stringify(transcripts, undefined, 1)}\n`);
