import assert from "node:assert/strict";
import { test } from "node:test";
import { exitOf, tunnelRoutes, wantInterface } from "../../src/agent/desired.js";
import { keyOf } from "../../src/kit/key.js";
import { agentConfig } from "../../src/wire/agentconfig.js";
import { networkMap } from "../../src/wire/map.js";

const key = (n: number) => keyOf(new Uint8Array(32).fill(n));
const config = agentConfig.parse({
  name: "laptop",
  role: "device",
  coordinator: { urls: ["https://203.0.113.77"], publicKey: key(1) },
});
const peer = (id: string, routes: string[], resolvers: string[] = []) => ({
  id,
  name: id,
  role: routes.length > 0 ? "exit-node" : "device",
  publicKey: key(id.charCodeAt(0)),
  addresses: [`100.64.0.${id.charCodeAt(0)}`, `fd00::${id.charCodeAt(0).toString(16)}`],
  routes,
  endpoints: ["203.0.113.77:51820"],
  resolvers,
  online: true,
});
const map = networkMap.parse({
  seq: 1,
  self: { id: "self", name: "laptop", role: "device", addresses: ["100.64.0.2", "fd00::2"] },
  ranges: ["100.64.0.0/10", "fd00::/48"],
  mtu: 1280,
  peers: [
    peer("home", ["0.0.0.0/0", "::/0"], ["198.18.77.1"]),
    peer("cabin", ["0.0.0.0/0"], ["fd01::1"]),
    peer("nas", []),
  ],
});

test("the exit in use gets the default routes, every other peer its own addresses alone", () => {
  const want = wantInterface(config, key(9), map, { exit: "home" }, () => undefined);
  assert.deepEqual(
    want.peers.map(({ allowedIps, persistentKeepaliveSeconds }) => [allowedIps, persistentKeepaliveSeconds]),
    [
      [["100.64.0.104/32", "fd00::68/128", "0.0.0.0/0", "::/0"], 25],
      [["100.64.0.99/32", "fd00::63/128"], 0],
      [["100.64.0.110/32", "fd00::6e/128"], 0],
    ],
  );
});

test("both families go into the tunnel even when the exit carries only IPv4", () => {
  assert.deepEqual(tunnelRoutes(map, { exit: "cabin" }), ["100.64.0.0/10", "fd00::/48", "0.0.0.0/0", "::/0"]);
});

test("an exit that has left the map keeps everything in the tunnel: nothing leaks by the old way", () => {
  assert.equal(exitOf(map, { exit: "gone" }), undefined);
  assert.ok(tunnelRoutes(map, { exit: "gone" }).includes("0.0.0.0/0" as never));
});

test("without an exit only the network's own ranges are routed", () => {
  assert.deepEqual(tunnelRoutes(map, { exit: undefined }), ["100.64.0.0/10", "fd00::/48"]);
});

test("a device without default routes is no exit, whatever it is called", () => {
  assert.equal(exitOf(map, { exit: "nas" }), undefined);
});
