import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Atlas } from "../../src/agent/atlas.js";
import { keyPairOf } from "../../src/kit/crypto.js";
import { keyOf } from "../../src/kit/key.js";
import { systemRandom } from "../../src/sys/random.js";
import type { DeviceInfo } from "../../src/wire/adminapi.js";
import { encodeControl, type HeardByDevice, hearFromCoordinator, type ToCoordinator } from "../../src/wire/control.js";
import { type Bench, openBench } from "./bench.js";
import { openRaw, type Raw, startRaw } from "./rawdevice.js";

/** What a real coordinator says of changes to devices that understand deltas. */
let bench: Bench;
let secret: string;
before(async () => {
  bench = await openBench();
  ({ secret } = await bench.key({ role: "device", reusable: true }));
});
after(() => bench.close());

class DeltaDevice {
  readonly machineKey = keyPairOf(systemRandom(32));
  readonly publicKey = keyOf(keyPairOf(systemRandom(32)).publicKey);
  readonly name: string;
  readonly atlas = new Atlas();
  readonly heard: HeardByDevice[] = [];
  sealKey = "";
  /** Answers what it is asked to confirm. */
  honest = true;
  say: (message: ToCoordinator) => void = () => undefined;
  #raw: Raw | undefined;
  #look: () => void = () => undefined;

  constructor(name: string) {
    this.name = name;
  }

  async connect(haveSeq?: number): Promise<this> {
    const raw = await openRaw(bench);
    this.#raw = raw;
    const handshake = startRaw(bench, this.machineKey);
    await raw.socket.send(handshake.message);
    const transport = handshake.finish(await raw.next()) ?? assert.fail("the coordinator proves itself");
    this.say = (message) => void raw.socket.send(transport.seal(encodeControl(message))).catch(() => undefined);
    const listen = async (): Promise<never> => {
      for (;;) this.#hear(hearFromCoordinator(transport.open(await raw.next()) ?? new Uint8Array()));
    };
    listen().catch(() => undefined); // the connection ends with the test
    this.say({
      ...{ type: "hello", version: 1, agentVersion: "t", name: this.name, publicKey: this.publicKey },
      ...{ joinSecret: secret, speaks: ["delta"], ...(haveSeq === undefined ? {} : { haveSeq }) },
      report: { endpoints: ["203.0.113.7:1"], routes: [], resolvers: [] },
    });
    return this;
  }

  leave(): void {
    this.#raw?.socket.terminate();
  }

  /** Looked at after each message; the test's deadline bounds it. */
  until(condition: () => boolean): Promise<this> {
    return new Promise((resolve) => {
      this.#look = () => condition() && resolve(this);
      this.#look();
    });
  }

  sees(name: string, endpoint?: string): Promise<this> {
    return this.until(
      () =>
        this.atlas.map?.peers.some(
          (peer) => peer.name === name && (endpoint === undefined || peer.endpoints.includes(endpoint)),
        ) === true,
    );
  }

  count(type: string): number {
    return this.heard.filter(({ message }) => message.type === type).length;
  }

  #hear(heard: HeardByDevice | undefined): void {
    if (heard === undefined) return;
    const { message } = heard;
    const raw = heard.raw as Record<string, unknown>;
    this.heard.push(heard);
    if (message.type === "welcome") this.sealKey = message.sealKey ?? "";
    if (message.type === "map") this.atlas.whole(message.map, raw.map);
    if (message.type === "delta" && this.atlas.delta(message.delta, raw.delta) === undefined)
      this.say({ type: "resync" });
    if ((message.type === "map" || message.type === "delta") && message.confirm && this.honest)
      this.say({ type: "applied", seq: this.atlas.seq ?? 0 });
    this.#look();
  }
}

const limit = { timeout: 120_000 };

