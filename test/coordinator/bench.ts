import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ControlClient, type ControlState, type Hello } from "../../src/agent/control.js";
import { openRelayBeside } from "../../src/cli/relaybeside.js";
import {
  type Coordinator,
  type CoordinatorParts,
  type CoordinatorWant,
  startCoordinator,
} from "../../src/coordinator/coordinator.js";
import { toHex, utf8 } from "../../src/kit/bytes.js";
import { type KeyPair, keyPairOf } from "../../src/kit/crypto.js";
import type { Cidr } from "../../src/kit/ip.js";
import { keyOf } from "../../src/kit/key.js";
import { sha256 } from "../../src/kit/sha256.js";
import { SECOND } from "../../src/kit/time.js";
import { type Clock, systemClock } from "../../src/sys/clock.js";
import { localFiles } from "../../src/sys/files.js";
import { openHttps } from "../../src/sys/https.js";
import { serveHttps, serveUnix } from "../../src/sys/httpserver.js";
import { systemRandom } from "../../src/sys/random.js";
import { openSqlite } from "../../src/sys/sqlite.js";
import { keepTlsIdentity } from "../../src/sys/tls.js";
import { dialWebSocket } from "../../src/sys/websocket.js";
import type { CreatedKey, KeyRequest } from "../../src/wire/adminapi.js";
import type { RemoteRelay } from "../../src/wire/coordinatorconfig.js";
import { decodeJoinKey } from "../../src/wire/joinkey.js";
import type { NetworkMap } from "../../src/wire/map.js";
import { freePort } from "./freeport.js";

/**
 * For a coordinator with a crowd of devices in its own process: it waits ten times as long for each as it would if they
 * were machines of their own.
 */
export const unhurriedClock: Clock = {
  ...systemClock,
  now: () => systemClock.now() / UNHURRIED,
  sleep: (ms, signal) => systemClock.sleep(ms < SECOND ? ms : UNHURRIED * ms, signal),
};
const UNHURRIED = 10;

/** A real coordinator on a loopback port of its own, and real devices to connect to it. */
export const ADMIN_TOKEN = "the-test-token";

export type Bench = {
  readonly folder: string;
  coordinator: Coordinator;
  /** Puts the coordinator's wall clock forward. */
  advance(durationMs: number): void;
  call(method: string, path: string, body?: unknown, token?: string): Promise<{ status: number; body: unknown }>;
  key(wanted: KeyRequest): Promise<{ secret: string; id: string }>;
  device(name: string, secret?: string, machineKey?: KeyPair): TestDevice;
  /** Stops the coordinator and starts it again on the same port and files. */
  restart(): Promise<void>;
  close(): Promise<void>;
};

export type BenchOptions = {
  readonly stunPort?: number;
  readonly relays?: readonly RemoteRelay[];
  readonly parts?: Partial<CoordinatorParts>;
  readonly want?: Partial<CoordinatorWant>;
};

export async function openBench(options: BenchOptions = {}): Promise<Bench> {
  const folder = await mkdtemp(join(tmpdir(), "exn-co-"));
  let skewMs = 0;
  const start = (port: number): Promise<Coordinator> => {
    const want: CoordinatorWant = {
      listen: { address: "127.0.0.1", port },
      urls: ["https://127.0.0.1:1"],
      ipv4: "100.64.0.0/10" as Cidr,
      mtu: 1280,
      whoami: [],
      adminTokenSha256: toHex(sha256(utf8(ADMIN_TOKEN))),
      relay: { enabled: true, stunPort: options.stunPort ?? 0 },
      relays: [...(options.relays ?? [])],
      ...options.want,
    };
    return startCoordinator(
      {
        files: localFiles,
        clock: { ...systemClock, wall: () => Date.now() + skewMs },
        random: systemRandom,
        openDatabase: openSqlite,
        keepTlsIdentity,
        serveHttps,
        serveUnix,
        https: openHttps(),
        openRelay: openRelayBeside,
        version: "test",
        ...options.parts,
      },
      want,
      { var: folder, run: folder },
    );
  };
  const devices: TestDevice[] = [];
  const bench: Bench = {
    folder,
    coordinator: await start(await freePort()),
    advance(durationMs) {
      skewMs += durationMs;
    },
    call: (method, path, body, token = ADMIN_TOKEN) => request(bench.coordinator.port, method, path, body, token),
    async key(wanted) {
      const created = (await bench.call("POST", "/api/v1/keys", wanted)).body as CreatedKey;
      return { secret: decodeJoinKey(created.joinKey).secret, id: created.id };
    },
    device(name, secret, machineKey) {
      const device = new TestDevice(bench.coordinator, name, secret, machineKey);
      devices.push(device);
      return device;
    },
    async restart() {
      const { port } = bench.coordinator;
      await bench.coordinator.close();
      bench.coordinator = await start(port);
    },
    async close() {
      for (const device of devices) device.stop();
      await Promise.all(devices.map((device) => device.stopped));
      await bench.coordinator.close();
      await rm(folder, { recursive: true, force: true });
    },
  };
  return bench;
}

