import { backoffMs, CONTROL_LIMITS } from "../../src/agent/control.js";
import { utf8 } from "../../src/kit/bytes.js";
import { keyPairOf } from "../../src/kit/crypto.js";
import type { Cidr, Ip } from "../../src/kit/ip.js";
import { type Key, keyBytes, keyOf } from "../../src/kit/key.js";
import { systemRandom } from "../../src/sys/random.js";
import { requestUnix } from "../../src/sys/unixhttp.js";
import { type BinarySocket, dialWebSocket } from "../../src/sys/websocket.js";
import { CONTROL_PROLOGUE, encodeControl, PING_INTERVAL_MS, type ToCoordinator } from "../../src/wire/control.js";
import { initiate, type Transport } from "../../src/wire/noise.js";

/**
 * The load of scripts/bench coordinator and coordinators: devices that speak the real protocol and do with a map what the bench looks
 * at. One process for all of them; commands come as messages of the parent, and each is answered by one.
 */
export type BenchCommand =
  | {
      do: "join";
      publicKey: Key;
      /** One for each coordinator; devices begin at one after the other. */
      ports: readonly number[];
      secrets: readonly { secret: string; role: string; count: number }[];
    }
  /** `across`: only peers at another coordinator count. */
  | { do: "push"; rounds: number; across?: boolean }
  | { do: "revoke"; rounds: number; socket: string }
  /** Those that are there now, or connected to that port. `together`: they wait for "back", and dial in one instant. */
  | { do: "expect-back"; from?: number; together?: boolean }
  | { do: "back" };

/** Connections being opened at the same time while joining. */
const JOINING_MAX = 64;
/** And when all come back: ten thousand machines have ten thousand processors, and this process one. */
const DIALING_MAX = 256;

let coordinator: { publicKey: Key; ports: readonly number[] };

class Device {
  readonly machineKey = keyPairOf(systemRandom(32));
  readonly publicKey = keyOf(keyPairOf(systemRandom(32)).publicKey);
  readonly name: string;
  readonly secret: string;
  /** The coordinator that it is or was connected to. */
  port: number;
  id = "";
  seq: number | undefined;
  /** When this connection's first map came. */
  mapAt: number | undefined;
  peers = new Set<string>();
  revoked = false;
  onText: ((text: string) => void) | undefined;
  #socket: BinarySocket | undefined;
  #transport: Transport | undefined;
  #reports = 0;
  #pinger: NodeJS.Timeout | undefined;

  constructor(name: string, secret: string, port: number) {
    this.name = name;
    this.secret = secret;
    this.port = port;
  }

  /** Fulfilled with the first map; rejected when the connection ends before. `lost`: it ended later. */
  connect(port: number, lost: () => void): Promise<void> {
    this.mapAt = undefined;
    return new Promise((resolve, reject) => {
      dialWebSocket(`wss://127.0.0.1:${port}/control`, {
        messageBytesMax: 1 << 24,
        timeoutMs: CONTROL_LIMITS.dialTimeoutMs,
        handshakeTimeoutMs: CONTROL_LIMITS.handshakeTimeoutMs,
        signal: new AbortController().signal,
      }).then((socket) => {
        this.#socket = socket;
        this.port = port;
        const handshake = initiate({
          local: this.machineKey,
          remotePublic: keyBytes(coordinator.publicKey),
          prologue: utf8(CONTROL_PROLOGUE),
          ephemeral: keyPairOf(systemRandom(32)),
        });
        this.#transport = undefined;
        socket.listen({
          message: (bytes) => {
            if (this.#transport === undefined) {
              this.#transport = handshake.finish(bytes);
              this.#greet();
              return;
            }
            const text = Buffer.from(this.#transport.open(bytes) ?? []).toString("utf8");
            this.#hear(text, resolve);
          },
          closed: (reason) => {
            clearInterval(this.#pinger);
            if (this.mapAt === undefined) reject(new Error(`ended before its map: ${reason}`));
            else lost();
          },
        });
        socket.send(handshake.message).catch(() => undefined);
      }, reject);
    });
  }

  /** Says that its address has changed. */
  report(): string {
    const endpoint = `203.0.113.${this.#reports % 250}:${20_000 + this.#reports++}`;
    this.#say({ type: "report", report: { ...this.#offer(), endpoints: [endpoint] } });
    return endpoint;
  }

  #greet(): void {
    this.#say({
      ...{ type: "hello", version: 1, agentVersion: "bench", name: this.name, publicKey: this.publicKey },
      ...(this.id === "" ? { joinSecret: this.secret } : {}),
      ...(this.seq === undefined ? {} : { haveSeq: this.seq }),
      speaks: ["delta"],
      report: { ...this.#offer(), endpoints: ["203.0.113.7:51820", "192.168.1.5:51820"] },
    });
    this.#pinger = setInterval(() => this.#say({ type: "ping", sentAt: Date.now() }), PING_INTERVAL_MS);
  }

