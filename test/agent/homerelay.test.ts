import assert from "node:assert/strict";
import { test } from "node:test";
import { Relays } from "../../src/agent/relays.js";
import { concat } from "../../src/kit/bytes.js";
import { Failure } from "../../src/kit/failure.js";
import { keyOf } from "../../src/kit/key.js";
import { MINUTE, SECOND } from "../../src/kit/time.js";
import { DIAL_TIMEOUT_MS } from "../../src/relay/client.js";
import { RelayService } from "../../src/relay/server.js";
import type { ByteStream, StreamListener } from "../../src/sys/bytestream.js";
import { ADMISSION_LIFETIME_MS } from "../../src/wire/admission.js";
import type { MapRelay } from "../../src/wire/map.js";
import { addressOf, admissionOf, machineOf, numbered, RELAY_KEY, SIGNERS } from "../relay/relaylab.js";
import { LabClock } from "./labclock.js";

/** What becomes of a device whose home relay dies: real relays and a real client, in time that a test lets pass. */

/** `silent`: what is sent to it is lost, and so is what it sends, as when its machine loses power. */
type Health = "up" | "silent" | "refuses";
const IDS = ["near", "far", "north", "east", "south"] as const;
type Id = (typeof IDS)[number];
/** Those that the coordinator tells of, where a test needs no more. */
const PAIR: readonly Id[] = ["near", "far"];

/** One end of a connection in memory. */
class End implements ByteStream {
  readonly remote = "192.0.2.1";
  readonly binding = undefined;
  peer: End | undefined;
  readonly #isLost: () => boolean;
  #listener: StreamListener | undefined;
  #early: Uint8Array[] = [];
  #over = false;

  constructor(isLost: () => boolean) {
    this.#isLost = isLost;
  }

