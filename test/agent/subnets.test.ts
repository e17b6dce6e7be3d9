import assert from "node:assert/strict";
import { test } from "node:test";
import { tunnelRoutes } from "../../src/agent/desired.js";
import { withheld, withReachable } from "../../src/agent/subnets.js";
import { type Cidr, parseCidr } from "../../src/kit/ip.js";
import type { MapPeer, NetworkMap } from "../../src/wire/map.js";
import { HOME, MAP, PHONE, World } from "./agentworld.js";

const cidrs = (...texts: string[]): Cidr[] => texts.map(parseCidr);
const nas: MapPeer = { ...PHONE, id: "d5", name: "nas", routes: cidrs("192.168.1.0/24", "fd01::/64") };
const spare: MapPeer = { ...nas, id: "d6", name: "spare", routes: cidrs("192.168.1.0/24") };
const mapOf = (...peers: MapPeer[]): NetworkMap => ({ ...MAP, peers });
const routesOf = (map: NetworkMap): string[][] => map.peers.map(({ routes }) => [...routes]);

test("networks behind other devices are taken, and an exit's default routes are no such thing", () => {
  const map = mapOf(HOME, nas);
  assert.deepEqual(withReachable(map, cidrs("192.168.7.0/24")), map);
  assert.ok(tunnelRoutes(map, { exit: undefined }).includes(parseCidr("192.168.1.0/24")));
  assert.deepEqual(withheld(map, cidrs("192.168.7.0/24")), []);
});

for (const own of ["192.168.1.0/24", "192.168.1.64/26", "192.168.0.0/16"])
  test(`in ${own} itself, a device does not go to 192.168.1.0/24 through another`, () => {
    const map = mapOf(HOME, nas);
    assert.deepEqual(routesOf(withReachable(map, cidrs(own))), [["0.0.0.0/0", "::/0"], ["fd01::/64"]]);
    assert.deepEqual(withheld(map, cidrs(own)), [
      `192.168.1.0/24 behind nas is not used: this machine is in ${own} itself`,
    ]);
  });

test("of two devices before one network the first that is online is used, whatever the map's order", () => {
  const away = { ...nas, online: false };
  assert.deepEqual(routesOf(withReachable(mapOf(nas, spare), [])), [["192.168.1.0/24", "fd01::/64"], []]);
  assert.deepEqual(routesOf(withReachable(mapOf(away, spare), [])), [["fd01::/64"], ["192.168.1.0/24"]]);
  assert.deepEqual(routesOf(withReachable(mapOf(spare, away), [])), [["192.168.1.0/24"], ["fd01::/64"]]);
});

test("a device tells the coordinator what it offers, passes it on, and leaves nothing of that behind", async () => {
  const world = new World({ advertise: ["192.168.7.0/24"] });
  const agent = await world.start();
  assert.deepEqual(world.coordinator.hellos[0]?.report.routes, ["192.168.7.0/24"]);
  assert.match(world.machine.tables.get("exitnode_subnets") ?? "", /elements = \{ 192\.168\.7\.0\/24 \}/);
  await agent.stop();
  assert.equal(world.machine.tables.size, 0);
  assert.equal(world.disk.has("/var/forwarding-before.json"), false);
});

test("a machine that is in a network of the map keeps its own way there, and status says so", async () => {
  const world = new World();
  world.coordinator.map = mapOf(HOME, { ...nas, routes: cidrs("192.168.7.0/24", "192.168.9.0/24") });
  const agent = await world.start();
  assert.ok(world.machine.routes[4].has("192.168.9.0/24") && !world.machine.routes[4].has("192.168.7.0/24"));
  const { warnings } = await agent.status();
  assert.deepEqual(warnings, ["192.168.7.0/24 behind nas is not used: this machine is in 192.168.7.0/24 itself"]);
  await agent.stop();
});
