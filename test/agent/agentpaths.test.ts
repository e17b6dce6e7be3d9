import assert from "node:assert/strict";
import { test } from "node:test";
import { LOOK_INTERVAL_MS } from "../../src/agent/agent.js";
import { ENDPOINT_WINDOW_MS } from "../../src/agent/endpoints.js";
import { isLoopback } from "../../src/agent/loopback.js";
import { GIVE_UP_MS } from "../../src/agent/paths.js";
import { toBase64 } from "../../src/kit/bytes.js";
import { keyPairOf } from "../../src/kit/crypto.js";
import { formatEndpoint, tryEndpoint } from "../../src/kit/endpoint.js";
import { keyOf } from "../../src/kit/key.js";
import { SECOND } from "../../src/kit/time.js";
import { systemRandom } from "../../src/sys/random.js";
import { issueAdmission } from "../../src/wire/admission.js";
import { netcheckAnswer } from "../../src/wire/agentsocket.js";
import type { NetworkMap } from "../../src/wire/map.js";
import { HOME, MAP, PHONE, World } from "./agentworld.js";
import { settled } from "./labclock.js";

/** An agent whose exit node knows probes, on a machine whose network is a model. */

const DISCOVERY = keyOf(keyPairOf(systemRandom(32)).publicKey);
const RELAY = {
  ...{ id: "r1", name: "near", url: "https://near.example", stunPort: 0 },
  relayKey: keyOf(keyPairOf(systemRandom(32)).publicKey),
};
const PROBING: NetworkMap = { ...MAP, peers: [{ ...HOME, discoveryKey: DISCOVERY, homeRelay: "r1" }, PHONE] };
const isStand = (text: string | undefined): boolean => {
  const endpoint = tryEndpoint(text ?? "");
  return endpoint !== undefined && isLoopback(endpoint.address);
};

test("the discovery key is told to the coordinator, and a restart does not change it", async () => {
  const world = new World();
  const first = await world.start();
  await first.stop();
  const second = await world.start();
  await second.stop();
  const [one, other] = world.coordinator.hellos.map(({ report }) => report.discoveryKey);
  assert.ok(one !== undefined);
  assert.equal(one, other);
});

test("without a relay the exit node is called through the coordinator and pinged where the map has it", async () => {
  const world = new World();
  world.coordinator.map = PROBING;
  const agent = await world.start();
  assert.equal(world.coordinator.calls.length, 0, "nobody is looked for before there is traffic");
  await agent.use("home");
  await settled();
  assert.equal(world.coordinator.calls[0]?.to, HOME.publicKey);
  assert.deepEqual(
    [...new Set(world.backend.sent.map(({ to }) => formatEndpoint(to)))].sort(),
    [...HOME.endpoints].sort(),
  );
  assert.ok(isStand(world.homeEndpoint()), "WireGuard's first words wait here");
  await agent.stop();
});

test("when no probe gets through, WireGuard tries the endpoints by itself", async () => {
  const world = new World();
  world.coordinator.map = PROBING;
  const agent = await world.start();
  await agent.use("home");
  await world.clock.advance(GIVE_UP_MS + LOOK_INTERVAL_MS);
  const tried = [world.homeEndpoint()];
  await world.clock.advance(ENDPOINT_WINDOW_MS + LOOK_INTERVAL_MS);
  tried.push(world.homeEndpoint());
  assert.deepEqual(new Set(tried), new Set(HOME.endpoints));
  world.backend.answering.set(HOME.publicKey, { lastHandshakeAgeMs: SECOND, sentBytes: 148 });
  const [exit] = (await agent.status()).peers;
  assert.deepEqual([exit?.path, exit?.endpoint], ["direct", world.homeEndpoint()]);
  await agent.stop();
});

/** A network with one relay, which would let the device in. */
function withRelay(): World {
  const world = new World();
  world.coordinator.map = { ...PROBING, relays: [RELAY] };
  const keys = { machineKey: DISCOVERY, publicKey: DISCOVERY };
  world.coordinator.admission = toBase64(issueAdmission(systemRandom(32), { ...keys, now: world.clock.wall() }));
  return world;
}

test("a relay is dialed with the admission of the last run while the coordinator is away", async () => {
  const world = withRelay();
  const first = await world.start();
  await world.clock.advance(SECOND);
  assert.ok(world.relaysDialed.includes("near.example"));
  assert.equal(world.coordinator.reports.at(-1)?.homeRelay ?? "r1", "r1");
  await first.stop();
  world.coordinator.away = true;
  world.relaysDialed.splice(0);
  const second = await world.start();
  await world.clock.advance(SECOND);
  assert.ok(world.relaysDialed.includes("near.example"));
  await second.stop();
});

test("a restarted agent greets with the home relay that it had, and dials it, before any STUN server has answered", async () => {
  const world = withRelay();
  const first = await world.start();
  const other = { ...RELAY, id: "r0", name: "other", url: "https://other.example", stunPort: 3_478 };
  world.coordinator.push({ ...PROBING, seq: 8, relays: [other, RELAY] });
  await world.clock.advance(SECOND);
  await first.stop();
  world.relaysDialed.splice(0);
  const second = await world.start();
  assert.equal(world.coordinator.hellos.at(-1)?.report.homeRelay, "r1");
  assert.deepEqual([...new Set(world.relaysDialed)], ["near.example"]);
  await second.stop();
});

test("a map that changes nothing of the machine starts two programs: one asks the filter's table, one all the rest", async () => {
  const world = new World();
  world.coordinator.map = PROBING;
  const agent = await world.start();
  await settled();
  world.machine.started = 0;
  world.coordinator.push({ ...PROBING, seq: 8, peers: PROBING.peers.map((peer) => ({ ...peer, online: false })) });
  await world.clock.advance(1);
  assert.equal(world.machine.started, 2);
  await agent.stop();
});

test("ping of a name that nobody has, and of a peer without probes, says what to do", async () => {
  const world = new World();
  world.coordinator.map = PROBING;
  const agent = await world.start();
  const failureOf = async (peer: string) => ((await agent.ask({ do: "ping", peer })) as { error: unknown }).error;
  assert.deepEqual(await failureOf("nobody"), {
    code: "peer-unknown",
    message: 'there is no peer "nobody"; known: home, phone',
    advice: "exitnode status",
  });
  assert.deepEqual(await failureOf("phone"), {
    code: "peer-without-probes",
    message: "phone answers no probes: its agent knows none, or this data plane has none",
    advice: "ping 100.64.0.3",
  });
  await agent.stop();
});

test("a ping without any way is answered, with nothing measured", async () => {
  const world = new World();
  world.coordinator.map = PROBING;
  const agent = await world.start();
  assert.deepEqual(await agent.ask({ do: "ping", peer: "home" }), {
    ok: true,
    value: { peer: "home", path: "searching" },
  });
  await agent.stop();
});

test("netcheck without relays, router and whoami says what is not known", async () => {
  const world = new World();
  const agent = await world.start();
  const asked = agent.ask({ do: "netcheck" });
  await world.clock.advance(10 * SECOND);
  const { value } = (await asked) as { value: unknown };
  assert.deepEqual(netcheckAnswer.parse(value), {
    portmap: {
      ...{ pcp: "absent", natpmp: "absent", upnp: "absent" },
      why: ["not asked: no relay is connected that could prove a mapping"],
    },
    relays: [],
  });
  await agent.stop();
});
