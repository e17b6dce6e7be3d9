import { fromBase64 } from "../../src/kit/bytes.js";
import { keyPairOf } from "../../src/kit/crypto.js";
import { type Key, keyOf } from "../../src/kit/key.js";
import { RelayClient, type RelayState } from "../../src/relay/client.js";
import { systemClock } from "../../src/sys/clock.js";
import { systemRandom } from "../../src/sys/random.js";
import { dialStream } from "../../src/sys/streamdial.js";
import { decodeToDevice, encodeControl, type ToCoordinator } from "../../src/wire/control.js";
import type { NetworkMap } from "../../src/wire/map.js";
import type { Role } from "../../src/wire/schema.js";
import type { Bench } from "./bench.js";
import { joinRaw } from "./rawdevice.js";

/** A member that keeps what the coordinator says, and logs in at relays with what it was given. */
export class Member {
  readonly machineKey = keyPairOf(systemRandom(32));
  readonly publicKey = keyOf(keyPairOf(systemRandom(32)).publicKey);
  map: NetworkMap | undefined;
  readonly admissions: Uint8Array[] = [];
  readonly calls: { from: Key; probe: string }[] = [];
  refused: string | undefined;
  /** Bytes of all messages, as the coordinator's socket had to write them. */
  heardBytes = 0;
  readonly #watchers = new Set<() => void>();
  readonly #relays: { stop: AbortController; done: Promise<void> }[] = [];
  #say: (message: ToCoordinator) => Promise<void> = async () => undefined;
  #leave: () => void = () => undefined;

  static async join(bench: Bench, name: string, role: Role = "device"): Promise<Member> {
    const member = new Member();
    const { secret } = await bench.key({ role });
    const raw = await joinRaw(bench, name, member.machineKey, member.publicKey, secret);
    member.#say = (message) => raw.socket.send(raw.transport.seal(encodeControl(message)));
    member.#leave = () => raw.socket.terminate();
    void member.#hear(raw);
    await member.until(() => member.map !== undefined);
    return member;
  }

  say(message: ToCoordinator): Promise<void> {
    return this.#say(message);
  }

  /** Fulfilled as soon as it holds, looked at whenever something was heard; the test's deadline bounds it. */
  until(condition: () => boolean): Promise<void> {
    return new Promise((resolve) => {
      const look = (): void => {
        if (!condition()) return;
        this.#watchers.delete(look);
        resolve();
      };
      this.#watchers.add(look);
      look();
    });
  }

  /** Everything said before has been read and done. */
  async settled(): Promise<void> {
    const sentAt = this.#pings++;
    await this.#say({ type: "ping", sentAt });
    await this.until(() => this.#ponged > sentAt);
  }

  /** A client of a relay that uses the newest admission, or the given one. */
  dial(url: string, relayKey: Key, admission?: Uint8Array): AtRelay {
    const at = new AtRelay(() => this.#stir());
    const stop = new AbortController();
    at.client = new RelayClient(
      { dial: dialStream, clock: systemClock, random: systemRandom },
      {
        url,
        relayKey,
        machineKey: this.machineKey,
        admission: () => admission ?? this.admissions.at(-1),
        home: true,
      },
      {
        onDatagram: (from, datagram) => at.note(() => at.heard.push({ from, text: Buffer.from(datagram).toString() })),
        onProbe: () => undefined,
        onGone: () => undefined,
        onRoundTrip: () => undefined,
        onState: (state) => at.note(() => at.states.push({ ...state, at: performance.now() })),
      },
    );
    this.#relays.push({ stop, done: at.client.run(stop.signal) });
    return at;
  }

  async leave(): Promise<void> {
    for (const { stop } of this.#relays) stop.abort();
    await Promise.all(this.#relays.map(({ done }) => done));
    this.#leave();
  }

  #pings = 1;
  #ponged = 0;

  async #hear(raw: Awaited<ReturnType<typeof joinRaw>>): Promise<void> {
    for (;;) {
      const sealed = await raw.next();
      this.heardBytes += sealed.length;
      const message = decodeToDevice(raw.transport.open(sealed) ?? new Uint8Array(0));
      if (message?.type === "map") this.map = message.map;
      if (message?.type === "admission") this.admissions.push(fromBase64(message.admission) ?? new Uint8Array(0));
      if (message?.type === "call") this.calls.push({ from: message.from, probe: message.probe });
      if (message?.type === "ping") await this.#say({ type: "pong", sentAt: message.sentAt });
      if (message?.type === "pong") this.#ponged = message.sentAt + 1;
      if (message?.type === "refused") this.refused = message.code;
      this.#stir();
    }
  }

  #stir(): void {
    for (const look of [...this.#watchers]) look();
  }
}

/** What a member sees of one relay. */
export class AtRelay {
  client: RelayClient | undefined;
  readonly states: (RelayState & { at: number })[] = [];
  readonly heard: { from: Key; text: string }[] = [];
  readonly #noted: () => void;

  constructor(noted: () => void) {
    this.#noted = noted;
  }

  get connected(): boolean {
    return this.states.at(-1)?.kind === "connected";
  }

  get refusal(): string | undefined {
    const last = this.states.at(-1);
    return last?.kind === "waiting" ? (last.refusal ?? last.reason) : undefined;
  }

  note(change: () => void): void {
    change();
    this.#noted();
  }
}