  #offer(): { routes: Cidr[]; resolvers: Ip[] } {
    const isExit = this.name.startsWith("exit");
    return { routes: (isExit ? ["0.0.0.0/0", "::/0"] : []) as Cidr[], resolvers: [] };
  }

  #hear(text: string, hasMap: () => void): void {
    const kind = /^\{"type":"(\w+)"/.exec(text)?.[1];
    if (kind === "ping") this.#say({ type: "pong", sentAt: Number(/\d+/.exec(text)?.[0]) });
    else if (kind === "welcome") this.id = /"deviceId":"(\w+)"/.exec(text)?.[1] ?? "";
    else if (kind === "map" || kind === "delta") {
      const { map, delta, confirm } = JSON.parse(text);
      if (delta !== undefined && delta.base !== this.seq) this.#say({ type: "resync" });
      else {
        this.seq = (map ?? delta).seq;
        if (map !== undefined) this.peers.clear();
        for (const peer of map?.peers ?? delta.set ?? []) this.peers.add(peer.id);
        for (const id of delta?.removed ?? []) this.peers.delete(id);
        this.mapAt ??= performance.now();
        if (confirm) this.#say({ type: "applied", seq: (map ?? delta).seq });
      }
      this.onText?.(text);
      hasMap();
    }
  }

  #say(message: ToCoordinator): void {
    if (this.#transport === undefined) return;
    this.#socket?.send(this.#transport.seal(encodeControl(message))).catch(() => undefined);
  }
}

const devices: Device[] = [];
let backAt: Promise<{ seconds: number; delays: number[] }> | undefined;
let cameBack: (device: Device) => void = () => undefined;

const dialing = { max: DIALING_MAX, now: 0, waiting: [] as (() => void)[] };
const place = async (): Promise<void> => {
  if (dialing.now++ >= dialing.max) await new Promise<void>((resolve) => dialing.waiting.push(resolve));
};
const free = (): void => {
  dialing.now--;
  dialing.waiting.shift()?.();
};

/** Opened when those that are to come together may begin. */
let gate: Promise<void> | undefined;
let openGate: () => void = () => undefined;

const dials = { tried: 0, reasons: new Map<string, number>() };

/** As an agent does: the address that worked goes first, and only a round without any is followed by a pause. */
async function comeBack(device: Device): Promise<void> {
  for (let round = 0; !device.revoked; round++) {
    await (round === 0 && gate !== undefined
      ? gate
      : new Promise((resolve) => setTimeout(resolve, backoffMs(round, systemRandom))));
    const { ports } = coordinator;
    const first = ports.indexOf(device.port);
    for (const port of [...ports.slice(first), ...ports.slice(0, first)]) {
      dials.tried++;
      await place();
      const lost = (): void => void comeBack(device);
      const failed = await device.connect(port, lost).then(
        () => undefined,
        (error: Error) => error.message.replace(/^wss:\S+ /, ""),
      );
      free();
      if (failed === undefined) return cameBack(device);
      dials.reasons.set(failed, (dials.reasons.get(failed) ?? 0) + 1);
    }
  }
}

async function join(want: Extract<BenchCommand, { do: "join" }>): Promise<unknown> {
  coordinator = want;
  for (const { secret, role, count } of want.secrets)
    for (let i = 0; i < count; i++) {
      const port = want.ports[devices.length % want.ports.length] as number;
      devices.push(new Device(`${role}-${devices.length}`, secret, port));
    }
  const startedAt = performance.now();
  let next = 0;
  let failed = 0;
  const worker = async (): Promise<void> => {
    for (;;) {
      const device = devices[next++];
      if (device === undefined) return;
      await device
        .connect(device.port, () => void comeBack(device))
        .catch(() => {
          failed++;
          return comeBack(device);
        });
    }
  };
  await Promise.all(Array.from({ length: JOINING_MAX }, worker));
  const seconds = (performance.now() - startedAt) / 1_000;
  return { seconds, failed, joinsPerSecond: devices.length / seconds };
}