/** Where a device finds its coordinator, or the several ones of one key. */
export type Reachable = Pick<Coordinator, "port" | "publicKey"> & { readonly urls?: readonly string[] };

/** An agent's control client that keeps what it was told, and lets a test wait for it. */
export class TestDevice {
  readonly client: ControlClient;
  readonly machineKey: KeyPair;
  readonly publicKey = keyOf(keyPairOf(systemRandom(32)).publicKey);
  readonly stopped: Promise<"stopped" | "refused">;
  map: NetworkMap | undefined;
  readonly states: ControlState[] = [];
  readonly calls: string[] = [];
  refusal: string | undefined;
  deviceId: string | undefined;
  readonly #stop = new AbortController();
  readonly #watchers = new Set<() => void>();

  constructor(coordinator: Reachable, name: string, secret?: string, machineKey?: KeyPair) {
    this.machineKey = machineKey ?? keyPairOf(systemRandom(32));
    const hello: Hello = {
      agentVersion: "test",
      name,
      publicKey: this.publicKey,
      ...(secret === undefined ? {} : { joinSecret: secret }),
      report: { endpoints: ["203.0.113.7:51820"], routes: ["0.0.0.0/0", "192.168.1.0/24"] as Cidr[], resolvers: [] },
    };
    this.client = new ControlClient(
      { dial: dialWebSocket, clock: systemClock, random: systemRandom },
      {
        get urls() {
          return coordinator.urls ?? [`https://127.0.0.1:${coordinator.port}`];
        },
        coordinatorKey: coordinator.publicKey,
        machineKey: this.machineKey,
        hello: () => hello,
      },
      {
        onMap: (map) => this.#note(() => (this.map = map)),
        onCall: (probe) => this.#note(() => this.calls.push(probe)),
        onWelcome: ({ deviceId }) => this.#note(() => (this.deviceId = deviceId)),
        onRefused: ({ code }) => this.#note(() => (this.refusal = code)),
        onState: (state) => this.#note(() => this.states.push(state)),
      },
    );
    this.stopped = this.client.run(this.#stop.signal);
  }

  stop(): void {
    this.#stop.abort();
  }

  /** Fulfilled as soon as what the device knows satisfies the condition; the test's own deadline bounds it. */
  until(condition: (device: TestDevice) => boolean): Promise<this> {
    return new Promise((resolve) => {
      const look = (): void => {
        if (!condition(this)) return;
        this.#watchers.delete(look);
        resolve(this);
      };
      this.#watchers.add(look);
      look();
    });
  }

  sees(name: string): Promise<this> {
    return this.until(({ map }) => map?.peers.some((peer) => peer.name === name && peer.online) === true);
  }

  #note(change: () => void): void {
    change();
    for (const look of [...this.#watchers]) look();
  }
}

/** One request to a coordinator's API. */
export async function request(
  port: number,
  method: string,
  path: string,
  body: unknown,
  token: string,
): Promise<{ status: number; body: unknown }> {
  const { request: httpsRequest } = await import("node:https");
  return new Promise((resolve, reject) => {
    const sent = httpsRequest(
      {
        host: "127.0.0.1",
        port,
        method,
        path,
        rejectUnauthorized: false, // the bench's own certificate, made a moment ago
        agent: false,
        headers: token === "" ? {} : { authorization: `Bearer ${token}` },
      },
      (response) => {
        let text = "";
        response.setEncoding("utf8");
        response.on("data", (chunk: string) => {
          text += chunk;
        });
        response.on("end", () => {
          const isJson = /json/.test(response.headers["content-type"] ?? "");
          resolve({ status: response.statusCode ?? 0, body: isJson ? JSON.parse(text) : text });
        });
      },
    );
    sent.on("error", reject);
    sent.end(body === undefined ? undefined : JSON.stringify(body));
  });
}