  listen(listener: StreamListener): void {
    this.#listener = listener;
    if (this.#early.length > 0) listener.data(this.#early.splice(0));
  }

  write(parts: readonly Uint8Array[]): void {
    const bytes = concat(...parts);
    queueMicrotask(() => {
      if (this.#over) return;
      if (!this.#isLost()) this.peer?.hear(bytes);
      this.#listener?.written();
    });
  }

  hear(bytes: Uint8Array): void {
    if (this.#listener === undefined) this.#early.push(bytes);
    else this.#listener.data([bytes]);
  }

  pause(): void {}
  resume(): void {}

  end(): void {
    this.terminate();
  }

  terminate(): void {
    if (this.#over) return;
    this.#over = true;
    this.#listener?.closed("ended");
    if (!this.#isLost()) this.peer?.terminate();
  }
}

class World {
  readonly clock = new LabClock();
  readonly health: Record<Id, Health> = { near: "up", far: "up", north: "up", east: "up", south: "up" };
  readonly dialed: string[] = [];
  readonly #open: Record<Id, End[]> = { near: [], far: [], north: [], east: [], south: [] };
  readonly #services = new Map<string, RelayService>(IDS.map((id) => [id, this.#service()]));
  readonly relays = new Relays(
    {
      clock: this.clock,
      random: numbered(),
      log: { debug: () => undefined, info: () => undefined, warn: () => undefined, error: () => undefined },
      dialRelay: (url, { signal }) => this.#dial(new URL(url).hostname as Id, signal),
    },
    machineOf("laptop"),
    { onDatagram: () => undefined, onProbe: () => undefined, onChange: () => undefined },
  );

  async begin(relays: readonly Id[] = PAIR): Promise<void> {
    this.admit();
    this.relays.setOnline(true);
    this.relays.setRelays(relays.map(relayOf));
    this.measure();
    await this.pass(2);
    assert.deepEqual([this.relays.home, this.relays.isConnected("near")], ["near", true]);
  }

  /** As the coordinator renews it. */
  admit(): void {
    this.relays.admit(admissionOf("laptop", { now: this.clock.wall() }));
  }

  measure(): void {
    this.relays.measured([
      { relay: "near", roundTripMs: 10 },
      { relay: "far", roundTripMs: 90 },
    ]);
  }

  /** The agent looks once a second. */
  async pass(seconds: number, everySecond: () => void = () => undefined): Promise<void> {
    for (let second = 0; second < seconds; second++) {
      await this.clock.advance(SECOND);
      everySecond();
      this.relays.look();
    }
    await this.clock.advance(0);
  }

  /** Seconds until another relay is home and connected. */
  async untilHome(id: Id, everySecond: () => void = () => undefined): Promise<number> {
    for (let second = 1; second <= 60; second++) {
      await this.pass(1, everySecond);
      if (this.relays.home === id && this.relays.isConnected(id)) return second;
    }
    return assert.fail(`home is ${this.relays.home} after a minute`);
  }

  /** Its process is killed: the kernel ends its connections, and refuses others. */
  kill(id: Id): void {
    this.health[id] = "refuses";
    for (const end of this.#open[id]) end.terminate();
  }

  async close(): Promise<void> {
    this.relays.stop();
    const closing = [...this.#services.values()].map((service) => service.close());
    await this.clock.advance(MINUTE);
    await Promise.all(closing);
  }

  #service(): RelayService {
    return new RelayService({ noiseKey: RELAY_KEY, signers: SIGNERS, clock: this.clock, random: numbered() });
  }

  async #dial(host: Id, signal: AbortSignal): Promise<ByteStream> {
    this.dialed.push(host);
    if (this.health[host] === "silent") await this.clock.sleep(DIAL_TIMEOUT_MS, signal);
    if (this.health[host] !== "up") throw new Failure("relay-unreachable", "nobody is there");
    const isLost = (): boolean => this.health[host] === "silent";
    const [ours, theirs] = [new End(isLost), new End(isLost)];
    [ours.peer, theirs.peer] = [theirs, ours];
    this.#open[host].push(theirs);
    this.#services.get(host)?.accept(theirs);
    return ours;
  }
}

const relayOf = (id: Id): MapRelay => ({
  ...{ id, name: `${id} relay`, url: `https://${id}`, stunPort: 3_478, relayKey: keyOf(RELAY_KEY.publicKey) },
});

async function inWorld(check: (world: World) => Promise<void>, relays?: readonly Id[]): Promise<void> {
  const world = new World();
  await world.begin(relays);
  await check(world);
  await world.close();
}

/** To a peer whose home is the same relay: nobody answers, which is no fault of the relay's. */
const talk = (world: World) => (): void => world.relays.send("near", addressOf("desk"), new Uint8Array(32));

test("a home relay that is killed has a successor within ten seconds, though STUN still calls it the nearest", () =>
  inWorld(async (world) => {
    world.kill("near");
    assert.ok((await world.untilHome("far", () => world.measure())) <= 8);
  }));

test("so has one that falls silent while there is something to send", () =>
  inWorld(async (world) => {
    world.health.near = "silent";
    assert.ok((await world.untilHome("far", talk(world))) <= 8);
  }));

test("and one that falls silent while nothing is said, once a peer calls through the coordinator", () =>
  inWorld(async (world) => {
    world.health.near = "silent";
    await world.pass(10);
    assert.equal(world.relays.home, "near", "nobody has missed it");
    world.relays.doubt();
    assert.ok((await world.untilHome("far")) <= 8);
  }));

test("and one that is not there when the agent starts, home of its last run", async () => {
  const world = new World();
  world.health.near = "silent";
  world.relays.recall({ home: "near", admission: admissionOf("laptop", { now: world.clock.wall() }) });
  world.relays.setOnline(true);
  world.relays.setRelays(PAIR.map(relayOf));
  assert.equal(world.relays.home, "near");
  assert.ok((await world.untilHome("far")) <= 8);
  await world.close();
});

test("however many of the nearest are gone with it, the one that is left is home", () =>
  inWorld(async (world) => {
    for (const id of IDS) if (id !== "south") world.health[id] = "silent";
    world.relays.doubt();
    assert.ok((await world.untilHome("south")) <= 14);
  }, IDS));

test("a relay that answers keeps its home, though no peer answers through it", () =>
  inWorld(async (world) => {
    await world.pass(120, talk(world));
    assert.deepEqual([world.relays.home, new Set(world.dialed)], ["near", new Set(["near"])]);
  }));

test("a machine that has lost its network blames no relay: its home is home when the network is back", () =>
  inWorld(async (world) => {
    for (const id of PAIR) world.health[id] = "silent";
    await world.pass(40, talk(world));
    assert.equal(world.relays.home, "near");
    // The old connection is still there, as TCP's is.
    world.health.near = "up";
    await world.pass(3, talk(world));
    world.health.far = "up";
    await world.pass(60, talk(world));
    assert.equal(world.relays.home, "near");
  }));

test("while the coordinator is away, and could tell no peer, home stays", () =>
  inWorld(async (world) => {
    world.relays.setOnline(false);
    world.kill("near");
    await world.pass(30);
    assert.equal(world.relays.home, "near");
    world.relays.setOnline(true);
    assert.ok((await world.untilHome("far")) <= 8);
  }));

test("one that was left is home again after five minutes at the earliest, and only when it is nearest", () =>
  inWorld(async (world) => {
    world.kill("near");
    await world.untilHome("far");
    world.health.near = "up";
    for (let passed = 0; passed < 4 * MINUTE; passed += 20 * SECOND) {
      world.admit();
      world.measure();
      await world.pass(20);
    }
    assert.equal(world.relays.home, "far");
    world.admit();
    await world.pass(60);
    world.measure();
    await world.pass(2);
    assert.deepEqual([world.relays.home, world.relays.isConnected("near")], ["near", true]);
  }));

test("without another relay nothing is left, and an admission that has run out is nobody's fault", () =>
  inWorld(async (world) => {
    world.relays.setRelays([relayOf("near")]);
    world.kill("near");
    await world.pass(30);
    assert.equal(world.relays.home, "near");
    world.relays.setRelays(PAIR.map(relayOf));
    await world.clock.advance(ADMISSION_LIFETIME_MS);
    const dialed = world.dialed.length;
    await world.pass(30);
    assert.deepEqual([world.relays.home, world.dialed.length], ["near", dialed]);
  }));