const pick = (list: readonly Device[]): Device => list[Math.floor(Math.random() * list.length)] as Device;

/** One device's address changes at a time; each peer that is told counts. */
async function push(rounds: number, across: boolean): Promise<unknown> {
  const byId = new Map(devices.map((device) => [device.id, device]));
  const delays: number[] = [];
  for (let i = 0; i < rounds; i++) {
    const device = pick(devices.filter(({ revoked, name }) => !revoked && name.startsWith("device")));
    const peers = [...device.peers]
      .map((id) => byId.get(id))
      .filter((peer) => peer !== undefined)
      .filter((peer) => !across || peer.port !== device.port);
    const sentAt = performance.now();
    let endpoint = "";
    await Promise.all([
      ...peers.map(
        (peer) =>
          new Promise<void>((resolve) => {
            peer.onText = (text) => {
              if (!text.includes(endpoint)) return;
              peer.onText = undefined;
              delays.push(performance.now() - sentAt);
              resolve();
            };
          }),
      ),
      new Promise<void>((resolve) => {
        endpoint = device.report();
        resolve();
      }),
    ]);
  }
  return { delays, peers: delays.length / rounds };
}

/** From the administrator's request to each peer's having dropped the device. */
async function revoke(rounds: number, socket: string): Promise<unknown> {
  const byId = new Map(devices.map((device) => [device.id, device]));
  const delays: number[] = [];
  let confirmed = 0;
  for (let i = 0; i < rounds; i++) {
    const device = pick(devices.filter(({ revoked, name }) => !revoked && name.startsWith("device")));
    device.revoked = true;
    const peers = [...device.peers].map((id) => byId.get(id)).filter((peer) => peer !== undefined);
    const sentAt = performance.now();
    const dropped = peers.map(
      (peer) =>
        new Promise<void>((resolve) => {
          peer.onText = () => {
            if (peer.peers.has(device.id)) return;
            peer.onText = undefined;
            delays.push(performance.now() - sentAt);
            resolve();
          };
        }),
    );
    const path = `/api/v1/devices/${device.id}/revoke`;
    const answer = await requestUnix({ socket, method: "POST", path, timeoutMs: 30_000 });
    confirmed += JSON.parse(answer.body).told?.confirmed ?? 0;
    await Promise.all(dropped);
  }
  return { delays, confirmed, peers: delays.length / rounds };
}

function expectBack(from: number | undefined, together: boolean): unknown {
  if (together) {
    dialing.max = Number.POSITIVE_INFINITY;
    gate = new Promise((resolve) => {
      openGate = resolve;
    });
  }
  const away = new Set(devices.filter(({ revoked, port }) => !revoked && (from === undefined || port === from)));
  const startedAt = performance.now();
  const delays: number[] = [];
  backAt = new Promise((resolve) => {
    cameBack = (device) => {
      if (!away.delete(device)) return;
      delays.push(performance.now() - startedAt);
      const seconds = (delays.at(-1) ?? 0) / 1_000;
      if (away.size % 1_000 === 0) process.stderr.write(`${away.size} are still away after ${seconds.toFixed(1)} s\n`);
      if (away.size === 0) resolve({ seconds, delays });
    };
  });
  return { devices: away.size };
}

process.on("message", (command: BenchCommand) => {
  const answer = async (): Promise<unknown> => {
    switch (command.do) {
      case "join":
        return join(command);
      case "push":
        return push(command.rounds, command.across ?? false);
      case "revoke":
        return revoke(command.rounds, command.socket);
      case "expect-back":
        return expectBack(command.from, command.together ?? false);
      case "back":
        openGate();
        return { ...(await backAt), tried: dials.tried, reasons: Object.fromEntries(dials.reasons) };
    }
  };
  answer().then(
    (value) => process.send?.(value),
    (error: unknown) => {
      process.stderr.write(`${error instanceof Error ? error.stack : error}\n`);
      process.exit(1);
    },
  );
});
