import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { keyPairOf } from "../../src/kit/crypto.js";
import { keyOf } from "../../src/kit/key.js";
import { systemRandom } from "../../src/sys/random.js";
import type { DeviceInfo } from "../../src/wire/adminapi.js";
import { encodeControl } from "../../src/wire/control.js";
import { type Bench, openBench, unhurriedClock } from "./bench.js";
import { joinRaw } from "./rawdevice.js";

/**
 * Many devices in one process with their coordinator, when everybody has to hear of a change; how soon is for
 * scripts/bench coordinator. The devices decrypt their maps and look at the text; parsing 200 maps is the work of 200
 * machines, not of this one.
 */
const DEVICES = 200;
const REVOKED = 20;
const AT_ONCE = 10;
let bench: Bench;
before(async () => {
  bench = await openBench({ parts: { clock: unhurriedClock } });
});
after(() => bench.close());

test(`of ${DEVICES} connected devices every one drops a revoked peer, and the receipt counts them all`, {
  timeout: 300_000,
}, async (t) => {
  const { secret } = await bench.key({ role: "device", reusable: true });
  const startedAt = performance.now();
  const crowd: Member[] = [];
  // Some at a time: each handshake has its own time limit, and one process makes all of them.
  for (let n = 0; n < DEVICES; n += AT_ONCE) {
    const some = Array.from({ length: AT_ONCE }, (_, i) => Member.join(`device-${n + i}-`, secret));
    crowd.push(...(await Promise.all(some)));
  }
  await Promise.all(crowd.map((member) => member.until((map) => map.split('"online":true').length === DEVICES)));
  t.diagnostic(`${DEVICES} devices joined and saw each other in ${(performance.now() - startedAt).toFixed(0)} ms`);

  const delays: number[] = [];
  for (const [n, victim] of crowd.slice(0, REVOKED).entries()) {
    const staying = crowd.slice(n + 1);
    const askedAt = performance.now();
    const dropped = staying.map(async (member) => {
      await member.until((map) => !map.includes(`"${victim.name}"`));
      delays.push(performance.now() - askedAt);
    });
    const { told } = (await bench.call("POST", `/api/v1/devices/${victim.name}/revoke`)).body as DeviceInfo;
    assert.equal(told?.confirmed, staying.length);
    await Promise.all(dropped);
  }
  delays.sort((a, b) => a - b);
  const at = (share: number): number => delays[Math.ceil(share * delays.length) - 1] ?? Number.NaN;
  t.diagnostic(`revocation at ${DEVICES} devices: p50 ${at(0.5).toFixed(0)} ms, p99 ${at(0.99).toFixed(0)} ms`);
});

class Member {
  readonly name: string;
  #map = "";
  #watcher: (() => void) | undefined;

  private constructor(name: string) {
    this.name = name;
  }

  static async join(wanted: string, secret: string): Promise<Member> {
    const name = `${wanted}x`;
    const keys = [keyPairOf(systemRandom(32)), keyOf(keyPairOf(systemRandom(32)).publicKey)] as const;
    const { socket, transport, next } = await joinRaw(bench, name, ...keys, secret);
    const member = new Member(name);
    const listen = async (): Promise<never> => {
      for (;;) {
        const plaintext = transport.open(await next()) ?? assert.fail("a message of the coordinator opens");
        const text = Buffer.from(plaintext).toString("utf8");
        const ping = /^\{"type":"ping","sentAt":([\d.]+)\}$/.exec(text)?.[1];
        if (ping !== undefined)
          await socket.send(transport.seal(encodeControl({ type: "pong", sentAt: Number(ping) })));
        else if (text.startsWith('{"type":"map"')) member.#see(text);
      }
    };
    listen().catch(() => undefined); // the connection ends with the bench
    return member;
  }

  until(condition: (map: string) => boolean): Promise<void> {
    return new Promise((resolve) => {
      this.#watcher = () => {
        if (!condition(this.#map)) return;
        this.#watcher = undefined;
        resolve();
      };
      this.#watcher();
    });
  }

  #see(map: string): void {
    this.#map = map;
    this.#watcher?.();
  }
}
