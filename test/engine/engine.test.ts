import assert from "node:assert/strict";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { after, before, test } from "node:test";
import { Engine } from "../../src/engine/engine.js";
import type { Failure } from "../../src/kit/failure.js";
import { parseIp } from "../../src/kit/ip.js";
import { keyOf } from "../../src/kit/key.js";
import { ERRNO } from "../../src/sys/libc.js";
import { tunFailure } from "../../src/sys/tun.js";
import type { WantInterface } from "../../src/wireguard/interface.js";
import { threadIn } from "./enginethread.js";
import { makePair, must, type Place, removePlaces } from "./places.js";

const PLACES = ["exn-en-e1", "exn-en-e2"] as const;
const DEVICE = "exnene0";
let place: Place;
before(async () => {
  [place] = await makePair(...PLACES);
});
after(() => removePlaces(...PLACES));

const want: WantInterface = {
  name: DEVICE,
  privateKey: keyOf(new Uint8Array(32).fill(9)),
  listenPort: 0,
  mtu: 1280,
  fwmark: 0,
  peers: [],
};

test("an engine whose interface is deleted under it reports so, and a new set makes it again", async () => {
  const failures: Failure[] = [];
  let heard = (): void => {};
  const failed = new Promise<void>((resolve) => {
    heard = resolve;
  });
  const engine = new Engine({
    workerUrl: threadIn(place.name),
    onFailed: (failure) => {
      failures.push(failure);
      heard();
    },
  });
  await engine.set(want);
  await must(place, `ip link delete dev ${DEVICE}`);
  await failed;
  assert.deepEqual(
    failures.map(({ code, message }) => [code, message]),
    [["engine-stopped", `the packet engine stopped: the interface ${DEVICE} was removed by somebody else`]],
  );
  await assert.rejects(engine.state(), { code: "interface-missing" });
  await engine.set(want);
  assert.equal((await engine.state()).name, DEVICE);
  await engine.close();
  assert.equal(failures.length, 1, "closing is no failure");
});

test("any port is the same one for both families, and an equal set keeps it", async () => {
  const engine = new Engine({ workerUrl: threadIn(place.name) });
  await engine.set(want);
  const { listenPort } = await engine.state();
  assert.ok(listenPort > 0);
  const sockets = await must(place, "ss -Hlun");
  assert.equal(sockets.match(new RegExp(`(0\\.0\\.0\\.0|\\[::\\]):${listenPort}\\b`, "g"))?.length, 2, sockets);
  await engine.set({ ...want });
  assert.equal((await engine.state()).listenPort, listenPort);
  await engine.close();
});

test("a port in use is a failure that names it, leaves no interface behind, and can be tried again", async () => {
  const engine = new Engine({ workerUrl: threadIn(place.name) });
  const first = new Engine({ workerUrl: threadIn(place.name) });
  await first.set({ ...want, name: "exnene1", listenPort: 51_777 });
  await assert.rejects(engine.set({ ...want, listenPort: 51_777 }), { code: "port-taken", message: /51777/ });
  assert.notEqual((await place.exec.run(["ip", "link", "show", "dev", DEVICE])).exitCode, 0);
  await first.close();
  await engine.set({ ...want, listenPort: 51_777 });
  await engine.close();
});

test("a name that is taken by another interface is a failure", async () => {
  const engine = new Engine({ workerUrl: threadIn(place.name) });
  await assert.rejects(engine.set({ ...want, name: "wire" }), { code: "tun-name-taken" });
  await assert.rejects(engine.set({ ...want, name: "sixteen-letters-" }), { code: "interface-name" });
});

test("what the machine refuses to send is counted", async () => {
  const engine = new Engine({ workerUrl: threadIn(place.name) });
  const far = { address: parseIp("192.0.2.1"), port: 9 };
  await engine.set(want);
  assert.deepEqual((await engine.state()).unsent, { looped: 0, refused: 0 });
  engine.probes.send(far, new Uint8Array(98));
  assert.deepEqual((await engine.state()).unsent, { looped: 0, refused: 1 });
  engine.probes.send(far, new Uint8Array(98), true);
  assert.deepEqual((await engine.state()).unsent, { looped: 0, refused: 1 }, "a measurement that fails is an answer");
  await engine.close();
});

test("datagrams that are no WireGuard message do not disturb it", async () => {
  const engine = new Engine({ workerUrl: new URL("./enginehere.js", import.meta.url) });
  await engine.set({ ...want, name: "exnenehere" });
  const { listenPort } = await engine.state();
  const socket = createSocket("udp4");
  for (const length of [0, 1, 4, 31, 148, 1_400, 65_000])
    socket.send(new Uint8Array(length).fill(1), listenPort, "127.0.0.1");
  socket.close();
  await once(socket, "close");
  assert.equal((await engine.state()).listenPort, listenPort);
  await engine.close();
});

test("every way /dev/net/tun can fail says what to do", () => {
  const advice = { ENOENT: "tun-missing", EACCES: "tun-missing", EPERM: "tun-forbidden", EBUSY: "tun-busy" } as const;
  for (const [name, code] of Object.entries(advice) as [keyof typeof advice, string][]) {
    const failure = tunFailure(ERRNO[name], DEVICE);
    assert.equal(failure.code, code);
    assert.ok(failure.advice !== undefined);
  }
  assert.match(tunFailure(ERRNO.ENOENT, DEVICE).advice ?? "", /--dev0 \/dev\/net\/tun/);
});
