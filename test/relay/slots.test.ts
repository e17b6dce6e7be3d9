import assert from "node:assert/strict";
import { after, test } from "node:test";
import { concat } from "../../src/kit/bytes.js";
import { MINUTE, SECOND } from "../../src/kit/time.js";
import { RELAY_LIMITS } from "../../src/relay/limits.js";
import { RelayService } from "../../src/relay/server.js";
import type { ByteStream, StreamListener } from "../../src/sys/bytestream.js";
import { HANDSHAKE_LIMITS } from "../../src/sys/handshakes.js";
import { encodeFrame, FRAME } from "../../src/wire/relay.js";
import { LabClock, settled } from "../agent/labclock.js";
import { admissionOf, datagramTo, framesIn, loginOf, numbered, RELAY_KEY, SIGNERS } from "./relaylab.js";

/** What one client can hold of a relay, and for how long: the relay as it ships, in time that a test lets pass. */
const services: RelayService[] = [];
after(() => Promise.all(services.map((service) => service.close())));

class Relay {
  readonly clock = new LabClock();
  readonly service = new RelayService({
    noiseKey: RELAY_KEY,
    signers: SIGNERS,
    clock: this.clock,
    random: numbered(),
  });

  connect(remote?: string): Client {
    const client = new Client(remote);
    this.service.accept(client);
    return client;
  }

  async login(name: string, client = this.connect()): Promise<Client> {
    const login = loginOf(name);
    client.say(login.first);
    const transport = login.finish(client.frame(FRAME.reply)) ?? assert.fail("not the relay");
    client.say(encodeFrame(FRAME.login, transport.seal(admissionOf(name, { now: this.clock.wall() }))));
    client.frame(FRAME.welcome);
    await settled();
    return client;
  }

  /** When the client is out, in seconds from now; looked at every second, within two minutes. */
  async secondsUntilOut(client: Client, everySecond: (second: number) => void = () => undefined): Promise<number> {
    for (let second = 0; second <= 120; second++) {
      if (client.over) return second;
      everySecond(second);
      await this.clock.advance(SECOND);
    }
    return assert.fail("still there after two minutes");
  }
}

/** A client's end of a connection: the relay's writes are taken at once, or never. */
class Client implements ByteStream {
  readonly remote: string;
  readonly binding = undefined;
  reads = true;
  over = false;
  readonly #heard: Uint8Array[] = [];
  #listener: StreamListener | undefined;

  constructor(remote = "192.0.2.1") {
    this.remote = remote;
  }

  listen(given: StreamListener): void {
    this.#listener = given;
  }

  write(parts: readonly Uint8Array[]): void {
    if (!this.reads) return;
    this.#heard.push(concat(...parts));
    queueMicrotask(() => this.#listener?.written());
  }

  pause(): void {}
  resume(): void {}

  end(): void {
    this.terminate();
  }

  terminate(): void {
    this.over = true;
    this.#listener?.closed("ended");
  }

  say(bytes: Uint8Array): void {
    this.#listener?.data([bytes.slice()]);
  }

  frame(type: number): Uint8Array {
    return framesIn(concat(...this.#heard)).find((frame) => frame.type === type)?.body ?? assert.fail("no such frame");
  }
}

function openRelay(): Relay {
  const relay = new Relay();
  services.push(relay.service);
  return relay;
}

const BYTES_A_MINUTE = {
  "nothing at all": () => undefined,
  "one byte a minute": (second: number) => (second % 60 === 0 ? Uint8Array.of(FRAME.initiation) : undefined),
};
for (const [what, bytesAt] of Object.entries(BYTES_A_MINUTE))
  test(`a client that sends ${what} is out ten seconds after it connected`, async () => {
    const relay = openRelay();
    const client = relay.connect();
    const seconds = await relay.secondsUntilOut(client, (second) => {
      const bytes = bytesAt(second);
      if (bytes !== undefined) client.say(bytes);
    });
    assert.ok(seconds >= 10 && seconds <= 11, `${seconds} s`);
    assert.equal(relay.service.connections, 0);
  });

test("a device that is logged in and sends one byte a minute is out within eleven seconds of the first", async () => {
  const relay = openRelay();
  const client = await relay.login("laptop");
  const frame = datagramTo("home", new Uint8Array(1_312));
  const seconds = await relay.secondsUntilOut(client, (second) => {
    if (second % 60 === 0) client.say(frame.subarray(second / 60, second / 60 + 1));
  });
  assert.ok(seconds >= 10 && seconds <= 11, `${seconds} s`);
  assert.equal(relay.service.switchboard.members.size, 0);
});

test("a device that sends a whole frame a minute and answers no ping is out after a minute", async () => {
  const relay = openRelay();
  const client = await relay.login("laptop");
  const seconds = await relay.secondsUntilOut(client, (second) => {
    if (second % 60 === 30) client.say(encodeFrame(FRAME.ping, new Uint8Array(8)));
  });
  assert.ok(seconds >= 60 && seconds <= 61, `${seconds} s`);
});

test("a device that never reads is out ten seconds after the first write to it, a ping where nobody else writes", async () => {
  const relay = openRelay();
  const [deaf, alone] = [await relay.login("deaf"), await relay.login("alone")];
  const sender = await relay.login("sender");
  deaf.reads = false;
  alone.reads = false;
  const pingSeconds = RELAY_LIMITS.pingEveryMs / SECOND;
  let outAfter = 0;
  const aloneSeconds = await relay.secondsUntilOut(alone, (second) => {
    if (deaf.over) return;
    outAfter = second + 1;
    // Ten megabytes in all, for a queue of one.
    for (let i = 0; i < 760; i++) sender.say(datagramTo("deaf", new Uint8Array(1_312)));
    assert.ok(relay.service.switchboard.queuedBytes <= RELAY_LIMITS.dataBytesMax);
  });
  assert.ok(outAfter >= 10 && outAfter <= 11, `${outAfter} s`);
  assert.ok(aloneSeconds >= pingSeconds + 10 && aloneSeconds <= pingSeconds + 11, `${aloneSeconds} s`);
  assert.equal(relay.service.switchboard.queuedBytes, 0);
});

test("however many say nothing, a device logs in at once, and only so many of them are there", async () => {
  const relay = openRelay();
  const mute = Array.from({ length: 10 * RELAY_LIMITS.lobbyMax }, () => relay.connect());
  const client = await relay.login("laptop");
  assert.ok(!client.over);
  assert.equal(relay.service.switchboard.members.size, 1);
  assert.ok(relay.service.connections <= RELAY_LIMITS.lobbyMax + 1, `${relay.service.connections} connections`);
  assert.equal(mute.filter(({ over }) => !over).length, RELAY_LIMITS.lobbyMax - 1, "the oldest made room");
  await relay.clock.advance(MINUTE);
  assert.equal(relay.service.connections, 0, "nobody answered a ping");
});

test("a device that is slow to log in is in, however many from one address have come behind it", async () => {
  const relay = openRelay();
  const slow = relay.connect("2001:db8::1");
  for (let i = 0; i < 10 * RELAY_LIMITS.lobbyMax; i++) relay.connect();
  await relay.clock.advance(9 * SECOND);
  await relay.login("laptop", slow);
  assert.ok(!slow.over);
  assert.equal(relay.service.switchboard.members.size, 1);
});

test("the lobby has a place for everybody whose TLS handshake may be under way before it", () => {
  assert.ok(RELAY_LIMITS.lobbyMax >= HANDSHAKE_LIMITS.pendingMax);
});
