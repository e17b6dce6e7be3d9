import { toHex } from "../../src/kit/bytes.js";
import { type Key, keyOf } from "../../src/kit/key.js";
import { RelayClient, type RelayClientEvents, type RelayState } from "../../src/relay/client.js";
import type { RelayLimits } from "../../src/relay/limits.js";
import { RelayService } from "../../src/relay/server.js";
import { systemClock } from "../../src/sys/clock.js";
import type { Files } from "../../src/sys/files.js";
import { chunkFreer } from "../../src/sys/freeing.js";
import type { Served } from "../../src/sys/listening.js";
import { systemRandom } from "../../src/sys/random.js";
import { type DialStream, dialStream } from "../../src/sys/streamdial.js";
import { serveStreams } from "../../src/sys/streamserver.js";
import { keepTlsIdentity } from "../../src/sys/tls.js";
import { BINDING_HEADER, RELAY_PATH, RELAY_PROTOCOL, type RelayRefusal } from "../../src/wire/relay.js";
import { admissionOf, machineOf, RELAY_KEY, SIGNERS } from "./relaylab.js";

/** A real relay on a loopback port of its own, and real devices to connect to it. */

const noFiles: Files = {
  read: async () => undefined,
  readText: async () => undefined,
  write: async () => undefined,
  remove: async () => undefined,
  list: async () => [],
};

export const tls = await keepTlsIdentity(
  noFiles,
  { key: "key", certificate: "certificate" },
  ["localhost"],
  Date.now(),
);

export type TestRelay = {
  readonly service: RelayService;
  readonly port: number;
  readonly url: string;
  readonly sent: { address: string; port: number; datagram: Uint8Array }[];
  close(): Promise<void>;
};

export async function openTestRelay(
  limits: Partial<RelayLimits> = {},
  { host = "127.0.0.1", port = 0 } = {},
): Promise<TestRelay> {
  const sent: TestRelay["sent"] = [];
  const service = new RelayService({
    noiseKey: RELAY_KEY,
    signers: SIGNERS,
    clock: systemClock,
    random: systemRandom,
    limits,
    freeChunk: chunkFreer(),
    sendDatagram: (address, to, datagram) => void sent.push({ address, port: to, datagram }),
  });
  const served: Served = await serveStreams({
    address: host,
    port,
    ...tls,
    answer: (request) => service.answer(request) ?? { status: 404 },
    connectionsMax: 5_000,
    streams: {
      path: RELAY_PATH,
      protocol: RELAY_PROTOCOL,
      bindingHeader: BINDING_HEADER,
      accept: (s) => service.accept(s),
    },
  });
  const close = async (): Promise<void> => {
    await service.close();
    await served.close();
  };
  return { service, port: served.port, url: `https://${host}:${served.port}`, sent, close };
}

export const dialOptions = (signal = new AbortController().signal) => ({
  protocol: RELAY_PROTOCOL,
  bindingHeader: BINDING_HEADER,
  timeoutMs: 60_000,
  signal,
});

/** What does not come by then does not come. */
const PATIENCE_MS = 60_000;

/** A device with a client, and what it heard. */
export class TestDevice {
  readonly heard: { from: Key; datagram: string }[] = [];
  readonly states: RelayState[] = [];
  readonly client: RelayClient;
  admission: Uint8Array | undefined;
  readonly #stop = new AbortController();
  readonly #done: Promise<void>;
  #waiters: (() => void)[] = [];

  constructor(
    name: string,
    url: string,
    home = true,
    relayKey = keyOf(RELAY_KEY.publicKey),
    admission?: Uint8Array | null,
    dial: DialStream = dialStream,
  ) {
    this.admission = admission === undefined ? admissionOf(name, { now: Date.now() }) : (admission ?? undefined);
    const hear = (from: Key, datagram: Uint8Array): void => {
      this.heard.push({ from, datagram: toHex(datagram) });
      this.#stir();
    };
    const events: RelayClientEvents = {
      onDatagram: hear,
      onProbe: hear,
      onGone: () => this.#stir(),
      onRoundTrip: () => this.#stir(),
      onState: (state) => {
        this.states.push(state);
        this.#stir();
      },
    };
    this.client = new RelayClient(
      { dial, clock: systemClock, random: systemRandom },
      { url, relayKey, machineKey: machineOf(name), admission: () => this.admission, home },
      events,
    );
    this.#done = this.client.run(this.#stop.signal);
  }

  #stir(): void {
    for (const wake of this.#waiters.splice(0)) wake();
  }

  /** Until the condition holds, looked at whenever something was heard. */
  async until(condition: () => boolean): Promise<void> {
    const late = AbortSignal.timeout(PATIENCE_MS);
    late.addEventListener("abort", () => this.#stir());
    while (!condition()) {
      late.throwIfAborted();
      await new Promise<void>((resolve) => this.#waiters.push(resolve));
    }
  }

  connected(): Promise<void> {
    return this.until(() => this.client.connected && this.states.at(-1)?.kind === "connected");
  }

  async refusal(): Promise<RelayRefusal | string> {
    await this.until(() => this.states.some((state) => state.kind === "waiting"));
    const state = this.states.find((one) => one.kind === "waiting");
    return state?.kind === "waiting" ? (state.refusal ?? state.reason) : "";
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#done;
  }
}
