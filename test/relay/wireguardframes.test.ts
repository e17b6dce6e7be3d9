import assert from "node:assert/strict";
import { after, test } from "node:test";
import { concat, fromHex, toHex } from "../../src/kit/bytes.js";
import { keyPairOf } from "../../src/kit/crypto.js";
import { parseCidr, parseIp } from "../../src/kit/ip.js";
import { KEY_BYTES, type Key, keyBytes, keyOf } from "../../src/kit/key.js";
import type { ByteStream } from "../../src/sys/bytestream.js";
import { systemRandom } from "../../src/sys/random.js";
import { FRAME, HEADER_BYTES } from "../../src/wire/relay.js";
import { Device, type Effect } from "../../src/wireguard/device.js";
import { echoReplyTo, echoRequest, isEchoReply } from "../wireguard/icmp.js";
import { addressOf, framesIn } from "./relaylab.js";
import { openTestRelay, TestDevice } from "./relayworld.js";

/** Two WireGuard devices whose only network is a relay, and what the relay sees of them. */
const LIMIT = { timeout: 60_000 };
const ENDPOINT = { address: parseIp("127.0.0.1"), port: 1 };
const ECHOES = 200;

const relay = await openTestRelay();
after(() => relay.close());
const seen = { entered: [] as Uint8Array[], left: [] as Uint8Array[] };
const accept = relay.service.accept.bind(relay.service);
relay.service.accept = (stream) => accept(overheard(stream));

/** The same stream, noting the bytes of both directions after TLS: all that a relay has. */
function overheard(stream: ByteStream): ByteStream {
  return {
    remote: stream.remote,
    binding: stream.binding,
    listen: (listener) =>
      stream.listen({
        written: () => listener.written(),
        closed: (reason) => listener.closed(reason),
        data(chunks) {
          seen.entered.push(concat(...chunks));
          listener.data(chunks);
        },
      }),
    write(parts) {
      seen.left.push(concat(...parts));
      stream.write(parts);
    },
    pause: () => stream.pause(),
    resume: () => stream.resume(),
    end: () => stream.end(),
    terminate: () => stream.terminate(),
  };
}

class Party {
  readonly name: string;
  readonly #privateKey: Key;
  readonly publicKey: Key;
  readonly wireguard = new Device({ random: systemRandom, wallMs: Date.now });
  readonly relayed: TestDevice;
  /** The datagrams that WireGuard made, in order. */
  readonly sent: string[] = [];
  replies = 0;
  #heard = 0;

  constructor(name: string) {
    this.name = name;
    const pair = keyPairOf(systemRandom(KEY_BYTES));
    this.#privateKey = keyOf(pair.privateKey);
    this.publicKey = keyOf(pair.publicKey);
    this.relayed = new TestDevice(name, relay.url);
  }

  meet(other: Party): void {
    const allowedIps = [parseCidr("0.0.0.0/0")];
    const peer = { publicKey: other.publicKey, allowedIps, endpoint: ENDPOINT, persistentKeepaliveSeconds: 0 };
    const want = { privateKey: this.#privateKey, peers: [peer], mtu: 1_280 };
    this.carry(this.wireguard.configure(want, performance.now()), other);
  }

  carry(effects: readonly Effect[], other: Party): void {
    for (const effect of effects) {
      if (effect.kind === "send") {
        this.sent.push(toHex(effect.datagram));
        this.relayed.client.send(addressOf(other.name), effect.datagram);
        continue;
      }
      if (isEchoReply(effect.packet)) this.replies++;
      const reply = echoReplyTo(effect.packet);
      if (reply !== undefined) this.carry(this.wireguard.send(reply, performance.now()), other);
    }
  }

  /** Hands WireGuard what has come out of the relay since the last time. */
  receive(other: Party): void {
    for (const { datagram } of this.relayed.heard.slice(this.#heard)) {
      this.#heard++;
      const bytes = fromHex(datagram) ?? assert.fail("no bytes");
      this.carry(this.wireguard.receive(bytes, ENDPOINT, performance.now()), other);
    }
  }
}

test(
  "what enters and leaves a relay is WireGuard's datagrams, byte for byte, behind 35 bytes of address",
  LIMIT,
  async () => {
    const [laptop, home] = [new Party("laptop"), new Party("home")];
    await Promise.all([laptop.relayed.connected(), home.relayed.connected()]);
    laptop.meet(home);
    home.meet(laptop);
    const plaintext = echoRequest("100.64.0.1", "100.64.0.2", 0).subarray(28);
    for (let sequence = 1; sequence <= ECHOES; sequence++) {
      const request = echoRequest("100.64.0.1", "100.64.0.2", sequence);
      laptop.carry(laptop.wireguard.send(request, performance.now()), home);
      while (laptop.replies < sequence) {
        await Promise.race([laptop, home].map(({ relayed }) => heardMore(relayed)));
        home.receive(laptop);
        laptop.receive(home);
      }
    }
    await Promise.all([laptop.relayed.stop(), home.relayed.stop()]);

    const made = [...laptop.sent, ...home.sent].sort();
    assert.equal(made.filter((datagram) => datagram.startsWith("04")).length, 2 * ECHOES, "transport messages");
    for (const stretches of [seen.entered, seen.left]) {
      const frames = stretches.flatMap(framesIn).filter(({ type }) => type === FRAME.datagram);
      assert.deepEqual(frames.map(({ body }) => toHex(body.subarray(KEY_BYTES))).sort(), made);
      const names = [addressOf("laptop"), addressOf("home")].map((key) => toHex(keyBytes(key)));
      assert.ok(frames.every(({ body }) => names.includes(toHex(body.subarray(0, KEY_BYTES)))));
      assert.ok(!toHex(concat(...stretches)).includes(toHex(plaintext)), "a relay sees no plaintext");
    }
    assert.equal(HEADER_BYTES + KEY_BYTES, 35);
  },
);

async function heardMore(device: TestDevice): Promise<void> {
  const before = device.heard.length;
  await device.until(() => device.heard.length > before);
}