test(
  "one whole map, then deltas of what has changed; a revoked peer goes by a delta that is confirmed by name",
  limit,
  async () => {
    const one = await new DeltaDevice("one").connect();
    const two = await new DeltaDevice("two").connect();
    await one.sees("two");
    await two.sees("one");
    assert.equal(one.count("map"), 1);
    two.say({ type: "report", report: { endpoints: ["198.51.100.9:7"], routes: [], resolvers: [] } });
    await one.sees("two", "198.51.100.9:7");
    const deaf = await new DeltaDevice("deaf").connect();
    deaf.honest = false;
    await deaf.sees("two");
    await one.sees("deaf");
    const { body } = await bench.call("POST", "/api/v1/devices/two/revoke");
    const { told } = body as DeviceInfo;
    assert.deepEqual([told?.peers, told?.confirmed, told?.silent], [2, 1, ["deaf"]]);
    assert.deepEqual(
      told?.devices?.map(({ name }) => name),
      ["one"],
    );
    assert.equal(
      one.atlas.map?.peers.some(({ name }) => name === "two"),
      false,
    );
    assert.equal(
      deaf.atlas.map?.peers.some(({ name }) => name === "two"),
      false,
      "it was told all the same",
    );
    assert.equal(one.count("map"), 1);
    const last = one.heard.findLast(({ message }) => message.type === "delta" && message.delta.removed !== undefined)
      ?.raw as { delta: object };
    assert.equal(Object.keys(last.delta)[2], "removed", "right after the numbers");
    one.leave();
    deaf.leave();
  },
);

test(
  "who comes back with its number is told what it missed, removals too, and with a wrong one everything",
  limit,
  async () => {
    const stays = await new DeltaDevice("stays").connect();
    const away = await new DeltaDevice("away").connect();
    const gone = await new DeltaDevice("gone").connect();
    await away.sees("gone");
    await away.sees("stays");
    await stays.sees("gone");
    away.leave();
    await stays.until(() => stays.atlas.map?.peers.some((peer) => peer.name === "away" && !peer.online) === true);
    await bench.call("POST", "/api/v1/devices/gone/revoke");
    const before = away.heard.length;
    await away.connect(away.atlas.seq);
    await away.until(() => away.atlas.map?.peers.every(({ name }) => name !== "gone") === true);
    const first = away.heard.slice(before).find(({ message }) => message.type === "map" || message.type === "delta");
    assert.equal(first?.message.type, "delta");
    away.leave();
    await stays.until(() => stays.atlas.map?.peers.some((peer) => peer.name === "away" && !peer.online) === true);
    await away.connect(12);
    await away.until(() => away.count("map") === 2);
    gone.leave();
    stays.leave();
    away.leave();
  },
);

test("a device that asks for a whole map gets one", limit, async () => {
  const device = await new DeltaDevice("asks").connect();
  await device.until(() => device.count("map") === 1);
  device.say({ type: "resync" });
  await device.until(() => device.count("map") === 2);
  device.leave();
});

test(
  "a map is sealed soon after it came, and the device can tell it from an altered one without the coordinator",
  limit,
  async () => {
    const device = await new DeltaDevice("sealed").connect();
    await device.until(() => device.count("seal") === 1);
    const seal = device.heard.find(({ message }) => message.type === "seal")?.message;
    assert.ok(seal?.type === "seal" && device.atlas.sealed(seal.seal, device.sealKey as never));
    const file = device.atlas.file() ?? "";
    assert.equal(new Atlas().recall(JSON.parse(file), device.sealKey as never), "taken");
    const altered = file.replace('"mtu":1280', '"mtu":1281');
    assert.notEqual(altered, file);
    assert.equal(new Atlas().recall(JSON.parse(altered), device.sealKey as never), "altered");
    device.leave();
  },
);

test("the coordinator's clock being ten minutes off keeps nobody out, and its seals count", limit, async () => {
  bench.advance(-10 * 60_000);
  const device = await new DeltaDevice("early").connect();
  await device.until(() => device.count("seal") === 1 && device.count("admission") === 1);
  bench.advance(20 * 60_000);
  device.leave();
  await device.connect(device.atlas.seq);
  await device.until(() => device.count("welcome") === 2 && device.count("admission") === 2);
  const { message } = device.heard.find(({ message }) => message.type === "seal") ?? {};
  assert.ok(message?.type === "seal");
  bench.advance(-10 * 60_000);
  device.leave();
});
