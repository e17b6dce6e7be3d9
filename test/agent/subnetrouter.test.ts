import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { clearSubnets, setSubnets } from "../../src/agent/subnetrouter.js";
import { parseCidr } from "../../src/kit/ip.js";
import { localExec } from "../../src/sys/exec.js";
import { type AgentConfig, agentConfig } from "../../src/wire/agentconfig.js";
import { must, pings, placeOf, removePlaces } from "../engine/places.js";
import { MAP } from "./agentworld.js";
import { modelFiles } from "./modelmachine.js";

/**
 * A peer in the tunnel, a device that offers the network behind it, and a machine of that network, which knows no way
 * to the tunnel unless it is told; a second network is behind the same link.
 */
const [peer, host, lan] = [placeOf("exn-r-peer"), placeOf("exn-r-host"), placeOf("exn-r-lan")];
const places = [peer, host, lan].map(({ name }) => name);

const inHost = host.exec;
const disk = new Map<string, string>();
const files = {
  ...modelFiles(disk),
  // /proc shows the network of whoever reads.
  readText: async (path: string) =>
    path.startsWith("/proc/") ? (await inHost.run(["cat", path])).stdout : disk.get(path),
};
const parts = { exec: inHost, files, folders: { var: "/var" } };
const configWith = (more: Partial<AgentConfig>): AgentConfig => ({
  ...agentConfig.parse({
    name: "nas",
    role: "device",
    coordinator: { urls: ["https://203.0.113.7"], publicKey: MAP.peers[0]?.publicKey ?? "" },
  }),
  ...more,
});
const OFFERED = { advertise: [parseCidr("192.168.50.0/24")] };

before(async () => {
  removePlaces(...places);
  for (const name of places) await localExec.run(["ip", "netns", "add", name]);
  const lines = (texts: string[]): string => `${texts.join("\n")}\n`;
  await must(
    host,
    "ip -batch -",
    lines([
      "link set lo up",
      `link add exn0 type veth peer name up0 netns ${peer.name}`,
      `link add eth0 type veth peer name eth0 netns ${lan.name}`,
      "address add 100.64.0.1/32 dev exn0",
      "address add 192.168.50.1/24 dev eth0",
      "address add 192.168.51.1/24 dev eth0",
      "link set exn0 up",
      "link set eth0 up",
      "route add 100.64.0.2/32 dev exn0",
    ]),
  );
  await must(
    peer,
    "ip -batch -",
    lines([
      "address add 100.64.0.2/32 dev up0",
      "link set up0 up",
      "route add 100.64.0.1/32 dev up0",
      "route add 192.168.50.0/23 via 100.64.0.1 dev up0 onlink",
    ]),
  );
  await must(
    lan,
    "ip -batch -",
    lines(["address add 192.168.50.2/24 dev eth0", "address add 192.168.51.2/24 dev eth0", "link set eth0 up"]),
  );
  for (const device of ["all", "exn0", "eth0"]) await must(host, `sysctl -qw net.ipv4.conf.${device}.forwarding=0`);
});
after(() => removePlaces(...places));

/** What is not to be answered is asked once, and waited for as long. */
const ONCE = ["-W", "1"];

test("a network that is offered is reached from the tunnel without a route back, and nothing else is", async () => {
  assert.equal(await pings(peer, "192.168.50.2", ...ONCE), false);
  await setSubnets(parts, configWith(OFFERED));
  assert.equal(await pings(peer, "192.168.50.2"), true);
  assert.equal(await pings(peer, "192.168.51.2", ...ONCE), false, "it is not offered");
  await must(lan, "ip route add 100.64.0.0/10 via 192.168.50.1");
  assert.equal(await pings(lan, "100.64.0.2", ...ONCE), false, "nobody there begins anything in the tunnel");
  await setSubnets(parts, configWith(OFFERED));
  assert.equal(await pings(peer, "192.168.50.2"), true, "set again, it is as it was");
});

test("without masquerade the network sees the peer's own address, and needs a route to it", async () => {
  await setSubnets(parts, configWith({ ...OFFERED, masquerade: false }));
  assert.equal(await pings(peer, "192.168.50.2"), true);
  await must(lan, "ip route del 100.64.0.0/10");
  assert.equal(await pings(peer, "192.168.50.2", ...ONCE), false);
});

test("with nothing to offer the machine passes nothing on and is as it was before", async () => {
  await setSubnets(parts, configWith(OFFERED));
  await setSubnets(parts, configWith({}));
  assert.equal(await pings(peer, "192.168.50.2", ...ONCE), false);
  assert.equal((await inHost.run(["nft", "list", "tables"])).stdout.trim(), "");
  for (const device of ["exn0", "eth0"])
    assert.equal((await files.readText(`/proc/sys/net/ipv4/conf/${device}/forwarding`))?.trim(), "0");
  assert.equal(disk.size, 0);
  await clearSubnets(parts);
});
